"""The SDK takes the process down with SIGSEGV in the middle of a call."""

import contextlib
import os
import signal

from fakes import doubles
from fakes.doubles import build, devices, health, version
from harness.backends.base import trail


class Session(doubles.Session):
    def compute(self, x):
        trail("vendor.mdl.execute")
        print("about to fall", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)


@contextlib.contextmanager
def load(engine, device, spec):
    yield Session()
