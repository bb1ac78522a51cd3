"""A small network of known weights, and a picture for it."""

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness.backends.base import Normalize
from harness.diagnose import mistakes
from harness.diagnose.picture import picture
from harness.models.base import Frame, Prepared, Protocol

SIDE = 24
MEAN, STD = np.array([123.0, 116.0, 103.0]).reshape(3, 1, 1), np.array([58.0, 57.0, 62.0]).reshape(3, 1, 1)
RANDOM = np.random.RandomState(7)
PROJECTION = RANDOM.standard_normal((3 * SIDE * SIDE, 40)) / SIDE
MIXING = RANDOM.standard_normal((40, 33)) / 6
BLOTS = [cv2.resize(RANDOM.randint(0, 256, (12, 16, 3)).astype(np.float32), (66, 50)) for _ in range(3)]
IMAGES = [np.clip(1.6 * blots - 70, 0, 255).round().astype(np.uint8) for blots in BLOTS]


def content(image, interpolation=cv2.INTER_AREA):
    return cv2.resize(image, (24, 18), interpolation=interpolation)[..., ::-1]


def canvas(image, top=0, interpolation=cv2.INTER_AREA):
    """RGB pixels, 3 x 24 x 24 float64; the picture is 24 wide and 18 high, the rest is black."""
    pixels = np.zeros((SIDE, SIDE, 3))
    pixels[top : top + 18] = content(image, interpolation)
    return pixels.transpose(2, 0, 1)


def normalized(pixels):
    return ((pixels - MEAN) / STD).astype(np.float32)


def preprocess(image, raw):
    if image.shape[:2] == (SIDE, SIDE):  # the plain colours with which a protocol is probed
        return Prepared(normalized(image[..., ::-1].transpose(2, 0, 1)), Frame(SIDE, SIDE, (1.0, 1.0)))
    tensor = normalized(canvas(image))
    return Prepared(tensor, Frame(66, 50, (24 / 66, 18 / 50)))


PROTOCOL = Protocol(
    "small", (SIDE, SIDE), (), preprocess, lambda outputs, frame: {},
    Normalize(tuple(MEAN.ravel()), tuple(STD.ravel()), "RGB"),
)  # fmt: skip


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x):
    return 0.5 + 0.5 * np.tanh(x / 2)


def network(tensors, end=softmax, last=sigmoid):
    """(N, 3, 24, 24) -> two heads of 10 logits, 7 probabilities that sum to 1 and 6 that do not."""
    hidden = np.maximum(np.asarray(tensors, np.float64).reshape(len(tensors), -1) @ PROJECTION, -0.3)
    y = hidden @ MIXING
    heads = {"left": y[:, :10], "right": y[:, 10:20], "class": end(y[:, 20:27]), "marks": last(y[:, 27:])}
    return {name: value.astype(np.float32) for name, value in heads.items()}


TENSORS = np.stack([normalized(canvas(image)) for image in IMAGES])
REFERENCE = network(TENSORS)


def gap_of(chip):
    """As the chip would answer: rounded to FP16."""
    rounded = {name: value.astype(np.float16).astype(np.float32) for name, value in chip.items()}
    return mistakes.Gap(
        rounded, REFERENCE, picture(PROTOCOL, IMAGES[0]), network, lambda images: network(images, end=lambda x: x)
    )


def chain(length, seed=0):
    """Convolutions and rectifiers in turn, with a branch beside each third; from `image` to `out` and `classes`."""
    random, nodes, constants, last = np.random.RandomState(seed), [], {}, "image"
    for i in range(length):
        mixed = 0.7 * random.standard_normal((3, 3)) + np.eye(3)
        constants[f"w{i}"] = mixed.astype(np.float32)[..., None, None]
        nodes.append(helper.make_node("Conv", [last, f"w{i}"], [f"conv{i}"], f"Conv_{i}", kernel_shape=[1, 1]))
        nodes.append(helper.make_node("LeakyRelu", [f"conv{i}"], [f"relu{i}"], f"Relu_{i}", alpha=0.5))
        last = f"relu{i}"
        if i % 3 == 2:
            nodes.append(helper.make_node("Sigmoid", [f"relu{i - 1}"], [f"gate{i}"], f"Gate_{i}"))
            nodes.append(helper.make_node("Mul", [last, f"gate{i}"], [f"mul{i}"], f"Mul_{i}"))
            last = f"mul{i}"
    constants["flat"] = np.array([-1, 3 * 36])
    constants["dense"] = random.standard_normal((3 * 36, 5)).astype(np.float32) / 100
    nodes += [
        helper.make_node("Reshape", [last, "flat"], ["rows"], "Reshape_0"),
        helper.make_node("Gemm", ["rows", "dense"], ["logits"], "Gemm_0"),
        helper.make_node("Softmax", ["logits"], ["classes"], "Softmax_0", axis=1),
        helper.make_node("Identity", [last], ["out"], "Identity_0"),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes, "chain", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 6, 6])],
            [helper.make_tensor_value_info("classes", TensorProto.FLOAT, ["batch", 5]),
             helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 3, 6, 6])],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 11)], ir_version=6,
    )  # fmt: skip
    onnx.checker.check_model(model, full_check=True)
    return model


def tampered(model, name, change=lambda array: array * 1.5):
    other = onnx.ModelProto()
    other.CopyFrom(model)
    (tensor,) = (tensor for tensor in other.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)).astype(np.float32), name))
    return other


IMAGE = np.random.RandomState(1).standard_normal((2, 3, 6, 6)).astype(np.float32)


class Tampering:
    """A worker whose compiler makes a mistake: it is given `graph_of` the graph and `spec_of` what is asked. Names of
    files that were built are put into `built`."""

    def __init__(self, worker, graph_of, spec_of=lambda spec: spec, built=None):
        self._worker, self._graph_of, self._spec_of = worker, graph_of, spec_of
        self._built = [] if built is None else built

    def __enter__(self):
        self._worker.__enter__()
        return self

    def __exit__(self, *error):
        self._worker.__exit__(*error)

    def __getattr__(self, name):
        return getattr(self._worker, name)

    def build(self, source, engine, spec):
        other = engine.with_name("tampered.onnx")
        onnx.save(self._graph_of(onnx.load(source)), other)
        self._built.append(source.name)
        self._worker.build(other, engine, self._spec_of(spec))
