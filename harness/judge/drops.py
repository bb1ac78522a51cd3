"""How sure a drop in accuracy is: exact bounds of paired answers, a paired bootstrap of images for other metrics.

Bounds are one-sided at 95 %, the usual level of a non-inferiority test, and at another level where a verdict is tried
again after every block of images (`looks`, stats.spent).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.errors import InvalidMeasurement
from harness.judge.stats import CONFIDENCE, PLENTY, quantile, spent

RESAMPLES = 1000
MOST_DRAWS = 2  # draws for each resample that is wanted: at least half of the draws must define the metric
FIRST_LOOK = 512  # images: with none of 399 right answers lost (a top-1 of 78 %), 1 % is excluded at half of alpha
CLOSE_TO_ALL = 2 / 3  # of the images: so near to the end no look is taken, which would leave less of alpha for the last

Resample = Callable[[NDArray[np.int64]], Mapping[str, float]]


def looks(images: int) -> tuple[int, ...]:
    """Numbers of images after which a verdict on a set of `images` is looked at: `FIRST_LOOK`, twice as many each time,
    and all. They are fixed beforehand: error rates hold only where nothing that was seen decides when to look. A small
    set is looked at once."""
    sizes = [FIRST_LOOK]
    while sizes[-1] <= CLOSE_TO_ALL * images:
        sizes.append(2 * sizes[-1])
    return (*sizes[:-1], images)


@dataclass(frozen=True)
class Drop:
    """Relative drop (reference - chip) / reference of an accuracy, with one-sided bounds. Negative: the chip is better.

    `lost` counts the answers that only the reference has right, `gained` those that only the chip has right; both are
    None for metrics that are not counted: those have the standard `error` and the `skew` (third standardized moment) of
    a bootstrap. Bounds are infinite where there are too few samples for any."""

    value: float
    low: float
    high: float
    samples: int
    lost: int | None = None
    gained: int | None = None
    error: float = 0.0
    skew: float = 0.0


def relative_drop(reference: float, measured: float) -> float:
    """(reference - measured) / reference. Raises InvalidMeasurement for values that are not finite and for a reference
    of 0 or less."""
    if not (math.isfinite(reference) and math.isfinite(measured)):
        raise InvalidMeasurement(
            f"an accuracy is not a number: reference {reference}, measured {measured}",
            hint="look for NaN in the outputs and for images without labels",
        )
    if reference <= 0:
        raise InvalidMeasurement(
            f"the reference's accuracy is {reference}: a drop relative to it has no meaning",
            hint="give images on which the reference finds something",
        )
    return (reference - measured) / reference


def share_bounds(count: int, total: int, alpha: float) -> tuple[float, float]:
    """One-sided bounds, each at 1 - alpha, of a binomial proportion (Clopper and Pearson, Biometrika 26, 1934)."""
    from scipy.special import betaincinv

    if total == 0:
        return 0.0, 1.0
    low = 0.0 if count == 0 else float(betaincinv(count, total - count + 1, alpha))
    high = 1.0 if count == total else float(betaincinv(count + 1, total - count, 1 - alpha))
    return low, high


def paired_drop(chip: NDArray[np.bool_], reference: NDArray[np.bool_], confidence: float = CONFIDENCE) -> Drop:
    """Exact bounds of the drop in accuracy. `chip` and `reference` are bool (N,): whether each answer is right.

    Given the answers that the reference has right, the answers lost among them and those gained among the others are
    two independent binomial counts, and the drop is lost share - gained share x wrong / right. Each share gets its
    Clopper-Pearson bound at a part of alpha, so that both hold together (Bonferroni): coverage is at least
    `confidence` for any sample size. The upper bound gives 99 % of alpha to the losses: with 0 of 300 answers lost it
    is 1.00 %, the rule of three (Hanley and Lippman-Hand, JAMA 249, 1983). The lower bound halves alpha.

    Raises InvalidMeasurement for arrays of different length, and when the reference has no answer right."""
    if chip.shape != reference.shape or chip.ndim != 1:
        raise InvalidMeasurement(
            f"{chip.size} answers of the chip against {reference.size} of the reference",
            hint="score both on the same images, in the same order",
        )
    lost = int(np.count_nonzero(reference & ~chip))
    gained = int(np.count_nonzero(chip & ~reference))
    return _drop_bounds(lost, gained, int(np.count_nonzero(reference)), chip.size, 1 - confidence)


def _drop_bounds(lost: int, gained: int, right: int, total: int, alpha: float) -> Drop:
    value = relative_drop(right, right - lost + gained)
    odds = (total - right) / right
    high = share_bounds(lost, right, 0.99 * alpha)[1] - odds * share_bounds(gained, total - right, 0.01 * alpha)[0]
    low = share_bounds(lost, right, alpha / 2)[0] - odds * share_bounds(gained, total - right, alpha / 2)[1]
    return Drop(value, low, high, total, lost, gained)


def mcnemar(lost: int, gained: int) -> float:
    """Exact one-sided p-value of the null hypothesis "the chip loses no more answers than it gains": P(X >= lost),
    X ~ Bin(lost + gained, 1/2) (McNemar, Psychometrika 12, 1947)."""
    from scipy.special import bdtrc  # the survival function of a binomial count

    return float(bdtrc(lost - 1, lost + gained, 0.5)) if lost + gained else 1.0


def needed(drop: Drop, slack: float, right: int, look: int = 1) -> int | None:
    """How many more samples, of which one is an image, would decide whether the drop exceeds `slack`, at the rates seen
    so far and at the last of their `looks`, which is no earlier than `look`; None when more than `PLENTY` would be
    needed. `right` is the number of answers that the reference has right. Raises ValueError for a drop without counted
    answers."""
    if drop.lost is None or drop.gained is None:
        raise ValueError("only drops of counted answers can be extrapolated; use more_images for the others")
    lost, gained = drop.lost, drop.gained

    def decided(samples: int) -> bool:
        grown = samples / drop.samples
        hits = round(right * grown)
        alpha = (1 - CONFIDENCE) * spent(max(look, len(looks(samples))), last=True)
        at = _drop_bounds(round(lost * grown), min(round(gained * grown), samples - hits), hits, samples, alpha)
        return at.high <= slack or at.low > slack

    return _smallest_more(decided, drop.samples)


def _smallest_more(decided: Callable[[int], bool], start: int) -> int | None:
    """How many samples beyond `start` make `decided` true, found by doubling and bisection; None beyond `PLENTY`."""
    if decided(start):
        return 0
    low, high = start, start * 2
    while not decided(high):
        low, high = high, high * 2
        if high > PLENTY:
            return None
    while high - low > max(1, high // 200):
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high - start


def unseen_share(samples: float, confidence: float = CONFIDENCE) -> float:
    """Share of samples that may misbehave although none of `samples` did: 1 - (1 - confidence)^(1/n), about 3/n."""
    return float(1 - (1 - confidence) ** (1 / samples))


def paired_bootstrap(
    chip: Resample,
    reference: Resample,
    metric: str,
    samples: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    answers: int | None = None,
) -> Drop:
    """Bounds of the drop of a metric that is not a mean over images (AP), from resampling the images.

    Both sides are computed on the same draw of `samples` images with replacement, given as multinomial counts (Efron
    and Tibshirani, An Introduction to the Bootstrap, 1993). The bounds come from the standard deviation and the
    skewness of the drops (resampled_bounds), so that they exist at any level. `answers` is the number that the metric
    counts (faces, objects; default: one an image).

    A draw on which the reference's metric is 0 or undefined is replaced by another. Where more than half of the draws
    are like that, there are too few images and the bounds are infinite.

    Raises InvalidMeasurement when, on all images, the reference's metric is 0 or a metric is not a number."""
    ones = np.ones(samples, dtype=np.int64)
    value = relative_drop(float(reference(ones)[metric]), float(chip(ones)[metric]))
    rng = np.random.default_rng(seed)
    shares = np.full(samples, 1 / samples)
    drops: list[float] = []
    for _ in range(MOST_DRAWS * resamples):
        weights = rng.multinomial(samples, shares)
        before, after = float(reference(weights)[metric]), float(chip(weights)[metric])
        if before > 0 and math.isfinite(before) and math.isfinite(after):
            drops.append((before - after) / before)
        if len(drops) == resamples:
            break
    if len(drops) < resamples:
        return Drop(value, -math.inf, math.inf, samples)
    error = float(np.std(drops))
    skew = float(np.mean((np.array(drops) - np.mean(drops)) ** 3)) / error**3 if error else 0.0
    low, high = resampled_bounds(value, error, skew, samples, answers or samples, 1 - confidence)
    return Drop(value, low, high, samples, error=error, skew=skew)


