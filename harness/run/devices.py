"""What is here: the devices of a chip, and the backend that found them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.backends.base import Device
from harness.chips import Chip
from harness.errors import HarnessError, WorkerError
from harness.worker.process import Worker


@dataclass(frozen=True)
class Presence:
    """Devices of a chip with the backend that found them; no devices, and "" as backend, when none did. The evidence
    says for every backend that was asked what it saw."""

    backend: str
    version: str
    devices: tuple[Device, ...]
    evidence: str
    hint: str = ""  # the next step, where a backend knows better than the chip's row
    aside: tuple[Device, ...] = ()  # those that --device leaves out

    @property
    def first(self) -> Device:
        """The first of the chip's devices on this machine, whichever are used."""
        return min((*self.devices, *self.aside), key=lambda device: device.index)

    def only(self, index: int) -> Presence:
        """With that device alone. Where it is none of those here, the evidence begins with it and the next step names
        those that are."""
        there = [str(device.index) for device in self.devices]
        chosen = tuple(device for device in self.devices if device.index == index)
        if chosen or not self.devices:
            aside = tuple(device for device in self.devices if device not in chosen)
            return replace(self, devices=chosen, evidence=f"{self.evidence}; of these --device {index}", aside=aside)
        hint = f"give --device {there[0]}" if len(there) == 1 else f"give --device one of {', '.join(there)}"
        return replace(self, devices=(), evidence=f"no device {index}; {self.evidence}", hint=hint)


def find(chip: Chip, start: Callable[[str], contextlib.AbstractContextManager[Worker]]) -> Presence:
    """Ask the chip's backends in turn, each in a worker that `start(backend)` gives; the first that finds a device
    drives the chip. A backend that says why it finds nothing is evidence like any other. One whose process crashes or
    hangs is not: raises WorkerError, for a chip with a broken SDK is not an absent one."""
    evidence, hint = [], ""
    for backend in chip.backends:
        try:
            with start(backend) as worker:
                found = worker.devices(chip.match)
                evidence.append(f"{backend}: {found.evidence}")
                hint = hint or found.hint
                if found.devices:
                    return Presence(backend, worker.version(), found.devices, "; ".join(evidence))
        except WorkerError as error:
            raise WorkerError(
                f"{error.fact}, while it looked for {chip.name}", hint=f"repair the SDK or its Python: {error.hint}"
            ) from error
        except HarnessError as error:
            evidence.append(f"{backend}: {error.fact}")
    return Presence("", "", (), "; ".join(evidence), hint)
