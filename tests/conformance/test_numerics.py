"""The chip computes what the network computes: raw outputs against eager PyTorch, row by row."""

from dataclasses import replace

import numpy as np
import pytest

from harness.judge.repeat import Judged
from harness.judge.verdict import Verdict, judge_numerics
from harness.run.case_run import Variant
from harness.vocabulary import Outcome

pytestmark = pytest.mark.numerics


def judged(bench, chip, reference, loss=None):
    """A verdict on a part of the network in INT8 says how large a part."""
    verdict = judge_numerics(chip, reference, bench.case.precision, loss)
    return replace(verdict, text=f"{verdict.text}; {bench.in_int8} layers in INT8") if bench.in_int8 else verdict


def test_outputs_are_those_of_the_reference(judge):
    judge(lambda bench: Judged({"": judged(bench, *bench.outputs(), bench.loss)}))


@pytest.mark.other_engine
def test_normalising_on_the_chip_changes_nothing(bench, judge):
    if bench.protocol.normalize is None or not bench.chip.normalizes or bench.case.batch != 1:
        pytest.skip("the chip cannot take normalisation over from the host here, or another batch shows it")

    other = Variant(raw=not bench.variant.raw)
    metric = f"normalised by {'chip' if other.raw else 'host'}"

    judge(lambda bench: Judged({metric: judged(bench, *bench.outputs(other), bench.loss)}))


def turned(bench):
    backwards, straight = bench.turned()
    if not all(np.isfinite(value).all() for value in straight.values()):
        return Judged({"rows": Verdict(Outcome.FAIL, "outputs are not finite: rows cannot be compared")})
    return Judged({"rows": judged(bench, backwards, straight)})


def test_a_row_does_not_depend_on_its_place_or_its_neighbours(bench, judge):
    if bench.case.batch == 1:
        pytest.skip("a batch of one row has no other place")

    judge(turned)


def repeated(bench):
    first, second = bench.repeated()
    differing = [name for name in first if not np.array_equal(first[name], second[name], equal_nan=True)]
    text = f"outputs {', '.join(differing)} differ" if differing else "no output differs"
    verdict = Verdict(
        Outcome.FAIL if differing else Outcome.PASS, f"{text} between two runs of one engine on one input"
    )
    return Judged({"repeated": verdict})


def test_the_same_input_gives_the_same_output_twice(judge):
    judge(repeated)
