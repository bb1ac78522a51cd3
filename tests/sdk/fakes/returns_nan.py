"""One value of the output is not a number."""

import contextlib

from fakes import doubles
from fakes.doubles import build, devices, health, version


class Session(doubles.Session):
    def compute(self, x):
        y = x * 2
        y[0, 1] = float("nan")
        return y


@contextlib.contextmanager
def load(engine, device, spec):
    yield Session()
