"""Reads the inputs where they were put, and only when the outputs are asked for."""

import contextlib

from fakes import doubles
from fakes.doubles import build, devices, health, version


class Session(doubles.Session):
    def write(self, inputs):
        self.x = inputs["x"]

    def execute(self, times=1):
        pass

    def read(self):
        return {"y": self.x * 2}


@contextlib.contextmanager
def load(engine, device, spec):
    yield Session()
