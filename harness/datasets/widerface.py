"""WIDER FACE validation: 3,226 pictures in 61 events, with the faces that count as easy, medium and hard."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.arrays.images import read
from harness.datasets import files
from harness.datasets.base import Dataset, Sample
from harness.errors import DataError
from harness.metrics.widerface import SETTINGS, Faces

PUBLISHED = files.Published(
    "widerface",
    3_226,
    "a4dd60fa56066252505f48d1aeaf0775804c9b7814f4216ce7a78907d216b6d5",
    "widerface/val/images/0--Parade/....jpg ..., widerface/ground_truth/wider_{face,easy,medium,hard}_val.mat and,"
    " for their order, widerface/wider_val.txt",
)


def load(data: Path, published: files.Published = PUBLISHED, images: Path | None = None) -> Dataset:
    """Pictures by event/name, in the order of wider_val.txt or else of the ground truth; truth is one Faces per
    picture. Without the folder ground_truth: pictures without truth. Raises Absent, DataError, UsageError."""
    root = files.folder(data, published)
    found = files.pictures(images or root / "val" / "images", published, depth=1)
    source, order = root / "ground_truth", root / "wider_val.txt"
    truth = ground_truth(source) if source.exists() else None
    names = sorted(found) if truth is None else list(truth)
    if order.exists():
        names = files.listed(order, published)
        source = order
    if truth is not None:
        unknown = [name for name in names if name not in truth]
        if unknown:
            raise DataError(f"{order} names {unknown[0]}, the ground truth does not", hint="fetch both again")
    ids = files.present(found, names, source, published)
    return Dataset(
        published.name,
        "partial" if truth is None else published.kind(ids),
        [Sample(name, partial(read, found[name].path)) for name in ids],
        published.total,
        None if truth is None else [truth[name] for name in ids],
        files.digest(ids, found, [] if truth is None else [_bytes(truth[name]) for name in ids]),
        f"there is no {root / 'ground_truth'}: pictures without faces to find" if truth is None else "",
    )


def _bytes(faces: Faces) -> bytes:
    return faces.boxes.tobytes() + faces.counted.tobytes()


def ground_truth(folder: Path) -> dict[str, Faces]:
    """Faces of each picture (event/name), in the order of the authors' four .mat files. Raises DataError when a file is
    missing or unreadable, lacks a field, or contradicts the others."""
    face_file = folder / "wider_face_val.mat"
    events = _field(face_file, "event_list")
    lists = {
        "file_list": _field(face_file, "file_list"),
        "face_bbx_list": _field(face_file, "face_bbx_list"),
        **{setting: _field(folder / f"wider_{setting}_val.mat", "gt_list") for setting in SETTINGS},
    }
    for name, rows in lists.items():
        if len(rows) != len(events):
            raise _unlike(folder, f"{len(events)} events, but {len(rows)} rows of {name}")
    out: dict[str, Faces] = {}
    for i, event in enumerate(events):
        columns = {name: _cells(folder, f"{name} row {i}", rows[i]) for name, rows in lists.items()}
        for name, cells in columns.items():
            if len(cells) != len(columns["file_list"]):
                raise _unlike(folder, f"event {i}: {len(columns['file_list'])} pictures, but {len(cells)} in {name}")
        for j, stem in enumerate(columns["file_list"]):
            sample = f"{_word(folder, event)}/{_word(folder, stem)}"
            if sample in out:
                raise _unlike(folder, f"{sample} is there twice")
            counted = [columns[setting][j] for setting in SETTINGS]
            out[sample] = _faces(folder, sample, columns["face_bbx_list"][j], counted)
    return out


def _faces(folder: Path, sample: str, boxes: Any, counted: list[Any]) -> Faces:
    boxes = np.asarray(boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iuf" or not np.isfinite(boxes).all():
        raise _unlike(folder, f"{sample}: the boxes are not (n, 4) numbers")
    flags = np.zeros((len(SETTINGS), len(boxes)), bool)
    for row, setting, numbers in zip(flags, SETTINGS, counted, strict=True):
        places = np.asarray(numbers).astype(np.int64).ravel()  # counted from 1, stored as small integers
        if ((places < 1) | (places > len(boxes))).any() or len(np.unique(places)) != len(places):
            raise _unlike(folder, f"{sample}: {setting} names a face that is not there, or one twice")
        row[places - 1] = True
    return Faces(boxes.astype(np.float64), flags)


def _field(path: Path, name: str) -> Any:
    from scipy.io import loadmat

    hint = "fetch the four .mat files of the authors' evaluation program"
    if not path.is_file():
        raise DataError(f"there is no {path}", hint=hint)
    try:
        content = loadmat(str(path), variable_names=[name])
    except Exception as error:  # a damaged file can make scipy raise any exception
        raise DataError(f"{path} is not a readable .mat file: {error}", hint=hint) from error
    if name not in content:
        raise DataError(f"{path} has no field {name}", hint=hint)
    field: Any = content[name]
    if field.dtype.kind != "O" or field.ndim != 2 or field.shape[1] != 1:
        raise DataError(f"{path}: {name} is {field.dtype} {field.shape}, not a column of cells", hint=hint)
    return field[:, 0]


def _cells(folder: Path, what: str, column: Any) -> Any:
    if not isinstance(column, np.ndarray) or column.dtype.kind != "O" or column.ndim != 2 or column.shape[1] != 1:
        raise _unlike(folder, f"{what} is not a column of cells")
    return column[:, 0]


def _word(folder: Path, cell: Any) -> str:
    """The text of a MATLAB string: an array with one text, which may be inside a cell. Raises DataError."""
    while isinstance(cell, np.ndarray) and cell.size == 1:
        cell = cell.ravel()[0]
    if not isinstance(cell, str) or not cell:
        raise _unlike(folder, "an event or file name is not a text")
    return str(cell)


def _unlike(folder: Path, fact: str) -> DataError:
    return DataError(f"{folder}: {fact}", hint="fetch the four .mat files of the authors' evaluation program")
