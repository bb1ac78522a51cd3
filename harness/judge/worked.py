"""Verdicts on figures that were worked out by hand, so that every run shows that its judges judge. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from harness.baselines import Cell, Deviation, Target
from harness.case import Case, Precision, Tensors
from harness.judge.accuracy import images_decide, judge_agreement, judge_published, judge_tail, of_seeded
from harness.judge.known import excuse
from harness.judge.numerics import Loss, in_precision, judge_numerics, losses
from harness.judge.policy import Expected, Gate, Policy, apply
from harness.judge.repeat import Again, confirmed
from harness.judge.sampled import ALL, Sampled
from harness.judge.stats import Estimate, throughput
from harness.judge.throughput import (
    judge_batches,
    judge_counted,
    judge_floor,
    judge_in_flight,
    judge_ratio,
    judge_target,
)
from harness.judge.timing import Plan, Timing, Window, measure, overlap_rates, percentiles, unsteady
from harness.judge.verdict import Verdict
from harness.metrics.base import Score
from harness.vocabulary import Outcome

PASS, FAIL, INCONCLUSIVE, INVALID = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.INVALID
Example = tuple[str, Verdict, Outcome]


def examples() -> Iterator[Example]:
    """(what is judged, the verdict on it, the outcome that it must have), of every judge that a run uses."""
    return chain(_numerics(), _precisions(), _agreement(), _tail(), _published(), _after(), _speeds(), _times())


def _numerics() -> Iterator[Example]:
    ones = np.ones((4, 100))
    right: Tensors = {"y": ones}
    bounds = ((Precision.FP32, 5e-4), (Precision.FP16, 2e-2), (Precision.BF16, 0.16), (Precision.INT8, 0.25))
    for precision, rms in bounds:  # scaled alike, so that the cosine is 1 and both errors are the factor
        for share, wanted in ((0.9, PASS), (1.1, FAIL), (-1.1, FAIL)):
            chip: Tensors = {"y": ones * (1 + share * rms)}
            yield f"{share:g} x the rms error of {precision}", judge_numerics(chip, right, precision), wanted
    for number in range(4):
        row = ones.copy()
        row[number] = 0
        yield f"row {number + 1} of four", judge_numerics({"y": row}, right, Precision.FP32), FAIL
    for error, wanted in ((0.45, PASS), (0.55, FAIL)):  # of a value of 1; half of that is asked, and rms 0.25
        row = ones.copy()
        row[2, 3] += error
        yield f"one value off by {error:g}", judge_numerics({"y": row}, right, Precision.INT8), wanted
    row = ones.copy()
    row[2, 3] = np.nan
    yield "one value that is not a number", judge_numerics({"y": row}, right, Precision.INT8), FAIL
    three: Tensors = {"x": ones, "y": ones, "z": ones}
    for name in three:
        yield f"output {name} of three", judge_numerics({**three, name: -ones}, three, Precision.FP32), FAIL
    turned = np.hstack([ones[:, :99], 1.1 * ones[:, :1]])
    strict = judge_numerics({"y": turned}, right, Precision.FP16, None, {"cosine": 0.9999, "largest": 1, "rms": 1})
    yield "a cosine of 0.99995 where a lab asks 0.9999", strict, PASS
    strict = judge_numerics({"y": turned}, right, Precision.FP16, None, {"cosine": 0.99999, "largest": 1, "rms": 1})
    yield "the same where a lab asks 0.99999", strict, FAIL


def _precisions() -> Iterator[Example]:
    """What the arithmetic alone costs allows more, and an engine that loses less computes in another precision."""
    ones = np.ones((2, 100))
    for precision, loss, error, wanted in (
        (Precision.FP16, 0.01, 0.045, PASS), (Precision.FP16, 0.01, 0.055, FAIL), (Precision.INT8, 0.2, 0.35, PASS),
        (Precision.INT8, 0.2, 0.45, FAIL), (Precision.INT8, 0.6, 0.65, PASS), (Precision.INT8, 0.6, 0.75, FAIL),
        (Precision.FP16, 0.01, 5e-4, INVALID), (Precision.INT8, 0.1, 5e-3, INVALID), (Precision.INT8, 0.1, 7e-3, PASS),
    ):  # fmt: skip
        costs = losses({"y": ones * [[1 + loss], [1 - loss / 2]]}, {"y": ones})
        found = in_precision(judge_numerics({"y": ones * (1 + error)}, {"y": ones}, precision, costs), precision)
        yield f"an error of {error:g} at {precision}, whose arithmetic costs {loss:g}", found, wanted
    nothing = judge_numerics({"y": 0 * ones}, {"y": ones}, Precision.INT8, {"y": Loss(0.9, 0.9)})
    yield "zeros, whatever INT8 costs", nothing, FAIL


def _agreement() -> Iterator[Example]:
    # 0 of 300 lost excludes 1 % (rule of three); 15 are 5 %, and 5 are 1.6 % that chance explains
    for lost, gained, look, wanted in (
        (0, 0, ALL, PASS), (3, 0, ALL, INCONCLUSIVE), (5, 0, ALL, INCONCLUSIVE), (15, 0, ALL, FAIL), (0, 15, ALL, PASS),
        (0, 0, Sampled(1, 9000), INCONCLUSIVE), (15, 0, Sampled(1, 9000), FAIL),
    ):  # fmt: skip
        verdict = judge_agreement(_score(330 - 15 - lost + gained), _score(330 - 15), "top1", sampled=look)
        yield f"{lost} answers lost and {gained} gained of {look.of or 330}", verdict, wanted
    figures = judge_agreement(_score(313), _score(315), "top1").details
    told = [figures[name] for name in ("measured", "reference", "drop", "lost", "gained")]
    yield "figures of 2 answers lost of 315", _same(told, [313 / 330, 315 / 330, 2 / 315, 2, 0]), PASS
    better = judge_agreement(_score(318), _score(315), "top1").details["drop"]
    yield "the drop where 3 answers are gained", _same([better], [-3 / 315]), PASS
    open_, done = Verdict(INCONCLUSIVE, "", {}), Verdict(PASS, "", {"high": 0.0})
    both = {"top1": done, "top5": open_}
    yield (
        "whether more images have to be asked",
        _same([images_decide(both), images_decide({"top1": done})], [0, 1]),
        PASS,
    )
    for chip, wanted in ((0.9, PASS), (0.8, FAIL), (0.99, PASS)):
        verdict = judge_agreement(_mean(chip), _mean(0.9), "ap")
        yield f"a mean of {chip:g} for 0.9", verdict, wanted


def _tail() -> Iterator[Example]:
    # of 300 images 3 are 1 %, and 11 or more by chance 1 in 4,000; the ruined ones come last
    for ruined, share, precision, wanted in (
        (3, 0.6, Precision.FP32, PASS), (14, 0.6, Precision.FP32, FAIL), (14, 0.6, Precision.FP16, FAIL),
        (14, 0.6, Precision.BF16, FAIL), (14, 0.4, Precision.FP32, PASS), (14, 0.6, Precision.INT8, PASS),
        (40, 0.6, Precision.INT8, FAIL),
    ):  # fmt: skip
        shares = {str(number): share if number >= 300 - ruined else 0.0 for number in range(300)}
        yield f"{ruined} of 300 images changed by {share:g} at {precision}", judge_tail(shares, precision), wanted


def _published() -> Iterator[Example]:
    for measured, wanted in ((0.8911, PASS), (0.8909, FAIL), (0.926, PASS), (0.928, INVALID)):
        yield f"an accuracy of {measured:g} against 0.9", judge_published(measured, _cell(0.9), _cell(0.8)), wanted
    known = Deviation("*", "published", "top1", "example", "here", "example", 1)
    for measured, wanted in ((0.86, PASS), (0.84, FAIL), (0.8911, FAIL)):
        verdict = judge_published(measured, _cell(0.9), _cell(0.85), known)
        yield f"an accuracy of {measured:g} where 0.85 instead of 0.9 is a known failure", verdict, wanted
    for outcome, wanted in ((FAIL, PASS), (PASS, FAIL), (INVALID, INVALID), (INCONCLUSIVE, INCONCLUSIVE)):
        yield f"a known failure that is {outcome}", excuse(Verdict(outcome, "", {}), known), wanted


def _after() -> Iterator[Example]:
    """What becomes of a verdict: seeded weights, a second measurement, a lab's policy."""
    red = Verdict(FAIL, "", {})
    for precision, metric, wanted in (
        (Precision.FP32, "top1", FAIL), (Precision.FP16, "top1", INCONCLUSIVE), (Precision.FP16, "tail", FAIL),
        (Precision.INT8, "top1", INCONCLUSIVE),
    ):  # fmt: skip
        yield f"{metric} of seeded weights at {precision}", of_seeded(red, precision, metric), wanted
    for first, second, wanted in ((FAIL, FAIL, FAIL), (FAIL, PASS, INVALID), (INVALID, PASS, INVALID)):
        both = confirmed({"": Verdict(first, "", {})}, {"": Verdict(second, "", {})}, Again())
        yield f"{first} at first, then {second}", both[""], wanted
    case, today, day = Case("m", "c", Precision.FP32, 1), date(2020, 1, 2), date(2020, 1, 1)
    row = ("m-c-*", "numerics", "example", "here", "example:1")
    for until, outcome, wanted in ((None, FAIL, PASS), (None, PASS, FAIL), (today, FAIL, PASS), (day, FAIL, FAIL)):
        policy = Policy(expected=(Expected(*row, until),))
        verdict = apply(policy, case, "numerics", "", Verdict(outcome, "", {}), today)
        yield f"{outcome} on 2 January, where a policy expects a FAIL until {until}", verdict, wanted
    for value, wanted in ((2.0, PASS), (3.0, PASS), (3.1, FAIL), (1.9, FAIL), (None, FAIL)):
        policy = Policy(gates=(Gate(*row, None, "rms", 2.0, 3.0),))
        verdict = apply(policy, case, "numerics", "", Verdict(PASS, "", {"rms": value}), today)
        yield f"{value} where a policy asks 2 to 3", verdict, wanted


