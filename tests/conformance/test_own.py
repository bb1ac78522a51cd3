"""A model of the user's own (--onnx FILE): the chip computes what the file says. Accuracy is not asked, because there
are no labels, and throughput is measured without a floor."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from harness.diagnose.taps import first_layer
from harness.judge.own import judge_own
from harness.judge.repeat import Judged
from harness.judge.timing import percentiles, unsteady
from harness.judge.verdict import Verdict
from harness.reference import own as reference
from harness.report.samples import of_measurement
from harness.run.case_speed import speed_of, untold
from harness.run.own_run import OwnRun
from harness.run.windows import fits_latencies
from harness.vocabulary import Outcome


@pytest.fixture
def case(own):
    return own.case


@pytest.fixture
def runner(own):
    return partial(OwnRun, model=own.model)


def outputs(case_run):
    return Judged({"": case_run.judged(case_run.outputs()[0])})


@pytest.mark.numerics
def test_outputs_are_those_of_onnx_runtime(own, judge):
    judge(outputs, explain=first_of_all_batches)


def first_of_all_batches(case_run):
    """The first layer that differs, looked for at the first batch that fails: the other batches have it from there."""
    line, known = replace(case_run.case, batch=0), case_run.context.first_layers
    if line not in known:
        text, facts = first_layer(case_run)
        known[line] = (text, {**facts, "batch": case_run.case.batch})
    text, facts = known[line]
    here = facts["batch"] == case_run.case.batch
    return text if here else f"{text} (at batch {facts['batch']})", facts


def repeated(case_run):
    first, second = case_run.repeated()
    differing = [name for name in first if not np.array_equal(first[name], second[name], equal_nan=True)]
    text = f"outputs {', '.join(differing)} differ" if differing else "no output differs"
    outcome = Outcome.FAIL if differing else Outcome.PASS
    return Judged({"repeated": Verdict(outcome, f"{text} between two runs of one engine on one input")})


@pytest.mark.numerics
def test_the_same_input_gives_the_same_output_twice(own, judge):
    judge(repeated)


def turned(case_run):
    backwards, straight = case_run.turned()
    if not finite(straight) and finite(case_run.outputs()[1]):
        return Judged({"rows": Verdict(Outcome.FAIL, "outputs are not finite: rows cannot be compared")})
    return Judged({"rows": judge_own(backwards, straight, case_run.case.precision, case_run.case.batch)})


def finite(tensors):
    return all(np.isfinite(value).all() for value in tensors.values())


@pytest.mark.numerics
def test_a_row_does_not_depend_on_its_place(own, case_run, judge):
    if not reference.rows_are_apart(own.model, own.case.batch):
        pytest.skip("the batch has one row, or the model itself mixes its rows")

    judge(turned)


def measured(case_run, keep, simulated_latency):
    asked = speed_of(case_run)
    run, speed = asked.measurement, asked.estimate
    keep({**of_measurement(case_run.case, run, None), "again": case_run.anew})
    figures = {"measured": speed.value, "low": speed.low, "high": speed.high, "latency": run.latency,
               "spread": speed.spread, **percentiles(run.latencies), **run.counters,
               **run.memory}  # fmt: skip
    text = f"{speed} images/s at batch {case_run.case.batch}; no floor is set for a model of your own"
    if simulated_latency is not None:
        return Judged({"": Verdict(Outcome.INCONCLUSIVE, f"SIMULATED, no verdict: {text}", figures)}, (), untold(run))
    if run.disturbed:
        text = f"{speed} images/s; {run.disturbed}: end it, then measure again"
        return Judged({"": Verdict(Outcome.INVALID, text, {**figures, "waited": True})}, (), untold(run))
    flight = fits_latencies(run, speed, case_run.case.batch)
    verdict = flight if flight.outcome is Outcome.INVALID else Verdict(Outcome.PASS, text)
    unrest = [reason for timing in run.timings for reason in unsteady(timing)]
    marks = (*((run.mark,) if run.mark else ()), *(("unsteady",) if unrest else ()))
    return Judged({"": Verdict(verdict.outcome, verdict.text, {**figures, **verdict.details})}, marks, untold(run))


@pytest.mark.throughput
def test_throughput_is_measured(own, case_run, judge, keep, simulated_latency):
    if case_run.chip.emulated:
        pytest.skip("EMULATED: the vendor's simulator of the chip; its speed is not the chip's and was not measured")

    judge(lambda case_run: measured(case_run, keep, simulated_latency), skip=simulated_latency is None)
