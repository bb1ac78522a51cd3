"""What processes of harness/run/pool.py are given to do in tests: they import it from here."""

import os
import signal
import time
import warnings
from pathlib import Path

import numpy as np

from harness.models.base import Frame, Prepared

SIZE = (4, 5)
BYTES = 3 * 4 * 5 * 4  # of one tensor, float32


def read(number):
    return np.full((*SIZE, 3), number, np.uint8)


def noted(folder, number):
    """The same, and a file that says so."""
    (Path(folder) / str(number)).touch()
    return read(number)


def preprocess(image, raw):
    return Prepared(
        np.ascontiguousarray(image.transpose(2, 0, 1) / np.float32(7)), Frame(5, 4, (1.0, float(image[0, 0, 0])))
    )


def fed(image, raw):
    """Written where it is fed from, beside something else that is as large, of a size that differs from image to image;
    every fourth is kept from image to image."""
    from harness.arrays import images

    assert images.unwritten is not np.empty
    number = int(image[0, 0, 0])
    beside, tensor = (images.unwritten((3, 4, 5 + number % 3), np.float32) for _ in range(2))
    beside[...], tensor[...] = -1, number
    if number % 4 == 0:
        HELD.append((number, tensor))
    assert all((held == of).all() for of, held in HELD)
    return Prepared(tensor, Frame(5, 4, (1.0, float(number))))


HELD = []


def killed_at_5(image, raw):
    if image[0, 0, 0] == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return preprocess(image, raw)


def ends_at_5(image, raw):
    if image[0, 0, 0] == 5:
        os._exit(3)
    return preprocess(image, raw)


class Odd(Exception):  # noqa: N818 - what a library may raise
    """Cannot be sent to another process."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def odd_at_5(image, raw):
    if image[0, 0, 0] == 5:
        raise Odd("no", "good")
    return preprocess(image, raw)


def warns(image, raw):
    warnings.warn("of a library", RuntimeWarning, stacklevel=1)
    return preprocess(image, raw)


def slow(image, raw):
    time.sleep(0.05)
    return preprocess(image, raw)
