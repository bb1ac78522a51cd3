"""A call that never comes back, with a process of its own and signals refused."""

import contextlib
import signal
import subprocess
import time

from fakes import doubles
from fakes.doubles import build, devices, health, version
from harness.backends.base import trail


class Session(doubles.Session):
    def compute(self, x):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        compiler = subprocess.Popen(["sleep", "600"])
        trail(f"vendor.synchronize {compiler.pid}")
        while True:
            time.sleep(60)


@contextlib.contextmanager
def load(engine, device, spec):
    yield Session()
