"""MagicMind's build side: its configuration, calibration, and what it refuses."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import own_models
import pytest
from magicmind_tiny import distance, driver, run
from onnx import TensorProto
from vendor_sweep import NORMALIZE, tiny_answer, tiny_batch, tiny_spec, with_names

from harness.backends.base import BuildSpec, TensorSpec
from harness.backends.cambricon import _build, magicmind
from harness.errors import BuildError


def test_calibration_data_changes_an_int8_engine(sdk, onnx, engine, tmp_path):
    made = []
    for gain in (1.0, 3.0):
        path = tmp_path / f"calibration{gain}.npy"
        np.save(path, gain * tiny_batch(4))
        spec = tiny_spec("int8", calibration=str(path))
        magicmind.build(onnx, engine, spec)
        made.append(run(engine, spec, tiny_batch()))

    assert distance(*made) > 0


def test_a_sample_that_fails_makes_no_engine_of_those_before(sdk, onnx, engine, tmp_path, monkeypatch):
    """Should MagicMind take an exception for the end of the data, as TensorRT does."""
    import magicmind.python.runtime as mm

    batches, asked, init = _build.calibration_batches, [], mm.Calibrator.__init__

    def cut_off(*given):
        yield next(batches(*given))
        raise OSError("the disk is gone")

    def swallowing(self, data):
        for each in data:
            monkeypatch.setattr(each, "next", lambda take=each.next: swallowed(take), raising=False)
        init(self, data)

    def swallowed(take):
        try:
            return take()
        except OSError as error:
            asked.append(error)
            return mm.Status(mm.Code.OUT_OF_RANGE, "the end")

    np.save(tmp_path / "calibration.npy", tiny_batch(4))
    monkeypatch.setattr(_build, "calibration_batches", cut_off)
    monkeypatch.setattr(mm.Calibrator, "__init__", swallowing)

    with pytest.raises(OSError, match="the disk is gone"):
        magicmind.build(onnx, engine, tiny_spec("int8", calibration=str(tmp_path / "calibration.npy")))
    assert len(asked) == 1
    assert not engine.exists()


def test_variance_is_the_square_of_the_deviation():
    config = _build.builder_config(tiny_spec("fp16", normalize=NORMALIZE))

    assert config["insert_bn_before_firstnode"] == {"0": {"mean": [104.0, 117.0, 123.0], "var": [4.0, 16.0, 64.0]}}
    assert config["convert_input_layout"] == {"0": {"src": "NCHW", "dst": "NHWC"}}


@pytest.mark.parametrize(
    ("precision", "mode"),
    [("fp32", "force_float32"), ("fp16", "force_float16"), ("int8", "qint8_mixed_float16")],
)
def test_the_vendors_word_for_each_precision(precision, mode):
    config = _build.builder_config(tiny_spec(precision))

    assert config["precision_config"]["precision_mode"] == mode
    assert config["opt_config"] == {"type64to32_conversion": True, "conv_scale_fold": True}
    assert config["archs"] == [{"mtp_372": [2, 6, 8]}]
    assert config["graph_shape_mutable"] is False


def test_tiers_make_a_mutable_engine_in_the_networks_own_layout():
    config = _build.builder_config(tiny_spec("fp16", tiers=(1, 4, 8), normalize=NORMALIZE))

    assert config["graph_shape_mutable"] is True
    assert config["dim_range"] == {"0": {"min": [1, 3, 8, 8], "max": [8, 3, 8, 8]}}


def test_the_least_and_the_largest_tier_are_the_ends_of_the_range():
    config = _build.builder_config(tiny_spec("int8", tiers=(16, 4, 8)))

    assert config["dim_range"] == {"0": {"min": [4, 3, 8, 8], "max": [16, 3, 8, 8]}}
    assert config["precision_config"]["weight_quant_granularity"] == "per_axis", "as the published engines were built"


def test_calibration_data_begins_anew_when_it_is_reset(sdk, tmp_path):
    """An algorithm that goes over the samples twice finds them all both times."""
    np.save(tmp_path / "calibration.npy", tiny_batch(5))
    spec = tiny_spec("int8", calibration=str(tmp_path / "calibration.npy"))
    data = _build._fixed_data(_build.sdk(), _build.calibration_samples(spec), spec, spec.inputs[0], 2)

    def fed():
        assert data.reset().ok()
        while data.next().ok():
            yield data.get_sample()

    first, second = list(fed()), list(fed())

    assert len(first) == 3, "the last one is filled up"
    assert np.array_equal(first, second)


def test_int8_is_calibrated_on_the_card_that_was_asked_for(sdk, onnx, engine, tmp_path):
    np.save(tmp_path / "calibration.npy", tiny_batch(4))
    sdk.switch(devices=3)

    magicmind.build(
        onnx, engine, tiny_spec("int8", calibration=str(tmp_path / "calibration.npy"), options={"device": 2})
    )

    assert driver().active == 2


def test_options_are_merged_over_the_configuration():
    options = {"clusters": [8], "config": {"precision_config": {"weight_quant_granularity": "per_tensor"}}}

    config = _build.builder_config(tiny_spec("int8", options=options))

    assert config["archs"] == [{"mtp_372": [8]}]
    assert config["precision_config"] == {
        "precision_mode": "qint8_mixed_float16",
        "weight_quant_granularity": "per_tensor",
    }


def double_model(path):
    return own_models.save(partial(own_models.dense, dtype=TensorProto.DOUBLE, kind=np.float64), path)


def test_inputs_of_a_type_that_magicmind_has_not_are_refused(sdk, engine, tmp_path):
    spec = BuildSpec("fp32", 2, (TensorSpec("x", "float64", (-1, 8)),), ("y",))

    with pytest.raises(
        BuildError, match="input x of the model is float64, a type that MagicMind does not have"
    ) as told:
        magicmind.build(double_model(tmp_path / "double.onnx"), engine, spec)
    assert told.value.hint == "export the model with float32 inputs"


def test_a_traced_torch_file_is_taken_in_place_of_onnx(sdk, engine, tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.ReLU()).eval()
    spec = replace(tiny_spec("fp32"), outputs=("features",))
    with warnings.catch_warnings():  # torch.jit is on its way out, and the vendor's parser reads nothing newer
        warnings.simplefilter("ignore")
        torch.jit.trace(network, torch.zeros(2, 3, 8, 8)).save(str(tmp_path / "tiny.pt"))
        magicmind.build(tmp_path / "tiny.pt", engine, spec)

    outputs = run(engine, spec, tiny_batch())

    with torch.no_grad():
        expected = network(torch.from_numpy(tiny_batch())).numpy()
    np.testing.assert_allclose(outputs["features"], expected, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_mutable_engine_of_a_traced_file_does_not_say_how_many_rows_come_out(sdk, engine, tmp_path, batch):
    """What it promises is -1 also where the traced graph computes a size."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)

    class Rows(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 2, 3)

        def forward(self, images):
            size = [images.size(2), images.size(3)]  # known when it runs
            found = torch.nn.functional.interpolate(self.layer(images), size=size, mode="nearest")
            return found.permute(0, 2, 3, 1).reshape(found.shape[0], -1, 2)

    network = Rows().eval()
    spec = replace(tiny_spec("fp32", batch=4, tiers=(1, 4)), outputs=("features",))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, torch.zeros(1, 3, 8, 8)).save(str(tmp_path / "tiny.pt"))
        magicmind.build(tmp_path / "tiny.pt", engine, spec)

    outputs = run(engine, replace(spec, batch=batch), tiny_batch(batch))

    with torch.no_grad():
        expected = network(torch.from_numpy(tiny_batch(batch))).numpy()
    np.testing.assert_allclose(outputs["features"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((5, 3, 16, 16), np.float32), "another model"),
        (np.zeros((5, 8, 8, 3), np.uint8), "another model"),
        (np.zeros((5, 3, 8, 8), np.float64), "another model"),
        (np.zeros((0, 3, 8, 8), np.float32), "another model"),
        (np.full((5, 3, 8, 8), np.nan, np.float32), "make it again"),
    ],
    ids=["shape", "pixels", "double", "empty", "nan"],
)
def test_calibration_data_of_another_model_is_refused(sdk, onnx, engine, tmp_path, array, said):
    path = tmp_path / "calibration.npy"
    np.save(path, array)

    with pytest.raises(BuildError, match=said):
        magicmind.build(onnx, engine, tiny_spec("int8", calibration=str(path)))
    assert not engine.exists()


