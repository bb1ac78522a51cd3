"""The last image of the batch is missing from the output."""

import contextlib

from fakes import doubles
from fakes.doubles import build, devices, health, version


class Session(doubles.Session):
    def compute(self, x):
        return x[:-1]


@contextlib.contextmanager
def load(engine, device, spec):
    yield Session()
