"""What is here, whether it is idle, and who may use it now."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.backends.base import Device, Health
from harness.chips import Chip
from harness.errors import DeviceError, HarnessError, InvalidMeasurement
from harness.worker.process import Worker

IDLE = 0.05  # utilisation by others up to which a device counts as idle
CLOCK = 0.02  # relative change of the clock up to which two moments are alike
LEASES = Path(tempfile.gettempdir()) / "chipproof-leases"  # one place a machine, for all its users


@dataclass(frozen=True)
class Presence:
    """Devices of a chip with the backend that found them; no devices, and "" as backend, when none did. The evidence
    says for every backend that was asked what it saw."""

    backend: str
    version: str
    devices: tuple[Device, ...]
    evidence: str
    hint: str = ""  # the next step, where a backend knows better than the chip's row


def find(chip: Chip, start: Callable[[str], contextlib.AbstractContextManager[Worker]]) -> Presence:
    """Ask the chip's backends in turn, each in a worker that `start(backend)` gives; the first that finds a device
    drives the chip. A backend that falls over is evidence like any other."""
    evidence, hint = [], ""
    for backend in chip.backends:
        try:
            with start(backend) as worker:
                found = worker.devices(chip.match)
                evidence.append(f"{backend}: {found.evidence}")
                hint = hint or found.hint
                if found.devices:
                    return Presence(backend, worker.version(), found.devices, "; ".join(evidence))
        except HarnessError as error:
            evidence.append(f"{backend}: {error.fact}")
    return Presence("", "", (), "; ".join(evidence), hint)


@dataclass
class _Held:
    """This process's hold on a device: one descriptor, however many leases."""

    descriptor: int
    shared: int = 0
    exclusive: int = 0
    notes: list[Path] = field(default_factory=list)


_held: dict[Path, _Held] = {}  # a lock is the process's, so its count is, too


@contextlib.contextmanager
def lease(
    device: Device, chip: str, *, holder: str, exclusive: bool, root: Path = LEASES, patience: float = 0.0
) -> Iterator[None]:
    """Hold a device: shared with other accuracy runs, or exclusive for a measurement. Leases of one process do not
    stand in each other's way. The lock goes with the process, however it ends.

    Waits up to `patience` seconds; then DeviceError says who holds the device. The lock is the device's, not the
    chip's: a card that two chips name is one card."""
    place = root / f"{re.sub(r'[^A-Za-z0-9]+', '-', device.name).strip('-').lower()}-{device.number}.lock"
    held = _take(place, exclusive, time.monotonic() + patience, f"{chip} device {device.index} ({device.name})")
    note = place.with_suffix(f".{os.getpid()}-{len(held.notes)}.json")
    since = time.strftime("%H:%M:%S")
    try:
        with contextlib.suppress(OSError):
            note.write_text(json.dumps({"pid": os.getpid(), "holder": holder, "since": since, "exclusive": exclusive}))
        held.notes.append(note)
        yield
    finally:
        held.notes.remove(note)
        note.unlink(missing_ok=True)
        _give(place, held, exclusive)


