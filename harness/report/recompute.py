"""Every verdict that its own record lets compute, computed again without a chip."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.baselines import Baselines
from harness.errors import DataError, HarnessError
from harness.judge.accuracy import RUINED, SLACK, judge_agreement, judge_published, of_seeded, tail_of
from harness.judge.known import excuse
from harness.judge.numerics import Tolerance, in_precision, tolerance_again
from harness.judge.sampled import again
from harness.judge.stats import Estimate
from harness.judge.throughput import FLOOR
from harness.judge.verdict import Verdict
from harness.metrics.base import Score
from harness.metrics.changes import compared
from harness.report.records import Record, Run
from harness.report.samples import Whole, measurement_of, read_answers, whole
from harness.report.speeds import Speed, best_sound, by_batch, judge_against, judge_latencies
from harness.run.card import DRIFT
from harness.run.windows import judged, speed_of
from harness.vocabulary import Outcome

CLOSE = 1e-9  # relative: the same figures in the same order give the same result, whatever the machine


@dataclass(frozen=True)
class Check:
    """What came of computing one record again: "same", "differs" or "not recomputed", and why."""

    record: Record
    result: str
    why: str


def recompute(run: Run, results: Path, table: Baselines) -> list[Check]:
    """One check a record. `results` is the folder of the run's file."""
    book = _Evidence(run, results, table)
    return [_check(record, book) for record in run.records]


class _Evidence:
    """What stands in the journal beside the records."""

    def __init__(self, run: Run, results: Path, table: Baselines) -> None:
        self.results, self.table, self.records = results, table, run.records
        self.same_table = run.header.get("baselines") == table.digest
        self.windows = {(line.get("case"), line.get("card", "")): line for line in run.lines if _first(line, "windows")}
        self.answers = {(line.get("case"), line.get("suffix")): line for line in run.lines if _first(line, "answers")}
        self._read: dict[str, tuple[Mapping[str, Any], Whole | None]] = {}

    def kept(self, case: str, suffix: str = "") -> tuple[Mapping[str, Any], Whole | None]:
        """(the arrays that were kept of a case, scores made again of them or None). Raises _Cannot, and what reading
        and scoring raise."""
        line = self.answers.get((case, suffix))
        if line is None:
            raise _Cannot("its answers are not kept")
        if line["file"] not in self._read:
            arrays = read_answers(self.results, line)
            self._read = {line["file"]: (arrays, whole(line, arrays))}  # one at a time: a set's may be large
        return self._read[line["file"]]


def _first(line: Mapping[str, Any], kind: str) -> bool:
    """Whether a line of that kind belongs to the first measurement of its case, which a record's figures are of."""
    return line.get("kind") == kind and not line.get("again")


class _Cannot(Exception):  # noqa: N818 - no fault: the record does not hold enough
    """Why a record cannot be computed again."""


