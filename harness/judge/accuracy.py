"""Whether a chip finds what the reference finds, and reaches the published accuracy. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from harness.baselines import Cell, Deviation
from harness.case import Precision
from harness.errors import InvalidMeasurement
from harness.judge.drops import (
    Drop,
    images_to_resample,
    mcnemar,
    more_images,
    needed,
    paired_bootstrap,
    paired_drop,
    relative_drop,
    share_bounds,
)
from harness.judge.sampled import ALL, Sampled
from harness.judge.verdict import Verdict, percent
from harness.metrics.base import Score
from harness.vocabulary import Outcome

SLACK = 0.01  # relative accuracy a chip may lose
TOO_GOOD = 0.03  # relative: no chip finds so much more than the network's authors; chips' own figures exceed by 0.5 %
FEWEST_IMAGES = 5  # n images that all lose happen by chance once in 2**n: from 5 on in less than 5 %


def judge_agreement(
    chip: Score, reference: Score, metric: str, slack: float = SLACK, sampled: Sampled = ALL
) -> Verdict:
    """Whether the chip's score is at most `slack` (relative) below the reference's score on the same images.

    Answers that are right or wrong are paired and judged exactly, other metrics by a paired bootstrap over images. The
    bounds are at the level of the look of `sampled`, so that looking again after more images does not raise the error
    rate.

    Raises InvalidMeasurement when the two were scored on different numbers of images, or when the reference scores 0.
    """
    if chip.samples != reference.samples or chip.samples < 1:
        raise InvalidMeasurement(
            f"the chip was scored on {chip.samples} images, the reference on {reference.samples}",
            hint="score both on the same images",
        )
    before, after = float(reference.values[metric]), float(chip.values[metric])
    if math.isnan(before) and math.isnan(after):
        text = (
            f"{metric} is undefined on the {chip.samples} images that ran: none has a label that it counts; give others"
        )
        return Verdict(Outcome.INCONCLUSIVE, text, {"metric": metric, "samples": chip.samples})
    relative_drop(before, after)
    counted = metric in chip.hits
    confidence = sampled.confidence(chip.samples)
    drop = _drop(chip, reference, metric, counted, confidence)
    if math.isinf(drop.high):
        more = images_to_resample(reference.resample, metric, drop.samples)
        return _too_few(metric, after, before, drop.samples, more, sampled)
    p = mcnemar(drop.lost, drop.gained) if drop.lost is not None and drop.gained is not None else None
    basis = f"paired bootstrap over {drop.samples} images"
    if counted:
        basis = f"{drop.samples} paired answers, {drop.lost} lost and {drop.gained} gained (exact; McNemar p = {p:.3g})"
    text = (
        f"{metric} {percent(after)} against {percent(before)} of the reference, a relative drop of "
        f"{percent(drop.value)}, one-sided {percent(confidence)} bounds {percent(drop.low)} and "
        f"{percent(drop.high)}; allowed {percent(slack)}; {basis}{sampled.told(chip.samples)}"
    )
    details: dict[str, Any] = {
        "metric": metric, "measured": after, "reference": before, "drop": drop.value, "low": drop.low,
        "high": drop.high, "slack": slack, "samples": drop.samples, "lost": drop.lost, "gained": drop.gained,
        "test": "exact" if counted else "bootstrap", "p": p, **sampled.details(chip.samples),
    }  # fmt: skip
    if drop.high <= slack:
        return Verdict(Outcome.PASS, text, details)
    if not counted and drop.samples < FEWEST_IMAGES:
        details["needed"] = FEWEST_IMAGES - drop.samples
        ask = f"{FEWEST_IMAGES} images at least show a loss: {details['needed']} more"
        return Verdict(Outcome.INCONCLUSIVE, f"{text}; {ask}", details)
    if drop.low > slack:
        return Verdict(Outcome.FAIL, text, details)
    more = _needed(drop, slack, reference, metric, counted, sampled.look)
    return Verdict(Outcome.INCONCLUSIVE, f"{text}; {sampled.wanted(more)}", {**details, **sampled.lacks(more)})


RUINED = 0.5  # share of what is found in an image that changed
BUDGET = {Precision.FP32: 0.01, Precision.FP16: 0.01, Precision.BF16: 0.01, Precision.INT8: 0.05}
"""Share of images that may be ruined. Of 50 images of three models, BF16 ruins none (docs/measured.md)."""

SURELY = 0.01  # chance of a FAIL when as many images are ruined as the budget allows


def judge_tail(shares: Mapping[str, float], precision: Precision, sampled: Sampled = ALL) -> Verdict:
    """FAIL when more images are ruined than the budget of `precision` allows, by the exact lower bound of their share
    (share_bounds at `SURELY`, at the level of the look of `sampled`); else PASS. `shares` says by the name of an image
    how much of what is found in it changed (metrics.changes, 0..1). A mean over images hides a few that are lost
    altogether."""
    ruined = sum(share > RUINED for share in shares.values())
    worst = sorted(shares, key=lambda name: -shares[name])[:3]
    verdict = tail_of(ruined, len(shares), precision, sampled)
    told = [{"image": name, "share": round(shares[name], 4)} for name in worst if shares[name] > 0]
    text = verdict.text
    if ruined:
        text += "; most changed: " + ", ".join(f"{one['image']} ({one['share']:.0%})" for one in told)
    return Verdict(verdict.outcome, text, {**verdict.details, "most_changed": told})


def tail_of(ruined: int, images: int, precision: Precision, sampled: Sampled = ALL) -> Verdict:
    """The verdict on a number of ruined images. `high` in its details is the upper bound of their share, at the level
    of the bounds of a drop."""
    budget = BUDGET[precision]
    low, _ = share_bounds(ruined, images, SURELY * sampled.share(images))
    _, high = share_bounds(ruined, images, 1 - sampled.confidence(images))
    beyond = low > budget
    text = f"in {ruined} of {images} images more than {RUINED:.0%} of what is found changed"
    text += f", surely in more than {low:.1%} of all; allowed {budget:.0%}" if beyond else f"; allowed {budget:.0%}"
    text += sampled.told(images)
    details = {"ruined": ruined, "images": images, "budget": budget, "low": low, "high": high,
               **sampled.details(images)}  # fmt: skip
    return Verdict(Outcome.FAIL if beyond else Outcome.PASS, text, details)


def images_decide(verdicts: Mapping[str, Verdict]) -> bool:
    """Whether no more images have to be asked for verdicts on the metrics of one data set and on its tail: each metric
    is PASS or FAIL, and the share of ruined images is known to be on one side of its budget. A PASS of the tail alone
    is not enough: it says only that nothing was proved."""
    return all(
        verdict.outcome is Outcome.FAIL
        or (verdict.outcome is Outcome.PASS and verdict.details["high"] <= verdict.details.get("budget", math.inf))
        for verdict in verdicts.values()
    )


def of_seeded(verdict: Verdict, precision: Precision, metric: str) -> Verdict:
    """The verdict on a metric, or on the "tail", where weights are seeded. Hardly an answer of such a network has a
    margin that eight bits keep, so that at INT8 nothing is judged; at FP16 a few in a hundred have none either, at BF16
    more, so that a metric's drop fails nothing, while the tail is judged."""
    spares = precision in (Precision.FP16, Precision.BF16) and metric != "tail" and verdict.outcome is Outcome.FAIL
    if precision is not Precision.INT8 and not spares:
        return verdict
    kind = str(precision).upper()
    text = f"reported, not judged, because seeded weights do not show what {kind} costs trained ones: {verdict.text}"
    return replace(verdict, outcome=Outcome.INCONCLUSIVE, text=text)


