"""The interface of a backend: a module with five functions, and the values that pass between it and the suite.

A backend module drives one vendor runtime. It is imported only inside the worker process, so that a vendor SDK
that crashes, hangs or leaks does not affect the suite. This file and every backend run under Python 3.7 with NumPy
and the SDK alone; values can be sent as JSON.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, Iterable

from harness.errors import RunError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Protocol

    import numpy as np
    from numpy.typing import NDArray

    Tensors = Dict[str, NDArray[np.generic]]
else:
    Protocol = object  # typing.Protocol came with Python 3.8


@dataclass(frozen=True)
class TensorSpec:
    """Name, NumPy dtype name and shape of a tensor. Axis 0 is the batch, -1 when it is dynamic."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Normalize:
    """The normalisation (x - mean[c]) / std[c] of uint8 pixels, for channels in the order in which they are fed.

    `order` names that order ("BGR" or "RGB"). The image and the network have the same order: no backend swaps
    channels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: str


@dataclass(frozen=True)
class BuildSpec:
    """Everything that a compiler needs besides the ONNX file. Every field is part of the engine's key."""

    precision: str  # "fp32" | "fp16" | "bf16" | "int8"
    batch: int
    inputs: tuple[TensorSpec, ...]  # of the ONNX graph, batch axis -1 or fixed
    outputs: tuple[str, ...]  # ONNX tensor names, in the order in which the suite wants them
    tiers: tuple[int, ...] = ()  # batches that one engine serves, tuned for `batch`; empty: static at `batch`
    normalize: Normalize | None = None  # set: the engine is fed uint8 NHWC and normalises itself
    calibration: str | None = None  # int8: path of samples, already normalised (_calibration.calibration_samples)
    tune: bool = False  # the compiler searches longer for a faster engine, where the backend's row says how
    target: str = ""  # what the compiler calls the chip (soc_version, architecture)
    options: dict[str, Any] = field(default_factory=dict)  # options of one backend, recorded with the case


def shape_at(tensor: TensorSpec, batch: int) -> tuple[int, ...]:
    """The shape of an input at that batch: axis 0 is the batch where it is free (-1); a fixed shape stays."""
    return (batch, *tensor.shape[1:]) if tensor.shape[:1] == (-1,) else tuple(tensor.shape)


@dataclass(frozen=True)
class Device:
    """One addressable device. `card` is the number of its board: an Ascend 310 card has four devices."""

    index: int  # its number in the runtime, after *_VISIBLE_DEVICES
    name: str  # as the vendor's tools report it
    card: int = 0
    target: str = ""  # its name for the compiler, where the device reports it
    physical: int = -1  # its number in the vendor's tools; -1: the index
    precisions: tuple[str, ...] = ()  # its precisions, where the runtime reports them; empty: those of the chip's row

    @property
    def number(self) -> int:
        """The number of the device that is the same for all processes, whatever *_VISIBLE_DEVICES hides."""
        return self.index if self.physical < 0 else self.physical


@dataclass(frozen=True)
class Found:
    """Devices of a chip, and the evidence: what was looked for and what was seen, never empty. `hint` is the next step
    when no device was found and the usual step, to install the SDK, would be wrong."""

    devices: tuple[Device, ...]
    evidence: str
    hint: str = ""


OTHERS = "select a chip that is here: chipproof doctor"


def of_chip(match: str, devices: Iterable[Device], evidence: str, hint: str = "") -> Found:
    """Those of the devices whose name fully matches `match`. Where there are others alone, no SDK is missing, and the
    next step says so, unless `hint` does."""
    seen = tuple(devices)
    found = tuple(device for device in seen if re.fullmatch(match, device.name))
    return Found(found, evidence, hint if found or not seen else hint or OTHERS)


@dataclass(frozen=True)
class Health:
    """The state of a device at one moment; None where the vendor does not report a value."""

    healthy: bool = True
    busy: float | None = None  # utilisation by others, 0..1
    processes: tuple[str, ...] = ()  # others that hold the device, "NUMBER NAME"
    throttled: bool = False
    clock_mhz: float | None = None
    temperature_c: float | None = None
    note: str = ""
    untold: str = ""  # which of utilisation, processes and throttling the device does not report, and why
    own: int = 0  # processes on the device that belong to the suite; 0 also where they are not counted
    own_mb: float | None = None  # the device's memory that those hold, where it tells the memory of each process
    unseen_mb: float | None = None  # its memory in use that no process it lists accounts for
    now_mhz: float | None = None  # the clock that runs, where `clock_mhz` is the one asked for
    idle: bool = False  # the device itself says that nothing runs on it


