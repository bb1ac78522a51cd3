"""One figure over many runs: since when it is another one, and what changed there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.case import Case
from harness.report.compare import MATTERS, changed_beside
from harness.report.records import Record, Run, ran
from harness.vocabulary import Outcome

ALARM = 0.01  # chance that a series without a change is given one
ORDERS = 1999  # random orders that a series is compared with
FEWEST = 11  # runs: of fewer, more than ALARM / 2 of all orders are as well sorted as the best


@dataclass(frozen=True)
class Point:
    """One run's figure of a case."""

    run: Run
    record: Record
    value: float


@dataclass(frozen=True)
class Change:
    """`first` is the first point of the new level; `relative` is the change from the level before to the one after."""

    first: Point
    before: float
    after: float
    relative: float
    beside: tuple[tuple[str, str, str], ...]


def series(runs: Sequence[Run], case: Case, stage: str, metric: str = "") -> list[Point]:
    """The figure of a case in runs of one host, oldest first: those of the host of the newest run that has it.
    Simulated and INVALID ones are no figures."""
    points = [
        Point(run, record, float(record.values["measured"] or 0.0))
        for run in sorted(runs, key=lambda run: str(run.header.get("time", "")))
        for record in run.records
        if (record.case, record.stage, record.metric) == (case, stage, metric) and ran(record)
        and record.values.get("measured") and record.outcome is not Outcome.INVALID
        and "simulated" not in record.marks
    ]  # fmt: skip
    return [point for point in points if point.run.header.get("host") == points[-1].run.header.get("host")]


def changes(points: Sequence[Point]) -> list[Change]:
    """Where the level of a series changed, oldest first. A split is a change when its CUSUM statistic (Page, Biometrika
    41, 1954) is larger than in all but ALARM / 2 of the random orders of the same figures; where no split is, a part in
    the middle that stands out is looked for in the same way (circular binary segmentation: Olshen et al., Biostatistics
    5, 2004). The sides of a change are searched in turn."""
    logs = np.log([point.value for point in points])
    found = []
    places = _places(logs, 0)
    for at in places:
        before, after = (float(part.mean()) for part in _sides(logs, at, places))
        relative = math.exp(after - before) - 1
        if abs(relative) >= MATTERS:
            beside = changed_beside(points[at - 1].run, points[at].run)
            found.append(Change(points[at], math.exp(before), math.exp(after), relative, tuple(beside)))
    return found


def _sides(values: NDArray[np.float64], at: int, places: Sequence[int]) -> tuple[NDArray[np.float64], ...]:
    """The levels on both sides of a change, each as far as the next change."""
    edges = [0, *places, len(values)]
    here = edges.index(at)
    return values[edges[here - 1] : at], values[at : edges[here + 1]]


def _places(values: NDArray[np.float64], start: int) -> list[int]:
    """Indices at which a new level begins, counted from `start`."""
    if len(values) < FEWEST:
        return []
    for statistic in (_split, _part):
        cuts, seen = statistic(values)
        chance = np.random.default_rng(0)
        higher = sum(statistic(chance.permutation(values))[1] >= seen - 1e-12 for _ in range(ORDERS))
        if (1 + higher) / (1 + ORDERS) <= ALARM / 2:
            edges = [0, *cuts, len(values)]
            inner = [_places(values[a:b], start + a) for a, b in itertools.pairwise(edges)]
            return sorted([start + cut for cut in cuts] + [place for part in inner for place in part])
    return []


def _split(values: NDArray[np.float64]) -> tuple[list[int], float]:
    """The split with the largest difference of means, in standard errors of equal values, and that difference."""
    n = len(values)
    at = np.arange(1, n)
    sums = np.cumsum(values - values.mean())[:-1]
    size = np.abs(sums) / np.sqrt(at * (n - at) / n)
    best = int(size.argmax())
    return [best + 1], float(size[best])


def _part(values: NDArray[np.float64]) -> tuple[list[int], float]:
    """The part that differs most from what is around it, as its ends."""
    n = len(values)
    sums = np.concatenate([[0.0], np.cumsum(values - values.mean())])
    length = np.abs(np.subtract.outer(np.arange(n + 1), np.arange(n + 1)))
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.abs(np.subtract.outer(sums, sums)) / np.sqrt(length * (n - length) / n)
    size[(length == 0) | (length == n)] = 0
    ends = sorted(int(i) for i in np.unravel_index(int(size.argmax()), size.shape))
    return [end for end in ends if 0 < end < n], float(size.max())
