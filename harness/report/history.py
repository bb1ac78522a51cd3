"""One figure over many runs: since when it is another one, and what changed there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.case import Case
from harness.errors import DataError
from harness.report.compare import BESIDE, HEADER, MATTERS, changed_beside
from harness.report.messages import Translate
from harness.report.records import Record, Run, ran, read_run
from harness.vocabulary import Outcome

ALARM = 0.01  # chance that a series without a change is given one
ORDERS = 1999  # random orders that a series is compared with
ELEMENTS = 100_000  # of the largest array of one step
FEWEST = 11  # runs: of fewer, more than ALARM / 2 of all orders are as well sorted as the best


Beside = tuple[tuple[str, str, str], ...]
"""What changed, before, after."""


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
    beside: Beside


@dataclass(frozen=True)
class Trend:
    """A figure of a case over runs of one host, oldest first. `marks` are places in `points` at which what is on record
    of the case is another than the run before, and what that is."""

    case: Case
    stage: str
    metric: str
    points: tuple[Point, ...]
    changes: tuple[Change, ...]
    marks: Mapping[int, Beside]


def read(folder: Path, most: int | None = None) -> tuple[list[Run], list[str]]:
    """The record files of a folder, by name, at most the last `most`; and what is wrong with those that are none.
    Raises DataError without a folder."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder", hint="give the folder that was given to pytest as --results")
    runs, wrong = [], []
    for path in sorted(folder.glob("*.jsonl"))[-(most or 0) :]:
        try:
            runs.append(read_run(path))
        except DataError as error:
            wrong.append(error.fact)
    return runs, wrong


def series(runs: Sequence[Run], case: Case, stage: str, metric: str = "") -> list[Point]:
    """The figure of a case in runs of one host, oldest first: those of the host of the newest run that has it, and on
    as many images. Simulated and INVALID ones are no figures."""
    return _series(runs).get((case, stage, metric), [])


def trends(runs: Sequence[Run]) -> list[Trend]:
    """Every figure that two runs or more have, those that changed first."""
    found = []
    known: dict[tuple[int, int], Beside] = {}
    for (case, stage, metric), points in _series(runs).items():
        if len(points) > 1:
            pairs = enumerate(itertools.pairwise(points), 1)
            marks = {at: noted for at, (a, b) in pairs if (noted := _noted(a, b))}
            found.append(Trend(case, stage, metric, tuple(points), tuple(changes(points, known)), marks))
    return sorted(found, key=lambda trend: not trend.changes)


def _series(runs: Sequence[Run]) -> dict[tuple[Case, str, str], list[Point]]:
    found: dict[tuple[Case, str, str], list[Point]] = {}
    for run in sorted(runs, key=lambda run: str(run.header.get("time", ""))):
        for record in run.records:
            value = record.values.get("measured")
            copied = record.stage == "targets"  # of the throughput of the best batch
            simulated = "simulated" in record.marks
            if value and ran(record) and record.outcome is not Outcome.INVALID and not (simulated or copied):
                point = Point(run, record, float(value))
                found.setdefault((record.case, record.stage, record.metric), []).append(point)
    for key, points in found.items():
        found[key] = [point for point in points if _under(point) == _under(points[-1])]
    return found


def _under(point: Point) -> tuple[Any, Any]:
    """Host and number of images: where either is another, so is the figure, whatever the chip does."""
    return point.run.header.get("host"), point.record.facts.get("images")


def _noted(before: Point, after: Point) -> Beside:
    """What is on record of this case alone, and of the machine, that is another one."""
    a, b = before.run.header, after.run.header
    facts = before.record.facts, after.record.facts
    alike = all(a.get(name) == b.get(name) for name in HEADER) and all(
        facts[0].get(name) == facts[1].get(name) for name in BESIDE
    )
    if alike:
        return ()
    alone = (replace(point.run, records=(replace(point.record, values={}),)) for point in (before, after))
    return tuple(changed_beside(*alone))


