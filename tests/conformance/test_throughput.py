"""The chip is as fast as was published: images a second and card, inputs on the device."""

import pytest

from harness.judge.timing import percentiles, unsteady
from harness.judge.verdict import Outcome, Verdict
from harness.run.throughput import judged

pytestmark = pytest.mark.throughput


def test_throughput_reaches_what_was_published(bench, accept, simulated_latency):
    run, speed = bench.measurement, bench.speed
    figures = {"measured": speed.value, "low": speed.low, "high": speed.high, "latency": run.latency,
               "spread": speed.spread, **percentiles(run.latencies)}  # fmt: skip
    unrest = [] if run.peer else [reason for timing in run.timings for reason in unsteady(timing)]
    marks = (*(("x4",) if run.scaled != 1 else ()), *(("unsteady",) if unrest else ()))
    marks += ("host-bound",) if any(timing.host_bound for timing in run.timings) else ()

    if simulated_latency is not None:  # other load only slows windows down: the quickest tells what the loop adds
        pace = min((window.stop - window.start) / window.executes for window in run.timings[0].windows)
        own = f"the simulator's own {1e3 * simulated_latency:.3f} ms"
        text = f"SIMULATED, no verdict: {1e3 * pace:.3f} ms a batch, {own}"
        kept = pace == pytest.approx(simulated_latency, rel=0.02)
        outcome = Outcome.INCONCLUSIVE if kept else Outcome.FAIL
        accept(Verdict(outcome, text, figures), bench, marks=marks, skip=False)
        return
    cell = bench.suite.settings.baselines.cell(bench.case, "throughput")
    verdict = judged(run, speed, bench.case.batch, cell, bench.chip.eager)
    against = "eager PyTorch" if run.peer else "published" if "ratio" in verdict.details else "-"
    details = {**figures, **verdict.details, "against": against}
    accept(Verdict(verdict.outcome, verdict.text, details), bench, marks=marks, unsteady=unrest)