def _speeds() -> Iterator[Example]:
    for share, wanted in ((1.0, PASS), (0.94, INCONCLUSIVE), (0.8, FAIL), (3.1, INVALID)):
        yield f"{share:g} of the published throughput", judge_floor(_speed(share * 100), _cell(100)), wanted
    vague = throughput(_rates(96, 0.08))
    yield "0.96 of the published throughput, give or take 0.02", judge_floor(vague, _cell(100)), INCONCLUSIVE
    wide = Estimate(150, 120, 225, 0.2, 60)
    yield "a throughput that is known to a factor of 1.9", judge_floor(wide, _cell(100)), INCONCLUSIVE
    target, other = (
        Target("a", "b", 1.2, "best_batch", "example", "here", "example", 1),
        Estimate(100, 90, 111, 0, 60),
    )
    for best, beside, wanted in (
        (130, _cell(100), PASS), (100, _cell(100), FAIL), (77, _cell(100), FAIL), (123, _cell(100), PASS),
        (123, other, INCONCLUSIVE), (150, other, PASS),
    ):  # fmt: skip
        verdict = judge_target(_speed(best), beside, target)
        yield f"{best} beside {beside.value:g} images/s, where 1.2 times as many are asked", verdict, wanted
    for ratio, wanted in ((1.1, PASS), (0.9, FAIL)):
        yield f"{ratio:g} times as fast", judge_ratio(_rates(100 * ratio), _rates(100), 1.0), wanted
    for images, slow, alone, wanted in (
        (800, 0.01, True, PASS), (1600, 0.01, True, INVALID), (800, 0.02, True, INVALID), (800, 0.005, True, PASS),
        (800, 0.003, True, INVALID), (1066, 0.01, True, INVALID), (1066, 0.01, False, PASS),
        (1600, 0.01, False, INVALID),
    ):  # fmt: skip
        latencies = [0.3 * slow] * 3 + [slow] * 5
        verdict = judge_in_flight(images, 4, 2, latencies, launched_alone=alone)
        what = f"{images} images/s of two devices in fours of {slow:g} s"
        yield what if alone else f"{what} beside other programs", verdict, wanted
    for quick, wanted in ((0.0009, INVALID), (0.002, PASS)):
        verdict = judge_in_flight(800, 4, 2, [quick, *[0.01] * 9])
        yield f"single executes of 0.01 s, and one in ten of {quick:g} s", verdict, wanted
    second = Timing((), (Window(0.0, 1.0, 10),), ())
    for told, wanted in ((80.0, PASS), (160.0, INVALID), (40.0, INVALID)):
        yield f"{told:g} images/s of two devices with 40", judge_counted(told, 4, (second, second)), wanted
    for slow, wanted in ((0.01, INVALID), (0.03, PASS), (0.16, INVALID)):
        yield f"batch 1 in 0.01 s and batch 4 in {slow:g} s", judge_batches({1: 0.01, 4: slow}), wanted
    for seconds, four, wanted in ((0.12, 1.5, PASS), (0.03, 1.0, PASS), (0.03, 6.0, INVALID), (0.01, 3.0, INVALID)):
        verdict = judge_batches({1: 0.01, 4: seconds}, {1: 1.0, 4: four}, True)
        yield f"batch 1 as fast as eager PyTorch and batch 4 {four:g} times as fast in {seconds:g} s", verdict, wanted


