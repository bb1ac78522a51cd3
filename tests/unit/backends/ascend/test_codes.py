"""What CANN's status codes mean, and that the next step is told by the kind of failure."""

import pytest

from harness.backends.ascend import _codes
from harness.backends.ascend._codes import COMPILER_ADVICE, MEANINGS, advice, meaning


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (207001, "RT_MEMORY_ALLOCATION: memory could not be allocated"),
        (107001, "RT_INVALID_DEVICEID: no such device, or the driver is not loaded"),
        (_codes.STREAM_FULL, "RT_STREAM_TASK_FULL: the stream takes no more tasks"),
        (_codes.WAIT_TIMEOUT, "RT_WAIT_TIMEOUT"),
        (_codes.REPEAT_INITIALIZE, "REPEAT_INITIALIZE: initialised or loaded twice"),
        (7, "a code that is in none of the vendor's tables"),
    ],
)
def test_a_code_has_the_vendors_name(code, words):
    assert meaning(code) == words


@pytest.mark.parametrize(
    ("code", "step"),
    [
        (245000, "smaller batch"),  # memory
        (545001, "build it again"),  # the engine
        (507010, "/dev/davinci"),  # the device
        (507015, "supported in FP16"),  # computing
        (148049, "set_env.sh"),  # the installation
        (100000, "ASCEND_GLOBAL_LOG_LEVEL=1"),  # none of these
        (7, "ASCEND_GLOBAL_LOG_LEVEL=1"),
    ],
)
def test_the_next_step_is_that_of_the_kind_of_failure(code, step):
    assert step in advice(code)


def test_every_code_with_advice_of_its_kind_has_a_name_and_one_kind():
    kinds = [_codes._MEMORY, _codes._ENGINE, _codes._DEVICE, _codes._COMPUTING, _codes._SETUP]
    codes = [code for kind in kinds for code in kind]

    assert set(codes) <= set(MEANINGS)
    assert len(codes) == len(set(codes)), "a code in two kinds"


@pytest.mark.parametrize("code", ["E10016", "E11016"])
def test_a_wrong_output_node_is_told_under_both_numbers_of_the_manuals(code):
    assert "export the model again" in COMPILER_ADVICE[code]


@pytest.mark.parametrize("code", ["E40000", "E40020", "EC0010"])
def test_a_missing_python_module_is_told_under_the_number_of_each_release(code):
    """Published: `EC0010: [PID: 129520] ... Failed to import Python module [... No module named 'decorator'.]`."""
    assert "pip install decorator" in COMPILER_ADVICE[code]
