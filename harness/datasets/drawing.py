"""Figures and textures in whole-number arithmetic, so that a picture has the same bytes on every machine.

Everything is made of two shapes, the ellipse and the trapezoid. Figures are drawn into a box x, y, width, height that
may reach over the border of the picture. Colours are B, G, R.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.case import Image

Colour: TypeAlias = tuple[int, int, int]
Box: TypeAlias = tuple[int, int, int, int]
Figure: TypeAlias = Callable[[Image, Box, "Dice"], None]


class Dice:
    """Whole random numbers of a seed: NumPy's legacy generator, whose stream never changes."""

    def __init__(self, seed: int) -> None:
        self._state = np.random.RandomState(seed)

    def throw(self, low: int, high: int) -> int:
        """A number from low to high, both possible."""
        return int(self._state.randint(low, high + 1, dtype=np.int64))

    def colour(self, low: int = 0, high: int = 255) -> Colour:
        """A colour whose three channels lie in low..high."""
        return self.throw(low, high), self.throw(low, high), self.throw(low, high)

    def grain(self, shape: tuple[int, ...], span: int) -> NDArray[np.uint8]:
        """Noise 0..span-1; span is a power of two, at most 256."""
        count = int(np.prod(shape))
        return np.asarray(np.frombuffer(self._state.bytes(count), np.uint8).reshape(shape) & np.uint8(span - 1))


