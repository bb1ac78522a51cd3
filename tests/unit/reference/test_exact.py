"""The FP64 reference of a user's file, against sums written out in NumPy's double."""

import itertools
import math

import numpy as np
import own_models
import pytest
from onnx import TensorProto, helper, numpy_helper
from own_models import F, file, info, node

from harness.case import Precision
from harness.export import own as files
from harness.reference import exact, own

CLOSE = 1e-13  # relative to the largest value; FP32 leaves 1e-8 to 1e-6
DRAW = np.random.RandomState(0)


def close(found, wanted):
    assert found.dtype == np.float64
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= CLOSE * max(1, np.abs(wanted).max())


def one(op, x, *constants, opset=13, outputs=("y",), **attributes):
    """Output of one operator on x and constants (None: left out)."""
    names = ["x", *(f"c{n}" if c is not None else "" for n, c in enumerate(constants))]
    known = [numpy_helper.from_array(c, f"c{n}") for n, c in enumerate(constants) if c is not None]
    graph = helper.make_graph([helper.make_node(op, names, list(outputs), **attributes)], "one",
                              [info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
                              [info("y", F, None)], known)  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return exact.outputs(model, {"x": x})["y"]


def drawn(*shape):
    return DRAW.standard_normal(shape).astype(np.float32)


def places(sizes):
    return itertools.product(*(range(size) for size in sizes))


def convolved(x, w, bias, strides, pads, dilations, group):
    """One product after the other, over any number of axes."""
    axes = len(strides)
    x, w = np.float64(np.pad(x, [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)])), np.float64(w)
    sizes = [(x.shape[2 + a] - (w.shape[2 + a] - 1) * dilations[a] - 1) // strides[a] + 1 for a in range(axes)]
    y = np.zeros((len(x), len(w), *sizes))
    for n, out, at in itertools.product(range(len(x)), range(len(w)), places(sizes)):
        first = out // (len(w) // group) * w.shape[1]
        y[(n, out, *at)] = np.float64(bias[out]) + sum(
            x[(n, first + c, *(a * s + k * d for a, s, k, d in zip(at, strides, kernel, dilations, strict=True)))]
            * w[(out, c, *kernel)]
            for c, kernel in itertools.product(range(w.shape[1]), places(w.shape[2:]))
        )
    return y


@pytest.mark.parametrize(("shape", "kernel", "strides", "pads", "dilations", "group"), [
    ((2, 4, 9), (6, 4, 3), [2], [1, 0], [1], 1), ((2, 4, 7, 6), (6, 4, 3, 2), [1, 2], [1, 0, 2, 1], [2, 1], 1),
    ((2, 4, 7, 6), (6, 2, 3, 3), [2, 1], [1, 0, 1, 2], [1, 2], 2),
    ((1, 4, 5, 5), (4, 1, 3, 3), [1, 1], [0] * 4, [1, 1], 4),
    ((1, 2, 4, 5, 4), (3, 2, 2, 3, 2), [1, 2, 1], [0, 1, 1, 1, 0, 0], [1, 1, 2], 1),
])  # fmt: skip
def test_convolutions_are_sums_of_products(shape, kernel, strides, pads, dilations, group):
    x, w, bias = drawn(*shape), drawn(*kernel), drawn(kernel[0])

    found = one("Conv", x, w, bias, strides=strides, pads=pads, dilations=dilations, group=group)

    close(found, convolved(x, w, bias, strides, pads, dilations, group))


@pytest.mark.parametrize(
    ("kind", "pads"), [("SAME_UPPER", [0, 1, 1, 1]), ("SAME_LOWER", [1, 1, 0, 1]), ("VALID", [0] * 4)]
)
def test_automatic_padding_is_at_the_end_or_at_the_beginning(kind, pads):
    x, w = drawn(1, 2, 7, 6), drawn(3, 2, 2, 3)

    found = one("Conv", x, w, strides=[1, 1], auto_pad=kind)

    close(found, convolved(x, w, np.zeros(3), [1, 1], pads, [1, 1], 1))


@pytest.mark.parametrize("group", [1, 2])
def test_transposed_convolutions_add_what_each_element_gives(group):
    x, w, bias = drawn(2, 4, 4, 3), drawn(4, 3, 3, 2), drawn(3 * group)
    strides, dilations, pads, more = (2, 1), (1, 2), (1, 0, 2, 1), (1, 0)
    whole = np.zeros((2, 3 * group, (4 - 1) * 2 + 3 + 1, (3 - 1) * 1 + 3))
    for n, c, i, j in places(x.shape):
        for out, k, m in places(w.shape[1:]):
            to = c // (4 // group) * 3 + out
            whole[n, to, i * 2 + k, j + m * 2] += np.float64(x[n, c, i, j]) * np.float64(w[c, out, k, m])
    wanted = whole[:, :, 1 : whole.shape[2] - 2, 0 : whole.shape[3] - 1] + np.float64(bias).reshape(-1, 1, 1)

    found = one(
        "ConvTranspose", x, w, bias, strides=strides, dilations=dilations, pads=pads, output_padding=more, group=group
    )

    close(found, wanted)


@pytest.mark.parametrize(("counted", "ceil"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_averages_are_over_what_is_counted(counted, ceil):
    x = drawn(1, 2, 8, 7)
    size = [(8 + 2 - 3 + ceil * 1) // 2 + 1, (7 + 1 - 2 + ceil * 1) // 2 + 1]
    wanted = np.zeros((1, 2, *size))
    for c, i, j in places((2, *size)):
        rows, columns = range(i * 2 - 1, i * 2 + 2), range(j * 2 - 1, j * 2 + 1)
        inside = [(r, k) for r, k in itertools.product(rows, columns) if 0 <= r < 8 and 0 <= k < 7]
        padded = [(r, k) for r, k in itertools.product(rows, columns) if -1 <= r < 9 and -1 <= k < 7]
        total = sum(np.float64(x[0, c, r, k]) for r, k in inside)
        wanted[0, c, i, j] = total / len(padded if counted else inside)

    found = one("AveragePool", x, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 0], count_include_pad=counted,
                ceil_mode=ceil)  # fmt: skip

    close(found, wanted)


X = np.concatenate([np.linspace(-4, 4, 23), [0.0]]).astype(np.float32).reshape(2, 3, 4)
SLOPE = np.array([[0.1], [2.0], [0.5]], np.float32)
f32 = np.float32
ELEMENTS = {
    "Erf": ({}, math.erf), "Gelu": ({}, lambda v: v * (1 + math.erf(v / math.sqrt(2))) / 2),
    "Elu": ({"alpha": 0.5}, lambda v: v if v >= 0 else 0.5 * (math.exp(v) - 1)),
    "Selu": ({"alpha": 1.5, "gamma": 1.25}, lambda v: 1.25 * (v if v > 0 else 1.5 * math.exp(v) - 1.5)),
    "HardSigmoid": ({"alpha": 0.25, "beta": 0.5}, lambda v: min(1, max(0, 0.25 * v + 0.5))),
    "HardSwish": ({}, lambda v: v * min(1, max(0, v / 6 + 0.5))),
    "LeakyRelu": ({}, lambda v: v if v > 0 else float(f32(0.01)) * v),
    "Softplus": ({}, lambda v: math.log(1 + math.exp(v))), "Softsign": ({}, lambda v: v / (1 + abs(v))),
    "Sigmoid": ({}, lambda v: 1 / (1 + math.exp(-v))), "Tanh": ({}, math.tanh), "Exp": ({}, math.exp),
}  # fmt: skip


@pytest.mark.parametrize("op", ELEMENTS)
def test_functions_of_an_element_are_as_defined(op):
    attributes, wanted = ELEMENTS[op]

    found = one(op, X, opset=20, **attributes)

    close(found, np.vectorize(wanted, otypes=[float])(np.float64(X)))


def test_the_approximation_of_gelu_is_as_defined():
    found = one("Gelu", X, opset=20, approximate="tanh")

    close(found, np.vectorize(lambda v: 0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))))(
        np.float64(X)))  # fmt: skip


