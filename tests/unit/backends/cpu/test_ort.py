"""ONNX Runtime computes the graph at every precision, says where it runs, and its failures are typed."""

import os
import re
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.backends.ascend import ort_cann
from harness.backends.base import BuildSpec, Device, Found, Normalize, TensorSpec
from harness.backends.cpu import _graph, ort
from harness.backends.nvidia import ort_cuda, ort_tensorrt
from harness.errors import BuildError, DeviceError, InvalidMeasurement, RunError
from harness.judge.timing import Plan
from harness.worker.process import Worker

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


@pytest.fixture
def source(tmp_path):
    onnx.save(network(), str(tmp_path / "small.onnx"))
    return tmp_path / "small.onnx"


@pytest.fixture
def calibration(tmp_path):
    np.save(tmp_path / "calibration.npy", images(24, seed=2))
    return str(tmp_path / "calibration.npy")


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


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_fp32_is_the_graph(source, tmp_path, batch):
    ort.build(source, tmp_path / "e", spec(batch=batch))
    x = images(batch)

    with ort.load(tmp_path / "e", CPU, spec(batch=batch)) as session:
        assert session.inputs == (TensorSpec("image", "float32", (batch, 3, 12, 12)),)
        assert session.outputs[0] == TensorSpec("share", "float32", (batch, 5))
    nearly(outputs(tmp_path / "e", spec(batch=batch), x), expected(x), 1e-5)


def test_batch_tiers_stay_dynamic(source, tmp_path):
    tiers = spec(batch=4, tiers=(1, 4))
    ort.build(source, tmp_path / "e", tiers)

    for batch in (1, 4):
        nearly(outputs(tmp_path / "e", tiers, images(batch)), expected(images(batch)), 1e-5)


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
    monkeypatch.setattr(ort, "_has_vnni", lambda: False)
    ort.build(source, tmp_path / "e", spec("int8", calibration=calibration))

    weights = [numpy_helper.to_array(v) for v in onnx.load(tmp_path / "e").graph.initializer if len(v.dims) == 4]
    assert max(np.abs(value).max() for value in weights) <= 64


def test_the_calibration_set_decides_the_engine(source, tmp_path, calibration):
    np.save(tmp_path / "other.npy", 3 * images(24, seed=3))
    ort.build(source, tmp_path / "e", spec("int8", calibration=calibration))
    ort.build(source, tmp_path / "f", spec("int8", calibration=str(tmp_path / "other.npy")))

    assert (tmp_path / "e").read_bytes() != (tmp_path / "f").read_bytes()


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (None, "without calibration"),
        (np.zeros((4, 3, 16, 16), np.float32), "takes float32"),
        (np.zeros((4, 3, 12, 12), np.uint8), "takes float32"),
        (np.zeros((0, 3, 12, 12), np.float32), "takes float32"),
        (np.full((4, 3, 12, 12), np.nan, np.float32), "not finite"),
    ],
)
def test_calibration_data_that_is_not_this_models_is_refused(source, tmp_path, made, says):
    path = None if made is None else str(tmp_path / "c.npy")
    if made is not None:
        np.save(path, made)

    with pytest.raises(BuildError, match=says):
        ort.build(source, tmp_path / "e", spec("int8", calibration=path))
    assert not (tmp_path / "e").exists()


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


@pytest.mark.parametrize("content", [b"", b"garbage" * 50, None], ids=["empty", "garbage", "absent"])
def test_an_engine_that_cannot_be_loaded_is_a_device_error(tmp_path, content):
    if content is not None:
        (tmp_path / "e").write_bytes(content)

    with pytest.raises(DeviceError, match="InferenceSession"), ort.load(tmp_path / "e", CPU, spec()):
        pass


def test_a_kernel_that_fails_is_a_device_error_with_its_words(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "image"], ["row"], "look")],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("row", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(np.zeros((3, 2), np.float32), "table")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), tmp_path / "e")

    with ort.load(tmp_path / "e", CPU, spec()) as session:
        session.write({"image": np.array([7], np.int64)})
        with pytest.raises(DeviceError, match=r"onnxruntime run: .*Gather"):
            session.execute()


