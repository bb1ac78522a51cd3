"""ONNX Runtime on Ascend chips, through its CANN provider."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.backends.ascend import _devices
from harness.backends.ascend._devices import health
from harness.backends.base import BuildSpec, Device, Found
from harness.backends.cpu import ort

if TYPE_CHECKING:
    from harness.backends.base import Session

PROVIDER = "CANNExecutionProvider"
__all__ = ["build", "devices", "health", "load", "version"]


def version() -> str:
    return f"{ort.version(PROVIDER)}, {_devices.version()}"


def devices(match: str) -> Found:
    return ort.seen_through(PROVIDER, _devices.devices(match))


def build(onnx: Path, engine: Path, spec: BuildSpec) -> None:
    ort.build(onnx, engine, spec, symmetric=True)


def load(engine: Path, device: Device, spec: BuildSpec) -> AbstractContextManager[Session]:
    return ort.load(engine, device, spec, PROVIDER, {"device_id": str(device.index)})