def test_a_constant_of_a_shape_is_zeros_where_the_file_gives_no_value():
    zeros = node("ConstantOfShape", ["shape"], ["zeros"])
    graph = file([zeros, node("Concat", ["x", "zeros"], ["y"], axis=0)], [info("x", F, (3, 2))], [info("y", F, (5, 2))],
                 [numpy_helper.from_array(np.array([2, 2]), "shape")])  # fmt: skip
    x = drawn(3, 2)

    close(exact.outputs(graph, {"x": x})["y"], np.concatenate([np.float64(x), np.zeros((2, 2))]))


def test_other_formulas_are_as_defined():
    x, scale, shift = drawn(2, 3, 5), drawn(3), drawn(3)
    wide = np.float64(x)
    means = np.array([[[sum(row) / 5] for row in sample] for sample in wide])
    spread = np.array([[[sum((v - m) ** 2 for v in row) / 5] for row, (m,) in zip(s, ms, strict=True)]
                       for s, ms in zip(wide, means, strict=True)])  # fmt: skip

    close(one("GlobalAveragePool", x), means)
    close(one("GlobalMaxPool", x), np.array([[[max(row)] for row in sample] for sample in wide]))
    close(one("InstanceNormalization", x, scale, shift, epsilon=0.25),
          (wide - means) / np.sqrt(spread + 0.25) * np.float64(scale[:, None]) + shift[:, None])  # fmt: skip
    close(one("PRelu", X, SLOPE), np.where(X < 0, np.float64(X) * np.float64(SLOPE), X))
    close(one("Mean", X, X[::-1].copy()), (np.float64(X) + X[::-1]) / 2)


