"""The cache: each artefact is built once, kept under its key, whole or not at all. run/artefacts.py makes the keys."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import glob
import hashlib
import json
import os
import shlex
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import StoreError

FORMAT = 1
SHARED = 0o775  # mode of a new folder, less the umask: a group may share the cache
ABANDONED_S = 3600.0  # age at which a file that was half written belongs to no process any more
TELL_S = 30.0  # between two words to someone who waits for a build
FULL = (errno.ENOSPC, errno.EDQUOT)
NOTHING = 1 << 20  # bytes; where fewer are left that was the reason, whatever PyTorch or a compiler says it was
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)


def canonical(key: object) -> str:
    """The key as the one JSON text that its content has. Raises TypeError for what has no such text: a path (say
    what is in the file instead), a set, a NaN, a dictionary whose keys are not strings."""
    return json.dumps(_plain(key), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(path: Path) -> str:
    """SHA-256 of a file, or of a directory's file names and contents."""
    if not path.is_dir():
        return _sha256(path)
    lines = [f"{file.relative_to(path).as_posix()}\0{_sha256(file)}\n" for file in _files(path)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Left:
    """A file or folder that may go: its size in bytes, and why."""

    path: Path
    size: int
    why: str


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to. On a clean end it is on disk and takes the place of `path`; otherwise it is
    removed, and `path` stays as it was. What a killed process left of the same file is removed after an hour, whichever
    host it ran on. Raises OSError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        _sync(beside)
        beside.replace(path)
        _remove_abandoned(path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def _remove_abandoned(path: Path) -> None:
    for other in path.parent.glob(f".{glob.escape(path.name)}.*"):
        with contextlib.suppress(OSError):
            if other.suffix[1:].isdecimal() and time.time() - other.stat().st_mtime > ABANDONED_S:
                other.unlink()


class Store:
    """Artefacts under `root`/kind/key-digest/, each beside its meta.json (key, SHA-256, size).

    `built` and `hits` count what `get` did in this process; `notes` keeps what a user should hear (who is being
    waited for, what was found damaged), and `say` is called with each as it happens."""

    def __init__(self, root: Path, say: Callable[[str], None] | None = None) -> None:
        self.root = root
        self.built = 0
        self.hits = 0
        self.latest: dict[str, Path] = {}  # kind -> what `get` gave last
        self.notes: list[str] = []
        self._say = say
        self._made: set[Path] = set()
        with contextlib.suppress(OSError):  # before others make it by an open umask
            root.mkdir(SHARED, parents=True, exist_ok=True)
        self._seen: dict[Path, tuple[tuple[str, int, int, int], ...]] = {}

    def get(
        self, key: object, build: Callable[[Path], None], *, kind: str, suffix: str = "", anew: bool = False
    ) -> Path:
        """Path of the artefact of `key`: as kept, or else made by `build(path)`, which writes a file or a directory
        at exactly that path. Never change what is at the path that comes back.

        Of several processes that want the same key at once, one builds. A kept artefact that is no longer what was
        built is noted and built again; with `anew` any is. Raises StoreError when the cache cannot be written (full,
        read-only), when every user of the machine can write it, or when `build` wrote nothing; what `build` raises
        passes through. After an error nothing of it is left."""
        text = canonical(key)
        name = hashlib.sha256(text.encode()).hexdigest()
        home = self.root / kind / name
        artefact = home / (kind + suffix)
        self.latest.pop(kind, None)
        self._check_ours(home.parent)
        self._get(home, artefact, text, build, anew)
        with contextlib.suppress(OSError):  # so that what is used is not taken for old
            os.utime(home / "meta.json")
        self.latest[kind] = artefact
        return artefact

    def made_here(self, artefact: Path) -> bool:
        """Whether this process built what `get` gave."""
        return artefact in self._made

    def told(self, artefact: Path) -> dict[str, Any]:
        """What is noted of what `get` gave: `sha256`, `bytes`, `seconds` of the build, `built` (UTC), `key`."""
        return dict(json.loads((artefact.parent / "meta.json").read_text(encoding="utf-8")))

    def _check_ours(self, kinds: Path) -> None:
        """Engines and TorchScript files are code that will run: nothing is taken from where any user can put them."""
        for folder in (self.root, kinds):
            with contextlib.suppress(OSError):
                if folder.stat().st_mode & stat.S_IWOTH:
                    raise StoreError(
                        f"every user of this machine can write {folder}, a folder of the cache",
                        hint=f"chmod o-w {shlex.quote(str(folder))}, or name another with --cache DIR",
                    )

    def _get(self, home: Path, artefact: Path, text: str, build: Callable[[Path], None], anew: bool) -> None:
        if not anew and self._sound(artefact):
            self.hits += 1
            return

        with self._writing(), self._alone(home, f"{home.parent.name} {home.name[:12]}"):
            if not anew and self._sound(artefact):
                self.hits += 1
                return
            if home.exists() and not anew:
                self._note(f"{artefact} is damaged: it is built again")
            self._build(home, artefact.name, text, build)
            self.built += 1
            self._made.add(artefact)

    def _build(self, home: Path, name: str, key: str, build: Callable[[Path], None]) -> None:
        for left in home.parent.glob(f".{home.name}.*.tmp"):  # of a process that was killed: we hold its lock
            shutil.rmtree(left, ignore_errors=True)
        temp = home.with_name(f".{home.name}.{os.getpid()}.tmp")
        temp.mkdir(SHARED)
        try:
            begun, clock = time.time(), time.monotonic()
            try:
                build(temp / name)
            except Exception as error:
                if shutil.disk_usage(temp).free >= NOTHING:
                    raise
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temp)) from error
            if not (temp / name).exists():
                raise StoreError(f"building {name} wrote no {name}", hint="this is a fault of the suite: report it")
            meta = {
                "format": FORMAT,
                "key": json.loads(key),
                "sha256": digest(temp / name),
                "bytes": sum(file.stat().st_size for file in _files(temp / name)),
                "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begun)),
                "seconds": round(time.monotonic() - clock, 3),
            }
            (temp / "meta.json").write_text(json.dumps(meta, indent=1, ensure_ascii=False), encoding="utf-8")
            for path in (*_files(temp), *_directories(temp)):
                _sync(path)
            if home.exists():
                home.rename(temp / "damaged")
            signature = _signature(temp / name)
            temp.rename(home)
            _sync(home.parent)
            self._seen[home / name] = signature
            shutil.rmtree(home / "damaged", ignore_errors=True)
        finally:
            shutil.rmtree(temp, ignore_errors=True)

    def _sound(self, artefact: Path) -> bool:
        """Whether what is kept is what was built: by digest once in a process, then by size and time of change."""
        try:
            signature = _signature(artefact)
            if self._seen.get(artefact) == signature:
                return True
            meta = json.loads((artefact.parent / "meta.json").read_text(encoding="utf-8"))
            if meta["format"] != FORMAT or meta["sha256"] != digest(artefact):
                return False
        except (OSError, ValueError, KeyError, TypeError, RecursionError):  # absent, cut short, or not ours
            return False
        self._seen[artefact] = signature
        return True

    @contextlib.contextmanager
    def _alone(self, home: Path, what: str) -> Iterator[None]:
        from filelock import FileLock, Timeout  # imports much, and few commands take a lock

        self.root.mkdir(SHARED, parents=True, exist_ok=True)
        home.parent.mkdir(SHARED, exist_ok=True)
        holder = home.parent / f".{home.name}.who"
        lock = FileLock(home.parent / f".{home.name}.lock")
        begun = time.monotonic()
        wait = 0.0
        while True:
            try:
                lock.acquire(timeout=wait, poll_interval=0.1)
                break
            except Timeout:
                waited = f", for {time.monotonic() - begun:.0f} s" if wait else ""
                self._note(f"waiting for {_read(holder) or 'another process'}{waited}")
                wait = TELL_S
        try:
            holder.write_text(f"pid {os.getpid()}, which is building {what}", encoding="utf-8")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def leftovers(self) -> list[Left]:
        """What a killed process left half made. What a living one holds the lock of is not named."""
        found = []
        for path in sorted(self.root.glob("*/.*")):
            digest_, _, ending = path.name.lstrip(".").partition(".")
            if not (path.name.endswith(".tmp") or ending == "who") or not self._free(path.parent / digest_):
                continue
            found.append(
                Left(path, size_of(path), "half made" if path.is_dir() else "lock note of a build that has ended")
            )
        return found

    def old(self, days: float | None, most_gb: float | None) -> list[Left]:
        """Artefacts that were not used for that many days, and of the rest the longest unused, until no more than
        `most_gb` are kept."""
        kept = [(meta.stat().st_mtime, meta.parent) for meta in self.root.glob("*/*/meta.json")]
        entries = [(used, home, size_of(home)) for used, home in sorted(kept)]
        total = sum(size for _, _, size in entries)
        found = []
        for used, home, size in entries:
            age, why = (time.time() - used) / 86400, ""
            if days is not None and age > days:
                why = f"unused for {age:.0f} days"
            elif most_gb is not None and total > most_gb * 1e9:
                why = f"over {most_gb:g} GB, unused for {age:.0f} days"
            if why:
                found.append(Left(home, size, why))
                total -= size
        return found

    def remove(self, left: Left) -> bool:
        """Remove it, unless a process holds its lock or it is not ours. Whether it is gone."""
        from filelock import FileLock, Timeout

        path = left.path
        digest_ = path.name.lstrip(".").partition(".")[0]
        ours = path.is_relative_to(self.root)
        with contextlib.suppress(OSError, Timeout):
            if not ours:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                return True
            with FileLock(path.parent / f".{digest_}.lock").acquire(blocking=False):
                if not path.is_dir():
                    path.unlink()
                else:
                    gone = path.with_name(f".{digest_}.gone.tmp")  # a reader finds all of it or nothing
                    if path != gone:
                        path.rename(gone)
                    shutil.rmtree(gone)
            return True
        return False

    def _free(self, home: Path) -> bool:
        """Whether no process holds the lock of an artefact."""
        from filelock import FileLock, Timeout

        try:
            with FileLock(home.parent / f".{home.name}.lock").acquire(blocking=False):
                return True
        except (Timeout, OSError):
            return False

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Says in our words why the cache cannot be written; an OSError about some other file is not ours."""
        try:
            yield
        except OSError as error:
            if error.errno in FULL:
                raise StoreError(
                    f"no space left for the cache in {self.root}", hint="free some, or name another with --cache DIR"
                ) from error
            named = str(error.filename or "")
            if (
                error.errno in REFUSED
                and named
                and (named.startswith(str(self.root)) or self.root.is_relative_to(named))
            ):
                raise StoreError(
                    f"the cache {self.root} cannot be written: {error}",
                    hint="make it writable, or name another with --cache DIR",
                ) from error
            raise

    def _note(self, text: str) -> None:
        self.notes.append(text)
        if self._say is not None:
            self._say(text)


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):  # JSON would make 1 and "1" the same key
            raise TypeError(f"keys of a store key must be strings: {value!r}")
        return {str(name): _plain(value[name]) for name in value}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder; what goes meanwhile counts nothing."""
    total = 0
    for file in _files(path):
        with contextlib.suppress(OSError):
            total += file.lstat().st_size
    return total


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _directories(path: Path) -> list[Path]:
    return [path, *sorted(inner for inner in path.rglob("*") if inner.is_dir())]


def _signature(path: Path) -> tuple[tuple[str, int, int, int], ...]:
    stats = [(str(file.relative_to(path)), file.stat()) for file in _files(path)]
    return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _sha256(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
