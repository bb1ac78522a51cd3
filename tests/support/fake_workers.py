"""Workers that run a made-up backend of tests/sdk/fakes, and what is fed to them."""

from pathlib import Path

import numpy as np

from harness.backends.base import BuildSpec, Device, TensorSpec
from harness.judge.timing import Plan
from harness.worker.process import Worker

ROOT = Path(__file__).parents[2]
SDK = ROOT / "tests" / "sdk"
SPEC = BuildSpec("fp32", 2, (TensorSpec("x", "float32", (-1, 3)),), ("y",))
DEVICE = Device(0, "fake")
X = np.arange(6, dtype=np.float32).reshape(2, 3)
QUICK = Plan(warmup_s=0.02, window_s=0.01, windows=3, latencies=2)


def worker(behaviour, **options):
    return Worker("fakes." + behaviour, env={"PYTHONPATH": str(SDK)}, **options)
