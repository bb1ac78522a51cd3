"""A library that ends the program when it is unhappy, once politely and once not."""

import os
import sys

from fakes.doubles import devices, health, version
from harness.backends.base import trail


def build(onnx, engine, spec):
    trail("vendor.compile")
    sys.exit("no licence")


def load(engine, device, spec):
    trail("vendor.open")
    os._exit(3)
