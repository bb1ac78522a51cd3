"""ONNX Runtime on NVIDIA GPUs, through its TensorRT provider; what TensorRT does not take is refused, not moved."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.backends.base import BuildSpec, Device, Found
from harness.backends.cpu import ort
from harness.backends.nvidia.ort_cuda import build, gpu_version, gpus, health, prepare

if TYPE_CHECKING:
    from harness.backends.base import Session

PROVIDER = "TensorrtExecutionProvider"
__all__ = ["build", "devices", "health", "load", "version"]


def version() -> str:
    return gpu_version(PROVIDER)


def devices(match: str) -> Found:
    return gpus(PROVIDER, match)


def load(engine: Path, device: Device, spec: BuildSpec) -> AbstractContextManager[Session]:
    """TensorRT compiles here, on every load: its own cache would be one that the store does not know."""
    prepare()
    settings = {"device_id": str(device.index), "trt_engine_cache_enable": "0"}
    flag = {"fp16": "trt_fp16_enable", "int8": "trt_int8_enable"}.get(spec.precision)
    if flag:
        settings[flag] = "1"
    return ort.load(engine, device, spec, PROVIDER, settings)
