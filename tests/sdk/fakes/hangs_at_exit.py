"""An SDK that never finishes its own clean-up."""

import atexit
import time

from fakes.doubles import build, devices, health, load, version

atexit.register(time.sleep, 600)
