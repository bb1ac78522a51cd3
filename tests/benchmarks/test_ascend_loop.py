"""The throughput loop on Ascend against a device whose speed is known: the simulated chip's own clock."""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
from pathlib import Path

import pytest

from harness.judge.timing import Plan
from harness.worker.process import Worker

TESTS = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.benchmark


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_the_loop_measures_the_chips_own_latency_within_two_percent(monkeypatch, tmp_path, batch):
    monkeypatch.syspath_prepend(str(TESTS / "support"))
    monkeypatch.syspath_prepend(str(TESTS / "sdk"))
    tiny, simulate = importlib.import_module("ascend_tiny"), importlib.import_module("simulate")
    place = str(TESTS / "sdk" / "ascend")
    environment = {
        "PYTHONPATH": place,
        "PATH": os.pathsep.join([place, os.environ["PATH"]]),
        "CHIPPROOF_SIM_PYTHON": sys.executable,
        "CHIPPROOF_SIM": json.dumps({}),
    }
    onnx, engine, case = tiny.network(tmp_path / "tiny.onnx"), tmp_path / "tiny.om", tiny.spec(batch)

    with Worker("acl", env=environment) as worker:
        worker.build(onnx, engine, case)
        with worker.load(engine, tiny.DEVICE, case) as session:
            timing = session.measure({"image": tiny.images(batch)}, Plan(warmup_s=0.5, window_s=0.5, windows=9))

    known = 1 / simulate.latency_seconds(batch)
    measured = statistics.median(timing.rates)
    assert measured == pytest.approx(known, rel=0.02), f"{measured:.1f}/s measured, the chip makes {known:.1f}/s"
    assert measured <= known * 1.001, "faster than the chip"
