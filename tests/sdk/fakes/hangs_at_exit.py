"""An SDK that never finishes its own clean-up."""

import atexit
import time

from fakes.doubles import build, devices, health, load, version  # noqa: F401

atexit.register(time.sleep, 600)
