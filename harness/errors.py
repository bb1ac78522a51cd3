"""What can go wrong, one class a stage.

HarnessError
├── UsageError           an option, a name or a file given by the user is wrong
├── BaselineError        baselines/ contradicts itself or the tables of the suite
├── DataError            a data set, image or label is missing, short, doubled or damaged
├── WeightsError         a checkpoint is missing, damaged, of another model, or would execute code
├── StoreError           the cache cannot be read or written
├── ExportError          PyTorch -> ONNX failed, or the exported file is not the model
├── BuildError           the vendor's compiler failed
├── DeviceError          the chip is absent, in use, unhealthy, or a vendor call on it failed
│   └── WorkerError      the process that holds the vendor SDK died, hung or grew too large
├── RunError             the engine ran and what came out cannot be used (NaN, wrong shape, missing rows)
└── InvalidMeasurement   the number exists but cannot be trusted (busy, throttled, silent fallback)

Each carries a fact and a hint, the next step. Runs in the worker too: Python 3.7, no imports.
"""

from __future__ import annotations


class HarnessError(Exception):
    """`fact` says what is so, `hint` what to do next; both are required and both are shown."""

    stage = "harness"

    def __init__(self, fact: str, hint: str) -> None:
        super().__init__(fact, hint)
        self.fact = fact
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.fact}\n  next: {self.hint}"


class UsageError(HarnessError):
    """An option, a name or a file given by the user is wrong."""

    stage = "usage"


class BaselineError(HarnessError):
    """A file of baselines/ contradicts itself or the tables of the suite."""

    stage = "baselines"


class DataError(HarnessError):
    """A data set, image or label is missing, short, doubled or damaged."""

    stage = "data"


class WeightsError(HarnessError):
    """A checkpoint is missing, damaged, of another model, or would execute code."""

    stage = "weights"


class StoreError(HarnessError):
    """A file or the cache cannot be read or written."""

    stage = "store"


def closed(error: PermissionError) -> StoreError:
    """What a user hears of a path that the system keeps from them."""
    return StoreError(f"no access to {error.filename}: {error.strerror}", hint="check its permissions")


class ExportError(HarnessError):
    """The export to ONNX failed, or the exported file is not the model."""

    stage = "export"


class BuildError(HarnessError):
    """The vendor's compiler failed."""

    stage = "build"


class DeviceError(HarnessError):
    """The chip is absent, in use or unhealthy, or a vendor call on it failed."""

    stage = "device"


class WorkerError(DeviceError):
    """The process that holds the vendor's SDK died, hung or grew too large."""

    stage = "worker"
    hung = False  # True: a call did not come back within its limit


class RunError(HarnessError):
    """The engine ran, and its outputs cannot be used: NaN, a wrong shape, missing rows."""

    stage = "run"


class InvalidMeasurement(HarnessError):  # noqa: N818  a verdict on a figure, not a fault
    """A figure was measured and cannot be trusted."""

    stage = "invalid"
