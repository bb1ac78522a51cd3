"""The kernel kills the process, as it does when memory runs out."""

import contextlib
import os
import signal

from fakes import doubles
from fakes.doubles import build, devices, health, version


class Session(doubles.Session):
    def compute(self, x):
        os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def load(engine, device, spec):
    yield Session()
