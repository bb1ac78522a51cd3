"""As the vendor's: a context of the first device, for as long as the process lives."""

from __future__ import annotations

import atexit

from pycuda import driver

driver.init()
device = driver.Device(0)
context = device.make_context()
atexit.register(context.pop)
