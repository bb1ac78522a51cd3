"""Batches of a shared chip are compared by their latencies where other load left no ratio to eager PyTorch."""

import importlib.util

import pytest

from harness import matrix
from harness.judge.stats import Estimate
from tests.session import ROOT

spec = importlib.util.spec_from_file_location("targets", ROOT / "tests" / "conformance" / "test_targets.py")
targets = importlib.util.module_from_spec(spec)
spec.loader.exec_module(targets)


class Speed:
    def __init__(self, latency, ratio):
        self.estimate, self.latency, self.ratio, self.marks = Estimate(1 / latency, 0, 9, 0.1, 8), latency, ratio, ()


@pytest.mark.parametrize("ratios", [(None, None), (1.5, None), (1.5, 1.6)])
def test_a_measurement_without_a_ratio_breaks_nothing(ratios):
    cpu = next(c for c in matrix.lineups() if (c.chip, str(c.precision)) == ("cpu", "fp32"))
    judged = {}
    measured = {1: Speed(0.06, ratios[0]), 4: Speed(0.2, ratios[1])}

    targets.test_latency_depends_on_the_batch(
        cpu, lambda lineup: measured, lambda verdicts, marks: judged.update(verdicts)
    )

    assert judged["latency"].outcome in ("PASS", "INCONCLUSIVE")
    assert ("eager PyTorch" in judged["latency"].text) == (None not in ratios)
