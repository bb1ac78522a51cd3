"""Turns measured numbers into verdicts. Pure functions; the text of a verdict explains it without further context."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.baselines import Cell, Deviation, Target
from harness.case import Precision, Tensors
from harness.errors import InvalidMeasurement
from harness.judge.differences import differences
from harness.judge.stats import (
    Drop,
    Estimate,
    exact,
    images_to_resample,
    mcnemar,
    more_images,
    more_windows,
    needed,
    paired_bootstrap,
    paired_drop,
    paired_ratio,
    quantile,
    ratio_interval,
    relative_drop,
    share_bounds,
    spent,
)
from harness.judge.timing import percentile
from harness.metrics.base import Score
from harness.vocabulary import Outcome

SLACK = 0.01  # relative accuracy a chip may lose
FEWEST_IMAGES = 5  # n images that all lose happen by chance once in 2**n: from 5 on in less than 5 %
FLOOR = 0.95  # of the published throughput
CEILING = 3.0  # times the published throughput: newer software may double it; four devices counted as one exceed this
RANGE = (0.02, 1.5)  # log-log slope of latency over batch: below, the batch is ignored; above, counted twice
SLOPE_ERROR = 0.001  # chance of refusing a slope that lies in the range
WRONG = 0.025  # chance of a PASS for a figure exactly at its bound, over all looks
FAMILY = 60  # throughput verdicts of the largest run: 49 figures are published, with targets of two or three models
WRONG_RUN = 0.05  # chance of any FAIL in such a run when every figure is exactly at its bound (Bonferroni)
BETWEEN = 0.03  # standard deviation between runs and cards, log scale: a published figure is one run of one card
WIDEST = 1.5  # high / low of an interval: targets ask for 1.2 to 1.6, so a wider interval decides nothing
SHORTEST = 50e-6  # seconds: of a shorter execute, the call alone is a large part
SLOPPY = 4.0  # allowed ratio of executes at once for such an execute
IN_FLIGHT = 1.5  # allowed ratio of executes at once (rate x latency) to executes in flight; counted twice, it is 2
AN_HOUR = 3600.0  # seconds: the longest --patience that a message asks for


@dataclass(frozen=True)
class Verdict:
    """The outcome of one judgement. `text` says what was seen, what was asked and on how much data; `details` holds the
    same facts as JSON values."""

    outcome: Outcome
    text: str
    details: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.outcome}: {self.text}"


@dataclass(frozen=True)
class Tolerance:
    """Allowed deviation of one output of one sample from the reference: `cosine` at least; `largest` and `rms` error at
    most, relative to the reference's largest and root-mean-square value."""

    cosine: float
    largest: float
    rms: float

    def __str__(self) -> str:
        return f"cosine >= {self.cosine:g}, largest error <= {self.largest:g}, rms error <= {self.rms:g}"


@dataclass(frozen=True)
class Loss:
    """What a network's arithmetic alone costs one output (reference.arithmetic): `rms` and `largest` error as in
    Tolerance, of the image that loses most."""

    rms: float
    largest: float


UNITS: dict[Precision, float] = {Precision.FP16: 5.0, Precision.INT8: 2.0}
"""A chip's error may be so many times the loss of the arithmetic, where that is more than TOLERANCES. Measured on
vendors' own toolchains (docs/measured.md): FP16 0.9 to 3.6 times, INT8 0.5 to 1.8 times. BF16 in the place of FP16
loses 8 to 11 times as much, INT8 calibrated on images prepared in another way 3.3 to 21 times (seeded weights)."""

MOST_RMS = 0.7
"""No loss allows a larger rms error: its power would be half of the output's. An output of zeros has 1 and must fail,
also where INT8 itself costs 0.54 (RetinaFace-mobilenet0.25, published weights, one range a tensor): there QNN and RKNN
have 0.55 and 0.57, and INT8 calibrated on images without their mean subtracted has 0.85 and more."""

