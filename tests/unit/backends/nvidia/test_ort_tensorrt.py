"""ONNX Runtime's TensorRT provider: what it is asked for before and while it loads."""

import os
from pathlib import Path

import pytest
from ort_small import CPU, spec

from harness.backends.cpu import ort
from harness.backends.nvidia import ort_cuda, ort_tensorrt


@pytest.mark.parametrize(("tune", "level"), [(True, "5"), (False, None)])
def test_a_tuned_engine_asks_for_the_highest_level(tune, level, monkeypatch):
    asked = []
    monkeypatch.setattr(ort, "load", lambda engine, device, spec, provider, settings: asked.append(settings))

    ort_tensorrt.load(Path("engine"), CPU, spec(tune=tune))

    assert asked[0].get("trt_builder_optimization_level") == level


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
