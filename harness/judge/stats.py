"""How sure a number is: exact paired bounds, paired bootstrap, intervals of throughputs and of their ratios.

Intervals are two-sided at 95 % unless said otherwise, so that each end is a one-sided bound at 97.5 %; bounds of a
drop are one-sided at 95 %, the usual level of a non-inferiority test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.errors import InvalidMeasurement

CONFIDENCE = 0.95
RESAMPLES = 1000
MOST_DRAWS = 2  # for each that is wanted of a bootstrap: at least half of them must define the metric
FEWEST_WINDOWS = 3
PLENTY = 10_000_000  # samples; who needs more will not get a decision

Resample = Callable[[NDArray[np.int64]], Mapping[str, float]]


@dataclass(frozen=True)
class Estimate:
    """A value with its interval. `spread` is the coefficient of variation of the `samples` it rests on."""

    value: float
    low: float
    high: float
    spread: float
    samples: int

    def __str__(self) -> str:
        return f"{self.value:.6g} [{self.low:.6g}, {self.high:.6g}]"


@dataclass(frozen=True)
class Drop:
    """Relative drop (reference - chip) / reference of an accuracy, with one-sided bounds. Negative: the chip is better.

    `lost` answers only the reference had right, `gained` ones only the chip had; None where they cannot be counted.
    Bounds are infinite where there are too few samples to say anything."""

    value: float
    low: float
    high: float
    samples: int
    lost: int | None = None
    gained: int | None = None


def relative_drop(reference: float, measured: float) -> float:
    """(reference - measured) / reference. Raises InvalidMeasurement when that has no meaning."""
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
    """Exact bounds of the drop in accuracy from two arrays of right and wrong answers to the same questions.

    Given which answers the reference has right, the answers lost among them and those gained among the others are two
    independent binomial counts, and the drop is lost share - gained share x wrong / right. Each share gets its
    Clopper-Pearson bound at a part of alpha, so that both hold together (Bonferroni): coverage is at least
    `confidence` for any sample size. The upper bound leaves 99 % of alpha to the losses: with none of 300 answers lost
    it is 1.00 %, the rule of three (Hanley and Lippman-Hand, JAMA 249, 1983). The lower bound halves alpha.

    Raises InvalidMeasurement for arrays of different length, and when the reference has nothing right."""
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
    """Exact one-sided p-value against "the chip loses no more than it gains": P(X >= lost), X ~ Bin(lost + gained, 1/2)
    (McNemar, Psychometrika 12, 1947)."""
    from scipy.special import bdtrc  # the survival function of a binomial count

    return float(bdtrc(lost - 1, lost + gained, 0.5)) if lost + gained else 1.0


def needed(drop: Drop, slack: float, right: int, confidence: float = CONFIDENCE) -> int | None:
    """How many more samples would decide whether the drop exceeds `slack`, at the rates seen so far; None when no
    reasonable number would. `right` is how many the reference has right. For counted answers only."""
    if drop.lost is None or drop.gained is None:
        raise ValueError("only drops of counted answers can be extrapolated; use more_images for the others")
    lost, gained = drop.lost, drop.gained

    def decided(samples: int) -> bool:
        grown = samples / drop.samples
        hits = round(right * grown)
        at = _drop_bounds(
            min(round(lost * grown), hits), min(round(gained * grown), samples - hits), hits, samples, 1 - confidence
        )
        return at.high <= slack or at.low > slack

    return _smallest_more(decided, drop.samples)


def _smallest_more(decided: Callable[[int], bool], start: int) -> int | None:
    """Samples beyond `start` at which `decided` first holds, found by doubling and halving."""
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
    """Bounds of the drop of a metric that is no mean over images (AP), from resampling the images.

    Both sides are computed again on the same draw of `samples` images with replacement, given as counts that follow a
    multinomial law; the bounds are percentiles of the drops (Efron and Tibshirani, An Introduction to the Bootstrap,
    1993, chapter 13). A bootstrap cannot see what happens less than once in all the `answers` that the metric rests on
    (faces, objects; default: one an image), so the upper bound is never below `unseen_share(answers)`.

    Draws on which the reference finds nothing are drawn again. Where most draws are such, the images are too few: the
    bounds are infinite.

    Raises InvalidMeasurement when the reference finds nothing, or a metric is not a number, on the images as they are.
    """
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
    low, high = np.quantile(drops, [1 - confidence, confidence])
    return Drop(value, float(low), max(float(high), unseen_share(answers or samples, confidence)), samples)


def images_to_resample(reference: Resample, metric: str, samples: int, draws: int = 100, seed: int = 0) -> int | None:
    """How many more images, such as the `samples` there are, would let most draws define the metric, so that a
    bootstrap can say something; None when no reasonable number would."""
    shares = np.full(samples, 1 / samples)

    def mostly_defined(images: int) -> bool:
        rng = np.random.default_rng(seed)
        values = [float(reference(rng.multinomial(images, shares))[metric]) for _ in range(draws)]
        return sum(math.isfinite(value) and value > 0 for value in values) > draws / 2

    return _smallest_more(mostly_defined, samples)


def more_images(drop: Drop, slack: float, confidence: float = CONFIDENCE, answers: int | None = None) -> int | None:
    """How many more images would decide a bootstrap: its width shrinks with the root of their number, and the share
    that may be unseen with the number itself. None when the drop is too close to the slack."""
    half = drop.value - drop.low
    each = (answers or drop.samples) / drop.samples
    if drop.high > unseen_share(drop.samples * each, confidence):
        half = max(half, drop.high - drop.value)

    def decided(images: int) -> bool:
        width = half * math.sqrt(drop.samples / images)
        passes = max(drop.value + width, unseen_share(images * each, confidence)) <= slack
        return passes or drop.value - width > slack

    return _smallest_more(decided, drop.samples)


def throughput(rates: Sequence[float] | NDArray[np.float64], confidence: float = CONFIDENCE) -> Estimate:
    """Mean rate of equally long windows, with a t-interval that allows for their correlation. Its lower end is taken on
    the log scale (delta method), for no rate is below zero.

    Neighbouring windows of a device share its clock and heat; with lag-one correlation r, n of them are worth
    n (1 - r) / (1 + r) (Priestley, Spectral Analysis and Time Series, 1981, 5.3.2; Bartlett's large-sample variance
    of the mean of a first-order autoregression). r is corrected for its bias (1 + 3 r) / n in small samples (Kendall,
    Biometrika 41, 1954), and a negative one counts as zero.

    Raises InvalidMeasurement for fewer than three windows and for rates that are not positive numbers."""
    x = np.asarray(rates, dtype=np.float64)
    if x.size < FEWEST_WINDOWS or not np.isfinite(x).all() or (x <= 0).any():
        raise InvalidMeasurement(
            f"{x.size} windows, rates from {np.min(x) if x.size else 'none'} to {np.max(x) if x.size else 'none'}: "
            "no throughput can be estimated",
            hint=f"measure at least {FEWEST_WINDOWS} windows, and look at the clock",
        )
    mean = float(x.mean())
    half = _half_width(x, confidence) / mean
    return Estimate(mean, mean * math.exp(-half), mean * (1 + half), float(x.std(ddof=1)) / mean, x.size)


def _half_width(x: NDArray[np.float64], confidence: float) -> float:
    """Half the interval of the mean of correlated samples."""
    from scipy.special import stdtrit  # quantiles of Student's t; scipy.stats takes twice as long to import

    n = x.size
    worth = max(2.0, n * (1 - (r := _correlation(x))) / (1 + r))
    return float(stdtrit(worth - 1, (1 + confidence) / 2) * x.std(ddof=1) / math.sqrt(worth))


def _correlation(x: NDArray[np.float64]) -> float:
    """Lag-one correlation, corrected for the bias of small samples, within [0, 0.95]."""
    d = x - x.mean()
    total = float(d @ d)
    if total <= 1e-24 * x.size * float(x.mean()) ** 2:
        return 0.0
    r = float(d[1:] @ d[:-1]) / total
    return min(0.95, max(0.0, r + (1 + 3 * r) / x.size))


def ratio_interval(a: Estimate, b: Estimate) -> Estimate:
    """a / b of independent estimates, combined on the log scale from their own intervals (method of variance estimates
    recovery: Zou and Donner, Statistics in Medicine 27, 2008). An exact b has low = high = value."""
    if min(a.low, b.low) <= 0:
        raise InvalidMeasurement(
            f"an interval reaches zero: {a} over {b}", hint="measure more windows, on a device that does nothing else"
        )
    value = a.value / b.value
    down = math.hypot(math.log(a.value / a.low), math.log(b.high / b.value))
    up = math.hypot(math.log(a.high / a.value), math.log(b.value / b.low))
    return Estimate(value, value * math.exp(-down), value * math.exp(up), math.hypot(a.spread, b.spread), a.samples)


def paired_ratio(
    a: Sequence[float] | NDArray[np.float64], b: Sequence[float] | NDArray[np.float64], confidence: float = CONFIDENCE
) -> Estimate:
    """Geometric mean of a[i] / b[i] for windows measured in turn, with the interval of `throughput` on the log scale:
    whatever slows both of a pair cancels.

    Raises InvalidMeasurement for series of different length and as `throughput` does."""
    if len(a) != len(b):
        raise InvalidMeasurement(f"{len(a)} windows against {len(b)}", hint="measure both in turn, a pair a time")
    throughput(a), throughput(b)
    logs = np.log(np.asarray(a, dtype=np.float64) / np.asarray(b, dtype=np.float64))
    value, half = float(np.exp(logs.mean())), _half_width(logs, confidence)
    spread = float(np.exp(logs).std(ddof=1)) / value
    return Estimate(value, value * math.exp(-half), value * math.exp(half), spread, logs.size)


def exact(value: float) -> Estimate:
    """A number taken as it stands, such as a published one."""
    return Estimate(value, value, value, 0.0, 1)
