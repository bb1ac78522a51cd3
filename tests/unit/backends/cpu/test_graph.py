"""The graph that ONNX Runtime is given at every precision, and what cannot be made of a graph."""

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from ort_small import CPU, PIXELS, expected, images, kinds, nearly, network, outputs, spec

from harness.backends.base import TensorSpec
from harness.backends.cpu import _graph, ort
from harness.errors import BuildError


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_batch_norm_is_folded_before_anything_else(source, tmp_path, calibration, precision):
    ort.build(source, tmp_path / "e", spec(precision, calibration=calibration))

    assert "BatchNormalization" not in kinds(tmp_path / "e")
    assert kinds(source).count("BatchNormalization") == 1


def test_fp16_survives_variances_that_fp16_cannot_hold(tmp_path):
    model = network(variance=1e-14)
    onnx.save(model, str(tmp_path / "m.onnx"))
    ort.build(tmp_path / "m.onnx", tmp_path / "e", spec("fp16"))

    nearly(outputs(tmp_path / "e", spec("fp16"), images(2)), expected(images(2), model), 5e-3)


def test_fp16_weights_are_fp16_and_the_caller_sees_fp32(source, tmp_path):
    ort.build(source, tmp_path / "e", spec("fp16"))
    ort.build(source, tmp_path / "f", spec("fp32"))
    found = outputs(tmp_path / "e", spec("fp16"), images(2))

    weights = [value for value in onnx.load(tmp_path / "e").graph.initializer if len(value.dims) > 1]
    assert {value.data_type for value in weights} == {TensorProto.FLOAT16}
    assert {value.dtype.name for value in found.values()} == {"float32"}
    nearly(found, expected(images(2)), 5e-3)
    exact = outputs(tmp_path / "f", spec("fp32"), images(2))
    assert np.abs(found["logits"] - exact["logits"]).max() > 1e-5, "nothing was rounded to FP16"


def test_every_result_is_rounded_to_fp16(source, tmp_path):
    """Equal to the layers computed in double precision with each result rounded by NumPy, but for the values that a sum
    in another order rounds the other way."""
    ort.build(source, tmp_path / "e", spec("fp16"))
    ort.build(source, tmp_path / "f", spec("fp32"))
    found, exact = (outputs(tmp_path / name, spec(), images(2)) for name in ("e", "f"))

    rounded = expected(images(2), half=lambda values: values.astype(np.float16).astype(np.float64))
    for name, value in found.items():
        assert np.array_equal(value, value.astype(np.float16).astype(np.float32)), f"{name} was not rounded"
        ulps = np.abs(value - rounded[name]) / np.spacing(np.abs(value).astype(np.float16)).astype(np.float64)
        assert ulps.max() <= 4, f"{name} is {ulps.max():.1f} units of the last place off"
        assert np.abs(value - rounded[name]).max() < 0.5 * np.abs(exact[name] - rounded[name]).max(), name


def test_what_overflows_in_fp16_overflows_on_the_cpu(tmp_path):
    model = network()
    (w2,) = (value for value in model.graph.initializer if value.name == "w2")
    w2.CopyFrom(numpy_helper.from_array(3e4 * numpy_helper.to_array(w2), "w2"))
    onnx.save(model, str(tmp_path / "m.onnx"))
    for precision in ("fp32", "fp16"):
        ort.build(tmp_path / "m.onnx", tmp_path / precision, spec(precision))

    assert np.isfinite(outputs(tmp_path / "fp32", spec(), images(2))["logits"]).all()
    assert not np.isfinite(outputs(tmp_path / "fp16", spec(), images(2))["logits"]).all()


def test_other_providers_get_fp16_arithmetic(source, tmp_path):
    ort.build(source, tmp_path / "e", spec("fp16"), symmetric=True)

    assert kinds(tmp_path / "e").count("Cast") == 3, "the input's and two outputs'"
    nearly(outputs(tmp_path / "e", spec(), images(2)), expected(images(2)), 5e-3)