TOLERANCES: dict[Precision, Tolerance] = {
    # FP32 sums in another order: 2e-6 measured on these networks; Winograd and TF32 lose two digits more
    Precision.FP32: Tolerance(0.99999, 1e-3, 5e-4),
    # every result rounded to FP16, batch norm folded first: 7e-3 rms, 1.2e-2 largest, cosine 0.99998 measured on
    # RetinaFace with its published weights and on a seeded RegNetY; BF16 gives 4.6e-2 rms, which must not pass
    Precision.FP16: Tolerance(0.999, 5e-2, 2e-2),
    # a rounding step is 1/127 of a tensor's range; vendors accept a cosine of 0.99 for a layer, outputs deviate more
    Precision.INT8: Tolerance(0.97, 5e-1, 2.5e-1),
}


def losses(rounded: Tensors, reference: Tensors) -> dict[str, Loss]:
    """The loss of each output. `rounded` and `reference` map output names to arrays of equal shape, axis 0 being the
    images. An output that is not finite when rounded has none: its tolerance is that of the precision."""
    found = {}
    for name, wanted in reference.items():
        if not np.isfinite(rounded[name]).all():
            continue
        pairs = zip(np.asarray(rounded[name], np.float64), np.asarray(wanted, np.float64), strict=True)
        seen = [_deviation(name, 0, *pair) for pair in pairs]
        loss = Loss(max(d["rms"] for d in seen), max(d["largest"] for d in seen))
        if math.isfinite(loss.rms) and math.isfinite(loss.largest):  # not so where the reference is all zeros
            found[name] = loss
    return found


def tolerance_of(precision: Precision, loss: Loss | None) -> Tolerance:
    """What is asked of an output: the tolerance of `precision`, or `UNITS` times its loss where that is more, up to
    `MOST_RMS`. The cosine asked is at most sqrt(1 - r^2), which an rms error of r leaves at least."""
    asked = TOLERANCES[precision]
    if loss is None or precision not in UNITS:
        return asked
    rms = min(UNITS[precision] * loss.rms, MOST_RMS)
    cosine = min(asked.cosine, math.sqrt(1 - rms**2))
    return Tolerance(cosine, max(asked.largest, UNITS[precision] * loss.largest), max(asked.rms, rms))


def judge_numerics(
    chip: Tensors,
    reference: Tensors,
    precision: Precision,
    loss: Mapping[str, Loss] | None = None,
    bounds: Mapping[str, float] | None = None,
) -> Verdict:
    """PASS when every output of every sample of the chip is within its tolerance, else FAIL. This is that of
    tolerance_of, with the figures of `bounds` in the place of its own.

    `chip` and `reference` map output names to arrays of equal shape, axis 0 being the batch. Each sample is compared by
    itself, so that one dropped row is found in a large batch too. A value that is not finite fails. Raises
    InvalidMeasurement when the reference is empty or not finite."""
    loss = loss or {}
    broken = _not_comparable(chip, reference)
    if broken:
        return Verdict(Outcome.FAIL, broken)
    seen = [
        _deviation(name, sample, np.asarray(chip[name][sample], np.float64), np.asarray(rows, np.float64))
        for name, wanted in reference.items()
        for sample, rows in enumerate(wanted)
    ]
    limits = {name: replace(tolerance_of(precision, loss.get(name)), **(bounds or {})) for name in reference}
    worst = {
        "cosine": max(seen, key=lambda d: (1 - d["cosine"]) / (1 - limits[d["output"]].cosine)),
        "largest": max(seen, key=lambda d: d["largest"] / limits[d["output"]].largest),
        "rms": max(seen, key=lambda d: d["rms"] / limits[d["output"]].rms),
    }
    asked = Tolerance(*(getattr(limits[worst[key]["output"]], key) for key in ("cosine", "largest", "rms")))
    would = Tolerance(*(worst[key][key] for key in ("cosine", "largest", "rms")))
    units, told = _in_units(worst, loss)
    details: dict[str, Any] = {**_finite(vars(would)), "tolerance": vars(asked), **_finite(units)}
    observed = f"cosine {would.cosine:.6f}, largest error {would.largest:.3g}, rms error {would.rms:.3g}{told}"
    basis = f"{len(reference)} outputs of {len(next(iter(reference.values())))} rows at {precision}"
    missed = [
        key
        for key, ok in (
            ("cosine", would.cosine >= asked.cosine),
            ("largest", would.largest <= asked.largest),
            ("rms", would.rms <= asked.rms),
        )
        if not ok
    ]
    if not missed:
        return Verdict(Outcome.PASS, f"{observed}; asked {asked}; worst of {basis}", details)
    at = worst[missed[0]]
    details["worst"] = _finite(at)
    name, sample = at["output"], at["element"][0]
    ours, wanted = (np.asarray(side[name][sample], np.float64) for side in (chip, reference))
    if how := differences(ours, wanted):
        details["differences"] = {"output": name, "sample": sample, **how}
    return Verdict(
        Outcome.FAIL,
        f"{observed}; asked {asked}; would pass with {_loose(would)}; worst of {basis}: {at['output']}"
        f"{at['element']} is {at['chip']:.6g}, reference {at['reference']:.6g}, rms error of that row {at['rms']:.3g}",
        details,
    )


