"""The chip computes what the network computes: raw outputs against eager PyTorch, row by row."""

from dataclasses import replace

import numpy as np
import pytest

from harness.judge.numerics import in_precision, judge_numerics, within_engine
from harness.judge.repeat import Judged
from harness.judge.verdict import Verdict
from harness.vocabulary import Outcome

pytestmark = pytest.mark.numerics


def judged(bench, chip, reference, loss=None, bounds=None):
    """A verdict on a part of the network in INT8 says how large a part. The lab's bounds come before `bounds`."""
    row = bench.bound("numerics")
    verdict = judge_numerics(chip, reference, bench.case.precision, loss, {**(bounds or {}), **(row.tolerance or {})})
    if not bench.context.simulated(bench.chip):  # the stand-ins round less than chips do
        verdict = in_precision(verdict, bench.case.precision)
    verdict = row.told(verdict)
    return replace(verdict, text=f"{verdict.text}; {bench.in_int8} layers in INT8") if bench.in_int8 else verdict


def test_outputs_are_those_of_the_reference(judge):
    judge(lambda bench: Judged({"": judged(bench, *bench.outputs(), bench.loss)}))


@pytest.mark.other_engine
def test_normalising_on_the_chip_changes_nothing(bench, judge):
    if bench.protocol.normalize is None or not bench.chip.normalizes or bench.case.batch != 1:
        pytest.skip("the chip cannot normalise in place of the host here, or another batch tests it")

    other = replace(bench.variant, raw=not bench.variant.raw)
    metric = f"normalised by {'chip' if other.raw else 'host'}"

    judge(lambda bench: Judged({metric: judged(bench, *bench.outputs(other), bench.loss)}, facts=other.facts))


@pytest.mark.other_engine
def test_a_static_engine_from_onnx_computes_the_same(bench, judge):
    if not bench.variant.traced:
        pytest.skip("the published engine is one itself")

    other = bench.variant.static

    judge(lambda bench: Judged({"static": judged(bench, *bench.outputs(other), bench.loss)}, facts=other.facts))


def turned(bench):
    backwards, straight = bench.turned()
    if not all(np.isfinite(value).all() for value in straight.values()):
        return Judged({"rows": Verdict(Outcome.FAIL, "outputs are not finite: rows cannot be compared")})
    return Judged({"rows": judged(bench, backwards, straight, bounds=within_engine(bench.case.precision, bench.loss))})


def test_a_row_does_not_depend_on_its_place_or_its_neighbours(bench, judge):
    if bench.case.batch == 1:
        pytest.skip("a batch of one row has no other place")

    judge(turned)


def repeated(bench):
    first, second = bench.repeated()
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


def served(bench):
    """The verdict on the worst of the batches that one engine serves."""
    verdicts = {batch: judged(bench, *pair, bench.loss) for batch, pair in bench.served().items()}
    at = min(verdicts, key=lambda b: (verdicts[b].outcome.severity, verdicts[b].details.get("cosine") or -1))
    text = f"one engine for batches {', '.join(map(str, verdicts))}, worst at batch {at}: {verdicts[at].text}"
    return Judged({"dynamic": replace(verdicts[at], text=text)}, facts=bench.dynamic.facts)


@pytest.mark.dynamic
@pytest.mark.other_engine
def test_one_engine_serves_every_batch(bench, judge):
    batches = bench.engine.tiers
    if len(batches) < 2:
        pytest.skip(f"{bench.case.chip} runs the model at one batch, or {bench.present.backend} compiles for one")
    if bench.case.batch != batches[-1]:
        pytest.skip("the case of the largest batch tests it")

    judge(served)
