"""Small ONNX files of many shapes, as users bring them: name -> how to make it, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F, D, H = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16
I32, I64, U8, B, S = TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8, TensorProto.BOOL, TensorProto.STRING


def info(name, dtype=F, shape=("batch", 8)):
    return helper.make_tensor_value_info(name, dtype, shape)


def weight(name, *shape, dtype=np.float32, seed=0):
    return numpy_helper.from_array(np.random.RandomState(seed).standard_normal(shape).astype(dtype), name)


def file(nodes, inputs, outputs, weights=()):
    graph = helper.make_graph(nodes, "own", inputs, outputs, list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, name=f"{op}_{outputs[0]}", **attributes)


def dense(shape=("batch", 8), dtype=F, kind=np.float32):
    return file(
        [node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["y"])],
        [info("x", dtype, shape)], [info("y", dtype, (*shape[:-1], 4))], [weight("w", 8, 4, dtype=kind)],
    )  # fmt: skip


def image():
    return file(
        [node("Conv", ["x", "w"], ["h"], pads=[1, 1, 1, 1]), node("GlobalAveragePool", ["h"], ["p"]),
         node("Flatten", ["p"], ["y"])],
        [info("x", F, ("n", 3, 16, 16))], [info("y", F, ("n", 6))], [weight("w", 6, 3, 3, 3)],
    )  # fmt: skip


def volume():
    return file(
        [node("Conv", ["x", "w"], ["y"], pads=[1] * 6)],
        [info("x", F, ("n", 2, 4, 6, 6))], [info("y", F, ("n", 3, 4, 6, 6))], [weight("w", 3, 2, 3, 3, 3)],
    )  # fmt: skip


def two_inputs():
    return file(
        [node("Concat", ["a", "b"], ["c"], axis=1), node("MatMul", ["c", "w"], ["y"])],
        [info("a", F, ("n", 3)), info("b", F, ("n", 5))], [info("y", F, ("n", 4))], [weight("w", 8, 4)],
    )  # fmt: skip


def two_alike():
    """Two outputs of one shape."""
    return file(
        [node("MatMul", ["x", "v"], ["y"]), node("MatMul", ["x", "w"], ["z"])],
        [info("x", F, ("n", 8))], [info("y", F, ("n", 4)), info("z", F, ("n", 4))],
        [weight("v", 8, 4), weight("w", 8, 4, seed=1)],
    )  # fmt: skip


def tokens():
    """Token ids and a mask, as text encoders take them."""
    return file(
        [node("Gather", ["table", "ids"], ["e"]), node("Cast", ["mask"], ["m"], to=F),
         node("Unsqueeze", ["m", "last"], ["m1"]), node("Mul", ["e", "m1"], ["em"]),
         node("ReduceMean", ["em"], ["y"], axes=[1], keepdims=0)],
        [info("ids", I64, ("n", 7)), info("mask", I64, ("n", 7))], [info("y", F, ("n", 16))],
        [weight("table", 11, 16), numpy_helper.from_array(np.array([2]), "last")],
    )  # fmt: skip


def classes():
    return file(
        [node("MatMul", ["x", "w"], ["logits"]), node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0)],
        [info("x", F, ("n", 8))], [info("logits", F, ("n", 5)), info("label", I64, ("n",))], [weight("w", 8, 5)],
    )  # fmt: skip


def whole_numbers():
    return file([node("Add", ["a", "b"], ["y"])], [info("a", I32, ("n", 4)), info("b", I32, ("n", 4))],
                [info("y", I32, ("n", 4))])  # fmt: skip


def pixels():
    return file([node("Cast", ["x"], ["f"], to=F), node("MatMul", ["f", "w"], ["y"])],
                [info("x", U8, ("n", 8))], [info("y", F, ("n", 4))], [weight("w", 8, 4)])  # fmt: skip


def switch():
    return file([node("Where", ["on", "x", "z"], ["y"])], [info("on", B, ("n", 4)), info("x", F, ("n", 4))],
                [info("y", F, ("n", 4))], [weight("z", 4)])  # fmt: skip


def scaled():
    """A scalar beside a batch."""
    return file([node("Mul", ["x", "s"], ["y"])], [info("x", F, ("n", 4)), info("s", F, ())], [info("y", F, ("n", 4))])


def mixing():
    """Each row depends on those before it."""
    first = numpy_helper.from_array(np.array(0), "first")
    return file([node("CumSum", ["x", "first"], ["y"])], [info("x", F, ("n", 4))], [info("y", F, ("n", 4))], [first])


def table_beside():
    """One output has a row for each input's, the other is a constant of the graph."""
    table = numpy_helper.from_array(np.arange(6, dtype=np.float32), "table")
    return file(
        [node("MatMul", ["x", "w"], ["y"]), node("Neg", ["table"], ["z"])],
        [info("x")], [info("y", F, ("batch", 4)), info("z", F, (6,))], [weight("w", 8, 4), table],
    )  # fmt: skip