@pytest.mark.parametrize(("mode", "at"), [
    ("half_pixel", lambda i: (i + 0.5) / 2.5 - 0.5), ("asymmetric", lambda i: i / 2.5),
    ("align_corners", lambda i: i * 3 / 9), ("pytorch_half_pixel", lambda i: (i + 0.5) / 2.5 - 0.5),
])  # fmt: skip
@pytest.mark.parametrize("by_size", [False, True])
def test_linear_resizing_is_between_the_nearest_two(mode, at, by_size):
    x, wanted = drawn(1, 2, 4), np.zeros((1, 2, 10))
    for c, i in places((2, 10)):
        where = min(max(at(i), 0), 3)
        low = int(where)
        share = where - low
        wanted[0, c, i] = np.float64(x[0, c, low]) * (1 - share) + np.float64(x[0, c, min(low + 1, 3)]) * share
    asked = [None, None, np.array([1, 2, 10])] if by_size else [None, np.array([1, 1, 2.5], f32)]

    close(one("Resize", x, *asked, mode="linear", coordinate_transformation_mode=mode), wanted)


def test_the_nearest_elements_are_those_that_onnx_runtime_takes():
    x = drawn(1, 2, 3, 3)

    close(one("Resize", x, None, np.array([1, 1, 2, 3], f32)), np.float64(x).repeat(2, 2).repeat(3, 3))
    close(one("Upsample", x, np.array([1, 1, 2, 3], f32), opset=9), np.float64(x).repeat(2, 2).repeat(3, 3))


WITHOUT = {
    "whole_numbers": "no floating-point numbers below FP64", "doubles": "no floating-point numbers below FP64",
    "four_bits": "an operator computes in int4 by definition: DequantizeLinear",
}  # fmt: skip


@pytest.mark.parametrize("name", own_models.TESTED)
def test_files_of_many_shapes_are_near_what_fp32_gives(name, tmp_path):
    path = own_models.save(own_models.TESTED[name], tmp_path / "m.onnx")
    model = files.read(path)
    given = model.draw(3)
    if name in WITHOUT:
        with pytest.raises(exact.NotExact, match=WITHOUT[name]):
            exact.outputs(files.whole(path), given)
        return

    found, plain = exact.outputs(files.whole(path), given), own.outputs(model, given)

    assert list(found) == list(model.outputs)
    for output, value in found.items():
        assert value.dtype == (np.float64 if plain[output].dtype.kind == "f" else plain[output].dtype)
        np.testing.assert_allclose(value, plain[output], rtol=2e-3 if name == "halves" else 1e-5, atol=1e-4)


