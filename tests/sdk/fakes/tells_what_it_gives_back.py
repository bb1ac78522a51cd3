"""Prints when a session is given back."""

import contextlib

from fakes import doubles
from fakes.doubles import build, devices, health, version


@contextlib.contextmanager
def load(engine, device, spec):
    yield doubles.Session()
    print(f"given back: device {device.index}", flush=True)