def _times() -> Iterator[Example]:
    """Percentiles, windows and overlaps, as PASS where they are what was worked out."""
    seen = percentiles([number / 1000 for number in range(1001, 0, -1)])  # 1 to 1,001 ms
    yield "percentiles of 1 to 1,001 ms", _same([*seen.values()], [1001, 501e3, 901e3, 991e3]), PASS
    one = Timing((), (Window(0.0, 2.0, 20), Window(2.0, 4.0, 20)), ())
    other = Timing((), (Window(1.0, 3.0, 40), Window(3.0, 5.0, 40)), ())
    yield "two devices, 10 and 20 executes a second", _same(overlap_rates((one, other)), [30, 30]), PASS
    device = _Device()
    told = measure(device.execute, Plan(0.5, 0.1, 5, 3), device.clock)
    begun, ended = told.windows[0].start, told.windows[-1].stop
    seconds, executes = sum(one.stop - one.start for one in told.windows), sum(one.executes for one in told.windows)
    wanted = [5, ended - begun, device.done[ended] - device.done[begun]]
    yield "seconds and executes in windows", _same([len(told.windows), seconds, executes], wanted), PASS
    yield "the warm-up of half a second", _same([begun >= 0.5], [True]), PASS
    varying = [Window(0.0, 1.0, 104 if number % 2 else 96) for number in range(42)]
    yield "windows that vary by 4 %", _same([len(unsteady(Timing((), tuple(varying), ())))], [1]), PASS


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
    return Verdict(FAIL, text, {**verdict.details, "differing": len(wrong)})


