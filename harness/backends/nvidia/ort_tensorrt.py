"""ONNX Runtime on NVIDIA GPUs, through its TensorRT provider; a graph with nodes outside TensorRT is refused."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.backends.base import BuildSpec, Device, Found
from harness.backends.cpu import ort
from harness.backends.nvidia.ort_cuda import build, gpu_version, gpus, health, prepare, reset

if TYPE_CHECKING:
    from harness.backends.base import Session

PROVIDER = "TensorrtExecutionProvider"
__all__ = ["build", "devices", "health", "load", "reset", "version"]


def version() -> str:
    """Versions of ONNX Runtime and the driver in one line."""
    return gpu_version(PROVIDER)


def devices(match: str) -> Found:
    """GPUs whose name fully matches `match`, if ONNX Runtime has its TensorRT provider."""
    return gpus(PROVIDER, match)


def load(engine: Path, device: Device, spec: BuildSpec) -> AbstractContextManager[Session]:
    """A context with the engine on the GPU. TensorRT compiles it on every load, because the store does not know the
    provider's own engine cache. Raises DeviceError and InvalidMeasurement."""
    prepare()
    settings = {"device_id": str(device.index), "trt_engine_cache_enable": "0"}
    if spec.tune:
        settings["trt_builder_optimization_level"] = "5"
    flag = {"fp16": "trt_fp16_enable", "int8": "trt_int8_enable"}.get(spec.precision)
    if flag:
        settings[flag] = "1"
    return ort.load(engine, device, spec, PROVIDER, settings)
