"""What is here, whether it is idle, and who may use it now."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.backends.base import Device, Health, scratch
from harness.chips import Chip
from harness.errors import DeviceError, HarnessError, InvalidMeasurement, WorkerError
from harness.worker.process import Worker

IDLE = 0.05  # utilisation by others up to which a device counts as idle
CLOCK = 0.02  # relative change of the clock up to which two moments are alike
PLACES = ("/run/lock", "/var/lock", "/tmp")  # for locks of all users (FHS 3.0, 5.9); never TMPDIR, which differs
LEASES = next(Path(p) for p in PLACES if os.access(p, os.W_OK)) / "chipproof-leases"  # one place a machine
SIMULATED = LEASES / "simulated"  # of simulated devices: they stand in the way of no real one
NOTE_BYTES = 4096  # of a note that is believed
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")  # the same in all processes of pytest -n
UNSEEN_MB = 2048  # memory that nobody shown holds, up to which a device counts as idle: drivers keep some themselves
LOOKS = 2  # looks under load, beside the first, after which a device that shows no utilisation tells none
LOST_MB = 4.0  # as of the worker's own memory (side.GROWTH_MB); allocators of devices take 2 MB at a time
VACANT_S = 1.0  # between two looks at a device that others use: a vendor's tool takes up to a second of the host
TELL_S = 30.0  # between two words to someone who waits


@dataclass(frozen=True)
class Presence:
    """Devices of a chip with the backend that found them; no devices, and "" as backend, when none did. The evidence
    says for every backend that was asked what it saw."""

    backend: str
    version: str
    devices: tuple[Device, ...]
    evidence: str
    hint: str = ""  # the next step, where a backend knows better than the chip's row

    def only(self, index: int) -> Presence:
        """With that device alone. Where it is none of those here, the evidence begins with it and the next step names
        those that are."""
        there = [str(device.index) for device in self.devices]
        chosen = tuple(device for device in self.devices if device.index == index)
        if chosen or not self.devices:
            return replace(self, devices=chosen, evidence=f"{self.evidence}; of these --device {index}")
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
    device: Device,
    chip: str,
    *,
    holder: str,
    exclusive: bool,
    root: Path | None = None,
    patience: float = 0.0,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[None]:
    """Hold a device: shared with other accuracy runs, or exclusive for a measurement. Leases of one process do not
    stand in each other's way. The lock goes with the process, however it ends; notes of processes that were killed are
    removed here.

    Waits up to `patience` seconds, and tells who holds the device; then raises DeviceError. A process of the same run
    (pytest -n) is waited for as long as it lives: it is bounded by its own limits. The lock is the device's, not the
    chip's: a card that two chips name is one card."""
    root = LEASES if root is None else root
    place = root / f"{re.sub(r'[^A-Za-z0-9]+', '-', device.name).strip('-').lower()}-{device.number}.lock"
    held = _take(place, exclusive, patience, f"{chip} device {device.index} ({device.name})", tell)
    note = place.with_suffix(f".{os.getpid()}-{len(held.notes)}.json")
    said = {"pid": os.getpid(), "born": _born(os.getpid()), "holder": holder, "exclusive": exclusive,
            "since": time.strftime("%Y-%m-%d %H:%M:%S"), "run": RUN}  # fmt: skip
    try:
        for left in stale_notes(root):
            with contextlib.suppress(OSError):
                left.unlink()
        with contextlib.suppress(OSError):
            _write_note(note, json.dumps(said))
        held.notes.append(note)
        yield
    finally:
        held.notes.remove(note)
        with contextlib.suppress(OSError):
            note.unlink()
        _give(place, held, exclusive)


