"""How sure a speed is: intervals of throughputs and of their ratios, from windows and from fresh sessions.

Intervals are two-sided at 95 % unless said otherwise, so that each end is a one-sided bound at 97.5 %. `Estimate.bound`
and `confidence_at` give bounds at another level, for verdicts that are tried again after every block of windows or
images (`spent`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from harness.errors import InvalidMeasurement

CONFIDENCE = 0.95
FEWEST_WINDOWS = 3
# thresholds above which an interval of windows is doubtful; shares are of 3,000 simulated series, see tests/unit/judge
FULL = 40  # windows: a clock that changes in one window of ten stays unseen in 1.6 % of series (0.9**39), in 14 % at 20
UNSEEN = 0.05  # relative: a clock state that was not seen may differ by this much from those that were
CORRELATED = 0.30  # lag-one correlation: 40 independent windows exceed it in 2 %, those of an AR(0.9) in 99.9 %
OUTLIER = 0.10  # distance from the median, relative
SKEWNESS = 1.0  # with outliers: the slow windows are a second population (40 normal windows: mean 0, sd 0.37)
SKEWED_WIDTH = 1.5  # factor on the interval below SKEWED windows: with one slow window in ten, 40 windows cover 98 %
SESSIONS = 6  # fresh sessions: each in the faster of two clock states by chance in 1.6 % (2**-6), five in 3.1 %
SESSIONS_CONFIDENCE = 0.965  # of 5 % error, 1.5 % is left to a first session that shows one of two states alone
SESSION_WINDOWS = 4  # windows of each after the first: with its 20, a full series
POOLED = 0.25  # a chance above this that their windows alone explain how sessions differ: windows count, not sessions
SKEWED = 120  # windows at which the usual interval covers 94 % although one in ten is 20 % slow (40 windows: 90.5 %)
PLENTY = 10_000_000  # samples: a decision that needs more is reported as out of reach


@dataclass(frozen=True)
class Estimate:
    """A value with its two-sided interval `low` to `high`.

    `spread` is the coefficient of variation of the `samples`; `worth` is the effective sample size (number of
    independent samples with the same information). `doubt` says why the samples allow no 95 % interval, or is "";
    with a doubt the interval is wider. `allowance` is the part of that for unseen clock states, on the log scale.
    `sessions` counts the fresh sessions that were measured. `slow`: neighbouring samples are alike, so that a fresh
    session tells more than further samples of the same."""

    value: float
    low: float
    high: float
    spread: float
    samples: int
    worth: float = math.inf
    doubt: str = ""
    allowance: float = 0.0
    sessions: int = 1
    slow: bool = False

    def __str__(self) -> str:
        return f"{self.value:.6g} [{self.low:.6g}, {self.high:.6g}]"

    @property
    def width(self) -> float:
        """high / low, infinite where low is not above zero."""
        return self.high / self.low if self.low > 0 else math.inf

    def distance(self, alpha: float, *, upper: bool) -> float:
        """Distance on the log scale from the value to its one-sided bound at 1 - `alpha`.

        It is the interval's own distance, scaled by the quantiles of Student's t. The allowance is not scaled."""
        if upper:
            seen = math.log(self.high / self.value)
        else:
            seen = math.log(self.value / self.low) if self.low > 0 else math.inf
        if seen == 0:
            return 0.0
        return (seen - self.allowance) * quantile(self.worth, alpha) / quantile(self.worth, 0.025) + self.allowance

    def bound(self, alpha: float, *, upper: bool) -> float:
        """The upper or lower one-sided bound at confidence 1 - `alpha`."""
        away = self.distance(alpha, upper=upper)
        return self.value * math.exp(away if upper else -away)


@lru_cache(maxsize=4096)
def quantile(worth: float, alpha: float) -> float:
    """Upper `alpha` quantile of Student's t for the mean of `worth` independent samples."""
    from scipy.special import ndtri, stdtrit  # scipy.stats takes twice as long to import

    return float(ndtri(1 - alpha) if math.isinf(worth) else stdtrit(worth - 1, 1 - alpha))


def spent(look: int, last: bool = False) -> float:
    """Share of the allowed error that is spent at the `look`-th look, from 1 on: 1 / (look (look + 1)); what is left,
    1 / look, at one that is known beforehand to be the last.

    The shares of any number of looks sum to at most 1, so by the union bound the error of all looks together
    stays within the allowed error, for dependent looks and any stopping rule. This is alpha spending (Lan and DeMets,
    Biometrika 70, 1983) without a planned number of looks (Darling and Robbins, PNAS 58, 1967)."""
    return 1 / look if last else 1 / (look * (look + 1))


def confidence_at(share: float) -> float:
    """Confidence of the bounds at a look that may spend that share of the allowed error (`spent`)."""
    return 1 - (1 - CONFIDENCE) * share