def test_constants_casts_branches_loops_and_functions_are_double_too():
    """In each place a sum is lost in FP32: 2^-27 is added to 1, and 1 is subtracted at the end."""
    tiny = np.float32(2.0**-27)
    same = helper.make_graph([node("Add", ["v", "t"], ["b"])], "then", [], [info("b", F, None)],
                             [numpy_helper.from_array(np.full(1, tiny), "t")])  # fmt: skip
    other = helper.make_graph([node("Identity", ["v"], ["b"])], "else", [], [info("b", F, None)])
    body = helper.make_graph(
        [node("Identity", ["on"], ["on_"]), node("Add", ["s", "u"], ["s_"])], "body",
        [info("i", own_models.I64, ()), info("on", own_models.B, ()), info("s", F, (1,))],
        [info("on_", own_models.B, ()), info("s_", F, (1,))],
    )  # fmt: skip
    model = file(
        [node("Cast", ["n"], ["v"], to=F), node("If", ["c"], ["w"], then_branch=same, else_branch=other),
         node("Constant", [], ["u"], value_float=float(tiny)), node("Loop", ["three", "", "w"], ["z"], body=body),
         helper.make_node("Twice", ["z"], ["d"], domain="own"), node("Sub", ["d", "two"], ["y"])],
        [info("n", own_models.I64, (1,)), info("c", own_models.B, ())], [info("y", F, (1,))],
        [numpy_helper.from_array(np.array(3), "three"), numpy_helper.from_array(np.float32(2), "two")],
    )  # fmt: skip
    twice = [helper.make_node("Add", ["a", "a"], ["b"])]
    model.functions.append(helper.make_function("own", "Twice", ["a"], ["b"], twice, [helper.make_opsetid("", 13)]))
    model.opset_import.append(helper.make_opsetid("own", 1))
    before = model.SerializeToString()

    found = exact.outputs(model, {"n": np.array([1]), "c": np.array(True)})

    assert found["y"] == [2 * (1 + 4 * np.float64(tiny)) - 2]
    assert model.SerializeToString() == before


@pytest.mark.parametrize(("nodes", "why"), [
    ([node("LRN", ["x"], ["y"], size=3)], "ONNX Runtime has no FP64 kernel of LRN"),
    ([node("Cast", ["x"], ["q"], to=TensorProto.FLOAT8E4M3FN), node("Cast", ["q"], ["y"], to=1)],
     "an operator computes in float8_e4m3fn by definition: Cast"),
    ([node("Resize", ["x", "", "s"], ["y"], mode="cubic")], "Resize of mode cubic, half_pixel is not computed in FP64"),
    ([node("QuantizeLinear", ["x", "q"], ["i"]), node("DequantizeLinear", ["i", "q"], ["y"])],
     "an operator computes in FP32 by definition: DequantizeLinear"),
])  # fmt: skip
def test_why_there_is_no_fp64_is_said(nodes, why):
    known = {"s": np.array([1, 1, 2, 2], f32), "q": f32(0.1)}
    weights = [numpy_helper.from_array(value, name) for name, value in known.items()]
    model = file(nodes, [info("x", F, (1, 2, 4, 4))], [info("y", F, None)], weights)

    with pytest.raises(exact.NotExact, match=why):
        exact.outputs(model, {"x": drawn(1, 2, 4, 4)})


def test_it_is_bounded_in_time():
    with pytest.raises(exact.NotExact, match="FP64 takes longer than 0 s at this batch"):
        exact.outputs(own_models.dense(), {"x": drawn(2, 8)}, seconds=0)


def test_what_is_rounded_to_fp32_by_definition_is_not_called_fp64():
    """Non-maximum suppression takes FP32 alone: boxes that FP32 has are given to it, boxes that it has not are not."""
    boxes = np.array([[[0, 0, 1, 1], [0, 0, 1, 0.9], [2, 2, 3, 3]]], f32)
    scores, known = np.array([[[0.9, 0.8, 0.7]]], f32), numpy_helper.from_array(f32(0.1), "tenth")
    limits = [numpy_helper.from_array(np.array([9]), "most"), numpy_helper.from_array(np.array([0.5], f32), "iou")]

    def suppressing(first):
        return file([first, node("NonMaxSuppression", ["b", "s", "most", "iou"], ["y"])],
                    [info("x", F, boxes.shape), info("s", F, scores.shape)], [info("y", own_models.I64, (None, 3))],
                    [known, *limits])  # fmt: skip

    fed = {"x": boxes, "s": scores}

    assert exact.outputs(suppressing(node("Neg", ["x"], ["b"])), fed)["y"].tolist() == [[0, 0, 0], [0, 0, 2]]
    with pytest.raises(exact.NotExact, match="takes FP32 by definition: NonMaxSuppression"):
        exact.outputs(suppressing(node("Mul", ["x", "tenth"], ["b"])), fed)