def _check(record: Record, book: _Evidence) -> Check:
    if record.outcome in (Outcome.SKIP, Outcome.ERROR):
        return Check(record, "not recomputed", f"{record.outcome}: there is no figure")
    try:
        how = STAGES_AGAIN.get(record.stage)
        if how is None:
            raise _Cannot("what it rests on is not kept")
        verdict, told = how(record, book), _told(record)
    except _Cannot as reason:
        return Check(record, "not recomputed", str(reason))
    except (HarnessError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        why = error.fact if isinstance(error, HarnessError) else repr(error)
        return Check(record, "differs", f"it cannot be computed from what was kept: {why}")
    wrong = [] if verdict.outcome is told else [f"{verdict.outcome} instead of {told}"]
    for name, value in verdict.details.items():
        kept = record.values.get(name, value)  # a figure that the record never had is not missed
        if not isinstance(value, float) or not math.isfinite(value):
            continue
        if kept is None or not math.isclose(kept, value, rel_tol=CLOSE):
            wrong.append(f"{name} {value:.10g} instead of {kept}")
    return Check(record, "differs" if wrong else "same", "; ".join(wrong) or verdict.text)


def _told(record: Record) -> Outcome:
    """The outcome that the figures on record gave, before a second measurement and the policy."""
    return Outcome(record.facts.get("first") or record.facts.get("without_policy") or record.outcome)


def _throughput(record: Record, book: _Evidence) -> Verdict:
    line = book.windows.get((str(record.case), record.metric if record.metric.startswith("card ") else ""))
    if line is None:
        raise _Cannot("its windows are not kept")
    if record.outcome is Outcome.INVALID and not {"measured", "card_measured"} & set(record.values):
        raise _Cannot("INVALID: it was not measured to its end")
    seen = measurement_of(line)
    speed = speed_of(seen, record.case.batch)
    figures = {"measured": speed.value, "low": speed.low, "high": speed.high, "latency": seen.latency,
               "card_measured": speed.value, "card_low": speed.low, "card_high": speed.high}  # fmt: skip
    if "onnx_digest" in record.facts:
        return Verdict(_told(record), "figures only: nothing is required of a model of your own", figures)
    if "simulated" in record.marks:
        return Verdict(record.outcome, "figures only: a simulator's speed is not judged", figures)
    cell = book.table.cell(record.case, "throughput")
    if cell is not None and not book.same_table:
        raise _Cannot("the published figures are not those that it was judged by")
    verdict = judged(seen, speed, record.case.batch, cell, line["at_least"], record.values.get("floor") or FLOOR)
    verdict = _excused(verdict, record, book)
    return Verdict(verdict.outcome, verdict.text, {**verdict.details, **figures})


def _agreement(record: Record, book: _Evidence) -> Verdict:
    if record.metric == "tail":
        if "ruined" not in record.values:
            raise _Cannot("nothing was measured")
        ruined, images = (int(record.values[name] or 0) for name in ("ruined", "images"))
        with suppress(_Cannot):
            if (again_of := book.kept(str(record.case))[1]) is not None:
                shares = [one.share for one in compared(again_of.task, again_of.found, again_of.wanted)]
                ruined, images = sum(share > RUINED for share in shares), len(shares)
        verdict = _reported(tail_of(ruined, images, record.case.precision, again(record.values)), record)
        return _excused(verdict, record, book)
    if record.metric in ("devices", "last batch", "first batch"):
        return _counted(record, book)
    metric, _, rest = record.metric.partition(" ")
    suffix = f" {rest}" if rest else ""
    arrays, again_of = book.kept(str(record.case), suffix)
    sides = [arrays[name] for name in (f"hits/{metric}/chip", f"hits/{metric}/reference") if name in arrays]
    if len(sides) == 2:
        images = int(book.answers[str(record.case), suffix]["images"])
        chip, reference = (
            Score({metric: float(np.mean(hits))}, images, lambda weights: {}, {metric: hits}) for hits in sides
        )
    elif again_of is not None:
        chip, reference = again_of.chip, again_of.reference
    else:
        raise _Cannot(f"{metric} is not a mean of right and wrong answers: the answers of the reference are not kept")

    slack = SLACK if "bound_of" not in record.facts else float(record.values["slack"] or 0)
    verdict = _reported(judge_agreement(chip, reference, metric, slack, again(record.values)), record)
    return _excused(verdict, record, book)


def _reported(verdict: Verdict, record: Record) -> Verdict:
    """What reduced precision costs a seeded network is reported, not judged."""
    seeded = "seeded" in record.marks
    return of_seeded(verdict, record.case.precision, record.metric) if seeded else verdict


def _published(record: Record, book: _Evidence) -> Verdict:
    if not book.same_table:
        raise _Cannot("the published figures are not those that it was judged by")
    measured = record.values.get("measured")
    if measured is None:
        raise _Cannot("nothing was measured")
    table, case, metric = book.table, record.case, record.metric
    source, cell = table.source(case.model, metric), table.cell(case, metric)
    return judge_published(measured, source, cell, table.deviation(case, "published", metric))


def _numerics(record: Record, book: _Evidence) -> Verdict:
    figures = [record.values.get(name) for name in ("cosine", "largest", "rms")]
    cosine, largest, rms = (math.inf if figure is None else figure for figure in figures)
    if figures[0] is None:
        return _counted(record, book)
    asked = tolerance_again(record.case.precision, record.facts.get("loss"), "onnx_digest" in record.facts)
    told = Tolerance(**record.facts["tolerance"]) if "tolerance" in record.facts else asked
    if "bound_of" in record.facts:
        asked = told
    elif record.metric == "rows":  # within_engine, of a loss that its record does not have
        asked = Tolerance(max(asked.cosine, told.cosine), min(asked.largest, told.largest), min(asked.rms, told.rms))
    sound = cosine >= asked.cosine and largest <= asked.largest and rms <= asked.rms
    if sound and "onnx_digest" in record.facts and _told(record) is Outcome.FAIL:
        raise _Cannot("outputs of whole numbers differ, which are not kept")
    cost = record.values.get("arithmetic_rms")
    units = {"units": rms / cost} if cost else {}
    verdict = Verdict(Outcome.PASS if sound else Outcome.FAIL, f"from its own errors; asked {asked}", units)
    may_be_exact = "simulated" in record.marks or "onnx_digest" in record.facts  # a file without products may too
    if _told(record) is Outcome.INVALID or not may_be_exact:
        verdict = in_precision(verdict, record.case.precision)
    return _excused(verdict, record, book)


def _targets(record: Record, book: _Evidence) -> Verdict:
    mine, values = by_batch(book.records, record.case), record.values
    if not mine:
        raise _Cannot("no throughput of it was measured in this run")
    if record.metric == "latency":
        return _excused(judge_latencies(mine, record.case), record, book)
    if not book.same_table:
        raise _Cannot("the published figures are not those that it was judged by")
    best, other = best_sound(mine), None
    if best is None:
        raise _Cannot("no measurement of its throughput can be trusted")
    if record.facts.get("against") == "measured":  # in another run
        figures = [float(values.get(name) or 0) for name in ("other", "other_low", "other_high")]
        if 0 in figures:
            raise _Cannot("the figure of the other chip has no interval on record")
        other = Speed(Estimate(figures[0], figures[1], figures[2], 0.0, 1), math.nan, True, ())
    (target,) = (row for row in book.table.targets(record.case.chip) if row.other == record.metric)
    verdict = judge_against(best, other, target, record.case.model, book.table)
    return _excused(verdict, record, book)


def _counted(record: Record, book: _Evidence) -> Verdict:
    """Of what was compared where it was at hand: nothing may differ."""
    values = record.values
    differing = values.get("differing", 0 if "asked_twice" in values else None)
    if (drift := values.get("drift")) is not None:
        differing = int(not drift <= DRIFT)
    if differing is None:
        raise _Cannot("it compares outputs, which are not kept")
    verdict = Verdict(Outcome.FAIL if differing else Outcome.PASS, f"from its own count: {differing} differ")
    return _excused(verdict, record, book)


def _excused(verdict: Verdict, record: Record, book: _Evidence) -> Verdict:
    if "simulated" in record.marks or not (book.same_table or "deviation" in record.facts):
        return verdict
    if not book.same_table:
        raise _Cannot("the known failures are not those that it was judged by")
    metric = "throughput" if record.stage == "throughput" else record.metric  # of any card
    return excuse(verdict, book.table.deviation(record.case, record.stage, metric))


STAGES_AGAIN: Mapping[str, Callable[[Record, _Evidence], Verdict]] = {
    "throughput": _throughput, "accuracy": _agreement, "published": _published, "numerics": _numerics,
    "protocol": _counted, "export": _counted, "targets": _targets,
}  # fmt: skip


def refuse_unknown(runs: Mapping[Path, Run]) -> None:
    """Raises DataError where none of the runs, by their files, has a record: nothing could be verified. One that was
    killed before its first verdict has none."""
    if not any(run.records for run in runs.values()):
        raise DataError(f"{next(iter(runs))} holds no record", hint="give the results of a run that judged something")
