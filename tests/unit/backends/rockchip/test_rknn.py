"""RKNN: an engine keeps what a build needs, every load builds again, and only what the toolkit returns counts.

Tests that take `interpreter` run rknn-toolkit2 itself, in the environment that `make test-vendor` makes. The others
put a class of a few lines in its place, with the calls of Rockchip's "RKNN-Toolkit2 API Reference"."""

import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from ort_small import expected, images, nearly, network
from vendor_pythons import interpreter

from harness.backends.base import BuildSpec, Device, Normalize, TensorSpec
from harness.backends.rockchip import rknn
from harness.chips import CHIPS
from harness.errors import BuildError, DeviceError
from harness.worker.process import Worker

RK = Device(0, "RK3588", 0, "rk3588")


def spec(precision="fp16", **more):
    return BuildSpec(
        precision, 2, (TensorSpec("image", "float32", (-1, 3, 12, 12)),), ("logits", "share"), target="rk3588", **more
    )


class FakeRknn:
    """The toolkit's class; `codes` are what calls return instead of 0, `calls` what all objects were asked."""

    calls, codes, released = [], {}, 0

    def __init__(self, verbose):
        pass

    def __getattr__(self, name):
        def call(*args, **more):
            FakeRknn.calls.append((name, more))
            if name == "export_rknn":
                Path(args[0]).write_bytes(b"RKNN")
            if name == "build" and more["do_quantization"]:
                FakeRknn.fed = [
                    [np.load(path) for path in line.split()] for line in Path(more["dataset"]).read_text().splitlines()
                ]
            return FakeRknn.codes.get(name, 0)

        return call

    def inference(self, inputs, data_format):
        assert data_format == ["nchw"]
        return FakeRknn.codes.get("inference", [inputs[0].sum((1, 2, 3))[:, None]] * 2)

    def release(self):
        FakeRknn.released += 1


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(FakeRknn, "calls", [])
    monkeypatch.setattr(FakeRknn, "codes", {})
    monkeypatch.setattr(FakeRknn, "released", 0)
    monkeypatch.setattr(rknn, "_installed", lambda package: "2.5.0")
    monkeypatch.setitem(sys.modules, "rknn", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "rknn.api", SimpleNamespace(RKNN=FakeRknn))
    return FakeRknn


@pytest.fixture
def source(tmp_path):
    onnx.save(network(), str(tmp_path / "small.onnx"))
    np.save(tmp_path / "calibration.npy", images(24, seed=2))
    return tmp_path / "small.onnx"


def test_the_simulator_is_the_chip_of_the_row(fake):
    found = rknn.devices(CHIPS["rk3588"].match)

    assert found.devices == (RK,)
    assert "rknn-toolkit2 2.5.0" in found.evidence
    assert rknn.devices("RK9999").devices == ()
    assert CHIPS["rk3588"].emulated


@pytest.mark.parametrize(("absent", "hint"), [("rknn", "rknn-toolkit2"), ("pkg_resources", "setuptools<81")])
def test_without_the_toolkit_the_evidence_says_so(monkeypatch, absent, hint):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name.startswith("rknn"):
                raise ModuleNotFoundError(f"No module named {absent!r}", name=absent)

    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])

    assert "rknn-toolkit2 cannot be imported under" in rknn.devices(".*").evidence
    with pytest.raises(DeviceError) as raised:
        rknn.version()
    assert hint in raised.value.hint


