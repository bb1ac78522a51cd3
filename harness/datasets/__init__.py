"""The data sets: one loader each. A set that is there in part is scored in part and says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.datasets import coco, imagenet, peta, widerface
from harness.datasets.base import Dataset
from harness.errors import UsageError

DATASETS: dict[str, Callable[..., Dataset]] = {
    "imagenet": imagenet.load,
    "widerface": widerface.load,
    "coco": coco.load,  # the 4,952 pictures of the published Ascend figures
    "coco_5000": coco.load_all,  # all pictures, as the authors score them
    "peta": peta.load,
}


def load(name: str, data: Path, images: Path | None = None) -> Dataset:
    """A data set under the folder `data`: counted, ordered, checked; its pictures are read when they are needed,
    from the folder `images` if they are kept apart from the labels.

    Raises UsageError (no such name or folder), Absent (nothing of it there), DataError (damaged: it names the file)."""
    if name not in DATASETS:
        raise UsageError(f"there is no data set {name!r}", hint=f"data sets: {', '.join(DATASETS)}")
    return DATASETS[name](data, images=images)