def test_inputs_that_are_not_the_engines_are_refused(source, tmp_path):
    ort.build(source, tmp_path / "e", spec())

    with ort.load(tmp_path / "e", CPU, spec()) as session:
        for wrong in ({"x": images(2)}, {"image": images(3)}, {"image": images(2).astype(np.float64)}):
            with pytest.raises(RunError):
                session.write(wrong)


def test_what_was_written_and_what_was_read_are_copies(source, tmp_path):
    ort.build(source, tmp_path / "e", spec())
    x = images(2)

    with ort.load(tmp_path / "e", CPU, spec()) as session:
        session.write({"image": x})
        x[:] = 0
        session.execute(3)
        first = session.read()["logits"]
        session.write({"image": x})
        session.execute()
        second = session.read()["logits"]
    assert np.allclose(first, expected(images(2))["logits"], atol=1e-4)
    assert not np.allclose(first, second)


def test_its_threads_leave_the_cores_alone_after_a_run(source, tmp_path):
    """Waiting for more, they would take them from whoever is timed next."""
    ort.build(source, tmp_path / "engine", spec(batch=256))
    after = []
    with ort.load(tmp_path / "engine", CPU, spec(batch=256, options={"threads": 3})) as session:
        session.write({"image": np.zeros((256, 3, 12, 12), np.float32)})
        for _ in range(5):
            session.execute(5)
            used = time.process_time()
            time.sleep(0.05)
            after.append(time.process_time() - used)
    assert median(after) < 0.01, after


def test_every_execute_is_a_run(source, tmp_path, monkeypatch):
    ort.build(source, tmp_path / "e", spec())
    runs = []
    run = onnxruntime.InferenceSession.run_with_iobinding
    monkeypatch.setattr(
        onnxruntime.InferenceSession, "run_with_iobinding", lambda self, io: runs.append(io) or run(self, io)
    )

    with ort.load(tmp_path / "e", CPU, spec()) as session:
        session.write({"image": images(2)})
        session.execute(5)
    assert len(runs) == 5


def test_the_worker_drives_it(source, tmp_path):
    x = images(2)
    with Worker("ort", log=tmp_path / "log") as chip:
        (device,) = chip.devices(".*").devices
        chip.build(source, tmp_path / "e", spec())
        with chip.load(tmp_path / "e", device, spec()) as session:
            found = session.run({"image": x})
            timing = session.measure({"image": x}, Plan(warmup_s=0.01, window_s=0.01, windows=3, latencies=1))
            again = session.read()

        assert "load average" in chip.health(device).note
        assert chip.version() == ort.version()
    assert list(found) == ["logits", "share"], "in the order in which the suite wants them"
    nearly(found, expected(x), 1e-5)
    assert len(timing.windows) == 3
    assert all((found[name] == again[name]).all() for name in found)


def test_the_cpu_is_one_device_with_evidence():
    found = ort.devices(".*")

    assert len(found.devices) == 1
    assert onnxruntime.__version__ in found.evidence
    assert ort.cores() >= 1


def test_int8_engines_of_processors_with_and_without_vnni_are_kept_apart(monkeypatch):
    versions = set()
    for vnni in (True, False):
        monkeypatch.setattr(ort, "_has_vnni", lambda vnni=vnni: vnni)
        versions.add(ort.version())

    assert len(versions) == 2, "the version is part of the engine's key"


def test_a_cpu_of_another_name_is_not_found():
    assert ort.devices("Ascend310").devices == ()
    assert "does not match" in ort.devices("Ascend310").evidence


def test_without_onnx_runtime_there_is_no_device_and_the_reason_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    assert ort.devices(".*").devices == ()
    assert "ONNX Runtime is not here" in ort.devices(".*").evidence
    with pytest.raises(DeviceError, match="not here") as caught:
        ort.version()
    assert "pip install" in caught.value.hint


# other providers