def test_int8_weights_are_int8_per_channel_and_the_result_is_near(source, tmp_path, calibration):
    wanted = spec("int8", calibration=calibration)
    ort.build(source, tmp_path / "e", wanted)

    model = onnx.load(tmp_path / "e")
    weights = {value.name: value for value in model.graph.initializer if len(value.dims) == 4}
    scales = [value for value in model.graph.initializer if list(value.dims) in ([8], [6]) and "scale" in value.name]
    assert {value.data_type for value in weights.values()} == {TensorProto.INT8}
    assert len(scales) >= 2, "one scale a channel"
    nearly(outputs(tmp_path / "e", wanted, images(2)), expected(images(2)), 0.1)


def test_int8_for_other_providers_is_symmetric(source, tmp_path, calibration):
    ort.build(source, tmp_path / "e", spec("int8", calibration=calibration), symmetric=True)

    points = [value for value in onnx.load(tmp_path / "e").graph.initializer if "zero_point" in value.name]
    assert points
    assert not any(numpy_helper.to_array(value).any() for value in points)
    assert {value.data_type for value in points} == {TensorProto.INT8}, "biases in INT32, which CUDA cannot dequantise"


def test_weights_lose_a_bit_where_the_processor_saturates(source, tmp_path, calibration, monkeypatch):
    monkeypatch.setattr(ort, "has_vnni", lambda: False)
    ort.build(source, tmp_path / "e", spec("int8", calibration=calibration))

    weights = [numpy_helper.to_array(v) for v in onnx.load(tmp_path / "e").graph.initializer if len(v.dims) == 4]
    assert max(np.abs(value).max() for value in weights) <= 64


def test_the_calibration_set_decides_the_engine(source, tmp_path, calibration):
    np.save(tmp_path / "other.npy", 3 * images(24, seed=3))
    ort.build(source, tmp_path / "e", spec("int8", calibration=calibration))
    ort.build(source, tmp_path / "f", spec("int8", calibration=str(tmp_path / "other.npy")))

    assert (tmp_path / "e").read_bytes() != (tmp_path / "f").read_bytes()


def quantized(engine):
    """Names of the layers whose input comes out of a DequantizeLinear."""
    nodes = onnx.load(engine).graph.node
    given = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
    return {node.name for node in nodes if node.op_type in ("Conv", "Gemm") and node.input[0] in given}


def harms(said):
    """(layers in INT8, the first of them, harm) of each trial that a build told of."""
    return [
        (int(n), name, float(harm)) for n, name, harm in re.findall(r"int8: (\d+) of 3 .* from (\w+): ([\d.]+)", said)
    ]


def test_all_layers_are_int8_where_that_will_do(source, tmp_path, calibration, monkeypatch, capsys):
    monkeypatch.setattr(_graph, "_CHOSEN", {})
    ort.build(source, tmp_path / "e", spec("int8", calibration=calibration))

    assert quantized(tmp_path / "e") == {"first", "second", "last"}
    assert [count for count, _, harm in harms(capsys.readouterr().out) if harm <= 1] == [3], "one trial"
    assert onnx.load(tmp_path / "e").metadata_props[0].value == "3 of 3"


def test_the_most_harmful_layers_stay_in_fp32_when_they_must(source, tmp_path, calibration, monkeypatch, capsys):
    monkeypatch.setattr(_graph, "_CHOSEN", {})
    monkeypatch.setattr(_graph, "LIKE", -1.0)  # so that the largest error alone decides
    monkeypatch.setattr(_graph, "NEAR", 1e-6)
    wanted = spec("int8", calibration=calibration)
    with pytest.raises(BuildError, match="no part of the graph"):
        ort.build(source, tmp_path / "e", wanted)
    alone = sorted((harm, name) for count, name, harm in harms(capsys.readouterr().out)[1:4] if count == 1)
    monkeypatch.setattr(_graph, "NEAR", 1.1e-6 * alone[0][0])
    ort.build(source, tmp_path / "e", wanted)

    made = quantized(tmp_path / "e")
    assert len(alone) == 3
    assert alone[0][1] in made
    assert alone[-1][1] not in made
    assert onnx.load(tmp_path / "e").metadata_props[0].value == f"{len(made)} of 3"


