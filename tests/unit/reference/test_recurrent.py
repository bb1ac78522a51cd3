"""Recurrent operators in FP64: as PyTorch computes them in double, and as ONNX Runtime does in FP32."""

import itertools

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from harness.reference import exact, recurrent
from harness.reference.exact import NotExact

T, N, I, H = 5, 3, 4, 6  # noqa: E741 - as the definitions call them
OF_TORCH = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}  # places of ONNX's gates among PyTorch's


def network(kind, both):
    made = getattr(torch.nn, kind)(I, H, bidirectional=both).double()
    torch.manual_seed(0)
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.7)
    return made


def weights(kind, made):
    """W, R and B of ONNX."""

    def ordered(name, suffix):
        parts = np.split(getattr(made, f"{name}_l0{suffix}").detach().numpy(), recurrent.GATES[kind])
        return np.concatenate([parts[place] for place in OF_TORCH[kind]])

    suffixes = ("", "_reverse")[: 1 + made.bidirectional]
    bias = [np.concatenate([ordered("bias_ih", s), ordered("bias_hh", s)]) for s in suffixes]
    w, r = (np.stack([ordered(f"weight_{name}", s) for s in suffixes]) for name in ("ih", "hh"))
    return w, r, np.stack(bias)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_every_operator_is_that_of_pytorch_in_double(kind, both):
    random = np.random.default_rng(1)
    x, states = random.normal(size=(T, N, I)), [random.normal(size=(1 + both, N, H)) for _ in range(2)]
    made = network(kind, both)
    states = states[: 2 if kind == "LSTM" else 1]
    begin = tuple(map(torch.from_numpy, states))
    every, last = made(torch.from_numpy(x), begin if kind == "LSTM" else begin[0])
    attributes = {"direction": b"bidirectional" if both else b"forward", "linear_before_reset": 1}

    y, *ends = recurrent.outputs(kind, attributes, x, *weights(kind, made), None, *states)

    wanted = every.detach().numpy().reshape(T, N, 1 + both, H).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-12)
    for end, of_torch in zip(ends, last if kind == "LSTM" else [last], strict=True):
        np.testing.assert_allclose(end, of_torch.detach().numpy(), rtol=0, atol=1e-12)


def file(kind, names, shapes, outputs, **attributes):
    node = helper.make_node(kind, names, outputs, hidden_size=H, **attributes)
    kinds = {"lengths": TensorProto.INT32}
    takes = [helper.make_tensor_value_info(n, kinds.get(n, 1), shapes[n]) for n in names if n]
    gives = [helper.make_tensor_value_info(n, 1, None) for n in outputs]
    graph = helper.make_graph([node], "recurrent", takes, gives)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


WAYS = [
    {"kind": kind, "direction": direction, **more}
    for kind, direction in itertools.product(("LSTM", "GRU", "RNN"), recurrent.DIRECTIONS)
    for more in (
        {}, {"lengths": True}, {"bias": False, "lengths": True},
        *([{"peephole": True}, {"peephole": True, "lengths": True}] if kind == "LSTM" else []),
        *([{"linear_before_reset": 1}, {"linear_before_reset": 1, "lengths": True}] if kind == "GRU" else []),
        *([{"activations": ["Relu"]}] if kind == "RNN" else []),
    )
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
def test_every_form_is_that_of_onnx_runtime(way):
    way = dict(way)
    kind, direction = way.pop("kind"), way.pop("direction")
    d, gates = len(recurrent.DIRECTIONS[direction]), recurrent.GATES[kind]
    shapes = {"x": (T, N, I), "w": (d, gates * H, I), "r": (d, gates * H, H), "b": (d, 2 * gates * H), "lengths": (N,),
              "h": (d, N, H), "c": (d, N, H), "p": (d, 3 * H)}  # fmt: skip
    used = {"b": way.pop("bias", True), "lengths": way.pop("lengths", False), "p": way.pop("peephole", False)}
    names = [name if used.get(name, True) else "" for name in (*"xwrb", "lengths", "h")]
    names += [name if used.get(name, True) else "" for name in "cp"] if kind == "LSTM" else []
    if "activations" in way:
        way["activations"] = way["activations"] * d
    random = np.random.default_rng(2)
    fed = {name: random.normal(0, 0.7, shapes[name]).astype(np.float32) for name in names if name}
    if used["lengths"]:
        fed["lengths"] = np.array([T, 2, 4], np.int32)
    outputs = ["y", "y_h", "y_c"][: 3 if kind == "LSTM" else 2]
    model = file(kind, names, shapes, outputs, direction=direction, **way)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = dict(zip(outputs, session.run(None, fed), strict=True))

    found = exact.outputs(model, fed)

    assert found.keys() == wanted.keys()
    for name in outputs:
        assert found[name].dtype == np.float64
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=2e-6)


def test_with_layout_1_sequences_come_first():
    random = np.random.default_rng(3)
    x, (w, r, b) = random.normal(size=(T, N, I)), weights("LSTM", network("LSTM", True))
    h, c = random.normal(size=(2, 2, N, H))
    both = {"direction": b"bidirectional"}
    y, y_h, y_c = recurrent.outputs("LSTM", both, x, w, r, b, None, h, c)

    turned = recurrent.outputs(
        "LSTM", {**both, "layout": 1}, x.swapaxes(0, 1), w, r, b, None, h.swapaxes(0, 1), c.swapaxes(0, 1)
    )

    for one, other in zip(turned, (y.transpose(2, 0, 1, 3), y_h.swapaxes(0, 1), y_c.swapaxes(0, 1)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("more", [{"clip": 1.0}, {"input_forget": 1}, {"activations": ["Sigmoid", "Tanh", "Softsign"]}])
def test_what_is_not_computed_is_said(more):
    shapes = {"x": (T, N, I), "w": (1, 4 * H, I), "r": (1, 4 * H, H)}
    fed = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}

    with pytest.raises(NotExact, match="LSTM with a clip, coupled gates or activations other than"):
        exact.outputs(file("LSTM", ["x", "w", "r"], shapes, ["y"], **more), fed)


def test_weights_and_inputs_are_those_of_the_precision():
    """An engine at FP16 rounds them, whatever it computes in."""
    random = np.random.default_rng(4)
    shapes = {"x": (40, N, I), "w": (1, 4 * H, I), "r": (1, 4 * H, H)}
    fed = {name: random.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    fed["x"] = fed["x"].astype(np.float16).astype(np.float32)
    model = file("LSTM", ["x", "w", "r"], shapes, ["y"])
    rounded = {name: value.astype(np.float16).astype(np.float32) for name, value in fed.items()}

    found = exact.outputs(model, fed, precision=exact.Precision.FP16)["y"]

    np.testing.assert_array_equal(found, exact.outputs(model, rounded)["y"])
    least = exact.outputs(model, fed, precision=exact.Precision.FP16, products_only=True)["y"]
    np.testing.assert_array_equal(found, least)
    assert np.abs(found - exact.outputs(model, fed)["y"]).max() > 1e-4
