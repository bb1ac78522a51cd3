"""WIDER FACE result files, <folder>/<event>/<name>.txt, as the authors' programs write and read them.

Line 1 is the name, line 2 the number of faces, then a face a line: x y width height score, the first four whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.case import Predictions
from harness.errors import DataError
from harness.metrics.base import check_order
from harness.metrics.widerface import Rows, rows


def write(folder: Path, ids: Sequence[str], predictions: Sequence[Predictions]) -> None:
    """A file for each sample (id: event/name). Nothing is written when a prediction is unusable.

    Raises DataError (not one prediction a sample) and RunError (NaN, negative sizes)."""
    check_order(ids, ids if len(ids) == len(predictions) else list(ids)[: len(predictions)])
    texts = [text(name, prediction) for name, prediction in zip(ids, predictions, strict=True)]
    for name, content in zip(ids, texts, strict=True):
        path = folder / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def text(sample: str, prediction: Predictions) -> str:
    """The file of one sample: corners cut to whole pixels towards zero, the score as its shortest decimal."""
    boxes = rows(prediction, sample)[:, :4].astype(np.int64)
    lines = [
        f"{x} {y} {w} {h} {score!s} \n"  # the authors end each line with a blank
        for (x, y, w, h), score in zip(boxes.tolist(), np.asarray(prediction["scores"], np.float32), strict=True)
    ]
    return f"{sample.rpartition('/')[2]}\n{len(lines)}\n{''.join(lines)}"


def read(folder: Path, ids: Sequence[str]) -> list[Rows]:
    """Rows of each sample, in the order of `ids` (event/name), each in the order of its file.

    Every sample has one file and every file a sample. Raises DataError: a file is missing, doubled or of no sample, its
    count is not that of its lines, a line is not five finite numbers, a size is negative."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", hint="it holds <event>/<name>.txt")
    found: dict[str, Rows] = {}
    order: list[str] = []
    for path in sorted(folder.glob("*/*.txt")):
        name, result = _parse(path)
        order.append(f"{path.parent.name}/{name}")
        found[order[-1]] = result
    check_order(sorted(ids), sorted(order))
    return [found[sample] for sample in ids]


def _parse(path: Path) -> tuple[str, Rows]:
    hint = "the line says: x y width height score; write the file again"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="write the file again") from error
    if len(lines) < 2 or not lines[1].strip().isdecimal():
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
    return lines[0].rpartition("/")[2].rstrip(".jpg"), values