def _in_units(worst: Mapping[str, Mapping[str, Any]], loss: Mapping[str, Loss]) -> tuple[dict[str, Any], str]:
    """(facts, text): the loss of the outputs that are worst by each figure, and the rms error in units of it."""
    of = {key: loss.get(seen["output"]) for key, seen in worst.items()}
    if any(one is None for one in of.values()):
        return {}, ""
    known = {key: one.largest if key == "largest" else one.rms for key, one in of.items() if one is not None}
    units = _over(worst["rms"]["rms"], known["rms"])
    facts = {"units": units, "arithmetic_rms": known["rms"], "loss": known}
    return facts, f" ({units:.3g} x what the arithmetic costs PyTorch)"


def tolerance_again(precision: Precision, loss: Mapping[str, float] | None) -> Tolerance:
    """The tolerance that judge_numerics asked, from the fact `loss` of its verdict."""
    if loss is None:
        return TOLERANCES[precision]
    of = {key: Loss(error, error) for key, error in loss.items()}
    return Tolerance(*(getattr(tolerance_of(precision, of[key]), key) for key in ("cosine", "largest", "rms")))


def _not_comparable(chip: Tensors, reference: Tensors) -> str:
    """Why the chip's outputs cannot be compared with the reference's, or "". Raises InvalidMeasurement when the
    reference is empty or not finite."""
    if not reference:
        raise InvalidMeasurement("the reference has no outputs", hint="name the outputs of the model's row")
    if chip.keys() != reference.keys():
        return f"outputs {', '.join(sorted(chip)) or 'none'} instead of {', '.join(sorted(reference))}"
    for name, wanted in reference.items():
        if wanted.size == 0 or not np.isfinite(wanted).all():
            raise InvalidMeasurement(
                f"the reference's own {name} is empty or not finite", hint="check the weights and the input"
            )
        broken = _broken(name, chip[name], wanted)
        if broken:
            return broken
    return ""


def _broken(name: str, ours: NDArray[Any], wanted: NDArray[Any]) -> str:
    """Why one output cannot be compared (shape, values that are not finite), or ""."""
    if ours.shape != wanted.shape:
        return f"{name} has shape {ours.shape}, the reference {wanted.shape}"
    bad = ~np.isfinite(np.asarray(ours, np.float64))
    if not bad.any():
        return ""
    at = tuple(int(i) for i in np.argwhere(bad)[0])
    return f"{name} has {int(bad.sum())} of {bad.size} values not finite, the first {ours[at]} at {list(at)}"


def _deviation(name: str, sample: int, ours: NDArray[np.float64], wanted: NDArray[np.float64]) -> dict[str, Any]:
    """Deviation of one output of one sample, with the element that deviates most."""
    error = np.abs(ours - wanted)
    at = np.unravel_index(int(np.argmax(error)), error.shape)
    norms = float(np.linalg.norm(ours)), float(np.linalg.norm(wanted))
    cosine = 1.0 if norms == (0.0, 0.0) else 0.0
    if min(norms) > 0:
        cosine = float(np.vdot(ours / norms[0], wanted / norms[1]))
    return {
        "output": name,
        "element": [sample, *(int(i) for i in at)],
        "chip": float(ours[at]),
        "reference": float(wanted[at]),
        "cosine": min(cosine, 1.0),
        "largest": _over(float(error.max()), float(np.abs(wanted).max())),
        "rms": _over(float(np.linalg.norm(error)), norms[1]),
    }


