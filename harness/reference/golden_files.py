"""A few files in the layouts of the data sets (baselines/golden/data), as the suite's own loaders read them, beside
what the authors' readers make of the pictures and what stands in the files.

Chip and reference are fed by one loader and scored by one truth: another decoder, an EXIF orientation that is applied
or not, labels or boxes that are off by one are invisible wherever the two are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets import DATASETS
from harness.judge.golden import Compared

FOLDER = Path(__file__).parents[2] / "baselines" / "golden"
LEVELS = 4  # that builds of a JPEG decoder may differ by; a decoder that repeats colours is 60 and more off

ORDER = {
    "imagenet": [f"ILSVRC2012_val_0000000{number}" for number in (3, 1, 2)],
    "widerface": ["1--Handshaking/1_Handshaking_b_2", "0--Parade/0_Parade_a_1"],
    "coco": ["000000000139", "000000000285"],
    "peta": ["13056", "00002"],
}
"""Pictures in the order of the set's own list; COCO's in that of their ids."""

FACES = [[9, 1, 12, 14], [1, 2, 30, 40], [5, 6, 10, 20], [7, 8, 3, 4]]  # x, y, width, height, picture after picture
COUNTED = [[0, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]  # in easy, medium, hard: the files count faces from 1
OBJECTS = [[5, 6, 7, 8], [9, 1, 2, 3], [1.5, 2.25, 3, 4]]
PEOPLE = [[*[0] * 33, 2, 1], [*[1, 0] * 17, 1]]

Truth = Sequence[Any]
TRUTHS: dict[str, Callable[[Truth], dict[str, tuple[Any, Any]]]] = {
    "imagenet": lambda truth: {"classes": (truth, [230, 65, 970])},
    "widerface": lambda truth: {
        "faces": (np.concatenate([faces.boxes for faces in truth]), FACES),
        "easy, medium and hard faces": (np.concatenate([faces.counted for faces in truth], axis=1), COUNTED),
    },
    "coco": lambda truth: {
        "objects": (np.concatenate([objects.boxes for objects in truth]), OBJECTS),
        "labels of categories 13, 1 and 90": (np.concatenate([objects.labels for objects in truth]), [11, 0, 79]),
        "areas": (np.concatenate([objects.areas for objects in truth]), [50, 6, 7.5]),
        "crowds": (np.concatenate([objects.crowd for objects in truth]), [0, 0, 1]),
    },
    "peta": lambda truth: {"attributes": (np.stack(truth), PEOPLE)},
}


def read(name: str) -> Iterator[Compared]:
    """What the loader of that data set makes of the small files: order, truth, pictures (JPEG with an EXIF orientation,
    with halved colours, grey, CMYK; PNG with transparency)."""
    found = DATASETS[name](FOLDER / "data")
    yield Compared(f"order of {name}", np.array([one.id for one in found.samples]), np.array(ORDER[name]))
    for what, (ours, wanted) in TRUTHS[name](found.truth or ()).items():
        yield Compared(f"{what} of {name}", np.asarray(ours, np.float64), np.asarray(wanted, np.float64))
    with np.load(FOLDER / "pictures.npz") as file:
        for one in found.samples:
            path = next(path for path in file if path.startswith(name) and one.id in path)
            yield Compared(f"picture {one.id} of {name}, decoded", one.read(), file[path], LEVELS)
