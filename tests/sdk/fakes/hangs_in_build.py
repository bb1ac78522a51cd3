"""A compiler that takes longer than anyone waits."""

import time

from fakes.doubles import devices, health, load, version


def build(onnx, engine, spec):
    time.sleep(600)
