"""A run as one HTML page: its outcome, failures, tables and charts, with nothing to fetch."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from harness.case import Case
from harness.errors import DataError
from harness.report import charts, ci, history, pictures, tables
from harness.report.causes import Cause, causes, head, where
from harness.report.grid import SIGNS, grid
from harness.report.journal import AGAIN
from harness.report.messages import Translate, translation
from harness.report.records import Record, Run, harmless, ran, required
from harness.vocabulary import MARKS, STAGES, Outcome

TEMPLATE = Path(__file__).with_name("page.html.j2")
LISTED = 12  # skip reasons and marks in the banner
SHOWN = 12  # pictures, and outputs whose differences are drawn
BESIDE = 4  # lines of what changed where a figure did
AT_ONCE = 60_000  # bytes of charts that are shown without being asked for: those of some ten cases
LINES = 1_000_000  # bytes of lines over time
MOST = 1_500_000  # bytes of pictures; base64 makes them a third more
DRAWN = ("pictures", "differences")  # facts that are drawn, and not listed


@dataclass(frozen=True)
class Table:
    """`rows` with the case each is about, for the filter."""

    name: str
    title: str
    columns: list[str]
    rows: list[tuple[Case, str, list[str]]]


def page(run: Run, lang: str = "en", changes: str = "", folders: Sequence[Path] = (), past: Sequence[Run] = ()) -> str:
    """The page as text: UTF-8, charts inside as SVG, pictures as JPEG. `changes` is HTML of what changed since a
    baseline, `folders` are those of results, in which the pictures lie, `past` are runs for lines over time, this one
    among them."""
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        TEMPLATE.read_text(encoding="utf-8")
    )
    t, records, options = translation(lang), run.records, run.header.get("options", {})
    chips, stopped = required(options), run.footer.get("stopped", "")
    status = ci.status(records, chips, stopped=stopped)
    measured = [r for r in records if ran(r)]
    cases = list(dict.fromkeys(r.case for r in measured))
    marks = Counter(mark for r in measured for mark in r.marks)
    red = causes(records, [outcome for outcome in Outcome if outcome.red], options)
    order = sorted(records, key=lambda record: record.outcome.severity)
    differing = _differing(records, folders, t)
    shown = {(each["record"].case, each["record"].stage): each["id"] for each in reversed(differing)}
    drawn, margins = charts.of_models(records, t), charts.margins(records, t)
    return template.render(
        t=t,
        lang=lang,
        head=head(records, run.footer.get("asked", 0), stopped, t),
        header=run.header,
        status=status.name,
        conclusion=t(ci.conclusion(records, chips, stopped)),
        stopped=t(stopped),
        outcomes=[(name, count) for name in Outcome if (count := Counter(r.outcome for r in records)[name])],
        ran=where(cases, t) if cases else t("nothing"),
        idle=ci.idle(records, chips),
        skips=[(count, ", ".join(chips), t(reason)) for chips, reason, count in tables.skips(records)][:LISTED],
        marks=[(mark, t(MARKS.get(mark, "")), count) for mark, count in sorted(marks.items())],
        causes=[_card(cause, shown, t) for cause in red],
        undecided=[_card(cause, shown, t) for cause in causes(records, [Outcome.INCONCLUSIVE], options)],
        differing=differing,
        grid=grid(records),
        signs={**SIGNS, Outcome.PASS: "\N{CHECK MARK}"},
        stages=STAGES,
        tables=[*_tables(records, t), _every(order, t)],
        numeric=tables.NUMERIC,
        models=list(dict.fromkeys(r.case.model for r in records)),
        chips=list(dict.fromkeys(r.case.chip for r in records)),
        margins=margins and Markup(margins[1]),
        charts=[(model, [Markup(svg) for _, svg in mine]) for model, mine in drawn],
        at_once=sum(len(svg) for _, mine in drawn for _, svg in mine) <= AT_ONCE,
        trends=_trends(past, {record.case for record in records}, t),
        facts=Markup(_facts(order)),
        environment=list(_flat(run.header)),
        changes=Markup(changes),
    )


def _differing(records: Sequence[Record], folders: Sequence[Path], t: Translate) -> list[dict[str, Any]]:
    """Records with charts or pictures of how chip and reference differ: the worst first, and other models, chips and
    precisions before further batches of the same."""
    seen: Counter[tuple[str, str, str, str]] = Counter()
    ranked = []
    for record in sorted(records, key=lambda record: record.outcome.severity):
        if any(name in record.facts for name in DRAWN):
            like = (record.case.model, record.case.chip, str(record.case.precision), record.stage)
            ranked.append((record.outcome.severity, seen[like], record))
            seen[like] += 1
    found: list[dict[str, Any]] = []
    drawn = taken = size = 0
    for _, _, record in sorted(ranked, key=lambda each: each[:2]):
        how, shown = record.facts.get("differences"), []
        try:
            figures = charts.differences(how, t) if how and drawn < SHOWN else []
            drawn += bool(figures)
            for fact in record.facts.get("pictures", ()):
                body = pictures.read(folders, fact) if taken < SHOWN else None
                if body is not None and size + len(body) <= MOST:
                    shown.append(_picture(fact, body, t))
                    taken, size = taken + 1, size + len(body)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise DataError(f"the pictures of {record.case} cannot be shown: {error!r}", hint=AGAIN) from error
        if figures or shown:
            found.append({
                "id": f"differ-{len(found) + 1}", "record": record, "how": how,
                "charts": [Markup(svg) for _, svg in figures],
                "pictures": shown, "boxes": any(picture["boxes"] for picture in shown),
            })  # fmt: skip
    return found


def _trends(past: Sequence[Run], cases: set[Case], t: Translate) -> dict[str, Any]:
    """Of each model how many figures changed, and lines over time of its cases that are in the report: at most LINES
    bytes, those that changed first; `more` counts the others."""
    found = [trend for trend in history.trends(past) if trend.case in cases]
    drawn: dict[str, list[dict[str, Any]]] = {trend.case.model: [] for trend in found}
    size = more = 0
    for trend in found:
        chart = charts.trend(trend, t)[1]
        size += len(chart)
        more += size > LINES
        if size <= LINES:
            told = [_change(change, t) for change in trend.changes]
            drawn[trend.case.model].append({"chart": Markup(chart), "changes": told})
    models = [(model, sum(bool(each["changes"]) for each in mine), mine) for model, mine in drawn.items() if mine]
    return {"models": models, "more": more}


def _change(change: history.Change, t: Translate) -> dict[str, Any]:
    """One sentence, and what changed on record at that run."""
    lines = [f"{what}: {before} -> {after}" for what, before, after in change.beside]
    more = len(lines) - BESIDE
    return {
        "text": history.told(change, t),
        "beside": [*lines[:BESIDE], *([t("and {n} more", n=more)] if more > 0 else [])],
    }


def _picture(fact: Mapping[str, Any], body: bytes, t: Translate) -> dict[str, Any]:
    src = f"data:image/jpeg;base64,{base64.b64encode(body).decode()}"
    return {**fact, "src": src, "boxes": Markup(pictures.outlines(fact, t)), "told": pictures.told(fact, t)}


def _card(cause: Cause, shown: Mapping[tuple[Case, str], str], t: Translate) -> dict[str, Any]:
    return {
        "outcome": cause.outcome,
        "stages": ", ".join(cause.stages),
        "where": where(cause.cases, t),
        "count": len(cause.cases),
        "text": cause.told(t),
        "next": Markup("<code>{}</code>").format(cause.next) if cause.next_is_command else t(cause.next),
        "command": cause.command,
        "cases": cause.cases,
        "shown": next((shown[key] for r in cause.records if (key := (r.case, r.stage)) in shown), ""),
    }


def _tables(records: Sequence[Record], t: Translate) -> list[Table]:
    found = []
    for name, (title, columns, rows) in zip(
        ("accuracy", "throughput"), (tables.accuracy(records, t), tables.throughput(records, t)), strict=True
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
    return found


def _every(records: Sequence[Record], t: Translate) -> Table:
    """All records; the button of the n-th row opens the n-th of _facts."""
    rows = [[str(r.case), r.stage, tables.metric_name(r.metric, t), r.outcome, t(r.text)] for r in records]
    told = [(r.case, r.outcome.value, row) for r, row in zip(records, rows, strict=True)]
    return Table("records", "Every record", ["case", "stage", "metric", "verdict", "why"], told)


def _case(row: Sequence[str]) -> Case:
    """Of a row of either table: its case is in one column or in four."""
    return Case.parse(row[0]) if "-" in row[0] else Case.parse(f"{row[0]}-{row[1]}-{row[2]}-bs{row[3]}")


def _facts(records: Sequence[Record]) -> str:
    """What every record rests on, as JSON, in their order. Facts that records share stand in it once: an engine's stage
    facts are the same hundreds of times."""
    pairs: dict[str, int] = {}
    lines: list[list[int]] = []
    for record in records:
        own = []
        for name, value in {**record.values, **record.facts}.items():
            if name in DRAWN:
                continue
            text = json.dumps([name, _told(value)], ensure_ascii=False)
            own.append(pairs.setdefault(text, len(pairs)))
        if record.marks:
            text = json.dumps(["marks", ", ".join(record.marks)])
            own.append(pairs.setdefault(text, len(pairs)))
        lines.append(own)
    body = f'{{"pairs":[{",".join(pairs)}],"records":{json.dumps(lines, separators=(",", ":"))}}}'
    return body.replace("<", "\\u003c")


def _told(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _flat(header: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in header.items():
        if name == "kind":
            continue
        key = harmless(before + name)
        found += _flat(value, f"{key}.") if isinstance(value, Mapping) else [(key, harmless(str(value)))]
    return found