# ---------------------------------------------------------------- what reduced precision costs


def in_two_layers(x, w, precision, **second):
    model = file([node("MatMul", ["x", "w"], ["h"]), node(second.pop("op"), ["h", *second.pop("more", [])], ["y"])],
                 [info("x", F, x.shape)], [info("y", F, None)], [numpy_helper.from_array(w, "w")])  # fmt: skip
    return exact.outputs(model, {"x": x}, precision=precision)["y"]


def half(value):
    return value.astype(np.float16).astype(np.float64)


def brain(value):
    """Written out: the upper 16 bits of FP32, to the nearest, ties to even."""
    bits = value.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32).astype(np.float64)


@pytest.mark.parametrize(("precision", "rounded"), [(Precision.FP16, half), (Precision.BF16, brain)])
def test_16_bits_round_what_is_multiplied_and_the_result_of_what_follows(precision, rounded):
    x, w = drawn(3, 8), drawn(8, 4)

    found = in_two_layers(x, w, precision, op="Tanh")

    close(found, rounded(np.tanh(rounded(x) @ rounded(w))))
    assert np.abs(found - np.tanh(x.astype(np.float64) @ w)).max() > 1e-5


@pytest.mark.parametrize("sized", [False, True])
def test_what_no_input_reaches_is_computed_beforehand_and_not_rounded(sized):
    """A table of sines of large angles: rounded node by node it would be wrong by a tenth in FP16."""
    many = [node("Shape", ["x"], ["s"]), node("Cast", ["s"], ["many"], to=1)] if sized else []
    table = [node("Mul", ["a", "many"], ["angle"]), node("Sin", ["angle"], ["t"])]
    a, two = np.array([1000.3, 777.7], f32), numpy_helper.from_array(np.array([2], f32), "many")
    weights = [numpy_helper.from_array(a, "a"), *([] if sized else [two])]
    model = file([*many, *table, node("Add", ["x", "t"], ["y"])], [info("x", F, (2,))], [info("y", F, None)], weights)
    x = drawn(2)

    found = exact.outputs(model, {"x": x}, precision=Precision.FP16)["y"]

    close(found, half(x + np.sin(2 * a.astype(np.float64))))


def test_int8_rounds_inputs_a_tensor_and_weights_a_channel():
    x, w = drawn(3, 8), drawn(8, 4) * np.array([1, 10, 100, 1000], f32)
    step, steps = (x.max() - x.min()) / 255, np.abs(w).max(0) / 127

    found = in_two_layers(x, w, Precision.INT8, op="Neg")

    middle = np.round(-x.min() / step)
    eight = (np.round(x / step) + middle).clip(0, 255) - middle
    wanted = -((eight * step).astype(np.float64) @ (np.round(w / steps) * steps))
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert np.abs(found + x.astype(np.float64) @ w).max() > 1e-3 * np.abs(wanted).max()


@pytest.mark.parametrize("turned", [0, 1])
def test_a_gemm_is_rounded_a_channel_as_the_product_that_it_is(turned):
    x, w = drawn(3, 8), drawn(8, 8) * np.array([1, 10, 100, 1000, 1, 1, 1, 1], f32)
    given = {"MatMul": w, "Gemm": np.ascontiguousarray(w.T) if turned else w}
    product, gemm = (
        exact.outputs(
            file([node(op, ["x", "w"], ["y"], **more)], [info("x", F, (3, 8))], [info("y", F, None)],
                 [numpy_helper.from_array(given[op], "w")]),
            {"x": x}, precision=Precision.INT8,
        )["y"]
        for op, more in (("MatMul", {}), ("Gemm", {"transB": turned}))
    )  # fmt: skip

    close(gemm, product)


def test_what_overflows_in_fp16_overflows():
    assert np.isinf(in_two_layers(1e3 * np.abs(drawn(3, 8)), 1e3 * np.abs(drawn(8, 4)), Precision.FP16, op="Neg")).all()
