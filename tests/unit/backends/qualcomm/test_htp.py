"""HTP gets both the architecture and the chip, no node runs on the CPU, and Qualcomm's emulator computes the network.

Tests that take `python` run onnxruntime-qnn itself, in the environment that `make test-vendor` makes. The others put a
module of a few lines in its place, with the calls that onnxruntime-qnn 2.7.0 and ONNX Runtime 1.32 have."""

import platform
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from ort_small import expected, images, nearly, network
from vendor_pythons import interpreter

from harness.backends.base import BuildSpec, Device, Normalize, TensorSpec
from harness.backends.qualcomm import htp
from harness.chips import CHIPS
from harness.errors import BuildError, DeviceError, WorkerError
from harness.worker.process import Worker

HTP = Device(0, "HTP v73", 0, "v73")


def spec(precision="fp16", **more):
    return BuildSpec(
        precision, 2, (TensorSpec("image", "float32", (-1, 3, 12, 12)),), ("logits", "share"), target="v73", **more
    )


class FakeOrt:
    """What the backend calls of ONNX Runtime; `refuses` is what opening a session says."""

    __version__ = "1.32.0"

    def __init__(self):
        self.registered, self.settings, self.entries, self.refuses = [], [], {}, ""

    def get_ep_devices(self):
        return [SimpleNamespace(ep_name=name) for name in ("CPUExecutionProvider", *self.registered)]

    def register_execution_provider_library(self, name, path):
        assert name not in self.registered, "registered twice"
        self.registered.append(name)

    def SessionOptions(self):  # noqa: N802
        def provider(found, settings):
            assert [one.ep_name for one in found] == [htp.PROVIDER]
            self.settings.append(settings)

        return SimpleNamespace(add_session_config_entry=self.entries.__setitem__, add_provider_for_devices=provider)

    def InferenceSession(self, path, options):  # noqa: N802
        if self.refuses:
            raise RuntimeError(self.refuses)
        value = SimpleNamespace(name="y", type="tensor(float)", shape=[2, 5])
        return SimpleNamespace(
            get_inputs=lambda: [value], get_outputs=lambda: [value], run=lambda names, fed: [fed["y"]]
        )


@pytest.fixture
def fake(monkeypatch):
    ort = FakeOrt()
    qnn = SimpleNamespace(
        __version__="2.7.0", build_and_package_info=SimpleNamespace(qnn_version="2.51.0"),
        get_library_path=lambda: "libprovider.so", get_qnn_htp_path=lambda: "libQnnHtp.so",
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "onnxruntime", ort)
    monkeypatch.setitem(sys.modules, "onnxruntime_qnn", qnn)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return ort


def test_the_emulator_is_the_chip_of_the_row(fake):
    found = htp.devices(CHIPS["htp_v73"].match)

    assert [(device.name, device.target) for device in found.devices] == [("HTP v73", "v73")]
    assert "onnxruntime-qnn 2.7.0, QNN 2.51.0, ONNX Runtime 1.32.0" in found.evidence
    assert htp.devices("HTP v99").devices == ()
    assert CHIPS["htp_v73"].emulated


def test_elsewhere_than_on_x86_there_is_no_emulator(fake, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")

    found = htp.devices(".*")

    assert (found.devices, found.hint) == ((), "run on an x86 machine")


def test_without_the_package_the_evidence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime_qnn", None)

    assert "onnxruntime_qnn cannot be imported under" in htp.devices(".*").evidence
    with pytest.raises(DeviceError) as raised:
        htp.version()
    assert "onnxruntime-qnn" in raised.value.hint


def test_a_session_has_architecture_and_chip_and_no_cpu(fake, tmp_path):
    with htp.load(tmp_path / "engine", HTP, spec()) as session:
        session.write({"y": np.ones((2, 5), np.float32)})
        session.execute(3)
        assert session.read()["y"].sum() == 10

    assert (fake.settings[0]["htp_arch"], fake.settings[0]["soc_model"]) == ("73", "43")
    assert fake.settings[0]["offload_graph_io_quantization"] == "0"
    assert fake.entries["session.disable_cpu_ep_fallback"] == "1"


def test_a_node_left_to_the_cpu_is_told_as_that(fake, tmp_path):
    fake.refuses = "This session contains graph nodes that are assigned to the default CPU EP, but fallback to CPU EP"

    with pytest.raises(DeviceError, match="fallback to CPU EP") as raised:
        htp.load(tmp_path / "engine", HTP, spec()).__enter__()
    assert "HTP lacks an operator" in raised.value.hint


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"precision": "fp32"}, "does not compute in fp32"),
        ({"tiers": (1, 2)}, "one batch"),
        ({"normalize": Normalize((0.0,), (1.0,), "RGB")}, "normalised inputs"),
    ],
)
def test_what_it_cannot_build_is_refused(fake, tmp_path, more, said):
    with pytest.raises(BuildError, match=said):
        htp.build(tmp_path / "model.onnx", tmp_path / "engine", spec(**more))


# ------------------------------------------------------------------- Qualcomm's own


@pytest.fixture
def source(tmp_path):
    onnx.save(network(), str(tmp_path / "small.onnx"))
    np.save(tmp_path / "calibration.npy", images(24, seed=2))
    return tmp_path / "small.onnx"


@pytest.mark.parametrize(("precision", "error"), [("fp16", 0.01), ("int8", 0.1)])
def test_qualcomms_emulator_computes_the_network(source, tmp_path, precision, error):
    wanted = spec(precision, calibration=str(tmp_path / "calibration.npy"))
    with Worker("qnn_htp", python=interpreter("qnn"), log=tmp_path / "log") as worker:
        (device,) = worker.devices(CHIPS["htp_v73"].match).devices
        worker.build(source, tmp_path / "engine", wanted)
        with worker.load(tmp_path / "engine", device, wanted) as session:
            found, again = session.run({"image": images(2)}), session.run({"image": images(2)})

    nearly(found, expected(images(2)), error)
    assert all(np.array_equal(found[name], again[name]) for name in found)
    assert any(not np.array_equal(found[name], np.float32(expected(images(2))[name])) for name in found), "not rounded"


def test_qualcomms_emulator_refuses_an_engine_that_is_cut(source, tmp_path):
    with Worker("qnn_htp", python=interpreter("qnn"), log=tmp_path / "log") as worker:
        worker.build(source, tmp_path / "engine", spec())
        data = (tmp_path / "engine").read_bytes()
        (tmp_path / "engine").write_bytes(data[: len(data) // 2])
        with pytest.raises((DeviceError, WorkerError)):
            worker.load(tmp_path / "engine", HTP, spec()).__enter__()
