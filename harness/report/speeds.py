"""Throughputs on record: what a run measured of a line-up, the best of another chip, and what follows from both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from harness import matrix
from harness.baselines import Baselines, Target
from harness.case import Case
from harness.chips import EAGER
from harness.judge.stats import Estimate
from harness.judge.throughput import judge_batches, judge_target
from harness.judge.verdict import Verdict
from harness.report.records import Record
from harness.run.case_run import peers_of
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


def best_sound(mine: Mapping[int, Speed]) -> Speed | None:
    """The best batch whose measurement can be trusted; None where there is none."""
    return max((run for run in mine.values() if run.sound), key=lambda run: run.estimate.value, default=None)


def judge_against(best: Speed, other: Speed | None, target: Target, model: str, table: Baselines) -> Verdict:
    """The ratio of the chip's best batch to the other chip's, which is measured or else published."""
    against = other.estimate if other else table.best(model, target.other)
    if against is None:
        text = f"no throughput of {model} on {target.other} is published or on record"
        return Verdict(Outcome.INCONCLUSIVE, text)
    return judge_target(best.estimate, against, target)


def judge_latencies(mine: Mapping[int, Speed], lineup: Case) -> Verdict:
    """Whether the latency depends on the batch: by the ratios to eager PyTorch where other load did not disturb one."""
    latencies = {batch: run.latency for batch, run in mine.items()}
    beside = {batch: run.ratio for batch, run in mine.items() if run.ratio is not None}
    ratios = beside if EAGER in peers_of(lineup) and len(beside) == len(mine) else None
    noise = {batch: run.estimate.spread for batch, run in mine.items()}
    return judge_batches(latencies, ratios, shared=matrix.chips()[lineup.chip].shared, noise=noise)


def _measured(record: Record) -> bool:
    return record.stage == "throughput" and "measured" in record.values


def _speed(record: Record) -> Speed:
    v = {name: value for name, value in record.values.items() if value is not None}
    estimate = Estimate(v["measured"], v["low"], v["high"], v.get("spread", 0.0), 1)
    return Speed(estimate, v["latency"], record.outcome is not Outcome.INVALID, record.marks, v.get("ratio"))
