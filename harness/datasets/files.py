"""Files of a data set on disk: pictures by name, counted, and compared with the published list."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.datasets.base import Absent
from harness.errors import DataError, UsageError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"BM")  # the first bytes of files of these kinds


@dataclass(frozen=True)
class Published:
    """A data set as it was published. `names` is the SHA-256 of its sample names, sorted, one a line."""

    name: str
    total: int
    names: str
    layout: str  # where the files belong under --data

    def kind(self, ids: Sequence[str]) -> str:
        """ "whole" when `ids` are all its samples, by count and by name, else "partial"."""
        return "whole" if len(ids) == self.total and names_digest(ids) == self.names else "partial"


def names_digest(ids: Iterable[str]) -> str:
    """SHA-256, in hex, of the sample names, sorted, one a line."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


@dataclass(frozen=True)
class Picture:
    """A picture file on disk and its size."""

    path: Path
    size: int  # bytes


def pictures(folder: Path, published: Published, depth: int = 0) -> dict[str, Picture]:
    """Pictures in `folder`, or `depth` folders below it, by name: the path below `folder`, cut at the first dot of
    the file name. Hidden files and files with other suffixes are skipped.

    Raises Absent when there is no picture; DataError for an empty file, for files that do not begin like pictures (all
    of them are counted at once), and for two pictures of one name."""
    if not folder.is_dir():
        raise absent(published, f"there is no folder {folder}")
    found: dict[str, Picture] = {}
    for base in sorted(folder.glob("/".join("*" * depth))) if depth else [folder]:
        if not base.is_dir() or base.name.startswith("."):
            continue
        prefix = base.relative_to(folder).as_posix() + "/" if depth else ""
        try:
            entries = sorted((e.name, e.stat().st_size) for e in os.scandir(base) if e.is_file())
        except OSError as error:
            raise DataError(f"{base} cannot be read: {error.strerror}", hint="check its permissions") from error
        for name, size in entries:
            if name.startswith(".") or Path(name).suffix.lower() not in SUFFIXES:
                continue
            utf8(base / name)
            sample = prefix + name.split(".")[0]
            if size == 0:
                raise DataError(f"{base / name} is empty", hint="fetch the file again")
            if sample in found:
                raise DataError(f"{found[sample].path} and {base / name} are one sample", hint="remove one of them")
            found[sample] = Picture(base / name, size)
    if not found:
        bases = folder.glob("/".join("*" * depth)) if depth else [folder]
        others = sorted(path.name for base in bases if base.is_dir() for path in base.glob("[!.]*"))
        if others:
            raise DataError(
                f"{published.name}: {folder} holds {len(others)} entries, first {others[0]}, and no picture",
                hint=f"put under --data: {published.layout}",
            )
        raise absent(published, f"there is no picture in {folder}")
    damaged = [picture.path for picture in found.values() if not _begins_well(picture.path)]
    if damaged:
        raise DataError(
            f"{len(damaged)} of {len(found)} files in {folder} are not pictures, first {damaged[0]}",
            hint="fetch them again, or remove them and their labels: the set is then partial",
        )
    return found


def _begins_well(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4).startswith(SIGNATURES)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from error


def absent(published: Published, fact: str) -> Absent:
    """The error for a data set that is not there; its hint says where the files belong."""
    return Absent(f"{published.name}: {fact}", hint=f"put under --data: {published.layout}")


def listed(path: Path, published: Published) -> list[str]:
    """Sample names of a list file with one picture a line (folder/name.jpg). Raises DataError for a name that occurs
    twice."""
    names = [_sample(line) for line in text(path).splitlines() if line.strip()]
    once(names, path)
    return names


def _sample(line: str) -> str:
    folder, _, name = line.strip().strip("/").rpartition("/")
    return f"{folder}/{name.split('.')[0]}" if folder else name.split(".")[0]


def once(names: Iterable[str], path: Path) -> None:
    """Raises DataError when the file at `path` names a sample twice."""
    doubled = [name for name, n in Counter(names).items() if n > 1]
    if doubled:
        raise DataError(f"{path} names {len(doubled)} samples twice, first {doubled[0]}", hint="remove the second line")


