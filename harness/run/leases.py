"""Who may use a device now, on this machine, and what processes that are gone have left."""

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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.backends.base import Device, scratch
from harness.errors import DeviceError
from harness.run.idle import TELL_S

PLACES = ("/run/lock", "/var/lock", "/tmp")  # for locks of all users (FHS 3.0, 5.9); never TMPDIR, which differs
LEASES = next(Path(p) for p in PLACES if os.access(p, os.W_OK)) / "chipproof-leases"  # one place a machine
SIMULATED = LEASES / "simulated"  # of simulated devices: they stand in the way of no real one
NOTE_BYTES = 4096  # of a note that is believed
UNNAMED_S = 1.0  # that a lock without a note is waited for: its holder is just coming or going
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")  # the same in all processes of pytest -n


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
        tidy(root)
        with contextlib.suppress(OSError):
            _write_note(note, json.dumps(said))
        held.notes.append(note)
        yield
    finally:
        held.notes.remove(note)
        with contextlib.suppress(OSError):
            note.unlink()
        _give(place, held, exclusive)


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
            others = [said for said in _notes(place) if int(said["pid"]) != os.getpid()]
            who = "; ".join(map(_line, others)) or "another process"
            of_this_run = bool(RUN and others) and {str(said.get("run", "")) for said in others} == {RUN}
            if waited >= (patience if others else max(patience, UNNAMED_S)) and not of_this_run:
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


def holders(place: Path) -> list[str]:
    """Who says that it holds the lock, one line each. Notes of processes that are gone are removed."""
    return [_line(said) for said in _notes(place)]


def _notes(place: Path) -> list[dict[str, Any]]:
    """What processes that live say of their hold on the lock."""
    found = []
    for note in sorted(place.parent.glob(f"{place.stem}.*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads(_read_note(note))
            pid = int(said["pid"])
            if _born(pid) is None or _born(pid) != said["born"]:
                note.unlink()
                continue
            _line(said)  # raises for what is no note
            found.append(said)
    return found


def _line(said: Mapping[str, Any]) -> str:
    how = "exclusively" if said["exclusive"] else "shared"
    return f"pid {int(said['pid'])} for {str(said['holder'])[:200]}, {how}, since {str(said['since'])[:30]}"


def stale_notes(root: Path) -> list[Path]:
    """Notes of processes that are gone, in the folder of leases."""
    found = []
    for note in sorted(root.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads(_read_note(note))
            if _born(int(said["pid"])) != said["born"] or _born(int(said["pid"])) is None:
                found.append(note)
    return found


def tidy(root: Path) -> None:
    """Remove notes of processes that are gone from a folder of leases, as far as that is allowed."""
    for left in stale_notes(root):
        with contextlib.suppress(OSError):
            left.unlink()


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