def _over(error: float, size: float) -> float:
    if error == 0:
        return 0.0
    return error / size if size > 0 else math.inf


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with None for infinite ones, because JSON has no infinity."""
    return {k: None if isinstance(v, float) and math.isinf(v) else v for k, v in values.items()}


def _loose(seen: Tolerance) -> Tolerance:
    """The tightest tolerance, rounded to two digits, under which `seen` would pass."""

    def up(error: float) -> float:
        if error == 0 or math.isinf(error):
            return error
        step = 10.0 ** (math.floor(math.log10(error)) - 1)
        return math.ceil(error / step) * step

    return Tolerance(math.floor(seen.cosine * 1e6) / 1e6, up(seen.largest), up(seen.rms))


def judge_agreement(chip: Score, reference: Score, metric: str, slack: float = SLACK) -> Verdict:
    """Whether the chip's score is at most `slack` (relative) below the reference's score on the same images.

    Answers that are right or wrong are paired and judged exactly, other metrics by a paired bootstrap over images.
    Raises InvalidMeasurement when the two were scored on different numbers of images, or when the reference scores 0.
    """
    if chip.samples != reference.samples or chip.samples < 1:
        raise InvalidMeasurement(
            f"the chip was scored on {chip.samples} images, the reference on {reference.samples}",
            hint="score both on the same images",
        )
    before, after = float(reference.values[metric]), float(chip.values[metric])
    if math.isnan(before) and math.isnan(after):
        text = f"{metric} is undefined on these {chip.samples} images: none has a label that it counts; give others"
        return Verdict(Outcome.INCONCLUSIVE, text, {"metric": metric, "samples": chip.samples})
    relative_drop(before, after)
    counted = metric in chip.hits and metric in reference.hits
    drop = _drop(chip, reference, metric, counted)
    if math.isinf(drop.high):
        return _too_few(
            metric, after, before, drop.samples, images_to_resample(reference.resample, metric, drop.samples)
        )
    p = mcnemar(drop.lost or 0, drop.gained or 0) if counted else None
    basis = f"paired bootstrap over {drop.samples} images"
    if counted:
        basis = f"{drop.samples} paired answers, {drop.lost} lost and {drop.gained} gained (exact; McNemar p = {p:.3g})"
    text = (
        f"{metric} {_percent(after)} against {_percent(before)} of the reference, a relative drop of "
        f"{_percent(drop.value)}, one-sided 95 % bounds {_percent(drop.low)} and {_percent(drop.high)}; "
        f"allowed {_percent(slack)}; {basis}"
    )
    details: dict[str, Any] = {
        "metric": metric, "measured": after, "reference": before, "drop": drop.value, "low": drop.low,
        "high": drop.high, "slack": slack, "samples": drop.samples, "lost": drop.lost, "gained": drop.gained,
        "test": "exact" if counted else "bootstrap", "p": p,
    }  # fmt: skip
    if drop.high <= slack:
        return Verdict(Outcome.PASS, text, details)
    if not counted and drop.samples < FEWEST_IMAGES:
        details["needed"] = FEWEST_IMAGES - drop.samples
        ask = f"{FEWEST_IMAGES} images at least show a loss: {details['needed']} more"
        return Verdict(Outcome.INCONCLUSIVE, f"{text}; {ask}", details)
    if drop.low > slack:
        return Verdict(Outcome.FAIL, text, details)
    details["needed"] = more = _needed(drop, slack, reference, metric, counted)
    what = "answers" if counted else "images"
    ask = f"about {more} more {what} would decide" if more else "too close to what is allowed for any number to decide"
    return Verdict(Outcome.INCONCLUSIVE, f"{text}; {ask}", details)


RUINED = 0.5  # share of what is found in an image that changed
BUDGET = {Precision.FP32: 0.01, Precision.FP16: 0.01, Precision.INT8: 0.05}  # share of images that may be ruined
SURELY = 0.01  # chance of a FAIL when as many images are ruined as the budget allows


def judge_tail(shares: Mapping[str, float], precision: Precision) -> Verdict:
    """FAIL when more images are ruined than the budget of `precision` allows, by the exact lower bound of their share
    (share_bounds at `SURELY`); else PASS. `shares` says by the name of an image how much of what is found in it
    changed (metrics.changes, 0..1). A mean over images hides a few that are lost altogether."""
    ruined = sum(share > RUINED for share in shares.values())
    worst = sorted(shares, key=lambda name: -shares[name])[:3]
    verdict = tail_of(ruined, len(shares), precision)
    told = [{"image": name, "share": round(shares[name], 4)} for name in worst if shares[name] > 0]
    text = verdict.text
    if ruined:
        text += "; most changed: " + ", ".join(f"{one['image']} ({one['share']:.0%})" for one in told)
    return Verdict(verdict.outcome, text, {**verdict.details, "most_changed": told})


def tail_of(ruined: int, images: int, precision: Precision) -> Verdict:
    """The verdict on a number of ruined images."""
    budget = BUDGET[precision]
    low, _ = share_bounds(ruined, images, SURELY)
    beyond = low > budget
    text = f"in {ruined} of {images} images more than {RUINED:.0%} of what is found changed"
    text += f", surely in more than {low:.1%} of all; allowed {budget:.0%}" if beyond else f"; allowed {budget:.0%}"
    details = {"ruined": ruined, "images": images, "budget": budget, "low": low}
    return Verdict(Outcome.FAIL if beyond else Outcome.PASS, text, details)


def _drop(chip: Score, reference: Score, metric: str, counted: bool) -> Drop:
    """The drop with its bounds: exact where answers are `counted`, else from a paired bootstrap."""
    if counted:
        return paired_drop(chip.hits[metric], reference.hits[metric])
    return paired_bootstrap(
        chip.resample, reference.resample, metric, chip.samples, answers=reference.answers.get(metric)
    )


def _needed(drop: Drop, slack: float, reference: Score, metric: str, counted: bool) -> int | None:
    """How many more answers (`counted`) or images would decide; None when no reasonable number would."""
    if counted:
        return needed(drop, slack, int(np.count_nonzero(reference.hits[metric])))
    return more_images(drop, slack, answers=reference.answers.get(metric))


def _too_few(metric: str, after: float, before: float, images: int, more: int | None) -> Verdict:
    """INCONCLUSIVE, because most bootstrap draws of so few images leave the metric undefined."""
    ask = f"about {more} more images like these would do" if more else "give other images"
    text = (
        f"{metric} {_percent(after)} against {_percent(before)} of the reference, but most draws of {images} images "
        f"leave it undefined: no bound can be given; {ask}"
    )
    details = {"metric": metric, "measured": after, "reference": before, "drop": relative_drop(before, after),
               "samples": images, "needed": more}  # fmt: skip
    return Verdict(Outcome.INCONCLUSIVE, text, details)


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def judge_published(
    measured: float,
    source: Cell | None,
    cell: Cell | None,
    deviation: Deviation | None = None,
    slack: float = SLACK,
) -> Verdict:
    """Whether an accuracy is at most `slack` (relative, one-sided) below the authors' published figure.

    `measured` is a fraction 0..1, on the whole data set with the published weights. `source` is the authors' figure,
    `cell` the chip's published one, which is used where the authors published none. With a `deviation` the bound is the
    chip's own published figure, to its last printed digit; a measurement that would pass without the deviation fails
    until the row is deleted.

    Raises InvalidMeasurement when `measured` is not in 0..1, and when there is neither `source` nor `cell`."""
    if not 0 <= measured <= 1:
        raise InvalidMeasurement(f"an accuracy of {measured} is not in 0..1", hint="look for NaN; divide by 100")
    aim = source or cell
    if aim is None:
        raise InvalidMeasurement("nothing was published for this case", hint="judge the agreement with the reference")
    bound = (1 - slack) * aim.value
    drop = relative_drop(aim.value, measured)
    details: dict[str, Any] = {
        "metric": aim.metric, "measured": measured, "source": None if source is None else source.value,
        "published": None if cell is None else cell.value, "drop": drop, "bound": bound,
        "deviation": None if deviation is None else f"{deviation.file}:{deviation.line}",
    }  # fmt: skip
    whose = "the authors'" if source else "the chip's published"
    seen = f"{aim.metric} {_percent(measured)}, {_percent(drop)} below {whose} {_percent(aim.value)}"
    if deviation is not None:
        return _deviating(measured, bound, cell, deviation, seen, details)
    text = f"{seen}; asked at least {_percent(bound)} ({aim.document}, {aim.section})"
    return Verdict(Outcome.PASS if measured >= bound else Outcome.FAIL, text, details)


def _deviating(
    measured: float, bound: float, cell: Cell | None, deviation: Deviation, seen: str, details: dict[str, Any]
) -> Verdict:
    """The verdict under a known deviation: the bound is the chip's own published figure; reaching the usual bound is a
    FAIL until the row is deleted."""
    row = f"{deviation.file}:{deviation.line}"
    if measured >= bound:
        text = f"{seen}; asked at least {_percent(bound)}: the deviation at {row} no longer occurs, delete it"
        return Verdict(Outcome.FAIL, text, details)
    if cell is None:
        raise InvalidMeasurement(f"{row} excuses a case without a published figure", hint="delete the row")
    details["bound"] = gate = cell.lowest
    text = (
        f"{seen}, a known deviation ({row}: {deviation.reason}); asked the published "
        f"{_percent(cell.value)}, that is at least {_percent(gate)}"
    )
    return Verdict(Outcome.PASS if measured >= gate else Outcome.FAIL, text, details)


@dataclass(frozen=True)
class Effort:
    """What a figure has cost so far: the number of looks at its verdict, and seconds. `windows` names its samples."""

    look: int = 1
    seconds: float = 0.0
    windows: str = "windows"


def _decide(
    seen: Estimate, bound: float, text: str, details: dict[str, Any], effort: Effort, between: float = 0.0
) -> Verdict:
    """PASS when the whole interval is at or above the bound, FAIL when all of it is below, else INCONCLUSIVE with the
    time that would decide.

    Each end is taken at the level for this look (`spent`), so that looking again after every block does not raise the
    error rate. PASS is wrong for at most `WRONG` of figures at the bound, FAIL in at most `WRONG_RUN` of whole runs.
    FAIL also allows for `between`, the standard deviation between runs on the log scale, because one run says nothing
    about other days and cards. An interval wider than `WIDEST` decides nothing."""
    details.update(look=effort.look, doubt=seen.doubt, seconds=effort.seconds)
    alpha = WRONG_RUN / FAMILY * spent(effort.look)
    up = math.hypot(seen.distance(alpha, upper=True), quantile(math.inf, alpha) * between)
    if seen.width <= WIDEST and seen.bound(WRONG * spent(effort.look), upper=False) >= bound:
        return Verdict(Outcome.PASS, text, details)
    if seen.width <= WIDEST and seen.value * math.exp(up) < bound:
        return Verdict(Outcome.FAIL, text, details)
    return Verdict(Outcome.INCONCLUSIVE, f"{text}; {_undecided(seen, bound, effort, between, details)}", details)


def _undecided(seen: Estimate, bound: float, effort: Effort, between: float, details: dict[str, Any]) -> str:
    """Why the figure is not decided, and what would decide it. Writes the windows or runs needed into `details`."""
    if seen.width > WIDEST:
        details["width"] = min(seen.width, 1e9)
        return (
            f"high / low of the interval is {seen.width:.3g}, and only up to {WIDEST:g} decides: "
            f"{seen.doubt or 'noise'}; end other programs or lock the clock, then measure again, with more --patience"
        )
    if between and seen.bound(WRONG, upper=True) < bound:
        runs = math.ceil((quantile(math.inf, WRONG_RUN / FAMILY) * between / math.log(bound / seen.value)) ** 2)
        details["needed_runs"] = runs
        return (
            f"below what is asked, but runs of one chip differ by {_percent(between)}: about {runs} runs on other days "
            "or cards, all like this one, would be a FAIL; run it again"
        )
    more = more_windows(seen, bound)
    details["needed_windows"] = more
    why = seen.doubt or "the interval holds the bound"
    if more is None:
        return f"{why}; too close to the bound for any time to decide"
    if not effort.seconds:
        return f"{why}; about {more} more {effort.windows} would decide"
    seconds = effort.seconds * (1 + more / seen.samples)
    if seconds > AN_HOUR:
        return f"{why}; more than an hour would be needed: too close to the bound"
    return f"{why}; about {more} more {effort.windows} would decide: --patience {math.ceil(1.2 * seconds)}"


def judge_floor(throughput: Estimate, cell: Cell, slack: float = FLOOR, effort: Effort = Effort()) -> Verdict:
    """Whether the throughput of a card, images/s, is at least `slack` times the published figure of the same case.

    A throughput above `CEILING` times the published one is INVALID: devices or images were counted twice, or the timing
    did not wait for the device."""
    bound = slack * cell.value
    text = (
        f"{throughput} images/s, {throughput.value / cell.value:.3f} of the published {cell}; asked at least "
        f"{bound:.6g} ({slack:g} of it); {throughput.samples} windows, spread {_percent(throughput.spread)}"
    )
    details = {"measured": throughput.value, "low": throughput.low, "high": throughput.high, "published": cell.value,
               "ratio": throughput.value / cell.value, "spread": throughput.spread, "samples": throughput.samples,
               "bound": bound}  # fmt: skip
    if throughput.value > CEILING * cell.value:
        cause = "devices or images are counted twice, or the timing does not wait for the device"
        return Verdict(Outcome.INVALID, f"{text}; over {CEILING:g} times what was published: {cause}", details)
    return _decide(throughput, bound, text, details, effort, BETWEEN)


def judge_target(best: Estimate, other: Estimate | Cell, target: Target) -> Verdict:
    """Whether the chip's best throughput is at least `target.ratio` times the other chip's.

    Both are images/s at the best batch; `other` is an Estimate where it was measured, else the published Cell."""
    against = exact(other.value) if isinstance(other, Cell) else other
    ratio = ratio_interval(best, against)
    basis = f"published, {other.document}, {other.section}" if isinstance(other, Cell) else "measured"
    text = (
        f"{target.chip} / {target.other} is {ratio}, best batch against best batch, {best.value:.6g} over "
        f"{against.value:.6g} images/s ({basis}); asked at least {target.ratio:g}"
    )
    details = {**_quotient(ratio, target.ratio), "measured": best.value, "other": against.value, "against": basis}
    return _decide(ratio, target.ratio, text, details, Effort(), math.sqrt(2) * BETWEEN)


def judge_ratio(
    chip: Sequence[float], eager: Sequence[float], at_least: float, effort: Effort = Effort(windows="pairs of windows")
) -> Verdict:
    """Whether the chip is at least `at_least` times as fast as eager PyTorch.

    `chip` and `eager` are rates of windows measured in turn in one run; the ratio is the geometric mean of theirs."""
    ratio = paired_ratio(chip, eager)
    text = (
        f"{ratio} times eager PyTorch in the same run; asked at least {at_least:g}; {ratio.samples} pairs of windows, "
        f"spread {_percent(ratio.spread)}"
    )
    return _decide(ratio, at_least, text, _quotient(ratio, at_least), effort)


def judge_in_flight(
    images_per_second: float, batch: int, devices: int, latencies: Sequence[float], in_flight: int = 1
) -> Verdict:
    """Whether a throughput is consistent with the latencies (seconds) of single executes in the same session.

    Rate x latency is the number of executes that a device works on at once (Little, Operations Research 9, 1961), and
    at most `in_flight` were given to it. Above `IN_FLIGHT` times that the verdict is INVALID: images or devices are
    counted twice, or timed work is not done. The margin is there because each single execute includes its launch and
    the wait, which back-to-back executes pay once. The upper quartile of the latencies is used, so that a runtime which
    skips every second execute is still found. `images_per_second` is the rate of a card of `devices` devices.
    INCONCLUSIVE without latencies."""
    if not latencies:
        return Verdict(Outcome.INCONCLUSIVE, "no single executes were timed: the rate cannot be checked against them")
    latency = percentile(latencies, 0.75)
    busy = images_per_second / batch / devices * latency
    text = (
        f"{images_per_second:.6g} images/s at batch {batch} on {devices} device(s), where a single execute takes "
        f"{1e6 * latency:.6g} us (upper quartile of {len(latencies)}), are {busy:.3g} executes at once on each device; "
        f"{in_flight} in flight, at most {in_flight * IN_FLIGHT:g} plausible"
    )
    details = {"executes_at_once": busy, "in_flight": in_flight}
    if busy <= IN_FLIGHT * in_flight:
        return Verdict(Outcome.PASS, text, details)
    if latency < SHORTEST and busy <= SLOPPY * in_flight:
        return Verdict(Outcome.INCONCLUSIVE, f"{text}: a single execute is too short to tell", details)
    cause = "images or devices are counted twice, or what is timed is not done"
    return Verdict(Outcome.INVALID, f"{text}: {cause}", details)


def _quotient(ratio: Estimate, bound: float) -> dict[str, Any]:
    return {"ratio": ratio.value, "ratio_low": ratio.low, "ratio_high": ratio.high, "spread": ratio.spread,
            "samples": ratio.samples, "bound": bound}  # fmt: skip


def judge_batches(
    latencies: Mapping[int, float],
    ratios: Mapping[int, float] | None = None,
    shared: bool = False,
    noise: Mapping[int, float] | None = None,
) -> Verdict:
    """Whether the latency grows with the batch as it should. `latencies` maps batch to seconds of one execute.

    The log-log slope of latency over batch, from the smallest batch to the largest, must lie in `RANGE`. Below it the
    batch is not run, above it the batch is counted twice; either is INVALID, for all throughputs of these runs. The
    flattest published slopes are 0.049 and 0.054 (MLU370 at INT8, batch 1 to 4).

    `noise` maps batch to the relative spread of its windows, which is used as the error of the latency (clocks do not
    average out). A slope outside the range is INVALID when noise explains it with a chance below `SLOPE_ERROR`, else
    INCONCLUSIVE.

    On a `shared` chip other load may slow down all windows of one batch. `ratios` maps batch to throughput relative to
    eager PyTorch in the same seconds, which cancels that load; the slope is then computed from them, with a slope of 1
    for eager PyTorch. Without `ratios`, a slope outside the range on a shared chip is INCONCLUSIVE.

    Raises InvalidMeasurement for a batch below 1 and for latencies that are not positive and finite."""
    for batch, seconds in latencies.items():
        if batch < 1 or not (math.isfinite(seconds) and seconds > 0):
            raise InvalidMeasurement(f"batch {batch} took {seconds} s", hint="look at the clock")
    if len(latencies) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "only one batch was timed; measure two to see how latency grows with it")
    small, large = min(latencies), max(latencies)
    growth = latencies[large] / latencies[small] if ratios is None else ratios[small] / ratios[large] * large / small
    slope = math.log(growth) / math.log(large / small)
    spread = math.hypot(*((noise or {}).get(batch, 0.0) for batch in (small, large))) / math.log(large / small)
    beside = "" if ratios is None else f" ({ratios[small]:.3g} and {ratios[large]:.3g} times eager PyTorch)"
    error = f" +- {spread:.3f}" if spread else ""
    text = (
        f"{1e3 * latencies[small]:.4g} ms at batch {small}, {1e3 * latencies[large]:.4g} ms at batch {large}{beside}: "
        f"log-log slope {slope:.3f}{error}, plausible from {RANGE[0]} to {RANGE[1]}"
    )
    details = {"slope": slope, "range": list(RANGE), "latencies": {str(b): s for b, s in sorted(latencies.items())},
               "slope_error": spread}  # fmt: skip
    sure, likely = quantile(math.inf, SLOPE_ERROR) * spread, quantile(math.inf, WRONG) * spread
    if RANGE[0] + likely <= slope <= RANGE[1] - likely:
        return Verdict(Outcome.PASS, text, details)
    if shared and ratios is None:
        return Verdict(Outcome.INCONCLUSIVE, f"{text}: other load on the CPU can cause this; run both again", details)
    if RANGE[0] - sure <= slope <= RANGE[1] + sure:
        ask = "the windows vary too much to tell; measure a larger batch, or again with the clock locked"
        return Verdict(Outcome.INCONCLUSIVE, f"{text}: {ask}", details)
    cause = "the batch is not run" if slope < RANGE[0] else "the batch is counted twice, or the device is throttled"
    return Verdict(Outcome.INVALID, f"{text}: {cause}", details)