def changes(points: Sequence[Point], known: dict[tuple[int, int], Beside] | None = None) -> list[Change]:
    """Where the level of a series changed, oldest first. A split is a change when its CUSUM statistic (Page, Biometrika
    41, 1954) is larger than in all but ALARM / 2 of the random orders of the same figures; where no split is, a part in
    the middle that stands out is looked for in the same way (circular binary segmentation: Olshen et al., Biostatistics
    5, 2004). The sides of a change are searched in turn. `known` keeps what changed between two runs, by their ids, for
    further series of the same runs."""
    known = {} if known is None else known
    logs = np.log([point.value for point in points])
    found = []
    places = _places(logs, 0)
    for at in places:
        before, after = (float(part.mean()) for part in _sides(logs, at, places))
        relative = math.exp(after - before) - 1
        if abs(relative) >= MATTERS:
            runs = points[at - 1].run, points[at].run
            pair = id(runs[0]), id(runs[1])
            if pair not in known:
                known[pair] = tuple(changed_beside(*runs))
            found.append(Change(points[at], math.exp(before), math.exp(after), relative, known[pair]))
    return found


def told(change: Change, t: Translate) -> str:
    """A change as one sentence."""
    size = 1 if change.first.record.stage == "throughput" else 100
    before, after = (f"{size * value:,.6g}" + ("" if size == 1 else " %") for value in (change.before, change.after))
    relative = f"{100 * change.relative:+.3g} %"
    time = change.first.run.header.get("time", "")
    return t("since {time}: {before} -> {after}, {change}", time=time, before=before, after=after, change=relative)


def _sides(values: NDArray[np.float64], at: int, places: Sequence[int]) -> tuple[NDArray[np.float64], ...]:
    """The levels on both sides of a change, each as far as the next change."""
    edges = [0, *places, len(values)]
    here = edges.index(at)
    return values[edges[here - 1] : at], values[at : edges[here + 1]]


def _places(values: NDArray[np.float64], start: int) -> list[int]:
    """Indices at which a new level begins, counted from `start`."""
    if len(values) < FEWEST:
        return []
    allowed = math.floor(ALARM / 2 * (1 + ORDERS)) - 1  # orders that may be as well sorted
    for statistic, cuts in ((_splits, lambda at: [at + 1]), (_parts, lambda at: _ends(at, len(values)))):
        sizes = statistic(values)
        tried, higher, count, least = 0, 0, 64, sizes.max() - 1e-12
        while tried < ORDERS and higher <= allowed:  # more than allowed decides at once: most series are steady
            orders = values[_orders(len(values))[tried : tried + count]]
            higher += int((statistic(orders).max(axis=1) >= least).sum())
            tried, count = tried + count, max(1, min(4 * count, ELEMENTS // sizes.size))
        if higher <= allowed:
            places = cuts(int(sizes.argmax()))
            edges = [0, *places, len(values)]
            inner = [_places(values[a:b], start + a) for a, b in itertools.pairwise(edges)]
            return sorted([start + place for place in places] + [place for part in inner for place in part])
    return []


@cache
def _orders(n: int) -> NDArray[np.intp]:
    """(ORDERS, n): the random orders of n figures, the same for every series."""
    return np.random.default_rng(0).permuted(np.tile(np.arange(n), (ORDERS, 1)), axis=1)


@cache
def _error(n: int) -> NDArray[np.float64]:
    """(n + 1, n + 1): the standard error of what each part differs by; infinite for no part, and for all of it."""
    length = np.abs(np.subtract.outer(np.arange(n + 1), np.arange(n + 1)))
    error: NDArray[np.float64] = np.sqrt(length * (n - length) / n)
    error[error == 0] = np.inf
    return error


def _splits(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., n) -> (..., n - 1): the difference of means on both sides of each split, in standard errors of equal
    values."""
    n = values.shape[-1]
    at = np.arange(1, n)
    sums = np.cumsum(values - values.mean(axis=-1, keepdims=True), axis=-1)[..., :-1]
    return np.asarray(np.abs(sums) / np.sqrt(at * (n - at) / n))


def _parts(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., n) -> (..., (n + 1)^2): how much each part differs from what is around it, by its two ends (_ends)."""
    n = values.shape[-1]
    sums = np.zeros((*values.shape[:-1], n + 1))
    np.cumsum(values - values.mean(axis=-1, keepdims=True), axis=-1, out=sums[..., 1:])
    sizes = np.abs(sums[..., :, None] - sums[..., None, :]) / _error(n)
    return np.asarray(sizes.reshape(*values.shape[:-1], -1))


def _ends(at: int, n: int) -> list[int]:
    """The ends of a part of _parts that are not those of the series."""
    return [end for end in sorted(divmod(at, n + 1)) if 0 < end < n]
