"""chipproof history: one case over the runs of a results folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.case import Case
from harness.errors import DataError
from harness.report.tables import metric_name
from tools.language import reader, say

if TYPE_CHECKING:
    from harness.report.history import Change, Point
    from harness.report.messages import Translate


def command(
    case: Annotated[str, typer.Argument(help="model-chip-precision-bsN, e.g. regnety_016-ascend310p-fp16-bs16")],
    results: Annotated[Path, typer.Option("--results", help="folder of record files")] = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="print the series and their changes as JSON")] = False,
) -> None:
    """Show the figures of CASE in every run of one host, and since which run one of them differs.

    Exit status: 0 the newest figure is on the level of the first, 1 a figure changed for the worse, 2 could not run."""
    from harness import matrix
    from harness.report import history as past

    wanted, t = Case.parse(case), reader()
    runs, wrong = past.read(results)
    for fact in wrong:
        say(f"chipproof: skipped: {fact}", sys.stderr)
    model = matrix.models().get(wanted.model)
    figures = [("throughput", ""), *(("accuracy", metric) for metric in (model.metrics if model else ()))]
    told, worse = [], False
    for stage, metric in figures:
        points = past.series(runs, wanted, stage, metric)
        if not points:
            continue
        changes = past.changes(points)
        worse |= any(change.relative < 0 for change in changes)
        told.append((f"{stage} {metric}".strip(), points, changes))
    if not told:
        raise DataError(
            f"no figure of {wanted} in the {len(runs)} runs of {results}; what is simulated or INVALID does not count",
            hint="give another folder with --results, or another case",
        )
    if as_json:
        series = [_as_json(*each) for each in told]
        print(json.dumps({"case": case, "alarm_rate": past.ALARM, "series": series}, ensure_ascii=False))
    else:
        for each in told:
            _print(*each, t)
    if worse:
        raise typer.Exit(1)


def _print(figure: str, points: list[Point], changes: list[Change], t: Translate) -> None:
    from harness.report import history as past

    stage, _, metric = figure.partition(" ")
    print(stage, metric_name(metric, t))
    for point in points:
        print(f"  {point.run.header.get('time')}  {point.value:>12,.6g}  {point.record.outcome}")
    for change in changes:
        print("  " + past.told(change, t))
        for what, before, after in change.beside:
            print(f"    {what}: {before} -> {after}")
        if not change.beside:
            print("    " + t("nothing on record changed there"))
    if not changes:
        print("  " + t("{n} runs, no change; {m} are the fewest that can show one", n=len(points), m=past.FEWEST))


def _as_json(figure: str, points: list[Point], changes: list[Change]) -> dict[str, Any]:
    return {
        "figure": figure,
        "host": points[-1].run.header.get("host"),
        "points": [
            {"time": p.run.header.get("time"), "value": p.value, "outcome": p.record.outcome.value} for p in points
        ],
        "changes": [
            {"time": c.first.run.header.get("time"), "before": c.before, "after": c.after, "relative": c.relative,
             "beside": [list(item) for item in c.beside]} for c in changes
        ],
    }  # fmt: skip
