"""ONNX Runtime's CUDA provider: which GPUs it is given, and under which numbers."""

import onnxruntime
import pytest

from harness.backends.base import Device, Found
from harness.backends.cpu import ort
from harness.backends.nvidia import ort_cuda, torch_cuda


def test_devices_are_there_when_the_provider_is(monkeypatch):
    seen = Found((Device(0, "NVIDIA T4"),), "NVML: 0 NVIDIA T4")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [ort_cuda.PROVIDER])

    assert ort.seen_through(ort_cuda.PROVIDER, seen).devices == seen.devices


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


def test_onnx_runtime_and_pytorch_name_the_variable_as_well(sdk, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "hides every GPU" not in ort_cuda.devices(".*").evidence
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    for backend in (ort_cuda, torch_cuda):
        assert "CUDA_VISIBLE_DEVICES=7 hides every GPU" in backend.devices(".*").evidence
        assert "name a GPU that exists" in backend.devices(".*").hint
