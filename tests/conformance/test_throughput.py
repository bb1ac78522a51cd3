"""The chip is as fast as was published: images a second and card, inputs on the device."""

import pytest

from harness.judge.speed import judge_speed
from harness.judge.timing import unsteady
from harness.judge.verdict import Verdict
from harness.report.samples import of_measurement
from harness.vocabulary import Outcome

pytestmark = pytest.mark.throughput


def judged(bench):
    run, cell = bench.measurement, bench.context.settings.baselines.cell(bench.case, "throughput")
    eager = [window.rate for window in run.peer]
    return judge_speed(bench.speed, cell, run.timings[0].rates, eager, bench.chip.eager)


def test_throughput_reaches_what_was_published(bench, accept, keep, simulated_latency):
    if bench.chip.emulated:
        pytest.skip("EMULATED: the vendor's simulator of the chip; its speed is not the chip's and was not measured")
    run, speed = bench.measurement, bench.speed
    keep(of_measurement(bench.case, run.timings, run.peer, run.devices_of_card, bench.chip.eager))
    figures = {"measured": speed.value, "low": speed.low, "high": speed.high, "latency": run.latency}
    unrest = [] if run.peer else [reason for timing in run.timings for reason in unsteady(timing)]
    marks = (*((run.mark,) if run.mark else ()), *(("unsteady",) if unrest else ()))
    marks += ("host-bound",) if any(timing.host_bound for timing in run.timings) else ()

    if simulated_latency is not None:  # other load only slows windows down: the quickest tells what the loop adds
        pace = min((window.stop - window.start) / window.executes for window in run.timings[0].windows)
        own = f"the simulator's own {1e3 * simulated_latency:.3f} ms"
        text = f"SIMULATED, no verdict: {1e3 * pace:.3f} ms a batch, {own}"
        kept = pace == pytest.approx(simulated_latency, rel=0.02)
        outcome = Outcome.INCONCLUSIVE if kept else Outcome.FAIL
        accept(Verdict(outcome, text, figures), bench, marks=marks, skip=False)
        return
    verdict = judged(bench)
    against = "eager PyTorch" if run.peer else "published" if "ratio" in verdict.details else "-"
    details = {**verdict.details, **figures, "against": against}
    told = {"processes": run.note} if run.note else {}
    accept(Verdict(verdict.outcome, verdict.text, details), bench, marks=marks, unsteady=unrest, **told)
