"""Takes more and more memory, and touches it."""

import contextlib
import time

import numpy as np

from fakes import doubles
from fakes.doubles import build, devices, health, version
from harness.backends.base import trail


class Session(doubles.Session):
    def compute(self, x):
        trail("vendor.malloc")
        taken = []
        for _ in range(60):
            taken.append(np.ones(8 << 20, np.uint8))
            time.sleep(0.02)
        time.sleep(60)


@contextlib.contextmanager
def load(engine, device, spec):
    yield Session()
