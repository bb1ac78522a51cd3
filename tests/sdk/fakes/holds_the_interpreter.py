"""A call that never comes back and holds the interpreter's lock, as a C extension does that does not release it."""

import contextlib
import ctypes

from fakes import doubles
from fakes.doubles import build, devices, health, version


class Session(doubles.Session):
    def compute(self, x):
        ctypes.PyDLL(None).sleep(120)  # PyDLL keeps the lock during the call


@contextlib.contextmanager
def load(engine, device, spec):
    yield Session()
