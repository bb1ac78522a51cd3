"""The output has a column less than the engine says."""

import contextlib

from fakes import doubles
from fakes.doubles import build, devices, health, version


class Session(doubles.Session):
    def compute(self, x):
        return x[:, :2]


@contextlib.contextmanager
def load(engine, device, spec):
    yield Session()
