"""The output has the rows of the largest batch, whatever was fed."""

import contextlib

import numpy as np

from fakes import doubles
from fakes.doubles import build, devices, health, version


class Session(doubles.Session):
    def compute(self, x):
        return np.concatenate([x, x])


@contextlib.contextmanager
def load(engine, device, spec):
    yield Session()
