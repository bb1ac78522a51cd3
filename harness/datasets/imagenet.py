"""ImageNet (ILSVRC2012) validation: 50,000 pictures of 1,000 classes."""

from __future__ import annotations

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
        f"there is no {source}: pictures without labels" if labels is None else "",
    )


def read_labels(path: Path) -> dict[str, int]:
    """Class of each sample. A line is `name label`; the name is cut at its first dot. Raises DataError."""
    lines = [(n, line.split()) for n, line in enumerate(files.text(path).splitlines(), 1) if line.strip()]
    for n, fields in lines:
        if len(fields) != 2 or not fields[1].isascii() or not fields[1].isdigit() or int(fields[1]) >= CLASSES:
            raise DataError(
                f"{path}:{n}: {' '.join(fields)!r} is not a name and a label of 0..{CLASSES - 1}",
                hint="labels count from 0, in the order of the WordNet ids",
            )
    names = [fields[0].split(".")[0] for _, fields in lines]
    files.once(names, path)
    return {name: int(fields[1]) for name, (_, fields) in zip(names, lines, strict=True)}