def holders(place: Path) -> list[str]:
    """Who says that it holds the lock, one line each. Notes of processes that are gone are removed."""
    lines = []
    for note in sorted(place.parent.glob(f"{place.stem}.*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads(_read_note(note))
            pid = int(said["pid"])
            if _born(pid) is None or _born(pid) != said["born"]:
                note.unlink()
                continue
            how = "exclusively" if said["exclusive"] else "shared"
            lines.append(f"pid {pid} for {str(said['holder'])[:200]}, {how}, since {str(said['since'])[:30]}")
    return lines


def _of_this_run(place: Path) -> bool:
    """Whether all that hold the lock are processes of this run."""
    runs = []
    for note in place.parent.glob(f"{place.stem}.*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads(_read_note(note))
            if int(said["pid"]) != os.getpid() and _born(int(said["pid"])) == said["born"]:
                runs.append(said["run"])
    return bool(RUN and runs) and set(runs) == {RUN}


def stale_notes(root: Path) -> list[Path]:
    """Notes of processes that are gone, in the folder of leases."""
    found = []
    for note in sorted(root.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads(_read_note(note))
            if _born(int(said["pid"])) != said["born"] or _born(int(said["pid"])) is None:
                found.append(note)
    return found


def stale_scratch() -> list[Path]:
    """Temporary folders of processes that are gone."""
    found = []
    for folder in sorted(Path(tempfile.gettempdir()).glob("chipproof-*-*")):
        number = folder.name.split("-")[1]
        if number.isdigit() and folder.name.startswith(scratch(int(number))) and _born(int(number)) is None:
            found.append(folder)
    return found


def _born(pid: int) -> int | None:
    """When a process began, in clock ticks since boot, so that another one with its number is not taken for it
    (proc(5), field 22 of stat); None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])


def _write_note(note: Path, text: str) -> None:
    """A new file of ours; whatever else stands there, a link above all, is not written through."""
    with contextlib.suppress(FileNotFoundError):
        note.unlink()
    descriptor = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _read_note(note: Path) -> str:
    descriptor = os.open(note, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, NOTE_BYTES).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def rested(ask: Callable[[], Health], patience: float = 3.0) -> Health:
    """How a device is when the suite's own work of a moment ago has left its utilisation, which is a mean over up to a
    second: while nothing but that stands against it, it is asked again for `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        health = ask()
        if health.busy is None or health.busy <= IDLE or strangers(health) or time.monotonic() >= end:
            return health
        time.sleep(0.2)


def vacated(
    ask: Callable[[], Health],
    what: str,
    patience: float,
    tell: Callable[[str], None] = lambda text: None,
    known: Collection[str] = (),
) -> Health:
    """How a device is once processes of others have left it, or after `patience` seconds; tells who is waited for.
    Nobody waits for those that are `known` to stay."""
    begun, told = time.monotonic(), -TELL_S
    while True:
        health = rested(ask)
        waited = time.monotonic() - begun
        others = [process for process in users(health) if process not in known]
        if not others or waited >= patience:
            return health
        if waited - told >= TELL_S:
            told = waited
            who = ", ".join(f"{process}{_since(process)}" for process in others)
            tell(f"{what} is used by {who}: waiting, {waited:.0f} of {patience:.0f} s")
        time.sleep(min(VACANT_S, max(0.0, patience - waited)))


def _since(process: str) -> str:
    """Since when a process of this machine, "NUMBER NAME", has been there; "" where that cannot be seen."""
    import psutil

    with contextlib.suppress(psutil.Error, ValueError):
        born = psutil.Process(int(process.split(" ", 1)[0])).create_time()
        return time.strftime(", since %Y-%m-%d %H:%M:%S", time.localtime(born))
    return ""


def check_idle(device: Device, health: Health) -> None:
    """Raises InvalidMeasurement when the device is unhealthy, throttled, or used by others. What a vendor does not
    report counts as fine."""
    name = f"{device.name} {device.index}"
    if not health.healthy:
        raise InvalidMeasurement(
            f"{name} is not healthy: {health.note or 'it does not say why'}",
            hint="see npu-smi info, cnmon or nvidia-smi",
        )
    if users(health):
        raise InvalidMeasurement(
            f"{name} is used by {', '.join(users(health))}", hint="measure when the device is idle"
        )
    if health.busy is not None and not health.busy <= IDLE:  # NaN is not idle
        raise InvalidMeasurement(
            f"{name} is {health.busy:.0%} busy; up to {IDLE:.0%} is idle", hint="measure when the device is idle"
        )
    if health.throttled:
        raise InvalidMeasurement(
            f"{name} throttles{_temperature(health)}", hint="cool it, or raise its power limit, then measure again"
        )


def users(health: Health) -> tuple[str, ...]:
    """Who of others uses the device: their processes, and what holds more than UNSEEN_MB of its memory without being
    shown, as a process of another container does."""
    hidden = (f"a program not visible here that holds more than {UNSEEN_MB} MB of its memory",)
    return (*strangers(health), *(hidden if (health.unseen_mb or 0.0) > UNSEEN_MB else ()))


def strangers(health: Health) -> tuple[str, ...]:
    """Processes of others: those that this machine or container knows; all of them where the suite's own were told by
    their numbers, for then a number that is not in /proc is another's, hidden or gone."""
    return tuple(process for process in health.processes if health.own or not _unseen(process))


def incomparable(devices: Sequence[Device], before: Sequence[Health], after: Sequence[Health]) -> str:
    """A note where a device lists processes that may be the suite's own or others': in a container the driver may
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
    its clock changed; under load, when it fell below the first clock seen under load; and when it shows none of the
    suite's own processes, where another device does and this one tells all of its use. Utilisation and memory after a
    measurement are its own and say nothing. `during` has a row of the devices for every moment under load."""
    for number, (device, earlier, later) in enumerate(zip(devices, before, after, strict=True)):
        clocks = [row[number].clock_mhz for row in (*during, after)]
        loaded = [clock for clock in clocks if clock]
        if loaded and min(loaded) < (1 - CLOCK) * loaded[0]:
            raise InvalidMeasurement(
                f"{device.name} {device.index} throttled: its clock fell from {loaded[0]:g} to {min(loaded):g} MHz "
                f"under load{_temperature(later)}",
                hint="cool it, or raise its power limit, then measure again",
            )
        later = replace(later, busy=None, unseen_mb=None)  # its own, where it is not shown either
        check_idle(device, later)
        if earlier.clock_mhz and later.clock_mhz and not abs(later.clock_mhz / earlier.clock_mhz - 1) <= CLOCK:
            raise InvalidMeasurement(
                f"the clock of {device.name} {device.index} went from {earlier.clock_mhz:g} to {later.clock_mhz:g} MHz",
                hint="lock the clock, then measure again",
            )
    if any(health.own for health in after):
        for device, health in zip(devices, after, strict=True):
            if not health.own and not health.untold:
                raise InvalidMeasurement(
                    f"{device.name} {device.index} shows no process of this run, and others that were measured with it "
                    "do: its work ran on another device",
                    hint=f"compare the numbers of the vendor's tool with those of the runtime, then each device alone: "
                    f"pytest -m throughput --device {device.index}",
                )


def check_flat(devices: Sequence[Device], during: Sequence[Sequence[Health]], after: Sequence[Health]) -> None:
    """Raises InvalidMeasurement when the memory that the suite holds on a device never shrank under load, and grew by
    more than `LOST_MB` in the first half of the moments and in the second: in the first a runtime may fill its pools,
    in the last it may not. `during` as in check_same."""
    for number, device in enumerate(devices):
        told = [row[number].own_mb for row in (*during, after)]
        held = [mb for mb in told if mb is not None]
        if len(held) < max(3, len(told)) or held != sorted(held):
            continue
        first, middle = held[0], held[len(held) // 2]
        if min(middle - first, held[-1] - middle) > LOST_MB:
            raise InvalidMeasurement(
                f"the memory that the suite holds on {device.name} {device.index} grew from {first:.0f} to "
                f"{middle:.0f} and to {held[-1]:.0f} MB while it was measured",
                hint="the runtime or its backend keeps device memory at each execute: a server would run out of it; "
                "report it",
            )


def _temperature(health: Health) -> str:
    return "" if health.temperature_c is None else f" at {health.temperature_c:g} °C"


def _take(place: Path, exclusive: bool, patience: float, what: str, tell: Callable[[str], None]) -> _Held:
    begun = time.monotonic()
    told = -TELL_S
    held = _held.get(place)
    if held is None:
        held = _Held(_open(place))
    try:
        while not (held.exclusive or (held.shared and not exclusive)):
            if _lock(held.descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH):
                break
            waited = time.monotonic() - begun
            who = "; ".join(line for line in holders(place) if f"pid {os.getpid()} " not in line) or "another process"
            if waited >= patience and not _of_this_run(place):
                after = f" after {waited:.0f} s" if patience else ""
                raise DeviceError(
                    f"{what} is held by {who}{after}",
                    hint=f"wait longer with --wait SECONDS, or take another with --device; see who: lsof {place}",
                )
            if waited - told >= TELL_S:
                told = waited
                tell(f"{what} is held by {who}: waiting, {waited:.0f} of {patience:.0f} s")
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
    """The lock's file. No link is followed and nobody's file is changed: a lock of another user is opened to be read,
    which is enough to lock it. Raises DeviceError."""
    try:
        for folder in (place.parent.parent, place.parent) if place.parent.name == SIMULATED.name else (place.parent,):
            _folder(folder)
        kind = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(place, os.O_RDONLY | kind)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | kind, 0o644))
            descriptor = os.open(place, os.O_RDONLY | kind)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "the lock is not a plain file")
    except OSError as error:
        raise DeviceError(
            f"device locks cannot be kept in {place.parent}: {error.strerror}",
            hint=f"remove it if nobody measures now, as its owner: rm -r {place.parent}",
        ) from error
    return descriptor


def seeing(
    devices: Sequence[Device], after: Sequence[Health], during: Sequence[Sequence[Health]]
) -> tuple[Health, ...]:
    """`after`, with a note where a device showed the utilisation of an idle one in all looks under the suite's own
    load: it cannot tell that of others either. `during` as in check_same; its first row is of the moment the load
    begins."""
    told = []
    for number, (device, health) in enumerate(zip(devices, after, strict=True)):
        busy = [row[number].busy for row in during[1:]]
        seen = max((share for share in busy if share is not None), default=1.0)
        if len(busy) >= LOOKS and seen <= IDLE:
            note = f"utilisation unknown ({device.name} {device.index} shows {seen:.0%} under the load of this run)"
            health = replace(health, untold=", ".join(filter(None, [health.untold, note])))
        told.append(health)
    return tuple(told)


def untold(healths: Sequence[Health]) -> str:
    """What devices did not tell of their use while they were measured, each once; "" where they told all."""
    return "; ".join(dict.fromkeys(health.untold for health in healths if health.untold))


def _folder(folder: Path) -> None:
    """Make the folder of leases, for all users, or check it: a folder that another user alone may write to, or a link
    in its place, is refused."""
    try:
        folder.mkdir(parents=True)
        folder.chmod(0o1777)
    except FileExistsError:
        pass
    seen = folder.lstat()
    if not stat.S_ISDIR(seen.st_mode):
        raise OSError(errno.ENOTDIR, "a link or a file is in its place")
    others = stat.S_IMODE(seen.st_mode) & 0o022
    if seen.st_uid not in (0, os.getuid()) and not others:
        raise OSError(errno.EACCES, f"it belongs to user {seen.st_uid}, who alone may write to it")
    if others and not seen.st_mode & stat.S_ISVTX:
        raise OSError(errno.EACCES, "others may remove its locks (no sticky bit)")
