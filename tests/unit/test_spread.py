"""With pytest -n a model at one precision is one process's; a chip that shares the processor is whole in one."""

import pytest

pytest.importorskip("xdist")

from tests.spread import scope_of

NUMERICS = "tests/conformance/test_numerics.py::test_outputs_are_those_of_the_reference"


@pytest.mark.parametrize(("name", "scope"), [
    (f"{NUMERICS}[regnety_016-ascend310-fp16-bs4]", "regnety_016-ascend310-fp16"),
    (f"{NUMERICS}[regnety_016-ascend310-fp16-bs64]@ascend310", "regnety_016-ascend310-fp16"),
    ("tests/conformance/test_targets.py::test_latency_depends_on_the_batch[regnety_016-ascend310-fp16]",
     "regnety_016-ascend310-fp16"),
    (f"{NUMERICS}[regnety_016-cpu-fp32-bs1]", "cpu"),
    (f"{NUMERICS}[gfocalv2_r50_fpn-cpu-int8-bs1]", "cpu"),
    (f"{NUMERICS}[own_model-t4-fp16-bs1]", "own_model-t4-fp16"),
    (f"{NUMERICS}[tiny_classes-elsewhere-fp16-bs1]", "elsewhere"),
    ("tests/unit/test_case.py::test_names", ""),
])  # fmt: skip
def test_what_decides_the_process(name, scope):
    assert scope_of(name) == scope
