"""WIDER FACE result files, <folder>/<event>/<name>.txt, as the authors' programs write and read them.

Line 1 is the name, line 2 the number of faces, then a face a line: x y width height score, the first four whole.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.case import Predictions
from harness.errors import DataError
from harness.metrics.base import Score, check_order
from harness.metrics.widerface import Faces, Rows, evaluate, rows

KEPT_FROM = 0.02
"""Lowest score that the authors' test program keeps (Pytorch_Retinaface, test_widerface.py, confidence_threshold)."""
CUT = 0.1
"""When the lowest score is at least this, results were cut: the authors' programs show faces from 0.5 or 0.6 on."""


def write(folder: Path, ids: Sequence[str], predictions: Sequence[Predictions]) -> None:
    """Write a file for each sample (id: event/name). Nothing is written when a prediction is invalid.

    Raises DataError when there is not one prediction per sample, RunError for NaN and negative sizes."""
    check_order(ids, ids if len(ids) == len(predictions) else list(ids)[: len(predictions)])
    texts = [text(name, prediction) for name, prediction in zip(ids, predictions, strict=True)]
    for name, content in zip(ids, texts, strict=True):
        path = folder / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def text(sample: str, prediction: Predictions) -> str:
    """The text of one sample's file: corners cut to whole pixels towards zero, scores as their shortest decimal."""
    boxes = rows(prediction, sample)[:, :4].astype(np.int64)
    lines = [
        f"{x} {y} {w} {h} {score!s} \n"  # the authors end each line with a blank
        for (x, y, w, h), score in zip(boxes.tolist(), np.asarray(prediction["scores"], np.float32), strict=True)
    ]
    return f"{sample.rpartition('/')[2]}\n{len(lines)}\n{''.join(lines)}"


