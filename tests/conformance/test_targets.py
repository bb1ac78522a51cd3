"""Best batch against best batch: the ratios that a chip must reach, and latencies that depend on the batch."""

import pytest

from harness import matrix
from harness.report.speeds import best_sound, judge_against, judge_latencies

pytestmark = pytest.mark.targets


def test_the_best_batch_reaches_the_target_ratios(lineup, speeds, others, suite, accept):
    targets = suite.settings.baselines.targets(lineup.chip)
    if not targets:
        pytest.skip(f"no ratio to another chip is required of {lineup.chip}")
    best = best_sound(speeds(lineup))
    if best is None:
        pytest.skip(f"no throughput on {lineup.chip} was measured in this run")
    verdicts, marks = {}, best.marks
    for target in targets:
        other = others(lineup, target.other)
        marks += other.marks if other else ()
        verdicts[target.other] = judge_against(best, other, target, lineup.model, suite.settings.baselines)

    if suite.simulated(matrix.chips()[lineup.chip]):
        pytest.skip("SIMULATED: " + "; ".join(verdict.text for verdict in verdicts.values()))
    accept(verdicts, marks=marks)


def test_latency_depends_on_the_batch(lineup, speeds, accept):
    mine = speeds(lineup)
    if len(mine) < 2:
        pytest.skip(f"{len(mine)} batches were measured on {lineup.chip}: two are needed")

    accept({"latency": judge_latencies(mine, lineup)}, marks=[mark for run in mine.values() for mark in run.marks])
