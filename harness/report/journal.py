"""The journal of a run: JSON lines that are on disk when they are made, each chained to the one before by its digest.

A file is a header, lines of any kind, and a footer when the run came to its end. Each line ends with `chain`, the
SHA-256 of the chain before it and the line without its own. A file that was cut off anywhere is read up to there; a
line that was changed, moved, added or removed breaks the chain, and the file is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import DataError, StoreError
from harness.report import journal_lines

SCHEMA = 2
MOST = 1 << 30  # bytes of a file that is read at all
AGAIN = "move it away and run the suite again"
NONE = "give a record file (.jsonl) of a folder that pytest --results DIR wrote; all of it: chipproof report DIR"


@dataclass(frozen=True)
class Lines:
    """A journal, read back: its lines without their chains. `cut` says why it ends early, "" when it does not."""

    lines: tuple[dict[str, Any], ...]
    cut: str
    chain: str  # of the last line


def text_of(line: Mapping[str, Any], before: str) -> tuple[bytes, str]:
    """(the line as it stands in the file, its chain). Raises ValueError for NaN and infinity."""
    # a name that is not UTF-8 arrives as lone surrogates, which JSON can hold as escapes
    plain = json.dumps(line, ensure_ascii=False, allow_nan=False, default=_scalar).encode("utf-8", "backslashreplace")
    chain = hashlib.sha256(before.encode() + plain).hexdigest()
    return plain[:-1] + f', "chain": "{chain}"}}\n'.encode(), chain


def _scalar(value: Any) -> Any:
    """Scalars of NumPy; anything else as text."""
    return value.item() if hasattr(value, "item") else str(value)


class Journal:
    """Writes a journal. Raises StoreError when a line cannot be written; the lines before it are safe."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self._chain, self._size = "", 0
        self._under_way: tuple[int, str] | None = None  # size of the file and chain with the line that is being written
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _unwritable(path, error) from error
        self.add({"kind": "header", "schema": SCHEMA, **header})
        with suppress(OSError):  # so that the file's name outlives a power cut as well
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)

    def add(self, line: Mapping[str, Any]) -> None:
        """Append a line; it is on disk when this returns. A signal may end this anywhere: the next line then begins
        where the last whole one ended."""
        self._settle()
        text, chain = text_of(line, self._chain)
        self._under_way = self._size + len(text), chain
        try:
            while text:
                text = text[os.write(self._file, text) :]
            os.fsync(self._file)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        finally:
            with suppress(OSError):
                self._settle()

    def _settle(self) -> None:
        """Take a line that was written whole as written, and cut off half a one."""
        if self._under_way is None:
            return
        whole, chain = self._under_way
        if os.fstat(self._file).st_size == whole:
            self._size, self._chain = whole, chain
        else:
            os.ftruncate(self._file, self._size)
        self._under_way = None

    def close(self) -> None:
        """Close the file; twice does no harm."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path} cannot be written: {error}", hint="give another folder (--results), or free some space")


def begun(path: Path) -> bool:
    """Whether a file has a first line: a run that is killed as it begins leaves an empty one, or half a header."""
    with path.open("rb") as file:
        return b"\n" in file.read(1 << 20)


def read(path: Path) -> Lines:
    """The lines of a journal. Raises DataError for a file that is none, is of another schema, or was changed."""
    try:
        if not path.is_file():
            raise DataError(f"{path} is a folder" if path.is_dir() else f"there is no file {path}", hint=NONE)
        if path.stat().st_size > MOST:
            raise DataError(f"{path} has {path.stat().st_size / 1e6:.0f} MB, more than any run writes", hint=AGAIN)
        *whole, rest = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}", hint=AGAIN) from error
    lines: list[dict[str, Any]] = []
    chain = ""
    for number, text in enumerate(whole, 1):
        line = _parsed(path, number, text)
        if number == 1:
            _check_header(path, line)
        given = line.pop("chain", None)
        plain = text[: text.rfind(b', "chain": "')] + b"}"
        chain = hashlib.sha256(chain.encode() + plain).hexdigest()
        if given != chain:
            raise DataError(f"{path} was changed after it was written, at line {number}", hint=AGAIN)
        if lines and lines[-1].get("kind") == "footer":
            raise DataError(f"{path} continues after its footer, at line {number}", hint=AGAIN)
        if fault := journal_lines.wrong(line):
            raise DataError(f"{path}, line {number} cannot be read: {fault}", hint=AGAIN)
        lines.append(line)
    if not lines:
        raise DataError(f"{path} has no header", hint=NONE)
    cut = "" if lines[-1].get("kind") == "footer" and not rest else f"CUT OFF after line {len(lines)}"
    return Lines(tuple(lines), cut, chain)


def _parsed(path: Path, number: int, text: bytes) -> dict[str, Any]:
    try:
        line = json.loads(str(text, "utf-8"), parse_constant=_no_number)  # of bytes it would guess the encoding
        if not isinstance(line, dict):
            raise ValueError("it is not an object")
    except (ValueError, RecursionError) as error:
        if number == 1:
            raise DataError(f"{path} is not a record file of chipproof", hint=NONE) from error
        raise DataError(f"{path}, line {number} cannot be read: {error}", hint=AGAIN) from error
    return line


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _check_header(path: Path, line: Mapping[str, Any]) -> None:
    if line.get("kind") != "header":
        raise DataError(f"{path} has no header", hint=NONE)
    if line.get("schema") != SCHEMA:
        raise DataError(
            f"{path} has schema {line.get('schema')}, not {SCHEMA}", hint="read it with the version that wrote it"
        )
