"""Files that benchmark, msame and ais_bench read and write: .info lists, and one result file an image and output.

A result set is read whole or not at all: a missing, doubled, stray, short or non-finite file is an error that names
it, where the published scripts would shift, shrink or zip the rest.
"""

from __future__ import annotations

import io
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError, UsageError

AGAIN = "run the tool again into an empty folder"


@dataclass(frozen=True)
class Format:
    """How a tool names its results. `first` is the index of the first output; `folders` are globs of the folder that
    the tool makes inside the one it is given; `leavings` are other files that it leaves there."""

    name: str
    first: int
    infix: str  # between the input's stem and the index
    endings: tuple[str, ...]
    folders: tuple[str, ...]
    leavings: str = r"(?!)"
    cuts_at_dot: bool = False  # the stem ends at the first dot of the input's name

    def stem(self, name: str) -> str:
        """What the tool calls the results of input `name`.bin."""
        return name.split(".")[0] if self.cuts_at_dot else name


FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        Format("benchmark", 1, "_", ("bin", "txt"), ("dumpOutput_device*", "result/dumpOutput_device*")),
        Format("msame", 0, "_output_", ("bin", "txt"), ("2*",)),
        Format(
            "ais_bench", 0, "_", ("bin", "txt", "npy"), ("2*", "device*"),
            leavings=r"sumary\.json|.*_summary\.json", cuts_at_dot=True,
        ),
    )
}  # fmt: skip


def format_of(name: str) -> Format:
    """Row of FORMATS. Raises UsageError."""
    if name not in FORMATS:
        raise UsageError(f"{name!r} is not a known result format", hint="one of " + ", ".join(FORMATS))
    return FORMATS[name]


# --- .info --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A line of an .info file. Sizes are in pixels: of the network's input for .bin files, of the image otherwise."""

    path: str
    width: int
    height: int


def write_info(path: Path, entries: Iterable[Entry]) -> None:
    """`index path width height`, one line a file, index from 0. Raises DataError for a path with a blank, at which
    every reader would split, and for one that is not UTF-8."""
    lines = []
    for index, entry in enumerate(entries):
        if re.search(r"\s", entry.path):
            raise DataError(f"the path {entry.path!r} has a blank", hint="an .info file cannot hold it: rename it")
        try:
            entry.path.encode()
        except UnicodeEncodeError as error:
            shown = os.fsencode(entry.path).decode("utf-8", "backslashreplace")
            raise DataError(f"the path {shown} is not UTF-8", hint="an .info file is: rename it") from error
        lines.append(f"{index} {entry.path} {entry.width} {entry.height}\n")
    path.write_text("".join(lines), encoding="utf-8")


def read_info(path: Path) -> list[Entry]:
    """Lines of an .info file. Raises DataError: damaged, doubled or misnumbered."""
    entries = []
    for index, line in enumerate(_text(path).splitlines()):
        match = re.fullmatch(r"(\d{1,9}) (\S+) ([1-9]\d{0,8}) ([1-9]\d{0,8})", line.rstrip())
        if match is None or int(match.group(1)) != index:
            raise DataError(
                f"{path}:{index + 1}: {line[:80]!r} is not '{index} path width height'", hint="write the file again"
            )
        entries.append(Entry(match.group(2), int(match.group(3)), int(match.group(4))))
    if not entries:
        raise DataError(f"{path} is empty", hint="write the file again")
    paths = [entry.path for entry in entries]
    if len(set(paths)) < len(paths):
        raise DataError(f"{path} names {_first_double(paths)} twice", hint="write the file again")
    return entries


# --- results ------------------------------------------------------------------------------------------------------


def folder_of(outputs: Path, form: Format) -> Path:
    """The folder that holds the results: `outputs` itself, or the one folder that the tool made inside it.

    Raises DataError when there is none, or more than one."""
    if not outputs.is_dir():
        raise DataError(f"{outputs} is not a folder", hint="give the folder into which the tool wrote")
    if any(_named(path, form) for path in _entries(outputs) if path.is_file()):
        return outputs
    inside = sorted({path for glob in form.folders for path in outputs.glob(glob) if path.is_dir()})
    if not inside:
        hint = f"its files end in {form.infix}{form.first}.bin or so"
        raise DataError(f"{outputs} holds no result of {form.name}", hint=hint)
    if len(inside) > 1:
        names = ", ".join(path.name for path in inside)
        raise DataError(f"{outputs} holds {len(inside)} runs: {names}", hint="give the folder of one of them")
    return inside[0]


def find(folder: Path, form: Format, names: Sequence[str], outputs: int) -> list[tuple[Path, ...]]:
    """For each input `name`.bin, in that order, the files of its outputs 0, 1, ... of the engine.

    Raises DataError when a file is missing, doubled (two endings), or belongs to none of the inputs."""
    stems = [form.stem(name) for name in names]
    if len(set(stems)) < len(stems):
        raise DataError(
            f"two inputs are called {_first_double(stems)} in the results of {form.name}", hint="rename the inputs"
        )
    known, found = set(stems), defaultdict[str, dict[int, Path]](dict)
    for path in _entries(folder):
        name = _named(path, form)
        if name is None and re.fullmatch(form.leavings, path.name):
            continue
        if name is None or name[0] not in known:
            raise DataError(
                f"{path} is not a result of the {len(stems)} inputs",
                hint=f"move it away, or name the right --format (this is {form.name})",
            )
        stem, index = name
        if index in found[stem]:
            raise DataError(f"{found[stem][index].name} and {path.name} are the same result", hint=AGAIN)
        found[stem][index] = path
    wanted = range(form.first, form.first + outputs)
    short = [stem for stem in stems if not found[stem].keys() >= set(wanted)]
    if short:
        missing = next(index for index in wanted if index not in found[short[0]])
        raise DataError(
            f"{short[0]}{form.infix}{missing} is missing; {len(short)} of {len(stems)} inputs lack a result"
            f" ({outputs} outputs each, which {form.name} counts from {form.first})",
            hint=AGAIN,
        )
    for stem in stems:
        if len(found[stem]) > outputs:
            extra = next(path for index, path in sorted(found[stem].items()) if index not in wanted)
            raise DataError(
                f"{extra}: the engine has {outputs} outputs, and {form.name} counts them from {form.first}",
                hint="remove what another run left, or name the right --format",
            )
    return [tuple(found[stem][index] for index in wanted) for stem in stems]