def utf8(path: Path) -> None:
    """Raises DataError when a name in the path is not UTF-8, for example GBK from a Chinese Windows: digests and lists
    with such a name cannot be written."""
    for name in path.parts:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            shown = os.fsencode(path).decode("utf-8", "backslashreplace")
            meant = os.fsencode(name).decode("gb18030", "replace")
            raise DataError(
                f"the name of {shown} is not UTF-8; in GBK it reads {meant}",
                hint="rename it: convmv -r -f gbk -t utf-8 --notest FOLDER",
            ) from error


def text(path: Path) -> str:
    """The content of a text file in UTF-8, without a byte-order mark. Raises DataError."""
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise DataError(f"{path} is {kind}, not a file", hint="put the file of the data set there")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from error
    try:
        content = data.decode("utf-8-sig")
        if "\0" not in content:
            return content
        line = content.count("\n", 0, content.index("\0")) + 1
        raise DataError(
            f"{path}:{line} holds zero bytes: UTF-16 without a byte-order mark, or no text",
            hint=f"convert it: iconv -f UTF-16LE -t UTF-8 {path} > NEW; else fetch the file again",
        )
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DataError(
                f"{path} is UTF-16 text, not UTF-8", hint=f"convert it: iconv -f UTF-16 -t UTF-8 {path} > NEW"
            ) from error
        raise DataError(
            f"{path}:{line} is not UTF-8: byte 0x{data[error.start]:02x}",
            hint=f"probably text from a Chinese Windows: iconv -f GB18030 -t UTF-8 {path} > NEW; "
            "else fetch the file again",
        ) from error


def parsed(path: Path, hint: str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The content of a JSON file; `pairs` converts the (name, value) pairs of each object. Raises DataError."""
    content = text(path)
    if not content.strip():
        raise DataError(f"{path} is empty", hint=hint)
    try:
        return json.loads(content, object_pairs_hook=pairs)
    except RecursionError as error:
        raise DataError(f"{path} is not JSON of this kind: it is nested too deeply", hint=hint) from error
    except ValueError as error:  # also a number of more digits than Python reads
        raise DataError(f"{path} is not JSON: {error}", hint=hint) from error


def present(found: Mapping[str, Picture], names: Sequence[str], source: Path, published: Published) -> list[str]:
    """The names that have a picture, in the order of the list.

    A list of the whole published set may name pictures that are missing; the set is then partial. A shorter list
    selects pictures, and each must be there. Raises DataError otherwise, and for a picture that is not in the list."""
    extra = sorted(set(found) - set(names))
    bare(names, found, source)
    if extra:
        raise DataError(
            f"{len(extra)} pictures are not in {source}, first {found[extra[0]].path}",
            hint="remove them, or complete the list",
        )
    missing = [name for name in names if name not in found]
    if missing and len(names) < published.total:
        raise DataError(
            f"{source} names {len(missing)} pictures that are not there, first {missing[0]}",
            hint="fetch them, or remove their lines",
        )
    return [name for name in names if name in found]


def bare(names: Iterable[str], found: Mapping[str, Picture], source: Path) -> None:
    """Raises DataError when names of the file at `source` are those of pictures, but for folders before them."""
    for name in names:
        folder, slash, last = name.replace("\\", "/").rpartition("/")
        if slash and name not in found and last in found:
            raise DataError(
                f"{source} names {name}: without {name[: len(folder) + 1]} it is a picture here",
                hint="write the names of the pictures without folders before them",
            )


def digest(ids: Sequence[str], found: Mapping[str, Picture], labels: Iterable[bytes] = ()) -> str:
    """SHA-256, in hex, over names, file sizes in bytes and labels, in order."""
    sha = hashlib.sha256()
    for name in ids:
        sha.update(f"{name} {found[name].size}\n".encode())
    for label in labels:
        sha.update(label)
    return sha.hexdigest()


def folder(data: Path, published: Published) -> Path:
    """The data set's folder under --data. Raises UsageError when --data is not a folder, Absent when the data set's
    folder is missing."""
    if not data.is_dir():
        raise UsageError(f"--data {data} is not a folder", hint="give the folder that holds imagenet/, widerface/, ...")
    if not (data / published.name).is_dir():
        raise absent(published, f"there is no folder {data / published.name}")
    return data / published.name
