"""TensorRT's build side: precision, calibration, the timing cache, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import own_models
import pytest
from onnx import TensorProto
from trt_tiny import calibration, distance, run
from vendor_sweep import NORMALIZE, tiny_answer, tiny_batch, tiny_spec, with_names

from harness.backends.base import BuildSpec, TensorSpec
from harness.backends.nvidia import _trt_build, trt
from harness.errors import BuildError


def test_a_profile_is_tuned_for_its_largest_batch():
    told = []
    profile = SimpleNamespace(set_shape=lambda *given: told.append(given))
    calls = SimpleNamespace(make=lambda name, function: function(), do=lambda name, function, *given: function(*given))
    builder = SimpleNamespace(create_optimization_profile=lambda: profile)

    assert _trt_build._profile(calls, builder, {"x": (-1, 3), "size": (2,)}, 1, 8) is profile
    assert told == [("x", (1, 3), (8, 3), (8, 3)), ("size", (2,), (2,), (2,))]


def with_qdq(source, target):
    """The tiny model with Q/DQ in front of its convolution."""
    import onnx as package
    from onnx import helper, numpy_helper

    model = package.load(str(source))
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array(1 / 127, np.float32), "step"))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), "zero"))
    conv = next(i for i, node in enumerate(graph.node) if node.op_type == "Conv")
    graph.node[conv].input[0] = "dq"
    graph.node.insert(conv, helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]))
    graph.node.insert(conv + 1, helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["dq"]))
    package.save(model, str(target))
    return target


@pytest.mark.parametrize("release", ["8.6.1", "10.3.0"])
def test_int8_is_calibrated_where_there_is_a_calibrator(sdk, onnx, engine, tmp_path, release):
    sdk.switch(trt_version=release)
    made = []
    for gain in (1.0, 3.0):
        spec = tiny_spec("int8", calibration=calibration(tmp_path, gain=gain))
        trt.build(onnx, engine, spec)
        made.append(run(engine, spec, tiny_batch()))

    assert 0 < distance(made[0], tiny_answer(onnx, tiny_batch())) < 0.3
    assert distance(*made) > 0, "the calibration data made no difference"


def test_a_batch_that_fails_makes_no_engine_of_those_before(sdk, onnx, engine, tmp_path, monkeypatch):
    """TensorRT takes an exception in get_batch for the end of the data (pyInt8.cpp) and builds all the same."""
    batches = _trt_build.calibration_batches

    def cut_off(*given):
        yield next(batches(*given))
        raise OSError("the disk is gone")

    sdk.switch(trt_version="8.6.1")
    monkeypatch.setattr(_trt_build, "calibration_batches", cut_off)

    with pytest.raises(OSError, match="the disk is gone"):
        trt.build(onnx, engine, tiny_spec("int8", calibration=calibration(tmp_path)))
    assert not engine.exists()


def test_explicit_quantisation_takes_the_place_of_calibration(version, onnx, engine, tmp_path):
    spec = tiny_spec("int8", options={"onnx_int8": str(with_qdq(onnx, tmp_path / "qdq.onnx"))})
    trt.build(onnx, engine, spec)

    assert 0 < distance(run(engine, spec, tiny_batch()), tiny_answer(onnx, tiny_batch())) < 0.3


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_strongly_typed_builder_asks_for_the_converted_model(sdk, onnx, engine, tmp_path, precision):
    sdk.switch(trt_version="11.4.0")

    with pytest.raises(BuildError, match=rf"options\['onnx_{precision}'\]"):
        trt.build(onnx, engine, tiny_spec(precision, calibration=calibration(tmp_path)))
    assert not engine.exists()


def test_the_timing_cache_is_written_and_taken_again(version, onnx, engine, tmp_path):
    cache = tmp_path / "not made yet" / "timing.cache"
    spec = tiny_spec(options={"timing_cache": str(cache)})
    trt.build(onnx, engine, spec)
    first = cache.read_bytes()
    trt.build(onnx, engine, spec)

    assert first.startswith(f"TIMING {version} Tesla T4".encode())
    assert cache.read_bytes() == first
    assert [path.name for path in cache.parent.iterdir()] == ["timing.cache"]


@pytest.mark.parametrize("known", [b"rubbish", b"TIMING 9.9.9 Tesla T4\n"], ids=["damaged", "another release"])
def test_a_timing_cache_of_another_release_is_replaced(sdk, onnx, engine, tmp_path, known):
    cache = tmp_path / "timing.cache"
    cache.write_bytes(known)

    trt.build(onnx, engine, tiny_spec(options={"timing_cache": str(cache)}))

    assert cache.read_bytes().startswith(b"TIMING 10.3.0 Tesla T4")


def test_the_parsers_errors_are_listed(version, engine, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"rubbish")

    with pytest.raises(BuildError, match=r"bad.onnx was refused\n.*MODEL_DESERIALIZE_FAILED"):
        trt.build(tmp_path / "bad.onnx", engine, tiny_spec())


def test_a_graph_that_was_parsed_with_errors_is_refused(sdk, onnx, engine, monkeypatch):
    import tensorrt

    monkeypatch.setattr(tensorrt.OnnxParser, "num_errors", 1)
    monkeypatch.setattr(tensorrt.OnnxParser, "get_error", lambda parser, number: "node 7: unsupported attribute")

    with pytest.raises(BuildError, match=r"tiny.onnx was refused\n.*node 7: unsupported attribute"):
        trt.build(onnx, engine, tiny_spec("fp16"))


def test_inputs_of_fp64_are_refused_for_the_parser_makes_fp32_of_them(version, engine, tmp_path):
    double = partial(own_models.dense, dtype=TensorProto.DOUBLE, kind=np.float64)
    spec = BuildSpec("fp32", 2, (TensorSpec("x", "float64", (-1, 8)),), ("y",))

    with pytest.raises(BuildError, match="input x of the model is float64, TensorRT makes float32 of it") as told:
        trt.build(own_models.save(double, tmp_path / "double.onnx"), engine, spec)
    assert told.value.hint == "export the model with float32 inputs"


def test_normalisation_is_not_taken_over(sdk, onnx, engine):
    with pytest.raises(BuildError, match="cannot normalise raw pixels"):
        trt.build(onnx, engine, tiny_spec(normalize=NORMALIZE))


def test_a_graph_fixed_at_another_batch_is_refused(sdk, onnx, engine, tmp_path):
    import onnx as package

    model = package.load(str(onnx))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    package.save(model, str(tmp_path / "fixed.onnx"))

    with pytest.raises(BuildError, match="fixed at batch 4, the case has 2"):
        trt.build(tmp_path / "fixed.onnx", engine, tiny_spec(batch=2))


@pytest.mark.parametrize(
    "array",
    [np.zeros((5, 3, 16, 16), np.float32), np.zeros((5, 8, 8, 3), np.uint8), np.full((5, 3, 8, 8), np.inf, np.float32)],
    ids=["shape", "pixels", "infinite"],
)
def test_calibration_data_of_another_model_is_refused(sdk, onnx, engine, tmp_path, array):
    np.save(tmp_path / "calibration.npy", array)

    with pytest.raises(BuildError, match="calibration data"):
        trt.build(onnx, engine, tiny_spec("int8", calibration=str(tmp_path / "calibration.npy")))


@pytest.mark.parametrize("release", ["8.6.1", "10.3.0"])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_layers_stay_in_fp32_where_they_are_asked_to(sdk, onnx, engine, tmp_path, release, precision):
    sdk.switch(trt_version=release)
    names = with_names(onnx)
    plain = tiny_spec(precision, batch=64, calibration=calibration(tmp_path))
    images, lost = tiny_batch(64), []
    for kept in ((), ["Gemm_first_raw", "Gemm_second_raw"], names):
        trt.build(onnx, engine, replace(plain, options={"in_fp32": kept} if kept else {}))
        found, wanted = run(engine, plain, images), tiny_answer(onnx, images)
        lost.append(sum(float(np.abs(found[name] - wanted[name]).mean()) for name in wanted))

    assert lost[2] < 0.95 * lost[1] < 0.85 * lost[0], lost
    with pytest.raises(BuildError, match="TensorRT's parser made no layer called Conv_gone"):
        trt.build(onnx, engine, replace(plain, options={"in_fp32": ["Conv_c", "Conv_gone"]}))