def holders(place: Path) -> list[str]:
    """Who says that it holds the lock, one line each; notes of processes that are gone are not believed."""
    lines = []
    for note in sorted(place.parent.glob(f"{place.stem}.*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            said = json.loads(note.read_text())
            if Path(f"/proc/{said['pid']}").exists():
                how = "exclusively" if said["exclusive"] else "shared"
                lines.append(f"pid {said['pid']} for {said['holder']}, {how}, since {said['since']}")
    return lines


def rested(ask: Callable[[], Health], patience: float = 3.0) -> Health:
    """How a device is when the suite's own work of a moment ago has left its utilisation, which is a mean over up to a
    second: while nothing but that stands against it, it is asked again for `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        health = ask()
        if health.busy is None or health.busy <= IDLE or strangers(health) or time.monotonic() >= end:
            return health
        time.sleep(0.2)


def check_idle(device: Device, health: Health) -> None:
    """Raises InvalidMeasurement when the device is unhealthy, throttled, or used by others. What a vendor does not
    tell is not held against it."""
    name = f"{device.name} {device.index}"
    if not health.healthy:
        raise InvalidMeasurement(f"{name} is not healthy: {health.note or 'it does not say why'}", hint="see its tools")
    if strangers(health):
        raise InvalidMeasurement(
            f"{name} is used by {', '.join(strangers(health))}", hint="measure when the device is idle"
        )
    if health.busy is not None and health.busy > IDLE:
        raise InvalidMeasurement(
            f"{name} is {health.busy:.0%} busy; up to {IDLE:.0%} is idle", hint="measure when the device is idle"
        )
    if health.throttled:
        raise InvalidMeasurement(
            f"{name} throttles{_temperature(health)}", hint="cool it, or raise its power limit, then measure again"
        )


def strangers(health: Health) -> tuple[str, ...]:
    """Processes of others: those that this machine or container knows; all of them where the suite's own were told by
    their numbers, for then a number that is not in /proc is another's, hidden or gone."""
    return tuple(process for process in health.processes if health.own or not _unseen(process))


def incomparable(devices: Sequence[Device], before: Sequence[Health], after: Sequence[Health]) -> str:
    """A note where a device lists processes that cannot be told from the suite's own: in a container the driver may
    give the host's numbers. One that came with the suite's own load is its own, a worker for each device; "" then."""
    told = []
    for device, earlier, later in zip(devices, before, after, strict=True):
        old = [process for process in earlier.processes if _unseen(process)]
        new = [process for process in later.processes if _unseen(process) and process not in old]
        if not later.own and (old or len(new) > 1):
            told.append(f"{device.name} {device.index}: {', '.join([*old, *new])}")
    return "processes cannot be compared here, their numbers are not in /proc: " + "; ".join(told) if told else ""


def _unseen(process: str) -> bool:
    """Whether a process, "NUMBER NAME", is not in /proc."""
    number = process.split(" ", 1)[0]
    return number.isdigit() and not Path("/proc", number).exists()


def check_same(
    devices: Sequence[Device],
    before: Sequence[Health],
    after: Sequence[Health],
    during: Sequence[Sequence[Health]] = (),
) -> None:
    """Raises InvalidMeasurement when a device became unhealthy, throttled or used by others while it was measured, or
    its clock changed; under load, when it fell below the first clock seen under load. Utilisation after a measurement
    is the measurement's own and says nothing. `during` has a row of the devices for every moment under load."""
    for number, (device, earlier, later) in enumerate(zip(devices, before, after, strict=True)):
        clocks = [row[number].clock_mhz for row in (*during, after)]
        loaded = [clock for clock in clocks if clock]
        if loaded and min(loaded) < (1 - CLOCK) * loaded[0]:
            raise InvalidMeasurement(
                f"{device.name} {device.index} throttled: its clock fell from {loaded[0]:g} to {min(loaded):g} MHz "
                f"under load{_temperature(later)}",
                hint="cool it, or raise its power limit, then measure again",
            )
        if later.busy is not None:
            later = Health(**{**vars(later), "busy": None})
        check_idle(device, later)
        if earlier.clock_mhz and later.clock_mhz and abs(later.clock_mhz / earlier.clock_mhz - 1) > CLOCK:
            raise InvalidMeasurement(
                f"the clock of {device.name} {device.index} went from {earlier.clock_mhz:g} to {later.clock_mhz:g} MHz",
                hint="lock the clock, then measure again",
            )


def _temperature(health: Health) -> str:
    return "" if health.temperature_c is None else f" at {health.temperature_c:g} °C"


def _take(place: Path, exclusive: bool, deadline: float, what: str) -> _Held:
    held = _held.get(place)
    if held is None:
        held = _Held(_open(place))
    try:
        while not (held.exclusive or (held.shared and not exclusive)):
            if _lock(held.descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH):
                break
            if time.monotonic() >= deadline:
                who = "; ".join(line for line in holders(place) if f"pid {os.getpid()} " not in line)
                raise DeviceError(
                    f"{what} is leased by {who or 'another process'}",
                    hint=f"wait for it, or take another with --device; see who: lsof {place}",
                )
            time.sleep(0.05)
    except BaseException:
        if place in _held:  # a failed upgrade gives up what was held: take it back before the others notice
            _lock(held.descriptor, fcntl.LOCK_SH)
        else:
            os.close(held.descriptor)
        raise
    _held[place] = held
    held.shared += not exclusive
    held.exclusive += exclusive
    return held


def _give(place: Path, held: _Held, exclusive: bool) -> None:
    held.shared -= not exclusive
    held.exclusive -= exclusive
    if not held.shared and not held.exclusive:
        del _held[place]
        os.close(held.descriptor)
    elif not held.exclusive:
        _lock(held.descriptor, fcntl.LOCK_SH)


def _lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(place: Path) -> int:
    try:
        if not place.parent.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.parent.chmod(0o1777)
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise DeviceError(
            f"leases cannot be kept in {place.parent}: {error.strerror}", hint="make it writable for all users"
        ) from error
    with contextlib.suppress(OSError):  # another user's
        os.fchmod(descriptor, 0o666)
    return descriptor


def untold(healths: Sequence[Health]) -> str:
    """What devices did not tell of their use while they were measured, each once; "" where they told all."""
    return "; ".join(dict.fromkeys(health.untold for health in healths if health.untold))