def test_the_layers_are_chosen_once_for_the_graph_with_and_without_normalisation(
    source, tmp_path, calibration, monkeypatch, capsys
):
    monkeypatch.setattr(_graph, "_CHOSEN", {})
    ort.build(source, tmp_path / "e", spec("int8", calibration=calibration))
    ort.build(source, tmp_path / "f", spec("int8", calibration=calibration, normalize=PIXELS))
    np.save(tmp_path / "other.npy", images(24, seed=3))
    ort.build(source, tmp_path / "g", spec("int8", calibration=str(tmp_path / "other.npy")))

    assert len(harms(capsys.readouterr().out)) == 2, "one graph, two calibration sets"
    assert quantized(tmp_path / "e") == quantized(tmp_path / "f")


def test_the_distance_of_outputs_is_the_worst_samples():
    wanted = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]], np.float32)
    turned = np.array([[1.0, 0.0], [0.5, 2.0], [0.0, 0.0]], np.float32)  # by an angle of cosine 2 / sqrt(4.25)

    assert _graph._distance(wanted, wanted) == 0
    assert _graph._distance(wanted, turned) == pytest.approx((1 - 2 / 4.25**0.5) / (1 - _graph.LIKE))
    assert _graph._distance(wanted, 1.5 * wanted) == pytest.approx(0.5 / _graph.NEAR)
    assert _graph._distance(np.zeros((1, 2)), np.ones((1, 2))) >= 1 / (1 - _graph.LIKE)


def test_a_graph_without_products_has_nothing_for_int8(tmp_path, calibration):
    graph = helper.make_graph(
        [helper.make_node("Relu", ["image"], ["logits"], "relu")],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 12, 12])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3, 12, 12])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), tmp_path / "m.onnx")

    with pytest.raises(BuildError, match="no Conv, Gemm, MatMul"):
        ort.build(tmp_path / "m.onnx", tmp_path / "e", spec("int8", calibration=calibration))


def test_outputs_of_unknown_rank_are_inferred(tmp_path):
    model = network()
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    onnx.save(model, str(tmp_path / "m.onnx"))
    ort.build(tmp_path / "m.onnx", tmp_path / "e", spec())

    nearly(outputs(tmp_path / "e", spec(), images(2)), expected(images(2)), 1e-5)
    with ort.load(tmp_path / "e", CPU, spec()) as session:
        assert session.outputs[0].shape == (2, 5)


def test_an_input_of_unknown_rank_is_refused(tmp_path):
    model = network()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(model, str(tmp_path / "m.onnx"))

    with pytest.raises(BuildError, match="input image has no batch"):
        ort.build(tmp_path / "m.onnx", tmp_path / "e", spec())


@pytest.mark.parametrize(("precision", "near"), [("fp32", 1e-5), ("fp16", 1e-2), ("int8", 0.15)])
def test_an_engine_that_is_fed_pixels_normalises_them_itself(source, tmp_path, calibration, precision, near):
    wanted = spec(precision, calibration=calibration, normalize=PIXELS)
    ort.build(source, tmp_path / "e", wanted)
    pixels = np.random.default_rng(5).integers(0, 256, (2, 12, 12, 3)).astype(np.uint8)

    with ort.load(tmp_path / "e", CPU, wanted) as session:
        assert session.inputs == (TensorSpec("image", "uint8", (2, 12, 12, 3)),)
    by_hand = ((pixels - np.array(PIXELS.mean)) / np.array(PIXELS.std)).transpose(0, 3, 1, 2).astype(np.float32)
    nearly(outputs(tmp_path / "e", wanted, pixels), expected(by_hand), near)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("normalize", [None, PIXELS])
def test_a_build_gives_the_same_bytes_again_and_leaves_nothing_else(
    source, tmp_path, calibration, precision, normalize
):
    wanted = spec(precision, calibration=calibration, normalize=normalize)
    ort.build(source, tmp_path / "e", wanted)
    ort.build(source, tmp_path / "f", wanted)

    assert (tmp_path / "e").read_bytes() == (tmp_path / "f").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"e", "f", "small.onnx", "calibration.npy"}
    onnx.checker.check_model(str(tmp_path / "e"), full_check=True)