def _score(right: int) -> Score:
    """Of 330 answers the first so many are right."""
    hits: NDArray[np.bool_] = np.arange(330) < right
    return Score({"top1": right / 330}, 330, lambda weights: {"top1": float(weights @ hits / 330)}, {"top1": hits})


def _cell(value: float) -> Cell:
    return Cell(
        "example", None, None, None, "top1", value, "fraction", "source", "example", "1", "example", True, "",
        "example", 1, Decimal(str(value)),
    )  # fmt: skip


def _rates(middle: float, share: float = 0.001) -> list[float]:
    """Sixty windows, in turn a share above and below."""
    return [middle * (1 + share * (-1) ** number) for number in range(60)]


def _speed(middle: float) -> Estimate:
    return throughput(_rates(middle))


def _mean(value: float) -> Score:
    """A metric that is not a share of right answers, the mean of 60 images."""
    images = np.full(60, value) + 0.01 * (-1.0) ** np.arange(60)
    return Score(
        {"ap": value}, 60, lambda weights: {"ap": float(weights @ images / weights.sum())}, answers={"ap": 900}
    )


class _Device:
    """A device with a clock of its own, which takes 10 ms an execute, and from the 80th on 4 ms."""

    def __init__(self) -> None:
        self.now, self.number = 0.0, 0
        self.done = {0.0: 0}  # executes at each reading of the clock

    def execute(self, times: int) -> None:
        for _ in range(times):
            self.number += 1
            self.now += 0.01 if self.number < 80 else 0.004

    def clock(self) -> float:
        self.done[self.now] = self.number
        return self.now


def _same(found: Sequence[float], wanted: Sequence[float]) -> Verdict:
    alike = len(found) == len(wanted) and np.allclose(found, wanted, rtol=1e-9, atol=0)
    return Verdict(PASS if alike else FAIL, f"{list(found)} for {list(wanted)}", {})