def test_a_load_builds_again_with_the_settings_and_samples_of_the_engine(fake, source, tmp_path, capsys):
    rknn.build(source, tmp_path / "engine", spec("int8", calibration=str(tmp_path / "calibration.npy")))
    built = [call for call in fake.calls if call[0] in ("config", "build")]
    del fake.calls[:]
    (tmp_path / "calibration.npy").unlink()
    with rknn.load(tmp_path / "engine", RK, spec("int8")) as session:
        session.write({"image": images(2)})
        session.execute()
        found = session.read()

    again = [call for call in fake.calls if call[0] in ("config", "build")]
    assert built[0] == again[0] == ("config", {"target_platform": "rk3588", "quantized_algorithm": "normal"})
    assert again[1][1]["do_quantization"]
    fed = [batch for (batch,) in fake.fed]
    assert {batch.shape for batch in fed} == {(2, 3, 12, 12)}
    assert np.array_equal(np.concatenate(fed), images(24, seed=2))
    assert np.allclose(found["logits"], images(2).sum((1, 2, 3))[:, None])
    assert "building engine again" in capsys.readouterr().out
    assert fake.released == 2
    assert "model.rknn" in zipfile.ZipFile(tmp_path / "engine").namelist()


def test_several_inputs_are_fed_together_a_file_each(fake, source, tmp_path):
    rows = np.arange(6, dtype=np.float32)[:, None]
    np.savez(tmp_path / "c.npz", **{"0": rows, "1": 10 * rows})
    both = replace(spec("int8"), inputs=tuple(TensorSpec(name, "float32", (-1, 1)) for name in "ab"))

    rknn.build(source, tmp_path / "engine", replace(both, calibration=str(tmp_path / "c.npz")))

    assert [[float(array.sum()) for array in line] for line in fake.fed] == [[1, 10], [5, 50], [9, 90]]


@pytest.mark.parametrize("call", ["config", "load_onnx", "build", "export_rknn"])
def test_a_call_that_does_not_return_0_is_a_failed_build(fake, source, tmp_path, call):
    fake.codes[call] = -1

    with pytest.raises(BuildError, match=f"rknn.{call} returned -1"):
        rknn.build(source, tmp_path / "engine", spec())
    assert fake.released == 1
    assert not (tmp_path / "engine").exists()


def test_a_runtime_that_does_not_start_or_answer_is_told(fake, source, tmp_path):
    rknn.build(source, tmp_path / "engine", spec())
    fake.codes["init_runtime"] = -1
    with pytest.raises(DeviceError, match=r"rknn\.init_runtime returned -1"):
        rknn.load(tmp_path / "engine", RK, spec()).__enter__()
    fake.codes = FakeRknn.codes = {"inference": None}
    with pytest.raises(DeviceError, match="returned no outputs"):
        rknn.load(tmp_path / "engine", RK, spec()).__enter__()


def test_an_engine_that_is_cut_is_told(fake, source, tmp_path):
    (tmp_path / "engine").write_bytes(b"PK\x03\x04")

    with pytest.raises(DeviceError, match="cannot be read"):
        rknn.load(tmp_path / "engine", RK, spec()).__enter__()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"precision": "fp32"}, "does not compute in fp32"),
        ({"tiers": (1, 2)}, "one batch"),
        ({"normalize": Normalize((0.0,), (1.0,), "RGB")}, "normalised inputs"),
    ],
)
def test_what_it_cannot_build_is_refused(fake, source, tmp_path, more, said):
    with pytest.raises(BuildError, match=said):
        rknn.build(source, tmp_path / "engine", spec(**more))


# ------------------------------------------------------------------- Rockchip's own


@pytest.mark.parametrize(("precision", "error"), [("fp16", 0.01), ("int8", 0.1)])
def test_rockchips_simulator_computes_the_network(source, tmp_path, precision, error):
    wanted = spec(precision, calibration=str(tmp_path / "calibration.npy"))
    with Worker("rknn", python=interpreter("rknn"), log=tmp_path / "log") as worker:
        (device,) = worker.devices(CHIPS["rk3588"].match).devices
        worker.build(source, tmp_path / "engine", wanted)
        with worker.load(tmp_path / "engine", device, wanted) as session:
            found = session.run({"image": images(2)})

    nearly(found, expected(images(2)), error)
    assert any(not np.array_equal(found[name], np.float32(expected(images(2))[name])) for name in found), "not rounded"