def throughput(rates: Sequence[float] | NDArray[np.float64], confidence: float = CONFIDENCE) -> Estimate:
    """Mean rate of equally long windows, in the unit of `rates`, with a t-interval that allows for their correlation.
    The lower end is taken on the log scale (delta method), because no rate is below zero.

    Neighbouring windows share the clock and temperature of the device. With lag-one correlation r, n windows are worth
    n (1 - r) / (1 + r) independent ones (Priestley, Spectral Analysis and Time Series, 1981, 5.3.2; Bartlett's
    large-sample variance of the mean of a first-order autoregression). r, products over squares about the mean of all
    windows, is too low by (1 + 4 r) / n and corrected for that (Marriott and Pope, Biometrika 41, 1954); a negative r
    counts as zero.

    Where `doubt` gives a reason, the interval is widened.

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
    spread = float(x.std(ddof=1)) / mean
    return _widened(mean, half, math.log1p(half), spread, np.log(x / mean), x)


def over_sessions(series: Sequence[Sequence[float]]) -> Estimate:
    """Mean rate of a device from several fresh sessions, each with the rates of its windows.

    Each session is one observation: Student's t over their means, which holds however alike the windows of a session
    are, when a fresh session draws the state of the device anew. It is at `SESSIONS_CONFIDENCE`, because further
    sessions are measured only where the first shows that it is not enough: a first session of `FULL` windows all in
    one of two clock states (1.6 % of series) is believed.

    Where sessions differ no more than their windows explain (F test, random effects), the interval is that of
    `throughput` of all windows. Pooling after such a test errs little when its level is as high as `POOLED` (Bozivich,
    Bancroft and Hartley, Ann. Math. Statist. 27, 1956).

    Fewer than `SESSIONS` are one series of windows. Raises as `throughput` does."""
    from scipy.special import fdtrc  # the survival function of F

    every = replace(throughput([rate for rates in series for rate in rates]), sessions=len(series))
    if len(series) < SESSIONS:
        return every
    means, sizes = np.array([np.mean(rates) for rates in series]), np.array([len(rates) for rates in series])
    between = float(sizes @ (means - every.value) ** 2) / (len(series) - 1)
    rest = every.samples - len(series)
    within = sum(float(np.var(rates)) * len(rates) for rates in series) / rest if rest else 0.0
    if every.samples >= FULL and within and fdtrc(len(series) - 1, rest, between / within) > POOLED:
        return every
    mean = float(means.mean())
    far = quantile(len(series), (1 - SESSIONS_CONFIDENCE) / 2)
    half = far * float(means.std(ddof=1)) / math.sqrt(len(series)) / mean
    return Estimate(
        mean, mean / (1 + half), mean * (1 + half), every.spread, every.samples, len(series), sessions=len(series)
    )


def _widened(
    value: float, down: float, up: float, spread: float, logs: NDArray[np.float64], series: NDArray[np.float64]
) -> Estimate:
    """`value` with an interval `down` and `up` from it on the log scale, wider where there is a doubt about `series`.
    `logs` holds the samples relative to the value, on the log scale.

    Fewer than `FULL` samples: the interval covers all samples and the usual interval, plus `UNSEEN` at both ends.
    Correlated samples: the interval is the range of the samples, because with so few independent ones Student's t can
    give any width; by simulation the mean lies in that range in 97 to 100 % of cases. Samples with outliers: the usual
    interval times `SKEWED_WIDTH`."""
    why, slow, worth, allowance = doubt(series), _alike(series), _worth(logs), 0.0
    below, above = -float(logs.min()), float(logs.max())
    if logs.size < FULL:
        allowance = math.log1p(UNSEEN)
        down, up = max(down, below) + allowance, max(up, above) + allowance
    elif why and slow:
        down, up, worth = below, above, math.inf
    elif why:
        down, up = SKEWED_WIDTH * down, SKEWED_WIDTH * up
    low, high = value * math.exp(-down), value * math.exp(up)
    return Estimate(value, low, high, spread, logs.size, worth, why, allowance, slow=slow)


def doubt(series: NDArray[np.float64]) -> str:
    """Why the mean of these windows has no 95 % interval, or "".

    By simulation, an interval without a doubt covers the mean in 93 to 97 % of cases, for independent and mildly
    correlated windows, heavy tails, and clocks that switch. Windows with a slowly varying speed (AR(0.9)) raise a doubt
    in 99 % of cases."""
    if series.size < FULL:
        return f"{series.size} windows do not show a clock that changes seldom, {FULL} do"
    if _alike(series):
        r = _raw_correlation(series)
        return f"neighbouring windows are alike (correlation {r:.2f}; up to {CORRELATED:g} is noise)"
    middle = float(np.median(series))
    out = int(np.count_nonzero(np.abs(series / middle - 1) > OUTLIER))
    d = series - series.mean()
    if out and series.size < SKEWED and abs(float((d**3).mean())) > SKEWNESS * float((d**2).mean()) ** 1.5:
        return f"{out} of {series.size} windows lie over {OUTLIER:.0%} from the median; {SKEWED} windows show how often"
    return ""


def _alike(series: NDArray[np.float64]) -> bool:
    return _raw_correlation(series) > CORRELATED


def _half_width(x: NDArray[np.float64], confidence: float) -> float:
    """Half the width of the t-interval of the mean of correlated samples, in their unit."""
    worth = _worth(x)
    return quantile(worth, (1 - confidence) / 2) * float(x.std(ddof=1)) / math.sqrt(worth)


def _worth(x: NDArray[np.float64]) -> float:
    """Effective sample size for the mean: the number of independent samples with the same information, at least 2."""
    r = _raw_correlation(x)
    r = min(0.95, max(0.0, r + (1 + 4 * r) / x.size)) if r else 0.0  # corrected for the bias of small samples
    return max(2.0, x.size * (1 - r) / (1 + r))


def _raw_correlation(x: NDArray[np.float64]) -> float:
    """Lag-one correlation; 0 when the samples are equal up to rounding."""
    d = x - x.mean()
    total = float(d @ d)
    if total <= 1e-24 * x.size * max(1.0, float(x.mean()) ** 2):
        return 0.0
    return float(d[1:] @ d[:-1]) / total


def more_windows(seen: Estimate, bound: float) -> int | None:
    """How many more windows would move the interval off `bound`; None when more than `PLENTY` would be needed.

    The width of the interval shrinks with the square root of the number of windows. The total is at least `FULL`, but
    for pairs whose interval is that of Student's t: these are enough where the bound is beyond the allowance."""
    away = abs(math.log(seen.value / bound))
    upper = seen.value < bound
    half = seen.distance(0.025, upper=upper) - seen.allowance
    if away == 0:
        return None
    wanted = max(FULL, seen.samples * (half / away) ** 2)
    if not seen.doubt and 0 < seen.allowance < away:
        wanted = min(wanted, seen.samples * (half / (away - seen.allowance)) ** 2)
    return None if wanted > PLENTY else max(1, math.ceil(wanted - seen.samples))


