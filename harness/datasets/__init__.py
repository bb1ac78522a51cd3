"""The table of data sets, with one loader each. An incomplete set is scored in part and marked partial."""

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
    """The data set in the folder `data`, counted, ordered and checked. Pictures are read when they are needed, from the
    folder `images` if that is given.

    Raises UsageError for an unknown name or folder, Absent when no part is there, DataError for a damaged file."""
    if name not in DATASETS:
        raise UsageError(f"there is no data set {name!r}", hint=f"data sets: {', '.join(DATASETS)}")
    return DATASETS[name](data, images=images)
