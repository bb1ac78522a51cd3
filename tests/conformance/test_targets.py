"""Best batch against best batch: the ratios that a chip must reach, and latencies that depend on the batch."""

import pytest

from harness import matrix
from harness.chips import EAGER
from harness.judge.throughput import judge_batches, judge_target
from harness.judge.verdict import Verdict
from harness.run.case_run import peers_of
from harness.vocabulary import Outcome

pytestmark = pytest.mark.targets


def test_the_best_batch_reaches_the_target_ratios(lineup, speeds, others, suite, accept):
    targets = suite.settings.baselines.targets(lineup.chip)
    if not targets:
        pytest.skip(f"no ratio to another chip is required of {lineup.chip}")
    mine = [run for run in speeds(lineup).values() if run.sound]
    if not mine:
        pytest.skip(f"no throughput on {lineup.chip} was measured in this run")
    best = max(mine, key=lambda run: run.estimate.value)
    table, verdicts, marks = suite.settings.baselines, {}, best.marks
    for target in targets:
        measured = others(lineup, target.other)
        other = measured.estimate if measured else table.best(lineup.model, target.other)
        marks += measured.marks if measured else ()
        if other is None:
            text = f"no throughput of {lineup.model} on {target.other} is published or on record"
            verdicts[target.other] = Verdict(Outcome.INCONCLUSIVE, text)
        else:
            verdicts[target.other] = judge_target(best.estimate, other, target)

    if suite.simulated(matrix.chips()[lineup.chip]):
        pytest.skip("SIMULATED: " + "; ".join(verdict.text for verdict in verdicts.values()))
    accept(verdicts, marks=marks)


def test_latency_depends_on_the_batch(lineup, speeds, accept):
    mine = speeds(lineup)
    if len(mine) < 2:
        pytest.skip(f"{len(mine)} batches were measured on {lineup.chip}: two are needed")

    latencies = {batch: run.latency for batch, run in mine.items()}
    beside = {batch: run.ratio for batch, run in mine.items() if run.ratio is not None}
    ratios = (
        beside if EAGER in peers_of(lineup) and len(beside) == len(mine) else None
    )  # none of one that other load disturbed
    noise = {batch: run.estimate.spread for batch, run in mine.items()}
    verdict = judge_batches(latencies, ratios, shared=matrix.chips()[lineup.chip].shared, noise=noise)

    accept({"latency": verdict}, marks=[mark for run in mine.values() for mark in run.marks])
