"""Throughputs on record: what this run measured of a line-up, and the best of another chip."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from harness.case import Case
from harness.judge.stats import Estimate
from harness.report.records import Record
from harness.vocabulary import Outcome


@dataclass(frozen=True)
class Speed:
    """What was measured of a case: images a second and card, and seconds of one execute."""

    estimate: Estimate
    latency: float
    sound: bool  # False: the measurement was INVALID
    marks: tuple[str, ...]  # of its record: they hold for what is concluded from it
    ratio: float | None = None  # of its verdict: to what is published, or to eager PyTorch


def by_batch(records: Iterable[Record], lineup: Case) -> dict[int, Speed]:
    """The throughputs of a line-up, by batch."""
    return {
        record.case.batch: _speed(record)
        for record in records
        if _measured(record) and replace(record.case, batch=lineup.batch) == lineup
    }


def best_of(records: Iterable[Record], lineup: Case, chip: str) -> Speed | None:
    """The best batch of another chip, of the line-up's model and precision, measured for real; None without one."""
    found = [
        _speed(record)
        for record in records
        if _measured(record)
        and replace(record.case, batch=lineup.batch) == replace(lineup, chip=chip)
        and record.outcome is not Outcome.INVALID
        and not {"simulated", "emulated"} & {*record.marks}
    ]
    return max(found, key=lambda speed: speed.estimate.value, default=None)


def _measured(record: Record) -> bool:
    return record.stage == "throughput" and "measured" in record.values


def _speed(record: Record) -> Speed:
    v = record.values
    estimate = Estimate(v["measured"], v["low"], v["high"], v.get("spread") or 0.0, 1)
    return Speed(estimate, v["latency"], record.outcome is not Outcome.INVALID, record.marks, v.get("ratio"))
