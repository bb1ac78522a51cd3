"""The chip computes what the network computes: raw outputs against eager PyTorch, row by row."""

from dataclasses import replace

import numpy as np
import pytest

from harness.judge.numerics import in_precision, judge_numerics, within_engine
from harness.judge.repeat import Judged
from harness.judge.verdict import Verdict
from harness.vocabulary import Outcome

pytestmark = pytest.mark.numerics


def judged(case_run, chip, reference, loss=None, bounds=None):
    """A verdict on a part of the network in INT8 says how large a part. The lab's bounds come before `bounds`."""
    row = case_run.bound("numerics")
    verdict = judge_numerics(
        chip, reference, case_run.case.precision, loss, {**(bounds or {}), **(row.tolerance or {})}
    )
    if not case_run.context.simulated(case_run.chip):  # the stand-ins round less than chips do
        verdict = in_precision(verdict, case_run.case.precision)
    verdict = row.told(verdict)
    return replace(verdict, text=f"{verdict.text}; {case_run.in_int8} layers in INT8") if case_run.in_int8 else verdict


def test_outputs_are_those_of_the_reference(judge):
    judge(lambda case_run: Judged({"": judged(case_run, *case_run.outputs(), case_run.loss)}))


@pytest.mark.other_engine
def test_normalising_on_the_chip_changes_nothing(case_run, judge):
    if case_run.protocol.normalize is None or not case_run.chip.normalizes or case_run.case.batch != 1:
        pytest.skip("the chip cannot normalise in place of the host here, or another batch tests it")

    other = replace(case_run.variant, raw=not case_run.variant.raw)
    metric = f"normalised by {'chip' if other.raw else 'host'}"

    judge(
        lambda case_run: Judged({metric: judged(case_run, *case_run.outputs(other), case_run.loss)}, facts=other.facts)
    )


@pytest.mark.other_engine
def test_a_static_engine_from_onnx_computes_the_same(case_run, judge):
    if not case_run.variant.traced:
        pytest.skip("the published engine is one itself")

    other = case_run.variant.static

    judge(
        lambda case_run: Judged(
            {"static": judged(case_run, *case_run.outputs(other), case_run.loss)}, facts=other.facts
        )
    )


def turned(case_run):
    backwards, straight = case_run.turned()
    if not all(np.isfinite(value).all() for value in straight.values()):
        return Judged({"rows": Verdict(Outcome.FAIL, "outputs are not finite: rows cannot be compared")})
    return Judged(
        {"rows": judged(case_run, backwards, straight, bounds=within_engine(case_run.case.precision, case_run.loss))}
    )


def test_a_row_does_not_depend_on_its_place_or_its_neighbours(case_run, judge):
    if case_run.case.batch == 1:
        pytest.skip("a batch of one row has no other place")

    judge(turned)


def repeated(case_run):
    first, second = case_run.repeated()
    differing = [name for name in first if not np.array_equal(first[name], second[name], equal_nan=True)]
    text = f"outputs {', '.join(differing)} differ" if differing else "no output differs"
    verdict = Verdict(
        Outcome.FAIL if differing else Outcome.PASS,
        f"{text} between two runs of one engine on one input",
        {"differing": len(differing)},
    )
    return Judged({"repeated": verdict})


def test_the_same_input_gives_the_same_output_twice(judge):
    judge(repeated)


def served(case_run):
    """The verdict on the worst of the batches that one engine serves."""
    verdicts = {batch: judged(case_run, *pair, case_run.loss) for batch, pair in case_run.served().items()}
    at = min(verdicts, key=lambda b: (verdicts[b].outcome.severity, verdicts[b].details.get("cosine") or -1))
    text = f"one engine for batches {', '.join(map(str, verdicts))}, worst at batch {at}: {verdicts[at].text}"
    return Judged({"dynamic": replace(verdicts[at], text=text)}, facts=case_run.dynamic.facts)


@pytest.mark.dynamic
@pytest.mark.other_engine
def test_one_engine_serves_every_batch(case_run, judge):
    batches = case_run.engine.tiers
    if len(batches) < 2:
        pytest.skip(f"{case_run.case.chip} runs the model at one batch, or {case_run.present.backend} compiles for one")
    if case_run.case.batch != batches[-1]:
        pytest.skip("the case of the largest batch tests it")

    judge(served)