def stems(folder: Path, form: Format) -> set[str]:
    """Names under which the folder has results."""
    return {name[0] for path in _entries(folder) if (name := _named(path, form))}


def indices(folder: Path, form: Format) -> set[int]:
    """Output indices that occur in the folder."""
    return {name[1] for path in _entries(folder) if (name := _named(path, form))}


def _named(path: Path, form: Format) -> tuple[str, int] | None:
    """Stem and output index of a result file; None for another file."""
    match = re.fullmatch(rf"(.+){form.infix}(0|[1-9]\d{{0,8}})\.({'|'.join(form.endings)})", path.name)
    return (match.group(1), int(match.group(2))) if match else None


def load(path: Path, elements: Mapping[int, str]) -> NDArray[np.generic]:
    """Values of one result file, flat. `elements` maps each permitted length to its NumPy dtype.

    Raises DataError: unreadable, of no permitted length, not a number, NaN or infinite."""
    if path.suffix == ".txt":
        values = _from_text(path)
    elif path.suffix == ".npy":
        values = _from_npy(path)
    else:
        values = _from_bin(path, elements)
    if values.size not in elements:
        lengths = " or ".join(str(n) for n in sorted(elements))
        batch = [values.size // n for n in elements if n and values.size % n == 0 and values.size > n]
        hint = f"it may hold {batch[0]} images: run with one image a file" if batch else AGAIN
        raise DataError(f"{path} holds {values.size} values, not {lengths}", hint=hint)
    if not np.isfinite(values).all():
        raise DataError(f"{path} holds NaN or infinity", hint="the engine overflowed: look at its precision")
    typed = values.astype(elements[values.size])
    if np.issubdtype(typed.dtype, np.integer) and (typed != values).any():
        raise DataError(f"{path} holds fractions where labels belong", hint="name the right --format")
    return typed


def _from_bin(path: Path, elements: Mapping[int, str]) -> NDArray[np.generic]:
    """Raw little-endian values; the dtype is that of the length which the number of bytes gives."""
    data = _bytes(path)
    for length, dtype in elements.items():
        if len(data) == length * np.dtype(dtype).itemsize:
            return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"))
    if any(len(data) == 2 * length for length in elements):
        raise DataError(f"{path} is float16, or half a result", hint="compile with --output_type=FP32, or run again")
    return np.frombuffer(data[: len(data) // 4 * 4], "<f4")


def _from_npy(path: Path) -> NDArray[np.generic]:
    data = _bytes(path)
    if not data.startswith(b"\x93NUMPY"):  # an archive of arrays would be read as one, too
        raise DataError(f"{path} cannot be read: it does not begin as .npy files do", hint=AGAIN)
    try:
        array: NDArray[np.generic] = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # NumPy raises whatever a damaged header leads it to
        raise DataError(f"{path} cannot be read: {error}", hint=AGAIN) from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path} holds {array.dtype}, not numbers", hint=AGAIN)
    return array.reshape(-1)


def _from_text(path: Path) -> NDArray[np.generic]:
    try:
        return np.array(_text(path).split(), np.float64)
    except ValueError as error:
        raise DataError(f"{path} holds what is not a number: {error}", hint=AGAIN) from error


def write(folder: Path, form: Format, name: str, outputs: Sequence[NDArray[np.generic]], ending: str = "bin") -> None:
    """Results of input `name`.bin, written as the tool writes them; one array an output, without the batch axis.

    Text is lossy as the tools' is: ais_bench prints six decimals, the others six significant digits."""
    for index, array in enumerate(outputs, form.first):
        path = folder / f"{form.stem(name)}{form.infix}{index}.{ending}"
        if ending == "npy":
            np.save(path, array[None])
        elif ending == "bin":
            path.write_bytes(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
        else:
            path.write_text(_as_text(array, form), encoding="utf-8")


def _as_text(array: NDArray[np.generic], form: Format) -> str:
    integers = np.issubdtype(array.dtype, np.integer)
    number = "%d" if integers else "%f" if form.name == "ais_bench" else "%g"
    if form.name == "benchmark":  # one line an output
        return " ".join(number % value for value in array.reshape(-1)) + "\n"
    rows = array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
    return "".join("".join(number % value + " " for value in row) + "\n" for row in rows)


# --- small --------------------------------------------------------------------------------------------------------


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}", hint="check its permissions") from error


def _bytes(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise DataError(f"{path} cannot be read: it is not a file", hint=AGAIN)
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}", hint=AGAIN) from error


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read: {error}", hint="give a text file in UTF-8") from error


def _first_double(names: Sequence[str]) -> str:
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
