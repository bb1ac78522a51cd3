"""Scenes: pictures drawn by the suite for machines without the data sets, with the boxes of what was drawn.

Each task has a row of kinds that its scenes run through in turn, so that a few pictures already meet every branch:
tiny, huge, cut by the border, crowded, nothing there, upright and wide, grey, dark, very small. Figures, places,
colours and backgrounds differ from scene to scene. The bytes of scene i are the same everywhere.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from harness.case import Image
from harness.datasets.base import Dataset, Sample
from harness.datasets.drawing import OBJECTS, Box, Dice, face, person, texture
from harness.errors import UsageError

VERSION = 1  # of the drawings: raise it whenever a byte of any scene changes
GRAIN = 16  # noise of a camera, grey levels


@dataclass(frozen=True)
class Kind:
    """How a scene is composed: size of the picture in pixels, how many figures, how high they are in percent of
    its shorter side, and whether they are centred on the border."""

    name: str
    size: tuple[int, int]  # width, height
    count: tuple[int, int]
    height: tuple[int, int]
    border: bool = False
    grey: bool = False
    light: int = 100  # percent


@dataclass(frozen=True)
class Scene:
    """A picture drawn by the suite, BGR, with the boxes of what was drawn."""

    image: Image
    kind: str
    boxes: NDArray[np.float32]  # (k, 4): x1, y1, x2, y2 of each figure inside the picture; later ones lie in front
    labels: NDArray[np.int64]  # (k,): COCO labels; faces: 0


_CROWDS = (
    Kind("several", (640, 480), (4, 8), (15, 45)),
    Kind("tiny", (640, 427), (8, 16), (2, 5)),
    Kind("huge", (480, 640), (1, 1), (110, 170)),
    Kind("none", (500, 375), (0, 0), (1, 1)),
    Kind("border", (480, 480), (6, 9), (20, 50), border=True),
    Kind("crowded", (800, 600), (40, 60), (5, 16)),
    Kind("upright", (427, 640), (2, 5), (20, 60)),
    Kind("grey", (612, 612), (3, 6), (12, 60), grey=True),
    Kind("wide", (1000, 300), (5, 9), (15, 80)),
    Kind("dark", (640, 480), (3, 6), (15, 50), light=35),
    Kind("tall", (300, 900), (3, 6), (20, 70)),
    Kind("small picture", (96, 64), (1, 3), (30, 90)),
    Kind("large picture", (1024, 768), (6, 12), (4, 50)),
)

KINDS: dict[str, tuple[Kind, ...]] = {
    "faces": _CROWDS,
    "objects": _CROWDS,
    "classes": (
        Kind("object", (500, 375), (1, 1), (50, 90)),
        Kind("texture", (375, 500), (0, 0), (1, 1)),
        Kind("huge", (500, 375), (1, 1), (110, 180)),
        Kind("several", (640, 480), (3, 7), (20, 50)),
        Kind("grey", (400, 400), (1, 2), (40, 90), grey=True),
        Kind("border", (333, 500), (3, 5), (40, 80), border=True),
        Kind("wide", (900, 300), (2, 4), (50, 90)),
        Kind("dark", (500, 375), (1, 3), (40, 90), light=40),
        Kind("tall", (240, 720), (2, 4), (50, 90)),
        Kind("tiny", (500, 500), (8, 14), (4, 9)),
        Kind("small picture", (80, 60), (1, 1), (60, 90)),
    ),
    "attributes": (
        Kind("whole", (76, 170), (1, 1), (190, 210)),
        Kind("close", (90, 150), (1, 1), (200, 260)),
        Kind("slim", (40, 120), (1, 1), (240, 280)),
        Kind("broad", (180, 260), (1, 1), (120, 140)),
        Kind("grey", (76, 170), (1, 1), (180, 215), grey=True),
        Kind("dark", (80, 190), (1, 1), (190, 225), light=35),
        Kind("two", (120, 200), (2, 2), (110, 160)),
        Kind("border", (76, 170), (1, 1), (180, 220), border=True),
        Kind("none", (76, 170), (0, 0), (1, 1)),
    ),
}


def dataset(task: str, count: int, first: int = 0) -> Dataset:
    """`count` scenes of a task, from number `first` on. Raises UsageError for an unknown task or no scene."""
    kinds = _kinds(task)
    if count < 1:
        raise UsageError(f"{count} scenes were asked for", hint="ask for one or more")
    samples = tuple(
        Sample(f"{task}_{i:04d}_{_word(kinds, i)}", partial(draw, task, i)) for i in range(first, first + count)
    )
    digest = hashlib.sha256(f"scenes {VERSION} {task} {first} {count}".encode()).hexdigest()
    return Dataset("scenes", "scenes", samples, count, None, digest)


def draw(task: str, index: int) -> Image:
    """The picture of a scene, H x W x 3 BGR."""
    return scene(task, index).image


def scene(task: str, index: int) -> Scene:
    """A picture with the boxes of what was drawn. Raises UsageError for an unknown task."""
    kinds = _kinds(task)
    kind = kinds[index % len(kinds)]
    dice = Dice(zlib.crc32(f"{task} {index}".encode()))
    width, height = kind.size
    image = texture(width, height, dice)
    boxes, labels = [], []
    for _ in range(dice.throw(*kind.count)):
        label, percent, figure = OBJECTS[dice.throw(0, len(OBJECTS) - 1)]
        if task == "faces":
            label, percent, figure = 0, 78, face
        elif task == "attributes":
            label, percent, figure = 0, 38, person
        box = _place(kind, percent, dice)
        figure(image, box, dice)
        x, y, w, h = box
        boxes.append((max(0, x), max(0, y), min(width, x + w), min(height, y + h)))
        labels.append(label)
    if kind.grey:
        image[:] = (image.astype(np.int64) @ np.array([29, 150, 77]) // 256)[..., None].astype(np.uint8)
    levels = np.arange(256) * kind.light * (256 - GRAIN) // 25500  # leave room for the grain
    return Scene(
        levels.astype(np.uint8).take(image) + dice.grain((height, width, 1), GRAIN),
        kind.name,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
    )


def _place(kind: Kind, percent: int, dice: Dice) -> Box:
    """A box wholly inside the picture where it fits, or one whose centre lies on the border."""
    width, height = kind.size
    h = max(4, min(width, height) * dice.throw(*kind.height) // 100)
    w = max(3, h * percent // 100)
    if not kind.border:
        x, y = (dice.throw(min(0, room), max(0, room)) for room in (width - w, height - h))
        return x, y, w, h
    along, side = dice.throw(0, 100), dice.throw(0, 3)
    x = (0, width, width * along // 100, width * along // 100)[side] - w // 2
    y = (height * along // 100, height * along // 100, 0, height)[side] - h // 2
    return x, y, w, h


def _kinds(task: str) -> tuple[Kind, ...]:
    if task not in KINDS:
        raise UsageError(f"there are no scenes for {task!r}", hint=f"tasks: {', '.join(KINDS)}")
    return KINDS[task]


def _word(kinds: tuple[Kind, ...], index: int) -> str:
    return kinds[index % len(kinds)].name.replace(" ", "_")
