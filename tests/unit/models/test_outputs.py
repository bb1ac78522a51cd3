"""What an engine returned is there, of the right shape and finite, or an error names it."""

import numpy as np
import pytest
from models_golden import blank, every_protocol, frame_of

from harness.errors import RunError
from harness.models import deepmar
from harness.models.base import Frame
from harness.models.outputs import checked


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@every_protocol
def test_numbers_that_are_not_finite_are_an_error_that_names_the_output(model, protocol, bad):
    frame = frame_of(protocol)
    for name in model.outputs:
        outputs = blank(model, protocol)
        outputs[name].ravel()[[0, 5, 7]] = bad
        with pytest.raises(RunError, match=rf"^3 of \d+ values of output {name} are not finite"):
            protocol.postprocess(outputs, frame)


@every_protocol
def test_an_output_that_is_absent_or_of_another_shape_is_an_error(model, protocol):
    frame, name = frame_of(protocol), model.outputs[0]
    short, none = blank(model, protocol), blank(model, protocol)
    short[name] = short[name][:-1]
    del none[name]

    with pytest.raises(RunError, match=f"^output {name} has shape"):
        protocol.postprocess(short, frame)
    with pytest.raises(RunError, match=f"^output {name} is missing"):
        protocol.postprocess(none, frame)


def test_half_precision_outputs_are_taken_as_they_are():
    array = np.linspace(-1, 1, 35).astype(np.float16)

    assert checked({"output1": array}, {"output1": (35,)})[0].dtype == np.float32
    np.testing.assert_array_equal(deepmar.postprocess({"output1": array}, Frame(1, 1, (1, 1)))["logits"], array)


def test_outputs_come_in_the_order_of_the_shapes_whatever_the_engine_s_own():
    outputs = {"b": np.ones((2, 1)), "a": np.zeros(3), "more": np.ones(9)}

    first, second = checked(outputs, {"a": (3,), "b": (2, 1)})

    assert (first.shape, second.shape) == ((3,), (2, 1))
    assert {first.dtype, second.dtype} == {np.dtype(np.float32)}


def test_large_numbers_whose_sum_overflows_are_finite():
    huge = np.full(4, 3e38, np.float32)

    (same,) = checked({"y": huge}, {"y": (4,)})

    np.testing.assert_array_equal(same, huge)


@pytest.mark.parametrize("there", [{}, {"z": np.ones(1), "x": np.ones(1)}])
def test_a_missing_output_is_named_beside_those_that_are_there(there):
    with pytest.raises(RunError, match=f"^output y is missing; there are: {'x, z' if there else 'none'}"):
        checked(there, {"y": (1,)})
