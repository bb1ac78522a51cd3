"""A run's records as tables: for the terminal, for Markdown, and the rows of both."""

from __future__ import annotations

import io
import textwrap
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report.records import Record, Run, head_line, ran
from harness.vocabulary import MARKS, Outcome

COLOURS: dict[str, str] = {
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.ERROR: "bold red",
    Outcome.INVALID: "magenta",
    Outcome.INCONCLUSIVE: "yellow",
}


def _cell(value: float | None, style: str) -> str:
    if value is None:
        return "-"
    return {"percent": f"{100 * value:.2f}", "rate": f"{value:,.2f}", "ratio": f"{value:.2f}x"}[style]


def accuracy_rows(records: Sequence[Record]) -> list[list[str]]:
    """case, metric, source, published, reference, measured, drop, images, verdict. Accuracies in percent."""
    rows = []
    for r in records:
        if r.stage in ("accuracy", "published") and r.metric:
            figures = [
                _cell(r.values.get(name), "percent")
                for name in ("source", "published", "reference", "measured", "drop")
            ]
            rows.append([str(r.case), r.metric, *figures, str(r.facts.get("images", "-")), r.outcome])
    return rows


ACCURACY_COLUMNS = ["case", "metric", "source", "published", "reference", "measured", "drop %", "images", "verdict"]
THROUGHPUT_COLUMNS = [
    "model", "chip", "precision", "batch", "img/s per card", "95 % interval", "published", "against", "ratio", "best",
    "verdict",
]  # fmt: skip
OTHERS = "Export, numerics, targets, and all that did not pass"
OTHER_COLUMNS = ["case", "stage", "verdict", "why"]
NUMERIC = {
    "source",
    "published",
    "reference",
    "measured",
    "drop %",
    "images",
    "batch",
    "img/s per card",
    "95 % interval",
    "ratio",
}


def throughput_rows(records: Sequence[Record]) -> list[list[str]]:
    """One row a batch, the best batch marked; `against` names what the ratio is to."""
    timed = [r for r in records if r.stage == "throughput" and r.values.get("measured") is not None]
    best: dict[tuple[str, str, str], float] = {}
    for r in timed:
        key = (r.case.model, r.case.chip, str(r.case.precision))
        best[key] = max(best.get(key, 0.0), r.values["measured"] or 0.0)
    rows = []
    for r in timed:
        key = (r.case.model, r.case.chip, str(r.case.precision))
        interval = "-"
        if r.values.get("low") is not None:
            interval = f"{r.values['low']:,.2f}..{r.values['high']:,.2f}"
        rows.append([
            *key, str(r.case.batch), _cell(r.values["measured"], "rate"), interval,
            _cell(r.values.get("published"), "rate"), str(r.facts.get("against", "-")),
            _cell(r.values.get("ratio"), "ratio"), "best" if r.values["measured"] == best[key] else "", r.outcome,
        ])  # fmt: skip
    return rows


def other_rows(records: Sequence[Record]) -> list[list[str]]:
    """Whatever is not in the two tables, and everything that did not pass, what is worst first: case, stage, verdict,
    text."""
    tabled = {"accuracy", "published", "throughput"}
    rows = [
        [str(r.case), r.stage + (f" {r.metric}" if r.metric else ""), r.outcome, r.text]
        for r in records
        if r.outcome not in (Outcome.PASS, Outcome.SKIP) or (r.stage not in tabled and ran(r))
    ]
    return sorted(rows, key=lambda row: Outcome(row[2]).severity)


def skips(records: Sequence[Record]) -> list[tuple[str, int]]:
    return Counter(f"{r.case.chip}: {r.text}" for r in records if not ran(r)).most_common()


def sections(records: Sequence[Record]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Titles, columns and rows of the tables that are not empty; columns in which nothing stands are left out."""
    whole = (
        ("Accuracy (%)", ACCURACY_COLUMNS, accuracy_rows(records)),
        ("Throughput (images a second and card, inputs on the device)", THROUGHPUT_COLUMNS, throughput_rows(records)),
        (OTHERS, OTHER_COLUMNS, other_rows(records)),
    )
    return [(title, *_filled(columns, rows)) for title, columns, rows in whole if rows]


def _filled(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    kept = [i for i in range(len(columns)) if any(row[i] not in ("", "-") for row in rows)]
    return [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]


def terminal(records: Sequence[Record], asked: int, width: int, colour: bool, stopped: str = "") -> str:
    """The summary that ends a run, for a terminal of that width; a row of figures is never broken over two lines."""
    width = max(width, 80)
    console = Console(width=500, force_terminal=colour, highlight=False, file=io.StringIO())
    with console.capture() as capture:
        for title, columns, rows in sections(records):
            if title != OTHERS:
                console.print(_table(title, columns, rows), "")
                continue
            console.print(title, style="bold")
            for case, stage, verdict, why in rows:
                console.print(Text(f"{verdict:<13}", COLOURS.get(verdict, "")) + Text(f"{case}  {stage}"))
                console.print(textwrap.indent(_wrapped(why, width - 4), "    "), markup=False)
            console.print()
        for reason, count in skips(records):
            console.print(_wrapped(f"skipped {count} x {reason}", width), style="yellow", markup=False)
        for mark in sorted({mark for r in records if ran(r) for mark in r.marks}):
            console.print(_wrapped(f"{mark.upper()}: {MARKS.get(mark, '')}", width), style="yellow", markup=False)
        console.print(head_line(records, asked, stopped), style="bold", markup=False)
    return capture.get()


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.fill(line, width, break_long_words=False) for line in text.splitlines())


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in NUMERIC else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    return table


def markdown(run: Run) -> str:
    """The same tables for a CI summary or a mail."""
    parts = [f"# chipproof: {run.head_line}", ""]
    for title, columns, rows in sections(run.records):
        parts += [f"## {title}", "", "| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
        parts += [
            "| " + " | ".join(cell.replace("|", "\\|").replace("\n", "<br>") for cell in row) + " |" for row in rows
        ]
        parts.append("")
    parts += [f"- skipped {count} x {reason}" for reason, count in skips(run.records)]
    marks = sorted({mark for r in run.records if ran(r) for mark in r.marks})
    parts += [f"- **{mark.upper()}**: {MARKS.get(mark, '')}" for mark in marks]
    return "\n".join(parts) + "\n"