@pytest.mark.parametrize("backend", [ort_cuda, ort_tensorrt, ort_cann], ids=lambda backend: backend.PROVIDER)
def test_a_provider_that_was_not_built_in_is_absent_and_says_so(source, tmp_path, backend, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    ort.build(source, tmp_path / "e", spec())

    found = backend.devices(".*")
    assert found.devices == ()
    assert f"has no {backend.PROVIDER}: it has CPUExecutionProvider" in found.evidence
    with pytest.raises(DeviceError, match=f"no {backend.PROVIDER}"), backend.load(tmp_path / "e", CPU, spec()):
        pass


def test_devices_are_there_when_the_provider_is(monkeypatch):
    seen = Found((Device(0, "NVIDIA T4"),), "NVML: 0 NVIDIA T4")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [ort_cuda.PROVIDER])

    assert ort.seen_through(ort_cuda.PROVIDER, seen).devices == seen.devices


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize("backend", [ort_cuda, ort_tensorrt, ort_cann], ids=lambda backend: backend.PROVIDER)
def test_a_silent_fallback_to_the_cpu_is_invalid(source, tmp_path, backend, monkeypatch):
    ort.build(source, tmp_path / "e", spec())
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [backend.PROVIDER])

    loading = backend.load(tmp_path / "e", CPU, spec())
    with pytest.raises(InvalidMeasurement, match=f"asked for {backend.PROVIDER}, .*took CPUExecutionProvider"), loading:
        pass


def test_nodes_that_a_provider_left_to_the_cpu_are_invalid_and_named(source, tmp_path):
    ort.build(source, tmp_path / "e", spec())

    with pytest.raises(InvalidMeasurement, match=r"nodes ran on the CPU .*Conv"):
        ort._refuse_fallback(onnxruntime, tmp_path / "e", ("CPUExecutionProvider", {}), spec())


def test_shape_arithmetic_on_the_cpu_is_no_fallback():
    def event(name, provider, dtype):
        told = {"provider": provider, "op_name": name, "output_type_shape": [{dtype: [4]}]}
        return {"cat": "Node", "name": name + "_kernel_time", "args": told}

    events = [
        event("Conv", "CUDAExecutionProvider", "float"),
        event("Shape", "CPUExecutionProvider", "int64"),
        event("Resize", "CPUExecutionProvider", "float"),
        {"cat": "Session", "name": "model_run", "args": {}},
    ]

    assert ort.on_the_cpu(events) == ["Resize (Resize)"]


def test_gpus_are_numbered_as_cuda_shows_them(monkeypatch):
    from harness.backends.nvidia import _nvml

    gpus = tuple(_nvml.Gpu(n, f"NVIDIA {n}", f"bus{n}", "550", f"GPU-{n}b32f937") for n in range(3))
    monkeypatch.setattr(_nvml, "gpus", lambda: (gpus, "NVML: three"))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [ort_cuda.PROVIDER])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")

    shown = (Device(0, "NVIDIA 2", 2, physical=2), Device(1, "NVIDIA 0", 0, physical=0))
    assert ort_cuda.devices(".*").devices == shown
    assert ort_cuda.devices("NVIDIA 0").devices == shown[1:]
    assert ort_cuda.version().endswith("driver 550")
    for told in ("GPU-2b32, GPU-0b32f937", "2,0,7,1", "2,GPU-0,-1,1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
        assert ort_cuda.devices(".*").devices == shown, told


@pytest.mark.parametrize("backend", [ort_cuda, ort_tensorrt])
def test_before_cuda_starts_gpus_are_numbered_as_by_nvml_and_tf32_is_off(backend, monkeypatch):
    """TensorRT's provider has no option for it, and Ampere's default is on."""
    seen = []
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    names = "NVIDIA_TF32_OVERRIDE", "CUDA_DEVICE_ORDER"
    monkeypatch.setattr(ort, "load", lambda *given: seen.extend(os.environ[name] for name in names))

    backend.load(Path("engine"), CPU, spec())

    assert seen == ["0", "PCI_BUS_ID"]
