"""As doubles, with two executes in flight, each with inputs and outputs of its own."""

import contextlib

from fakes.doubles import Session as Doubles
from fakes.doubles import build, devices, health, version


class Session(Doubles):
    in_flight = 2

    def write(self, inputs):
        self.fed = [inputs["x"].copy()] * self.in_flight

    def write_at(self, place, inputs):
        if not hasattr(self, "fed"):
            self.fed = [None] * self.in_flight
        self.fed[place] = inputs["x"].copy()

    def execute(self, times=1):
        self.made = [self.compute(self.fed[place]) for place in range(times)]

    def read(self):
        return self.read_at(0)

    def read_at(self, place):
        return {"y": self.made[place].copy()}


@contextlib.contextmanager
def load(engine, device, spec):
    yield Session()