def ratio_interval(a: Estimate, b: Estimate) -> Estimate:
    """a / b of independent estimates, combined on the log scale from their own intervals (method of variance estimates
    recovery: Zou and Donner, Statistics in Medicine 27, 2008). An exact b has low = high = value. Raises
    InvalidMeasurement when an interval reaches zero."""
    if min(a.low, b.low) <= 0:
        raise InvalidMeasurement(
            f"an interval reaches zero: {a} over {b}", hint="measure more windows, on a device that does nothing else"
        )
    value = a.value / b.value
    down = math.hypot(math.log(a.value / a.low), math.log(b.high / b.value))
    up = math.hypot(math.log(a.high / a.value), math.log(b.value / b.low))
    low, high = value * math.exp(-down), value * math.exp(up)
    return Estimate(value, low, high, math.hypot(a.spread, b.spread), min(a.samples, b.samples), min(a.worth, b.worth))


def paired_ratio(
    a: Sequence[float] | NDArray[np.float64], b: Sequence[float] | NDArray[np.float64], confidence: float = CONFIDENCE
) -> Estimate:
    """Geometric mean of a[i] / b[i] for windows measured in turn, with the interval of `throughput` on the log scale.
    Load that slows both windows of a pair cancels, and so does a clock state: fewer than `FULL` pairs have Student's t
    plus `UNSEEN` at both ends, and cover all pairs only where neighbouring ones are alike. By simulation
    (tests/unit/judge) at most 2.5 % of ratios exactly at a bound are then decided wrongly, over all looks.

    Raises InvalidMeasurement for series of different length and as `throughput` does."""
    if len(a) != len(b):
        raise InvalidMeasurement(f"{len(a)} windows against {len(b)}", hint="measure both in turn, a pair a time")
    throughput(a), throughput(b)
    logs = np.log(np.asarray(a, dtype=np.float64) / np.asarray(b, dtype=np.float64))
    value, half = float(np.exp(logs.mean())), _half_width(logs, confidence)
    spread = float(np.exp(logs).std(ddof=1)) / value
    pairs = np.exp(logs)
    if logs.size >= FULL or _alike(pairs):
        return _widened(value, half, half, spread, logs - logs.mean(), pairs)
    away = half + math.log1p(UNSEEN)
    low, high = value * math.exp(-away), value * math.exp(away)
    return Estimate(value, low, high, spread, logs.size, _worth(logs), allowance=math.log1p(UNSEEN))


def exact(value: float) -> Estimate:
    """A number without uncertainty, such as a published figure, as an Estimate."""
    return Estimate(value, value, value, 0.0, 1)
