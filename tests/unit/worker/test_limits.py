"""Limits of time and memory are set by stage, and told where they end something."""

from pathlib import Path

import numpy as np
import pytest
from fake_workers import SDK

from harness.backends.base import BuildSpec, Device, TensorSpec
from harness.errors import UsageError, WorkerError
from harness.worker.limits import Limits, limits
from harness.worker.process import Worker


def test_limits_are_set_by_stage_and_said_where_they_end_something():
    set_ = limits(["run=0.5", "build=7200"], 24)
    assert (set_.run, set_.build, set_.load, set_.memory) == (0.5, 7200, Limits().load, 24_000_000_000)

    spec = BuildSpec("fp32", 2, (TensorSpec("x", "float32", (-1, 3)),), ("y",))
    with (
        Worker("fakes.hangs_in_execute", env={"PYTHONPATH": str(SDK)}, limits=set_) as chip,
        chip.load(Path("e"), Device(0, "fake"), spec) as session,
        pytest.raises(WorkerError, match=r"hung in vendor.synchronize \d+ for more than 0.5 s") as caught,
    ):
        session.run({"x": np.zeros((2, 3), np.float32)})
    assert "--time-limit run=SECONDS" in caught.value.hint


@pytest.mark.parametrize("wrong", ["run", "run=", "run=-1", "run=inf", "memory=5", "=3"])
def test_a_limit_that_is_none_is_refused(wrong):
    with pytest.raises(UsageError, match="is not a valid limit"):
        limits([wrong], None)
