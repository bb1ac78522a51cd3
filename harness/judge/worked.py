"""Verdicts on figures that were worked out by hand, so that every run shows that its judges judge. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from harness.baselines import Cell
from harness.case import Precision, Tensors
from harness.judge.accuracy import judge_agreement, judge_published
from harness.judge.numerics import judge_numerics
from harness.judge.stats import Estimate, throughput
from harness.judge.throughput import judge_batches, judge_counted, judge_floor, judge_in_flight, judge_ratio
from harness.judge.timing import Timing, Window
from harness.judge.verdict import Verdict
from harness.metrics.base import Score
from harness.vocabulary import Outcome

PASS, FAIL, INCONCLUSIVE, INVALID = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.INVALID


def examples() -> Iterator[tuple[str, Verdict, Outcome]]:
    """(what is judged, the verdict on it, the outcome that it must have), of every judge that a run uses."""
    ones = np.ones((4, 100))
    right: Tensors = {"y": ones}
    bounds = ((Precision.FP32, 5e-4), (Precision.FP16, 2e-2), (Precision.INT8, 0.25))
    for precision, rms in bounds:  # scaled alike, so that the cosine is 1 and both errors are the factor
        for share, wanted in ((0.9, PASS), (1.1, FAIL), (-1.1, FAIL)):
            chip: Tensors = {"y": ones * (1 + share * rms)}
            yield f"{share:g} x the rms error of {precision}", judge_numerics(chip, right, precision), wanted
    row = ones.copy()
    row[2] = 0
    yield "one row of four", judge_numerics({"y": row}, right, Precision.FP32), FAIL
    row = ones.copy()
    row[2, 3] = np.nan
    yield "one value that is not a number", judge_numerics({"y": row}, right, Precision.INT8), FAIL

    # 0 of 300 lost excludes 1 % (rule of three); 15 are 5 %
    for lost, gained, wanted in ((0, 0, PASS), (3, 0, INCONCLUSIVE), (15, 0, FAIL), (0, 15, PASS)):
        verdict = judge_agreement(_score(330 - 15 - lost + gained), _score(330 - 15), "top1")
        yield f"{lost} answers lost and {gained} gained", verdict, wanted
    for measured, wanted in ((0.8911, PASS), (0.8909, FAIL), (0.926, PASS), (0.928, INVALID)):
        yield f"an accuracy of {measured:g} against 0.9", judge_published(measured, _cell(0.9), None), wanted

    for share, wanted in ((1.0, PASS), (0.94, INCONCLUSIVE), (0.8, FAIL), (3.1, INVALID)):
        yield f"{share:g} of the published throughput", judge_floor(_speed(share * 100), _cell(100)), wanted
    for ratio, wanted in ((1.1, PASS), (0.9, FAIL)):
        yield f"{ratio:g} times as fast", judge_ratio(_rates(100 * ratio), _rates(100), 1.0), wanted
    for latency, wanted in ((0.01, PASS), (0.02, INVALID)):
        yield f"100 executes a second of {latency:g} s", judge_in_flight(100.0, 1, 1, [latency] * 8), wanted
    second = Timing((), (Window(0.0, 1.0, 10),), ())
    for told, wanted in ((80.0, PASS), (160.0, INVALID), (40.0, INVALID)):
        yield f"{told:g} images/s of two devices with 40", judge_counted(told, 4, (second, second)), wanted
    for slow, wanted in ((0.01, INVALID), (0.03, PASS), (0.16, INVALID)):
        yield f"batch 1 in 0.01 s and batch 4 in {slow:g} s", judge_batches({1: 0.01, 4: slow}), wanted


def judge_examples(verdict: Verdict) -> Verdict:
    """The verdict, or where it is PASS and a worked example is judged wrongly: FAIL with the first such example."""
    if verdict.outcome is not PASS:
        return verdict
    known = list(examples())
    wrong = [(what, found, wanted) for what, found, wanted in known if found.outcome is not wanted]
    if not wrong:
        return Verdict(PASS, f"{verdict.text}; {len(known)} worked examples are judged rightly", verdict.details)
    what, found, wanted = wrong[0]
    text = (
        f"{len(wrong)} of {len(known)} worked examples are judged wrongly: {what} is {found.outcome}, not {wanted}; "
        "no verdict of this run can be trusted"
    )
    return Verdict(FAIL, text, verdict.details)


def _score(right: int) -> Score:
    """Of 330 answers the first so many are right."""
    hits: NDArray[np.bool_] = np.arange(330) < right
    return Score({"top1": right / 330}, 330, lambda weights: {"top1": float(weights @ hits / 330)}, {"top1": hits})


def _cell(value: float) -> Cell:
    return Cell(
        "example", None, None, None, "top1", value, "fraction", "source", "example", "1", "example", True, "",
        "example", 1, Decimal(str(value)),
    )  # fmt: skip


def _rates(middle: float) -> list[float]:
    """Sixty windows, in turn 0.1 % above and below."""
    return [middle * (1 + 0.001 * (-1) ** number) for number in range(60)]


def _speed(middle: float) -> Estimate:
    return throughput(_rates(middle))
