"""A small network of common layers, its cases, and its outputs computed by NumPy from the layers' definitions."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness.backends.base import BuildSpec, Device, Normalize, TensorSpec
from harness.backends.cpu import ort

CPU = Device(0, "cpu", 0, "cpu")
PIXELS = Normalize((104.0, 117.0, 123.0), (57.0, 58.0, 59.0), "BGR")


def network(opset=11, variance=1.0):
    """Conv, batch norm, ReLU, conv, mean, Gemm, softmax on 3 x 12 x 12; the batch is dynamic. Small variances come with
    small weights, as in RetinaFace-mobilenet0.25: the layer as a whole does not see them."""
    draw = np.random.default_rng(7)
    constants = {
        "w1": draw.normal(0, 0.3, (8, 3, 3, 3)) * np.sqrt(variance),
        "gamma": draw.uniform(0.5, 2, 8),
        "beta": draw.normal(0, 0.5, 8),
        "mean": draw.normal(0, 0.2, 8) * np.sqrt(variance),
        "var": draw.uniform(0.5, 2, 8) * variance,
        "w2": draw.normal(0, 0.2, (6, 8, 3, 3)),
        "b2": draw.normal(0, 0.2, 6),
        "w3": draw.normal(0, 1, (6, 5)),
        "b3": draw.normal(0, 1, 5),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c1", "gamma", "beta", "mean", "var"], ["n1"], "norm", epsilon=0.0),
        helper.make_node("Relu", ["n1"], ["r1"], "relu"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "second", strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["c2"], ["p2"], "pool"),
        helper.make_node("Flatten", ["p2"], ["f2"], "flat"),
        helper.make_node("Gemm", ["f2", "w3", "b3"], ["logits"], "last"),
        helper.make_node("Softmax", ["logits"], ["share"], "softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 12, 12])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 5]) for name in ("share", "logits")],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6)


def spec(precision="fp32", batch=2, **more):
    return BuildSpec(precision, batch, (TensorSpec("image", "float32", (-1, 3, 12, 12)),), ("logits", "share"), **more)


def images(count, seed=1):
    return np.random.default_rng(seed).normal(0, 1, (count, 3, 12, 12)).astype(np.float32)


def outputs(engine, wanted, x):
    with ort.load(engine, CPU, wanted) as session:
        session.write({"image": x})
        session.execute()
        return session.read()


def expected(x, model=None, half=lambda values: values):
    """Computed by NumPy in double precision, from the definitions of the layers; `half` rounds weights and results,
    with batch norm folded into the layer before."""
    constants = (model or network()).graph.initializer
    c = {value.name: numpy_helper.to_array(value).astype(np.float64) for value in constants}

    def convolution(x, weights, stride):
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))[:, :, ::stride, ::stride]
        return np.einsum("nchwij,ocij->nohw", windows, weights)

    scale = c["gamma"] / np.sqrt(c["var"])
    weights, bias = half(c["w1"] * scale[:, None, None, None]), half(c["beta"] - c["mean"] * scale)
    y = convolution(np.pad(half(x.astype(np.float64)), ((0, 0), (0, 0), (1, 1), (1, 1))), weights, 1)
    y = np.maximum(half(y + bias[:, None, None]), 0)
    y = half(half(convolution(y, half(c["w2"]), 2) + half(c["b2"])[:, None, None]).mean((2, 3)))
    logits = half(y @ half(c["w3"]) + half(c["b3"]))
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return {"share": half(powers / powers.sum(1, keepdims=True)), "logits": logits}


def nearly(found, wanted, relative):
    for name, value in wanted.items():
        assert np.abs(found[name] - value).max() <= relative * np.abs(value).max(), name


def kinds(engine):
    return [node.op_type for node in onnx.load(engine).graph.node]
