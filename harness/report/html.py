"""A run as one HTML page: what came of it, failures, tables and charts, with nothing to fetch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from harness.case import Case
from harness.report import charts, ci, tables
from harness.report.causes import Cause, causes, head, where
from harness.report.grid import SIGNS, grid
from harness.report.messages import Translate, translation
from harness.report.records import Record, Run, ran
from harness.vocabulary import MARKS, STAGES, Outcome

TEMPLATE = Path(__file__).with_name("page.html.j2")
LISTED = 12  # skip reasons and marks in the banner


@dataclass(frozen=True)
class Table:
    """`rows` with the case each is about, for the filter."""

    name: str
    title: str
    columns: list[str]
    rows: list[tuple[Case, str, list[str]]]


def page(run: Run, lang: str = "en", changes: str = "") -> str:
    """The page as text: UTF-8, charts inside as SVG. `changes` is HTML of what changed since a baseline."""
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        TEMPLATE.read_text(encoding="utf-8")
    )
    t, records, options = translation(lang), run.records, run.header.get("options", {})
    required = ci.required(options)
    status = ci.status(records, required)
    measured = [r for r in records if ran(r)]
    cases = list(dict.fromkeys(r.case for r in measured))
    marks = Counter(mark for r in measured for mark in r.marks)
    red = causes(records, [outcome for outcome in Outcome if outcome.red], options)
    facts, places = _facts(records)
    return template.render(
        t=t,
        lang=lang,
        head=head(records, run.footer.get("asked", 0), run.footer.get("stopped", ""), t),
        header=run.header,
        status=status.name,
        conclusion=t(ci.conclusion(records, required)),
        stopped=run.footer.get("stopped", ""),
        outcomes=[(name, count) for name in Outcome if (count := Counter(r.outcome for r in records)[name])],
        ran=where(cases, t) if cases else t("nothing"),
        idle=ci.idle(records, required),
        skips=[(count, ", ".join(chips), reason) for chips, reason, count in tables.skips(records)][:LISTED],
        marks=[(mark, t(MARKS.get(mark, "")), count) for mark, count in sorted(marks.items())],
        causes=[_card(cause, t) for cause in red],
        undecided=[_card(cause, t) for cause in causes(records, [Outcome.INCONCLUSIVE], options)],
        grid=grid(records),
        signs={**SIGNS, Outcome.PASS: "\N{CHECK MARK}"},
        stages=STAGES,
        tables=_tables(records),
        numeric=tables.NUMERIC,
        models=list(dict.fromkeys(r.case.model for r in records)),
        chips=list(dict.fromkeys(r.case.chip for r in records)),
        throughput=[(name, [Markup(svg) for _, svg in every]) for name, every in charts.throughput(records, t)],
        drops=[(name, Markup(svg)) for name, svg in charts.drops(records, t)],
        latencies=[(name, Markup(svg)) for name, svg in charts.latencies(records, t)],
        facts=Markup(facts),
        places=places,
        environment=list(_flat(run.header)),
        changes=Markup(changes),
    )


def _card(cause: Cause, t: Translate) -> dict[str, Any]:
    return {
        "outcome": cause.outcome,
        "stages": ", ".join(cause.stages),
        "where": where(cause.cases, t),
        "count": len(cause.cases),
        "text": cause.text,
        "next": cause.next,
        "command": cause.command,
        "cases": cause.cases,
    }


def _tables(records: Sequence[Record]) -> list[Table]:
    found = []
    for name, (title, columns, rows) in zip(
        ("accuracy", "throughput"), (tables.accuracy(records), tables.throughput(records)), strict=True
    ):
        if rows:
            kept, cells = tables.filled(columns, rows)
            verdict = columns.index("verdict")
            found.append(
                Table(
                    name,
                    title,
                    kept,
                    [(_case(row), str(row[verdict]), cut) for row, cut in zip(rows, cells, strict=True)],
                )
            )
    order = sorted(records, key=lambda record: record.outcome.severity)
    rows = [[str(r.case), r.stage, r.metric, r.outcome, r.text] for r in order]
    everything = [(r.case, r.outcome.value, row) for r, row in zip(order, rows, strict=True)]
    return [*found, Table("records", "Every record", ["case", "stage", "metric", "verdict", "why"], everything)]


def _case(row: Sequence[str]) -> Case:
    """Of a row of either table: its case is told in one column or in four."""
    return Case.parse(row[0]) if "-" in row[0] else Case.parse(f"{row[0]}-{row[1]}-{row[2]}-bs{row[3]}")


def _facts(records: Sequence[Record]) -> tuple[str, dict[str, int]]:
    """What every record rests on, as JSON, and the place of each record in it. Facts that records share stand in it
    once: an engine's stage facts are the same hundreds of times."""
    pairs: dict[str, int] = {}
    lines: list[list[int]] = []
    places: dict[str, int] = {}
    for record in records:
        own = []
        for name, value in {**record.values, **record.facts}.items():
            text = json.dumps([name, _told(value)], ensure_ascii=False)
            own.append(pairs.setdefault(text, len(pairs)))
        if record.marks:
            text = json.dumps(["marks", ", ".join(record.marks)])
            own.append(pairs.setdefault(text, len(pairs)))
        places[f"{record.case} {record.stage} {record.metric}"] = len(lines)
        lines.append(own)
    body = f'{{"pairs":[{",".join(pairs)}],"records":{json.dumps(lines, separators=(",", ":"))}}}'
    return body.replace("<", "\\u003c"), places


def _told(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _flat(header: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in header.items():
        if name == "kind":
            continue
        found += _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else [(before + name, str(value))]
    return found
