"""The PyTorch backend where there is no GPU: its logic on the CPU, its refusals as they are."""

from __future__ import annotations

import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from vendor_sweep import tiny_batch, tiny_spec

from harness.backends.base import Device
from harness.backends.nvidia import torch_cuda
from harness.errors import BuildError, DeviceError, RunError

torch = pytest.importorskip("torch")
DEVICE = Device(0, "CPU")


@pytest.fixture
def traced(tmp_path):
    torch.manual_seed(0)

    class Heads(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Conv2d(3, 4, 3, padding=1)
            self.first, self.second = torch.nn.Linear(4, 5), torch.nn.Linear(4, 5)

        def forward(self, image):
            pooled = self.body(image).relu().mean((2, 3))
            return self.first(pooled), self.second(pooled)

    network = Heads().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, torch.zeros(1, 3, 8, 8)).save(str(tmp_path / "tiny.pt"))
    return network, {"torchscript": str(tmp_path / "tiny.pt")}


@pytest.fixture
def on_cpu(monkeypatch):
    monkeypatch.setattr(torch_cuda, "_place", lambda torch, device: torch.device("cpu"))
    with warnings.catch_warnings():  # torch.jit is on its way out
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize(("precision", "far"), [("fp32", 1e-6), ("fp16", 2e-3)])
def test_outputs_are_the_networks(on_cpu, traced, tmp_path, precision, far):
    network, options = traced
    spec = tiny_spec(precision, options=options)
    torch_cuda.build(tmp_path / "unused.onnx", tmp_path / "engine", spec)

    with torch_cuda.load(tmp_path / "engine", DEVICE, spec) as session:
        session.write({"image": tiny_batch()})
        session.execute(3)
        outputs = session.read()

    with torch.inference_mode():
        first, second = network(torch.from_numpy(tiny_batch()))
    np.testing.assert_allclose(outputs["first"], first.numpy(), atol=far)
    np.testing.assert_allclose(outputs["second"], second.numpy(), atol=far)
    assert (np.abs(outputs["first"] - first.numpy()).max() > 1e-6) == (precision == "fp16")


def test_fp32_is_not_tf32(on_cpu, traced, tmp_path):
    spec, products = tiny_spec(options=traced[1]), (torch.backends.cuda.matmul, torch.backends.cudnn)
    torch_cuda.build(tmp_path / "unused.onnx", tmp_path / "engine", spec)
    for of in products:
        of.allow_tf32 = True

    with torch_cuda.load(tmp_path / "engine", DEVICE, spec):
        assert not any(of.allow_tf32 for of in products)


def test_another_number_of_outputs_is_refused(on_cpu, traced, tmp_path):
    spec = replace(tiny_spec(options=traced[1]), outputs=("first",))
    torch_cuda.build(tmp_path / "unused.onnx", tmp_path / "engine", spec)

    with (
        pytest.raises(RunError, match="has 2 outputs, the model 1"),
        torch_cuda.load(tmp_path / "engine", DEVICE, spec),
    ):
        pass


@pytest.mark.parametrize(
    ("precision", "options"), [("fp32", {}), ("int8", {"torchscript": "x"}), ("fp32", {"torchscript": "x"})]
)
def test_what_it_cannot_build_is_refused(on_cpu, tmp_path, precision, options):
    with pytest.raises(BuildError):
        torch_cuda.build(tmp_path / "unused.onnx", tmp_path / "engine", tiny_spec(precision, options=options))
    assert not (tmp_path / "engine").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="speaks of machines without a GPU")
def test_without_a_gpu_there_are_no_devices_and_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_cuda, "_driver", lambda: True)

    found = torch_cuda.devices(".*")

    assert found.devices == ()
    assert "counts 0" in found.evidence
    with pytest.raises(DeviceError, match="sees no GPU"), torch_cuda.load(tmp_path, DEVICE, tiny_spec()):
        pass


def test_without_a_driver_pytorch_is_not_imported(monkeypatch):
    def imported():
        raise AssertionError("PyTorch takes seconds to import")

    monkeypatch.setattr(torch_cuda, "DRIVER", "libnosuchdriver.so.1")
    monkeypatch.setattr(torch_cuda._nvml, "gpus", lambda: ((), "nvidia-smi is not on PATH"))
    monkeypatch.setattr(torch_cuda, "_sdk", imported)

    found = torch_cuda.devices(".*")

    assert found.devices == ()
    assert found.evidence == ("nvidia-smi is not on PATH; no libnosuchdriver.so.1, without which PyTorch sees no GPU")


def test_gpus_are_matched_by_domain_and_bus_and_one_without_an_address_is_no_crash(monkeypatch):
    """The GPUs of a Grace Hopper host all have bus 1, in domains 9 and 0x19; a Jetson's nvidia-smi says [N/A]."""
    addresses = [(0x19, 1), (9, 1)]
    cuda = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 2,
        get_device_properties=lambda i: SimpleNamespace(
            name="GH200", major=9, minor=0, pci_domain_id=addresses[i][0], pci_bus_id=addresses[i][1]
        ),
    )
    fake = SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda="12.6"), __version__="2.6")
    monkeypatch.setattr(torch_cuda, "_sdk", lambda: fake)
    buses = [torch_cuda._nvml.plain_bus(text) for text in ("00000009:01:00.0", "00000019:01:00.0", "[N/A]")]
    gpus = tuple(torch_cuda._nvml.Gpu(i, "GH200", bus, "550") for i, bus in enumerate(buses))
    monkeypatch.setattr(torch_cuda._nvml, "gpus", lambda: (gpus, "NVML"))

    found = torch_cuda.devices("GH200")

    assert [(device.index, device.card) for device in found.devices] == [(0, 1), (1, 0)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and PyTorch's CUDA build")
def test_a_real_gpu_computes_the_same(traced, tmp_path):
    network, options = traced
    spec = tiny_spec(options=options)
    torch_cuda.build(tmp_path / "unused.onnx", tmp_path / "engine", spec)
    device = torch_cuda.devices(".*").devices[0]

    with torch_cuda.load(tmp_path / "engine", device, spec) as session:
        session.write({"image": tiny_batch()})
        session.execute(3)
        outputs = session.read()

    with torch.inference_mode():
        first, _ = network(torch.from_numpy(tiny_batch()))
    np.testing.assert_allclose(outputs["first"], first.numpy(), atol=1e-5)