def beside_the_batch():
    """A scalar and a mask of one row beside a batch, and an output with as many rows as a table."""
    table = numpy_helper.from_array(np.arange(18, dtype=np.float32).reshape(3, 6), "table")
    return file(
        [node("Mul", ["x", "mask"], ["m"]), node("Mul", ["m", "scale"], ["h"]), node("MatMul", ["h", "w"], ["y"]),
         node("Mul", ["table", "scale"], ["z"])],
        [info("x"), info("mask", F, (1, 8)), info("scale", F, ())], [info("y", F, ("batch", 4)), info("z", F, (3, 6))],
        [weight("w", 8, 4), table],
    )  # fmt: skip


def weights_as_inputs():
    """As files of IR version 3 have them."""
    model = dense()
    model.graph.input.append(info("w", F, (8, 4)))
    model.ir_version, model.opset_import[0].version = 3, 9
    return model


def empty_beside():
    """An output without elements beside one that has some."""
    bounds = [numpy_helper.from_array(np.array([number]), name) for name, number in (("at", 3), ("axis", 1))]
    return file([node("Slice", ["x", "at", "at", "axis"], ["y"]), node("Relu", ["x"], ["z"])],
                [info("x")], [info("y", F, ("batch", 0)), info("z")], bounds)  # fmt: skip


def as_many_as_there_are(more=True):
    """Outputs with as many rows as the data says, each of another number."""
    return file(
        [node("Relu", ["x"], ["r"]), node("NonZero", ["r"], ["i"]), node("Transpose", ["i"], ["t"], perm=[1, 0]),
         node("GatherND", ["x", "t"], ["y"]), *([node("Concat", ["y", "y"], ["z"], axis=0)] if more else [])],
        [info("x")], [info("y", F, ("found",)), *([info("z", F, ("twice",))] if more else [])],
    )  # fmt: skip


def held_batch():
    """A free batch that a node holds at 1: an example of one row was traced."""
    to = numpy_helper.from_array(np.array([1, 8]), "to")
    return file([node("Reshape", ["x", "to"], ["r"]), node("MatMul", ["r", "w"], ["y"])],
                [info("x", F, ("n", 2, 4))], [info("y", F, ("n", 4))], [to, weight("w", 8, 4)])  # fmt: skip


def four_bits():
    """Weights of 4 bits, as language models have them."""
    values = np.random.RandomState(0).randint(-8, 8, 32).tolist()
    step = numpy_helper.from_array(np.array(0.1, np.float32), "step")
    w = helper.make_tensor("w", TensorProto.INT4, [8, 4], values)
    model = file([node("DequantizeLinear", ["w", "step"], ["d"]), node("MatMul", ["x", "d"], ["y"])], [info("x")],
                 [info("y", F, ("batch", 4))], [w, step])  # fmt: skip
    model.ir_version, model.opset_import[0].version = 10, 21
    return model


