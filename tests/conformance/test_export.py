"""The exported file is the model: opset 11, the published names, a free batch. What it computes was compared with
PyTorch before it was kept: an export that differs is an error, not a file."""

import onnx
import pytest

from harness.export.export import OPSET
from harness.judge.verdict import Verdict
from harness.vocabulary import Outcome

pytestmark = pytest.mark.export


def shape_of(value):
    return tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim)


def told(facts):
    """ "opset 11, input image batch x 3 x 224 x 224, outputs class, free batch"."""
    inputs = " and ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in facts["input"])
    batch = "free batch" if facts["free batch"] else "fixed batch"
    return f"opset {facts['opset']}, input {inputs}, outputs {' '.join(facts['outputs'])}, {batch}"


def test_the_exported_file_is_the_model(case_run, accept):
    exported = onnx.load(case_run.onnx())
    found = {
        "opset": next(o.version for o in exported.opset_import if not o.domain),
        "input": [(value.name, shape_of(value)) for value in exported.graph.input],
        "outputs": [value.name for value in exported.graph.output],
        "free batch": all(isinstance(shape_of(value)[0], str) for value in exported.graph.output),
    }

    wanted = {
        "opset": OPSET,
        "input": [(case_run.model.input, ("batch", 3, *case_run.protocol.size))],
        "outputs": list(case_run.model.outputs),
        "free batch": True,
    }
    differing = sum(found[fact] != wanted[fact] for fact in wanted)
    text = f"{told(found)}; asked {told(wanted)}" if differing else told(found)
    accept(Verdict(Outcome.FAIL if differing else Outcome.PASS, text, {"differing": differing}), case_run)