def unknown_operator(path):
    model = network()
    model.graph.node[2].op_type = "FooBar"
    onnx.save(model, str(path))


def dangling(path):
    model = network()
    model.graph.node[2].input[0] = "nowhere"
    onnx.save(model, str(path))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.write_bytes(b"garbage" * 100), "parsing|Protobuf|parse"),
        (lambda path: path.write_bytes(path.read_bytes()[:500]), "parsing|Protobuf|parse"),
        (unknown_operator, "FooBar"),
        (dangling, "nowhere"),
    ],
)
def test_a_graph_that_cannot_be_built_is_a_build_error_with_its_words(source, tmp_path, damage, says):
    damage(source)

    with pytest.raises(BuildError, match=says):
        ort.build(source, tmp_path / "e", spec())
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


def test_an_unknown_precision_is_refused(source, tmp_path):
    with pytest.raises(BuildError, match="'bf16'"):
        ort.build(source, tmp_path / "e", spec("bf16"))


def test_outputs_have_the_batch_of_the_inputs_only_where_they_have_its_name():
    import own_models

    model = own_models.as_many_as_there_are()
    model.graph.output.append(own_models.info("r"))

    _graph.set_batch(model, 3)

    sizes = {value.name: value.type.tensor_type.shape.dim[0] for value in (*model.graph.input, *model.graph.output)}
    assert {name: size.dim_value or size.dim_param for name, size in sizes.items()} == {
        "x": 3, "y": "found", "z": "twice", "r": 3}  # fmt: skip


def loss(source, engine, precision, calibration, kept):
    asked = spec(precision, calibration=calibration, options={"in_fp32": kept} if kept else {})
    ort.build(source, engine, asked)
    found = outputs(engine, asked, images(2))
    return float(np.abs(found["logits"] - expected(images(2))["logits"]).mean())


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_nodes_stay_in_fp32_where_they_are_asked_to(source, tmp_path, calibration, precision):
    names = [node.name for node in onnx.load(str(source)).graph.node]

    lost = [loss(source, tmp_path / "e", precision, calibration, kept) for kept in ((), ["last"])]

    assert lost[1] < lost[0]
    if precision == "fp16":
        assert loss(source, tmp_path / "e", precision, calibration, names) < 1e-5
    else:
        with pytest.raises(BuildError, match="every Conv, Gemm, MatMul of the graph is to stay in FP32"):
            ort.build(source, tmp_path / "e", spec(precision, calibration=calibration, options={"in_fp32": names}))


def test_providers_that_compute_in_fp16_leave_nodes_in_fp32_too(source, tmp_path):
    one = next(node.name for node in onnx.load(str(source)).graph.node if node.op_type == "Conv")
    ort.build(source, tmp_path / "e", spec("fp16", options={"in_fp32": [one]}), symmetric=True)

    made = onnx.load(tmp_path / "e").graph
    fed = next(node.input[1] for node in made.node if node.name == one)
    assert {value.data_type for value in made.initializer if value.name == fed} == {TensorProto.FLOAT}


def test_a_node_that_is_gone_is_the_one_that_does_its_work():
    def graph(*rows):
        nodes = [helper.make_node(kind, [read], [makes], name) for kind, name, read, makes in rows]
        return helper.make_model(helper.make_graph(nodes, "g", [], []))

    source = graph(
        ("Conv", "conv", "x", "c"), ("BatchNormalization", "norm", "c", "n"), ("Relu", "act", "n", "y"),
        ("MatMul", "product", "y", "m"), ("Add", "sum", "m", "z"), ("Identity", "gone", "z", "end"),
    )  # fmt: skip
    fused = graph(("Conv", "conv", "x", "n"), ("Relu", "act", "n", "y"), ("Gemm", "product/fused", "y", "z"))

    def of(name):
        return _graph.nodes_of(fused, source, [name])

    assert of("conv") == of("norm") == {"conv"}
    assert of("product") == of("sum") == {"product/fused"}
    assert of("gone") == of("never there") == set()