def resampled_bounds(
    value: float, error: float, skew: float, samples: int, answers: int, alpha: float
) -> tuple[float, float]:
    """One-sided bounds, each at 1 - `alpha`, of a drop whose bootstrap over `samples` images has the standard `error`
    and `skew`.

    Student's t, and on the side of the longer tail (2 t^2 + 1) skew / 6 standard errors more (Hall, J. R. Statist. Soc.
    B 54, 1992). Where losses are whole events, such as images that are lost, few may have been seen by chance, so the
    upper bound allows for one more. The size of an event is skew x error (exact for a Poisson number of equal events),
    and at least one of the `answers`. An event rarer than one in the answers is not seen at all: the upper bound is
    never below `unseen_share(answers)`. By simulation (tests/unit/judge), at most 5 % of drops exactly as large as
    is allowed are judged wrongly either way, over all looks. More of them pass where what is lost lies in a few images
    that hold many answers, or in fewer images than such a sample shows: no resampling sees what is not in it."""
    t = quantile(max(samples, 2), alpha)
    bend = skew * (2 * t * t + 1) / 6
    low = value - error * (t + max(-bend, 0.0))
    high = value + error * (t + max(bend, 0.0)) + max(skew * error, 1 / answers)
    return low, max(high, unseen_share(answers, 1 - alpha))


def images_to_resample(reference: Resample, metric: str, samples: int, draws: int = 100, seed: int = 0) -> int | None:
    """How many more images like the `samples` given would define the metric in most draws, so that a bootstrap gives
    bounds; None when more than `PLENTY` would be needed."""
    shares = np.full(samples, 1 / samples)

    def mostly_defined(images: int) -> bool:
        rng = np.random.default_rng(seed)
        values = [float(reference(rng.multinomial(images, shares))[metric]) for _ in range(draws)]
        return sum(math.isfinite(value) and value > 0 for value in values) > draws / 2

    return _smallest_more(mostly_defined, samples)


def more_images(drop: Drop, slack: float, answers: int | None = None, look: int = 1) -> int | None:
    """How many more images would make a bootstrap decide at the last of their `looks`, which is no earlier than `look`;
    None when the drop is too close to the slack. Error and skew shrink with the square root of the number of images."""
    each = (answers or drop.samples) / drop.samples

    def decided(images: int) -> bool:
        root = math.sqrt(images / drop.samples)
        alpha = (1 - CONFIDENCE) * spent(max(look, len(looks(images))), last=True)
        low, high = resampled_bounds(
            drop.value, drop.error / root, drop.skew / root, images, round(images * each), alpha
        )
        return high <= slack or low > slack

    return _smallest_more(decided, drop.samples)