@pytest.mark.parametrize("data", [None, b"", b"not numpy", b"\x93NUMPY\x01\x00"])
def test_calibration_data_that_is_no_array_is_refused(sdk, onnx, engine, tmp_path, data):
    path = tmp_path / "calibration.npy"
    if data is not None:
        path.write_bytes(data)

    with pytest.raises(BuildError, match="cannot be read"):
        magicmind.build(onnx, engine, tiny_spec("int8", calibration=str(path)))


def test_int8_without_calibration_data_is_refused(sdk, onnx, engine):
    with pytest.raises(BuildError, match="without calibration data"):
        magicmind.build(onnx, engine, tiny_spec("int8"))


def test_an_onnx_that_the_parser_refuses_gives_its_words(sdk, engine, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"rubbish")

    with pytest.raises(BuildError, match=r"mm\.Parser\.parse failed: INVALID_ARGUMENT"):
        magicmind.build(tmp_path / "bad.onnx", engine, tiny_spec())


def test_what_the_builder_prints_is_in_the_error(sdk, onnx, engine):
    options = {"config": {"precision_config": {"precision_mode": "forced_float32"}}}

    with pytest.raises(BuildError, match="unknown precision_mode 'forced_float32'"):
        magicmind.build(onnx, engine, tiny_spec(options=options))


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_nodes_stay_in_fp32_where_they_are_asked_to(sdk, onnx, engine, tmp_path, precision):
    names = with_names(onnx)
    np.save(tmp_path / "calibration.npy", tiny_batch(4))
    plain = tiny_spec(precision, batch=64, calibration=str(tmp_path / "calibration.npy"))
    images, lost = tiny_batch(64), []
    for kept in ((), ["Gemm_first_raw", "Gemm_second_raw"], names):
        magicmind.build(onnx, engine, replace(plain, options={"in_fp32": kept} if kept else {}))
        found, wanted = run(engine, plain, images), tiny_answer(onnx, images)
        lost.append(sum(float(np.abs(found[name] - wanted[name]).mean()) for name in wanted))

    assert lost[2] < 0.95 * lost[1] < 0.85 * lost[0], lost
    with pytest.raises(BuildError, match="MagicMind's network has no node called Conv_gone"):
        magicmind.build(onnx, engine, replace(plain, options={"in_fp32": ["Conv_c", "Conv_gone"]}))