class Session(Protocol):
    """An engine loaded on a device. A session that cannot be timed from outside also has `measure(plan) -> Timing`;
    one whose `execute(times)` has several computed at the same time says how many, `in_flight`, and has
    `write_at(place, inputs)` and `read_at(place)` for each of them, counted from 0; each call begins with place 0.
    Where the runtime tells it, `on_chip` is the share (0..1) of the graph's nodes that run on the device; without
    it the whole graph does, or the engine is not built."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def write(self, inputs: Tensors) -> None:
        """Copy the batch to the device. Raises RunError when a name, dtype or shape is not the engine's."""

    def execute(self, times: int = 1) -> None:
        """Run the engine `times` times back to back, several in flight where the runtime can, and return when the
        device has finished all of them. Only this is timed."""

    def read(self) -> Tensors:
        """The outputs of the last execute, by ONNX name, as fresh arrays."""


class Backend(Protocol):
    """The functions that a backend module has."""

    def version(self) -> str:
        """Versions of SDK and driver in one line, which is part of the engine's key and of every record."""

    def devices(self, match: str) -> Found:
        """Devices whose vendor name fully matches the regular expression. Never raises for an absent SDK."""

    def health(self, device: Device) -> Health:
        """The state of the device now. Raises DeviceError when the vendor's tool fails."""

    def build(self, onnx: Path, engine: Path, spec: BuildSpec) -> None:
        """Compile `onnx` to exactly the path `engine`. Raises BuildError with the compiler's message."""

    def load(self, engine: Path, device: Device, spec: BuildSpec) -> AbstractContextManager[Session]:
        """A context with the engine on the device; on exit everything is released in reverse order, also after an
        error."""


def check(tensors: Tensors, specs: tuple[TensorSpec, ...], what: str) -> int:
    """The batch of the tensors. Raises RunError when a name, dtype or shape is not that of `specs`.

    -1 in a shape stands for any size; at axis 0, the batch, that size must be the same for all inputs (an output may
    have as many rows as its data says). Without such an axis the size of the first tensor's axis 0 is returned. `what`
    is "input" or "output"."""
    hint = "the engine needs {}".format(", ".join(f"{spec.name} {spec.dtype} {spec.shape}" for spec in specs))
    if set(tensors) != {spec.name for spec in specs}:
        raise RunError("{}s are called {}".format(what, ", ".join(sorted(tensors)) or "nothing"), hint=hint)
    batches: set[int] = set()
    for spec in specs:
        tensor = tensors[spec.name]
        if tensor.dtype.name != spec.dtype:
            raise RunError(f"{what} {spec.name} is {tensor.dtype.name}", hint=hint)
        sizes = zip(tensor.shape, spec.shape)
        if len(tensor.shape) != len(spec.shape) or any(size != wanted for size, wanted in sizes if wanted != -1):
            raise RunError(f"{what} {spec.name} has the shape {tuple(tensor.shape)}", hint=hint)
        batches.update(tensor.shape[:1] if spec.shape[:1] == (-1,) else ())
    if len(batches) > 1 and what == "input":
        sizes_text = ", ".join(str(batch) for batch in sorted(batches))
        raise RunError(f"{what}s disagree about the batch: {sizes_text}", hint=hint)
    if batches:
        return batches.pop()
    first = tensors[specs[0].name].shape if specs else ()
    return int(first[0]) if first else 0


def scratch(pid: int = 0) -> str:
    """How the names of a process's temporary folders begin: its number says whether they are still in use."""
    return f"chipproof-{pid or os.getpid()}-"


_trail = None  # type: Any  # a buffer shared with the parent, set by the worker


def trail(call: str) -> None:
    """Write the name of the next vendor call into memory shared with the parent, which reads it after a crash or a
    hang."""
    if _trail is not None:
        text = call.encode("utf-8")[:250]
        _trail[: len(text) + 1] = text + b"\0"


def as_list(values: Any) -> list[Any]:
    """A tuple, list or None as a list."""
    return list(values) if values is not None else []