def noise():
    return file([node("RandomNormalLike", ["x"], ["n"], seed=1.0), node("Add", ["x", "n"], ["y"])],
                [info("x")], [info("y")])  # fmt: skip


def dropout(trains=True):
    on = [numpy_helper.from_array(np.array(0.5, np.float32), "share"), numpy_helper.from_array(np.array(trains), "on")]
    return file([node("Dropout", ["x", "share", "on"], ["y"])], [info("x")], [info("y")], on)


def passed_on():
    return file([node("Relu", ["x"], ["y"])], [info("x")], [info("x"), info("y")])


def optional_in():
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(F, (2, 3)))
    model = file([node("OptionalGetElement", ["x"], ["y"])], [helper.make_value_info("x", kind)],
                 [info("y", F, (2, 3))])  # fmt: skip
    model.opset_import[0].version = 18
    return model


def to_scalar():
    return file([node("ReduceSum", ["x"], ["y"], keepdims=0)], [info("x", F, (3, 4))], [info("y", F, ())])


def sequence_out():
    return file([node("SequenceConstruct", ["x", "x"], ["y"])], [info("x", F, (2, 3))],
                [helper.make_tensor_sequence_value_info("y", F, None)])  # fmt: skip


def strings():
    return file([node("Identity", ["x"], ["y"])], [info("x", S, (2,))], [info("y", S, (2,))])


def nothing():
    return file([], [info("x", F, (2, 3))], [info("x", F, (2, 3))])


def no_inputs():
    return file([node("Identity", ["w"], ["y"])], [], [info("y", F, (2, 3))], [weight("w", 2, 3)])


def free_length():
    return dense(("batch", "tokens", 8))


def foreign():
    model = file([helper.make_node("Magic", ["x"], ["y"], domain="example.com")], [info("x", F, (2, 3))],
                 [info("y", F, (2, 3))])  # fmt: skip
    model.opset_import.append(helper.make_opsetid("example.com", 1))
    return model


TESTED = {
    "dense": dense, "image": image, "volume": volume, "two_inputs": two_inputs,
    "two_alike": two_alike, "tokens": tokens, "classes": classes,
    "whole_numbers": whole_numbers, "pixels": pixels, "switch": switch, "scaled": scaled, "mixing": mixing,
    "to_scalar": to_scalar, "beside_the_batch": beside_the_batch,
    "weights_as_inputs": weights_as_inputs, "empty_beside": empty_beside,
    "as_many_as_there_are": as_many_as_there_are, "no_dropout": lambda: dropout(False), "four_bits": four_bits,
    "fixed": lambda: dense((4, 8)),
    "no_batch_axis": lambda: dense((8,)),
    "doubles": lambda: dense(dtype=D, kind=np.float64),
    "halves": lambda: dense(dtype=H, kind=np.float16),
    "sequence_of_rows": lambda: dense(("batch", 6, 8)),
}  # fmt: skip

REFUSED = {
    "sequence_out": (sequence_out, "output y is a sequence, not a tensor"),
    "strings": (strings, "input x is of strings"),
    "nothing": (nothing, "computes nothing: 1 inputs, 0 nodes"),
    "no_inputs": (no_inputs, "computes nothing: 0 inputs, 1 nodes"),
    "optional_in": (optional_in, "input x is a value that may be absent, not a tensor"),
    "noise": (
        noise,
        r"it draws at random, so no output is the right one: RandomNormalLike \(node RandomNormalLike_n\)",
    ),
    "dropout": (dropout, r"it draws at random, so no output is the right one: Dropout \(node Dropout_y\)"),
    "passed_on": (passed_on, "output x is an input or a weight: nothing computes it"),
    "bfloat16": (lambda: dense(dtype=TensorProto.BFLOAT16), "input x is of bfloat16"),
    "free_length": (free_length, r"axis 1 of input x is free \(tokens\)"),
    "foreign": (foreign, r"ONNX Runtime .* has no kernel on the CPU for example\.com:Magic"),
}


def save(make, path: Path) -> Path:
    onnx.save(make(), str(path))
    return path
