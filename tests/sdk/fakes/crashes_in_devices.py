"""An SDK that dies of a signal when it is asked which devices there are."""

import os
import signal

from fakes.doubles import build, health, load, version


def devices(match):
    os.kill(os.getpid(), signal.SIGSEGV)
