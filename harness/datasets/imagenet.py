"""ImageNet (ILSVRC2012) validation: 50,000 pictures of 1,000 classes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from harness.arrays.images import read
from harness.datasets import files
from harness.datasets.base import Dataset, Sample
from harness.errors import DataError

CLASSES = 1000
PUBLISHED = files.Published(
    "imagenet",
    50_000,
    "43552f944599303f4e580fa06f057938c3be26540bef69bdcff266fa71a3af00",
    "imagenet/val/ILSVRC2012_val_00000001.JPEG ... (one flat folder) and imagenet/val_label.txt (name label, from 0)",
)

_NAMES = [f"ILSVRC2012_val_{number:08d}" for number in range(1, 6)]
WORDNET = dict(zip(_NAMES, (65, 970, 230, 809, 516), strict=True))
"""Labels of the first pictures with the classes in the order of their WordNet ids, which the models use."""
DEVKIT = dict(zip(_NAMES, (489, 360, 170, 821, 296), strict=True))
"""Labels of the same pictures in the order of the development kit's ILSVRC2012_validation_ground_truth.txt, from 0."""


def load(data: Path, published: files.Published = PUBLISHED, images: Path | None = None) -> Dataset:
    """Pictures by name, in the order of val_label.txt; truth is the class number. Without that file: pictures
    without truth. Raises Absent, DataError, UsageError."""
    root = files.folder(data, published)
    found = files.pictures(images or root / "val", published)
    source = root / "val_label.txt"
    labels = read_labels(source) if source.exists() else None
    ids = sorted(found) if labels is None else files.present(found, list(labels), source, published)
    return Dataset(
        published.name,
        "partial" if labels is None else published.kind(ids),
        [Sample(name, partial(read, found[name].path, decoder="pillow")) for name in ids],
        published.total,
        None if labels is None else [labels[name] for name in ids],
        files.digest(ids, found, [] if labels is None else [b"%d," % labels[name] for name in ids]),
        f"there is no {source}: pictures without labels" if labels is None else other_order(labels, source),
    )


def other_order(labels: Mapping[str, int], source: Path) -> str:
    """A note when the labels of the first pictures are in another order of the classes, or wrong; else ""."""
    for known, first, order in (
        (DEVKIT, 0, "the order of the development kit"),
        (DEVKIT, 1, "the order of the development kit, counted from 1"),
        (WORDNET, 1, "the order of the WordNet ids, but counted from 1"),
    ):
        seen = [name for name in known if name in labels]
        if seen and all(labels[name] == known[name] + first for name in seen):
            name = seen[0]
            return (
                f"the labels of {source} are in {order}: {name} is {labels[name]}, in the order of the WordNet ids from"
                f" 0 it is {WORDNET[name]}; every accuracy against them will be near 0"
            )
    wrong = [name for name in WORDNET if labels.get(name, WORDNET[name]) != WORDNET[name]]
    if wrong:
        return (
            f"the labels of {source} are not the published ones: {wrong[0]} is {labels[wrong[0]]}, in the order of the"
            f" WordNet ids from 0 it is {WORDNET[wrong[0]]}; accuracies against them cannot be compared"
        )
    return ""


def read_labels(path: Path) -> dict[str, int]:
    """Class (0..999) of each sample, from lines `name label`; names are cut at the first dot. Raises DataError."""
    lines = [(n, line.split()) for n, line in enumerate(files.text(path).splitlines(), 1) if line.strip()]
    for n, fields in lines:
        if len(fields) != 2 or not re.fullmatch("0{0,9}[0-9]{1,3}", fields[1]):
            raise DataError(
                f"{path}:{n}: {' '.join(fields)!r} is not a name and a label of 0..{CLASSES - 1}",
                hint="labels count from 0, in the order of the WordNet ids",
            )
    names = [fields[0].split(".")[0] for _, fields in lines]
    files.once(names, path)
    if not names:
        raise DataError(f"{path} is empty", hint="a line is a picture's name and its label, from 0")
    return {name: int(fields[1]) for name, (_, fields) in zip(names, lines, strict=True)}
