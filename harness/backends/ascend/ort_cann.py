"""ONNX Runtime on Ascend chips, through its CANN provider."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.backends.ascend import _devices
from harness.backends.ascend._devices import health, reset
from harness.backends.base import BuildSpec, Device, Found
from harness.backends.cpu import ort

if TYPE_CHECKING:
    from harness.backends.base import Session

PROVIDER = "CANNExecutionProvider"
__all__ = ["build", "devices", "health", "load", "reset", "version"]


def version() -> str:
    """Versions of ONNX Runtime, CANN and the driver in one line."""
    return f"{ort.version(PROVIDER)}, {_devices.version()}"


def devices(match: str) -> Found:
    """Ascend devices whose name fully matches `match`, if ONNX Runtime has its CANN provider."""
    return ort.seen_through(PROVIDER, _devices.devices(match))


def build(onnx: Path, engine: Path, spec: BuildSpec) -> None:
    """Write the ONNX graph in the precision of `spec` to `engine`, INT8 symmetric. Raises BuildError."""
    ort.build(onnx, engine, spec, symmetric=True)


def load(engine: Path, device: Device, spec: BuildSpec) -> AbstractContextManager[Session]:
    """A context with the engine on the device. Raises DeviceError without the provider, InvalidMeasurement when nodes
    run on the CPU."""
    return ort.load(engine, device, spec, PROVIDER, {"device_id": str(device.index)})