def _drop(chip: Score, reference: Score, metric: str, counted: bool, confidence: float) -> Drop:
    """The drop with its bounds: exact where answers are `counted`, else from a paired bootstrap."""
    if counted:
        return paired_drop(chip.hits[metric], reference.hits[metric], confidence)
    return paired_bootstrap(
        chip.resample,
        reference.resample,
        metric,
        chip.samples,
        confidence=confidence,
        answers=reference.answers.get(metric),
    )


def _needed(drop: Drop, slack: float, reference: Score, metric: str, counted: bool, look: int) -> int | None:
    """How many more images would decide; None when no reasonable number would."""
    if counted:
        return needed(drop, slack, int(np.count_nonzero(reference.hits[metric])), look)
    return more_images(drop, slack, answers=reference.answers.get(metric), look=look)


def _too_few(metric: str, after: float, before: float, images: int, more: int | None, sampled: Sampled) -> Verdict:
    """INCONCLUSIVE, because most bootstrap draws of so few images leave the metric undefined."""
    ask = sampled.wanted(more) if more else "give other images"
    text = (
        f"{metric} {percent(after)} against {percent(before)} of the reference, but most draws of {images} images "
        f"leave it undefined: no bound can be given; {ask}"
    )
    details = {"metric": metric, "measured": after, "reference": before, "drop": relative_drop(before, after),
               "samples": images, **sampled.details(images), **sampled.lacks(more)}  # fmt: skip
    return Verdict(Outcome.INCONCLUSIVE, text, details)


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
    until the row is deleted. More than `TOO_GOOD` above the figure is INVALID.

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
    seen = f"{aim.metric} {percent(measured)}, {percent(drop)} below the chip's published {percent(aim.value)}"
    if source:
        seen = f"{aim.metric} {percent(measured)}, {percent(drop)} below the authors' {percent(aim.value)}"
    if deviation is not None:
        return _deviating(measured, bound, cell, deviation, seen, details)
    text = f"{seen}; asked at least {percent(bound)} ({aim.document}, {aim.section})"
    if measured > (1 + TOO_GOOD) * aim.value:
        cause = "another metric or other labels are scored, or images that were trained on"
        return Verdict(Outcome.INVALID, f"{text}; more than {percent(TOO_GOOD)} above it: {cause}", details)
    return Verdict(Outcome.PASS if measured >= bound else Outcome.FAIL, text, details)


def _deviating(
    measured: float, bound: float, cell: Cell | None, deviation: Deviation, seen: str, details: dict[str, Any]
) -> Verdict:
    """The verdict under a known deviation: the bound is the chip's own published figure; reaching the usual bound is a
    FAIL until the row is deleted."""
    row = f"{deviation.file}:{deviation.line}"
    if measured >= bound:
        text = f"{seen}; asked at least {percent(bound)}: the deviation at {row} no longer occurs, delete it"
        return Verdict(Outcome.FAIL, text, details)
    if cell is None:
        raise InvalidMeasurement(f"{row} excuses a case without a published figure", hint="delete the row")
    details["bound"] = gate = cell.lowest
    text = (
        f"{seen}, a known deviation ({row}: {deviation.reason}); asked the published "
        f"{percent(cell.value)}, that is at least {percent(gate)}"
    )
    return Verdict(Outcome.PASS if measured >= gate else Outcome.FAIL, text, details)
