"""ONNX Runtime's TensorRT provider: what it is asked for before and while it loads."""

import os
from pathlib import Path

import pytest
from ort_small import CPU, spec

from harness.backends.base import Device
from harness.backends.cpu import ort
from harness.backends.nvidia import ort_cuda, ort_tensorrt


@pytest.mark.parametrize(("tune", "level"), [(True, "5"), (False, None)])
def test_a_tuned_engine_asks_for_the_highest_level(tune, level, monkeypatch):
    asked = []
    monkeypatch.setattr(ort, "load", lambda engine, device, spec, provider, settings: asked.append(settings))

    ort_tensorrt.load(Path("engine"), CPU, spec(tune=tune))

    assert asked[0].get("trt_builder_optimization_level") == level


@pytest.mark.parametrize("backend", [ort_cuda, ort_tensorrt])
@pytest.mark.parametrize(
    ("precision", "flags"), [("fp32", []), ("fp16", ["trt_fp16_enable"]), ("int8", ["trt_int8_enable"])]
)
def test_the_device_and_the_precision_of_the_case_are_asked_for(backend, precision, flags, monkeypatch):
    asked = []
    monkeypatch.setattr(ort, "load", lambda *given: asked.append(given))

    backend.load(Path("engine"), Device(3, "Tesla T4"), spec(precision))

    _, device, _, provider, settings = asked[0]
    assert (device.index, provider, settings["device_id"]) == (3, backend.PROVIDER, "3")
    assert [name for name in settings if name.endswith(("16_enable", "8_enable"))] == (
        flags if backend is ort_tensorrt else []
    )


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
