"""One batch of the tiny model through the MagicMind backend, on the simulated SDK."""

from __future__ import annotations

import numpy as np

from harness.backends.base import Device
from harness.backends.cambricon import magicmind

DEVICE = Device(0, "MLU370-S4")


def run(engine, spec, inputs, times=1):
    with magicmind.load(engine, DEVICE, spec) as session:
        session.write({"image": inputs})
        session.execute(times)
        return session.read()


def distance(ours, theirs):
    return max(float(np.abs(ours[name] - theirs[name]).max()) for name in theirs)


def driver():
    """The simulated driver in this process."""
    from magicmind.python.runtime import _base

    return _base.driver
