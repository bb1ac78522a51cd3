"""The chip is as fast as was published: images a second and card, inputs on the device."""

import pytest

from harness.judge.repeat import Judged
from harness.judge.timing import percentiles, unsteady
from harness.judge.verdict import Verdict
from harness.report.samples import of_measurement
from harness.run.case_speed import speed_of, untold
from harness.run.windows import behind, judged
from harness.vocabulary import Outcome

pytestmark = pytest.mark.throughput


def measured(case_run, keep, simulated_latency):
    asked = speed_of(case_run)
    run, speed = asked.measurement, asked.estimate
    keep({**of_measurement(case_run.case, run, asked.at_least), "again": case_run.anew})
    figures = {"measured": speed.value, "low": speed.low, "high": speed.high, "latency": run.latency,
               "spread": speed.spread, **percentiles(run.latencies), **run.device_peak_mb, **run.counters,
               **run.memory}  # fmt: skip
    unrest = [] if run.peer else [reason for timing in run.timings for reason in unsteady(timing)]
    if throttled := run.counters.get("processor_throttles"):
        unrest.append(f"the processor was throttled {throttled:.0f} times while it was timed")
    marks = (*((run.mark,) if run.mark else ()), *(("unsteady",) if unrest else ()))
    marks += ("host-bound",) if any(timing.host_bound for timing in run.timings) else ()

    if simulated_latency is not None:
        return Judged({"": simulated(run, figures, simulated_latency)}, marks, untold(run))
    verdict = judged(run, speed, case_run.case.batch, asked.cell, asked.at_least, asked.floor)
    verdict = case_run.bound("throughput").told(verdict)
    against = "eager PyTorch" if run.peer else "published" if "ratio" in verdict.details else "-"
    details = {**figures, **verdict.details, "against": against, "floor": asked.floor}
    told = {"unsteady": unrest, **({"processes": run.note} if run.note else {}), **untold(run)}
    return Judged({"": Verdict(verdict.outcome, verdict.text + behind(run), details)}, marks, told)


def simulated(run, figures, seconds):
    """Other load only slows windows down: the quickest tells what the loop adds."""
    pace = min((window.stop - window.start) / window.executes for window in run.timings[0].windows)
    text = f"SIMULATED, no verdict: {1e3 * pace:.3f} ms a batch, the simulator's own {1e3 * seconds:.3f} ms"
    early = pace < 0.98 * seconds  # slower is the load of this machine; quicker, nobody waited
    return Verdict(Outcome.FAIL if early else Outcome.INCONCLUSIVE, text, figures)


def test_throughput_reaches_what_was_published(case_run, judge, keep, simulated_latency):
    if case_run.chip.emulated:
        pytest.skip("EMULATED: the vendor's simulator of the chip; its speed is not the chip's and was not measured")

    judge(lambda case_run: measured(case_run, keep, simulated_latency), skip=simulated_latency is None)
