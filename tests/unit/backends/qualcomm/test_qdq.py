"""The graph for QNN: every operator quantised, weights per channel, at an opset that can write that."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from ort_small import images, network

from harness.backends.base import BuildSpec, TensorSpec
from harness.backends.qualcomm import _qdq
from harness.errors import BuildError


def made(tmp_path, precision, samples=None):
    onnx.save(network(), str(tmp_path / "small.onnx"))
    np.save(tmp_path / "calibration.npy", images(8) if samples is None else samples)
    inputs = (TensorSpec("image", "float32", (-1, 3, 12, 12)),)
    wanted = BuildSpec(precision, 2, inputs, ("logits", "share"), calibration=str(tmp_path / "calibration.npy"))
    return onnx.load(str(_qdq.prepared(tmp_path / "small.onnx", tmp_path, wanted)))


def test_fp16_is_the_graph_in_fp32_with_its_batch(tmp_path):
    model = made(tmp_path, "fp16")

    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [2, 3, 12, 12]
    assert not {"BatchNormalization", "QuantizeLinear"} & {node.op_type for node in model.graph.node}
    assert model.opset_import[0].version >= 13


def test_int8_is_per_channel_in_convolutions_and_holds_every_operator(tmp_path):
    model = made(tmp_path, "int8")
    constants = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    quantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    scales = {
        node.output[0]: constants[node.input[1]] for node in model.graph.node if node.op_type == "DequantizeLinear"
    }
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]

    assert [scales[node.input[1]].size for node in convolutions] == [8, 6]
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            assert node.input[0] in quantised, f"{node.op_type} takes floats"


def test_calibration_of_another_model_is_refused(tmp_path):
    with pytest.raises(BuildError, match="float32"):
        made(tmp_path, "int8", np.zeros((4, 3, 8, 8), np.float32))