def read(folder: Path, ids: Sequence[str]) -> list[Rows]:
    """Rows of each sample, in the order of `ids` (event/name), each in the order of its file; .TXT is .txt.

    Raises DataError when no file is one of a sample, a sample has not exactly one, a file belongs to no sample, a count
    is not the number of lines, a line is not five finite numbers, or a size is negative."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", hint="it holds <event>/<name>.txt")
    found: dict[str, Rows] = {}
    files: dict[str, Path] = {}
    known = set(ids)
    for path in result_files(folder):
        first, result = _parse(path)
        name = first.strip().rpartition("/")[2].removesuffix(".jpg")
        sample = f"{path.parent.name}/{name}"
        if sample not in known and name != path.stem:
            raise DataError(
                f"{path}:1 says {first[:80]!r}, the name of no picture in {path.parent.name}; the file is called"
                f" {path.stem}",
                hint=f"line 1 is {path.stem}, with or without folder/ before it and .jpg after it",
            )
        if sample in files:
            raise DataError(
                f"{path} and {files[sample]} are both results of {sample}", hint="move the one that is older away"
            )
        found[sample], files[sample] = result, path
    if not known & set(files):
        raise _elsewhere(folder)
    strange = sorted(set(files) - known)
    if strange:
        raise DataError(
            f"{folder} has results of {len(strange)} pictures that are not in the data set, first {files[strange[0]]}",
            hint="move them away",
        )
    missing = sorted(known - set(files))
    if missing:
        raise DataError(
            f"{folder} lacks the results of {len(missing)} of {len(known)} pictures, first {missing[0]}.txt",
            hint="run the program on these pictures too: an AP without them is another figure",
        )
    return [found[sample] for sample in ids]


def result_files(folder: Path) -> list[Path]:
    """The files <event>/<name>.txt in the folder, in order; macOS puts ._ files beside them on foreign disks."""
    return sorted(
        path for path in folder.glob("*/*") if path.suffix.lower() == ".txt" and not path.name.startswith("._")
    )


def _elsewhere(folder: Path) -> DataError:
    """There are no results: the error that says where there may be some."""
    other = next((path for path in sorted(folder.rglob("*")) if path.suffix.lower() == ".txt"), None)
    return DataError(
        f"{folder} holds no result <event>/<name>.txt of a picture" + (f", but {other}" if other else ""),
        hint="name the folder that holds the folders of the events, as 0--Parade, with a .txt for each picture",
    )


def notes(found: Sequence[Rows], truth: Sequence[Faces], score: Score) -> list[str]:
    """Notes on valid rows that give a wrong AP: results cut at a threshold, scores that are none, boxes that are not
    x y width height in pixels."""
    rows = [row for row in found if len(row)]
    if not rows:
        return []
    every, said = np.concatenate(rows), []
    lowest, highest = float(every[:, 4].min()), float(every[:, 4].max())
    if lowest < 0 or highest > 1:
        said.append(
            f"scores go from {lowest:.3g} to {highest:.3g}, not from 0 to 1: the fifth number of a line is the score"
        )
    elif lowest >= CUT:
        said.append(
            f"the lowest score of {len(every)} is {lowest:.3g}: results that are cut at a threshold have a lower AP;"
            f" the published ones keep scores from {KEPT_FROM}"
        )
    if every[:, :4].max() <= 1:
        return [*said, "all boxes lie between 0 and 1: the files hold pixels of the picture as it is on disk"]
    if (every[:, 2:4] > every[:, :2]).all(axis=1).mean() > 0.95:  # as right > left, bottom > top
        corners = [np.column_stack([row[:, :2], row[:, 2:4] - row[:, :2], row[:, 4]]) for row in found]
        said += _better("corners (x1 y1 x2 y2)", "corners", corners, truth, score, 0)
    if np.nan_to_num(list(score.values.values())).max() < BAD:
        centred = [np.column_stack([row[:, :2] - row[:, 2:4] / 2, row[:, 2:]]) for row in found]
        said += _better("centres (cx cy width height)", "centres", centred, truth, score, BAD)
    return said


BAD = 0.3
"""An AP below which boxes are also read as centres, and by how much that must be better, over the three sets."""


def _better(
    form: str, word: str, read_so: list[Rows], truth: Sequence[Faces], score: Score, margin: float
) -> list[str]:
    """A note when the rows `read_so` give a sum of APs that is better by more than `margin`."""
    other = evaluate([np.maximum(row, 0) for row in read_so], truth)
    if np.nansum(list(other.values.values())) <= np.nansum(list(score.values.values())) + margin:
        return []
    return [
        f"the boxes look like {form}, the files hold x y width height; read as {word}, ap_hard"
        f" is {100 * other.values['ap_hard']:.2f} % instead of {100 * score.values['ap_hard']:.2f} %"
    ]


def _parse(path: Path) -> tuple[str, Rows]:
    """The first line of a file, and its rows."""
    hint = "the line says: x y width height score; write the file again"
    lines = _text(path).splitlines()
    if len(lines) < 2 or not re.fullmatch("[0-9]{1,9}", lines[1].strip()):
        raise DataError(f"{path} has no name and number of faces in its first two lines", hint="write the file again")
    faces = [(n, line.split()) for n, line in enumerate(lines[2:], 3) if line.strip()]
    if len(faces) != int(lines[1]):
        raise DataError(
            f"{path} has {len(faces)} faces, its second line says {lines[1].strip()}", hint="write it again"
        )
    numbers = []
    for n, fields in faces:
        try:
            x, y, width, height, score = map(float, fields)
            if "_" in "".join(fields):  # Python's own way to group digits
                raise ValueError(fields)
        except ValueError as error:  # not a number, or not five
            raise DataError(f"{path}:{n} is not five numbers", hint=hint) from error
        numbers.append((x, y, width, height, score))
    values = np.array(numbers, np.float64).reshape(-1, 5)
    for wrong, fact in (
        (~np.isfinite(values).all(axis=1), "holds NaN or infinity"),
        ((values[:, 2:4] < 0).any(axis=1), "has a negative width or height"),
    ):
        if wrong.any():
            raise DataError(f"{path}:{faces[int(np.argmax(wrong))][0]} {fact}", hint=hint)
    return lines[0], values


def _text(path: Path) -> str:
    again = "write the file again"
    if not path.is_file():
        raise DataError(f"{path} cannot be read: it is not a file", hint=again)
    try:
        data = path.read_bytes()
        text = data.decode("utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", hint=again) from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            again = f"convert it: iconv -f UTF-16 -t UTF-8 {path} > NEW"
        raise DataError(
            f"{path} cannot be read: line {line} is not UTF-8 (byte 0x{data[error.start]:02x})", hint=again
        ) from error
    if text.startswith("\ufeff"):
        raise DataError(f"{path}:1 begins with a byte-order mark", hint="write the file as UTF-8 without it")
    return text
