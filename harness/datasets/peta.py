"""PETA pedestrians: the 7,600 test pictures with 35 attributes on which DeepMAR was measured."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.arrays.images import read
from harness.datasets import files
from harness.datasets.base import Dataset, Sample
from harness.errors import DataError

ATTRIBUTES = 35
PUBLISHED = files.Published(
    "peta",
    7_600,
    "ea15d15de5405661e8a920e6e4938c9e33f7b79c46384e8912d4e8b9c18cec0f",
    "peta/images/13056.png ..., peta/label.json (name: 35 values of 0 or 1) and, for their order, peta/image.txt",
)


def load(data: Path, published: files.Published = PUBLISHED, images: Path | None = None) -> Dataset:
    """Pictures by name, in the order of image.txt or else of label.json; truth is int8 (35,) per picture.

    Without label.json: pictures without truth. Pictures that label.json does not name are skipped and counted in the
    note, because PETA has 19,000 in all. Raises Absent, DataError, UsageError."""
    root = files.folder(data, published)
    found = files.pictures(images or root / "images", published)
    source, order = root / "label.json", root / "image.txt"
    labels = read_labels(source) if source.exists() else None
    names = sorted(found) if labels is None else list(labels)
    if labels is not None and order.exists():
        names = [name for name in files.listed(order, published) if name in labels]
        unlike = sorted(set(labels) - set(names))
        if unlike:
            raise DataError(f"{order} lacks {len(unlike)} names of {source}, first {unlike[0]}", hint="fetch both")
    files.bare(names, found, source)
    named = {name: picture for name, picture in found.items() if labels is None or name in labels}
    ids = files.present(named, names, source, published)
    if not ids:
        raise DataError(f"{source} names none of the {len(found)} pictures in {root}", hint="fetch both again")
    note = f"there is no {source}: pictures without labels" if labels is None else ""
    if len(found) > len(named):
        note = f"{len(found) - len(named)} pictures that {source} does not list are skipped"
    return Dataset(
        published.name,
        "partial" if labels is None else published.kind(ids),
        [Sample(name, partial(read, found[name].path, decoder="pillow")) for name in ids],
        published.total,
        None if labels is None else [labels[name] for name in ids],
        files.digest(ids, found, [] if labels is None else [labels[name].tobytes() for name in ids]),
        note,
    )


def read_labels(path: Path) -> dict[str, NDArray[np.int8]]:
    """Attributes of each sample, int8 (35,): 0, 1 or 2 (unknown). Raises DataError."""
    hint = 'expected {"13056.png": [35 values of 0, 1 or 2], ...}'

    def entries(pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        files.once([name.split(".")[0] for name, _ in pairs], path)
        return pairs

    pairs = files.parsed(path, hint, entries)
    labels: dict[str, NDArray[np.int8]] = {}
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise DataError(f"{path} is not an object of names and labels", hint=hint)
    for name, values in pairs:
        if not isinstance(values, list) or len(values) != ATTRIBUTES or any(v not in (0, 1, 2) for v in values):
            raise DataError(f"{path}: {name} does not have {ATTRIBUTES} values of 0, 1 or 2", hint=hint)
        labels[name.split(".")[0]] = np.array(values, np.int8)
    if not labels:
        raise DataError(f"{path} names no picture", hint=hint)
    return labels