def shade(colour: Colour, percent: int) -> Colour:
    """The colour made darker (below 100) or brighter."""
    b, g, r = (min(255, c * percent // 100) for c in colour)
    return b, g, r


def ellipse(image: Image, box: Box, colour: Colour) -> None:
    """Fill the ellipse that the box x, y, width, height (pixels) encloses."""
    x, y, w, h = box
    rx, ry = w // 2, max(1, h // 2)
    cx, cy = x + rx, y + ry
    ink = np.array(colour, np.uint8)
    for row in range(max(0, cy - ry), min(image.shape[0], cy + ry + 1)):
        half = isqrt(rx * rx * (ry * ry - (row - cy) ** 2)) // ry
        image[row, max(0, cx - half) : max(0, cx + half + 1)] = ink


def trapezoid(
    image: Image, top: int, bottom: int, upper: tuple[int, int], lower: tuple[int, int], colour: Colour
) -> None:
    """Rows top to bottom (not included), from x upper[0]..upper[1] to lower[0]..lower[1]."""
    span = max(1, bottom - top - 1)
    ink = np.array(colour, np.uint8)
    for row in range(max(0, top), min(image.shape[0], bottom)):
        left, right = (a + (b - a) * (row - top) // span for a, b in zip(upper, lower, strict=True))
        image[row, max(0, left) : max(0, right)] = ink


def rectangle(image: Image, box: Box, colour: Colour) -> None:
    """Fill the box."""
    x, y, w, h = box
    image[max(0, y) : max(0, y + h), max(0, x) : max(0, x + w)] = colour


SKIN: tuple[Colour, ...] = ((180, 205, 240), (140, 175, 225), (105, 140, 195), (70, 100, 150), (40, 60, 95))
HAIR: tuple[Colour, ...] = ((20, 20, 25), (30, 50, 80), (90, 160, 210), (160, 160, 165), (25, 45, 140))


def face(image: Image, box: Box, dice: Dice) -> None:
    """Seen from the front, with hair, brows, eyes, nose and mouth; one cheek in the shade."""
    x, y, w, h = box
    skin, hair = SKIN[dice.throw(0, 4)], HAIR[dice.throw(0, 4)]
    long_hair = dice.throw(0, 1)
    ellipse(image, (x - w // 12, y - h // 14, w + w // 6, h * (11 if long_hair else 6) // 10), hair)
    ellipse(image, (x, y, w, h), shade(skin, 82))
    ellipse(image, (x, y, w * 9 // 10, h), skin)
    ellipse(image, (x + w // 10, y - h // 20, w * 8 // 10, h // 4), hair)
    for left in (x + w // 5, x + w * 3 // 5):
        eye = (left, y + h * 2 // 5, max(1, w // 5), max(1, h // 12))
        rectangle(image, (left, eye[1] - h // 12, eye[2], max(1, h // 40)), shade(hair, 90))
        ellipse(image, eye, (245, 245, 245))
        ellipse(image, (left + eye[2] // 3, eye[1], max(1, eye[2] // 3), eye[3]), dice.colour(0, 110))
    middle = x + w // 2
    trapezoid(
        image, y + h // 2, y + h * 13 // 20, (middle, middle + 1), (middle - w // 10, middle + w // 10), shade(skin, 70)
    )
    ellipse(image, (x + w * 3 // 10, y + h * 15 // 20, w * 2 // 5, max(1, h // dice.throw(8, 16))), (60, 60, 170))
    if dice.throw(0, 2) == 0:  # glasses
        rectangle(image, (x + w // 6, y + h * 2 // 5 - 1, w * 2 // 3, max(1, h // 50)), (10, 10, 10))


def person(image: Image, box: Box, dice: Dice) -> None:
    """A whole pedestrian: clothes, and now and then a hat, a bag or a backpack."""
    x, y, w, h = box
    skin, hair = SKIN[dice.throw(0, 4)], HAIR[dice.throw(0, 4)]
    shirt, trousers, shoes = dice.colour(), dice.colour(0, 160), dice.colour(0, 90)
    head = h // 7
    middle, shoulder, hip, foot = x + w // 2, y + head, y + h * 11 // 20, y + h
    if dice.throw(0, 2) == 0:
        rectangle(image, (middle - w * 9 // 20, shoulder + head // 3, w * 9 // 10, h // 4), dice.colour(0, 140))
    stride = dice.throw(0, max(1, w // 6))
    skirt = dice.throw(0, 3) == 0
    for sign in (-1, 1):
        start = (middle - w // 4, middle) if sign < 0 else (middle, middle + w // 4)
        end = (start[0] + sign * stride, start[1] + sign * stride - sign * w // 20)
        trapezoid(image, hip, foot, start, end, skin if skirt else trousers)
        rectangle(image, (end[0] - w // 20, foot - h // 30, w // 4, max(1, h // 30)), shoes)
        arm = middle + sign * w * 3 // 8
        trapezoid(
            image,
            shoulder + head // 3,
            hip,
            (arm - w // 12, arm + w // 12),
            (arm - w // 10, arm + w // 14),
            shade(shirt, 75),
        )
    if skirt:
        trapezoid(
            image,
            hip,
            hip + h // 5,
            (middle - w // 4, middle + w // 4),
            (middle - w * 2 // 5, middle + w * 2 // 5),
            trousers,
        )
    trapezoid(image, shoulder, hip, (middle - w // 3, middle + w // 3), (middle - w // 4, middle + w // 4), shirt)
    pattern = dice.throw(0, 3)
    if pattern == 1:
        for row in range(shoulder, hip, max(2, h // 20)):
            rectangle(image, (middle - w // 4, row, w // 2, max(1, h // 60)), shade(shirt, 55))
    if pattern == 2:
        ellipse(image, (middle - w // 8, shoulder + head // 2, w // 4, w // 4), dice.colour())
    ellipse(image, (middle - w // 6, y, w // 3, head), skin)
    ellipse(image, (middle - w // 6, y - head // 8, w // 3, head // 2), hair)
    if dice.throw(0, 3) == 0:
        trapezoid(
            image,
            y - head // 6,
            y + head // 4,
            (middle - w // 8, middle + w // 8),
            (middle - w // 4, middle + w // 4),
            dice.colour(),
        )


def car(image: Image, box: Box, dice: Dice) -> None:
    """Draw a car that fills the box."""
    x, y, w, h = box
    paint = dice.colour()
    trapezoid(image, y, y + h // 2, (x + w // 4, x + w * 3 // 4), (x + w // 8, x + w * 9 // 10), paint)
    trapezoid(
        image,
        y + h // 12,
        y + h // 2,
        (x + w * 3 // 10, x + w * 7 // 10),
        (x + w // 5, x + w * 4 // 5),
        (200, 180, 150),
    )
    rectangle(image, (x, y + h // 2, w, h * 3 // 10), shade(paint, 85))
    for left in (x + w // 8, x + w * 5 // 8):
        ellipse(image, (left, y + h * 3 // 5, h * 2 // 5, h * 2 // 5), (25, 25, 25))
        ellipse(image, (left + h // 10, y + h * 7 // 10, h // 5, h // 5), (170, 170, 170))


def traffic_light(image: Image, box: Box, dice: Dice) -> None:
    """Draw a traffic light that fills the box."""
    x, y, w, h = box
    rectangle(image, box, (35, 40, 35))
    lit = dice.throw(0, 2)
    for i, lamp in enumerate(((40, 40, 250), (40, 220, 250), (90, 240, 60))):
        ellipse(
            image, (x + w // 6, y + h * (1 + 5 * i) // 16, w * 2 // 3, h // 4), lamp if i == lit else shade(lamp, 30)
        )


def ball(image: Image, box: Box, dice: Dice) -> None:
    """Draw a ball that fills the box."""
    x, y, w, h = box
    paint = dice.colour()
    ellipse(image, box, shade(paint, 70))
    ellipse(image, (x, y, w * 9 // 10, h * 9 // 10), paint)
    ellipse(image, (x + w // 5, y + h // 5, w // 4, h // 5), shade(paint, 190))


def bottle(image: Image, box: Box, dice: Dice) -> None:
    """Draw a bottle that fills the box."""
    x, y, w, h = box
    glass = dice.colour(20, 200)
    rectangle(image, (x + w // 3, y, w // 3, h // 3), shade(glass, 90))
    trapezoid(image, y + h // 5, y + h * 2 // 5, (x + w // 3, x + w * 2 // 3), (x, x + w), glass)
    rectangle(image, (x, y + h * 2 // 5, w, h * 3 // 5), glass)
    rectangle(image, (x, y + h // 2, w, h // 4), dice.colour(120, 255))


def cup(image: Image, box: Box, dice: Dice) -> None:
    """Draw a cup that fills the box."""
    x, y, w, h = box
    clay = dice.colour(60, 255)
    ellipse(image, (x + w // 2, y + h // 5, w // 2, h // 2), shade(clay, 70))
    trapezoid(image, y, y + h, (x, x + w * 4 // 5), (x + w // 8, x + w * 7 // 10), clay)
    ellipse(image, (x, y - h // 12, w * 4 // 5, h // 6), shade(clay, 45))


def chair(image: Image, box: Box, dice: Dice) -> None:
    """Draw a chair that fills the box."""
    x, y, w, h = box
    wood = dice.colour(20, 190)
    for left in (x, x + w * 17 // 20):
        rectangle(image, (left, y, max(1, w * 3 // 20), h), shade(wood, 75))
    rectangle(image, (x, y + h // 10, w, h // 8), wood)
    rectangle(image, (x, y + h // 2, w, h // 8), wood)


def screen(image: Image, box: Box, dice: Dice) -> None:
    """Draw a screen that fills the box."""
    x, y, w, h = box
    rectangle(image, (x, y, w, h * 17 // 20), (20, 20, 20))
    picture = image[max(0, y + h // 20) : max(0, y + h * 4 // 5), max(0, x + w // 20) : max(0, x + w * 19 // 20)]
    if picture.size:
        picture[:] = texture(picture.shape[1], picture.shape[0], dice)
    rectangle(image, (x + w * 2 // 5, y + h * 17 // 20, w // 5, h * 3 // 20), (60, 60, 60))


def clock(image: Image, box: Box, dice: Dice) -> None:
    """Draw a clock that fills the box."""
    x, y, w, h = box
    ellipse(image, box, dice.colour(0, 120))
    ellipse(image, (x + w // 12, y + h // 12, w * 10 // 12, h * 10 // 12), (235, 235, 235))
    rectangle(image, (x + w // 2, y + h // 5, max(1, w // 25), h * 3 // 10), (20, 20, 20))
    rectangle(image, (x + w // 2, y + h // 2, w // 4, max(1, h // 20)), (20, 20, 20))
    for along, down in ((11, 1), (11, 21), (1, 11), (21, 11)):  # 12, 6, 9 and 3 o'clock
        ellipse(image, (x + w * along // 24, y + h * down // 24, max(1, w // 12), max(1, h // 12)), (90, 20, 20))


OBJECTS: tuple[tuple[int, int, Figure], ...] = (  # COCO label, width in percent of height, figure
    (0, 40, person), (2, 190, car), (9, 40, traffic_light), (32, 100, ball), (39, 35, bottle), (41, 95, cup),
    (56, 70, chair), (62, 140, screen), (74, 100, clock),
)  # fmt: skip


def texture(width: int, height: int, dice: Dice) -> Image:
    """A background: one of eight patterns between two colours."""
    x, y = np.arange(width, dtype=np.int32)[None, :], np.arange(height, dtype=np.int32)[:, None]
    a, b, p, q = dice.throw(1, 7), dice.throw(-7, 7), dice.throw(3, 60), dice.throw(3, 60)
    kind = dice.throw(0, 7)
    if kind == 0:  # sky to ground
        wave = (x * abs(b) + y * a) * 255 // (width * abs(b) + height * a)
    elif kind == 1:  # checker
        wave = (x // p + y // q) % 2 * 255
    elif kind == 2:  # stripes
        wave = (x * a + y * b) // p % 2 * 255
    elif kind == 3:  # soft waves
        wave = abs((x * a + y * b) % (2 * p) - p) * 255 // p
    elif kind == 4:  # rings
        wave = ((x - width // 2) ** 2 + (y - height // 2) ** 2) // (p * 4) % 256
    elif kind == 5:  # weave
        wave = ((x * a) ^ (y * (abs(b) + 1))) % 256
    elif kind == 6:  # bricks
        wave = np.where((y % q == 0) | ((x + y // q % 2 * p) % (2 * p) == 0), 0, 200 + x * 0)
    else:  # patches
        cells = dice.grain((height // q + 1, width // p + 1), 256).astype(np.int32)
        wave = cells[y // q, x // p]
    first, second = np.array(dice.colour(), np.int32), np.array(dice.colour(), np.int32)
    ramp = first + (second - first) * np.arange(256, dtype=np.int32)[:, None] // 255
    return np.asarray(ramp.astype(np.uint8).take(np.broadcast_to(wave, (height, width)), axis=0))
