"""Its compiler, a program of its own, takes all the memory; the SDK's process takes none."""

import subprocess
import sys

from fakes.doubles import devices, health, load, version
from harness.backends.base import trail


def build(onnx, engine, spec):
    trail("vendor.compile")
    subprocess.run([sys.executable, "-c", "x = b'x' * (400 << 20); import time; time.sleep(60)"], check=False)
