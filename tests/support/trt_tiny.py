"""One batch of the tiny model through the TensorRT backend, on the simulated SDK."""

from __future__ import annotations

import numpy as np
from vendor_sweep import tiny_batch

from harness.backends.base import Device
from harness.backends.nvidia import trt

DEVICE = Device(0, "Tesla T4")
VERSIONS = ("8.6.1", "10.3.0", "11.4.0")


def calibration(tmp_path, samples=5, gain=1.0):
    path = tmp_path / f"calibration{gain}.npy"
    np.save(path, gain * tiny_batch(samples, seed=3))
    return str(path)


def run(engine, spec, inputs, times=1):
    with trt.load(engine, DEVICE, spec) as session:
        session.write({"image": inputs})
        session.execute(times)
        return session.read()


def distance(ours, theirs):
    return max(float(np.abs(ours[name] - theirs[name]).max()) for name in theirs)
