"""Records of a run: written as JSON lines that can prove they are whole, read back, and shown as tables.

A file is a header, one line a judged stage, and a footer that counts and digests the lines before it. A file that was
cut off has no footer, and reading it says so; the footer of a run that was stopped says that it was.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.case import Case
from harness.errors import DataError, StoreError

SCHEMA = 1


@dataclass(frozen=True)
class Record:
    """One judged stage of one case. `outcome` is PASS, FAIL, INCONCLUSIVE, INVALID, ERROR or SKIP; `marks` names
    what keeps the record from being a conformance result: simulated, limited, seeded, partial, scenes, and x4 when
    one device stood for a card of four."""

    case: Case
    stage: str  # "export" | "numerics" | "accuracy" | "throughput" | "targets"
    outcome: str
    text: str
    metric: str = ""
    values: Mapping[str, float | None] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": "record",
            "case": str(self.case),
            "stage": self.stage,
            "metric": self.metric,
            "outcome": self.outcome,
            "text": self.text,
            "values": dict(self.values),
            "marks": list(self.marks),
            "facts": dict(self.facts),
        }

    @classmethod
    def of_json(cls, line: Mapping[str, Any]) -> Record:
        return cls(
            Case.parse(line["case"]),
            line["stage"],
            line["outcome"],
            line["text"],
            line["metric"],
            line["values"],
            tuple(line["marks"]),
            line["facts"],
        )


@dataclass(frozen=True)
class Run:
    """A record file, read back whole."""

    header: Mapping[str, Any]
    records: tuple[Record, ...]
    footer: Mapping[str, Any]

    @property
    def head_line(self) -> str:
        return head_line(self.records, self.footer.get("asked", 0), self.footer.get("stopped", ""))


def write(path: Path, header: Mapping[str, Any], records: Sequence[Record], asked: int, stopped: str = "") -> None:
    """Write a run atomically; `stopped` says why it did not come to its end. Raises StoreError when the file cannot be
    written."""
    lines = [json.dumps({"kind": "header", "schema": SCHEMA, **header}, ensure_ascii=False, allow_nan=False)]
    lines += [json.dumps(r.as_json(), ensure_ascii=False, allow_nan=False) for r in records]
    body = "".join(line + "\n" for line in lines)
    footer = {
        "kind": "footer",
        "records": len(records),
        "asked": asked,
        "ran": len({r.case for r in records if ran(r)}),
        "outcomes": dict(Counter(r.outcome for r in records)),
        "stopped": stopped,
        "sha256": hashlib.sha256(body.encode()).hexdigest(),
    }
    write_whole(path, body + json.dumps(footer, ensure_ascii=False) + "\n")


def write_whole(path: Path, text: str) -> None:
    """All of a file or nothing. Raises StoreError when it cannot be written."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise StoreError(
            f"{path} cannot be written: {error}", hint="give another folder (--results), or free some space"
        ) from error


def read(path: Path) -> Run:
    """A run read back. Raises DataError when a line is damaged, missing, doubled, or the footer is not there."""
    again = "move it away and run the suite again; a run that was cut off is no result"
    try:
        text = path.read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.rstrip("\n").split("\n")]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint=again) from error
    if not all(isinstance(line, dict) for line in lines) or lines[0].get("kind") != "header":
        raise DataError(f"{path} has no header", hint="give a .jsonl file that the suite wrote")
    if lines[0].get("schema") != SCHEMA:
        raise DataError(
            f"{path} is of schema {lines[0].get('schema')}, not {SCHEMA}",
            hint="read it with the version that wrote it",
        )
    if lines[-1].get("kind") != "footer":
        raise DataError(f"{path} has no footer: the run was cut off", hint=again)
    body = text[: text.rstrip("\n").rfind("\n") + 1]
    footer = lines[-1]
    if hashlib.sha256(body.encode()).hexdigest() != footer.get("sha256") or footer.get("records") != len(lines) - 2:
        raise DataError(f"{path} was changed after it was written", hint=again)
    records = tuple(Record.of_json(line) for line in lines[1:-1])
    doubled = [key for key, n in Counter((r.case, r.stage, r.metric) for r in records).items() if n > 1]
    if doubled:
        raise DataError(f"{path} judges {doubled[0][0]} {doubled[0][1]} twice", hint=again)
    return Run(lines[0], records, footer)


def ran(record: Record) -> bool:
    """Whether something was measured for it: a skip ran nothing."""
    return record.outcome != "SKIP"


def head_line(records: Iterable[Record], asked: int, stopped: str = "") -> str:
    """ "ran 7 of 120 cases: 20 PASS, 1 FAIL": counted, so that nothing ran never reads as green."""
    records = list(records)
    cases = {r.case for r in records if ran(r)}
    outcomes = Counter(r.outcome for r in records)
    counts = ", ".join(f"{n} {name}" for name, n in sorted(outcomes.items(), key=lambda item: ORDER.index(item[0])))
    return (
        f"ran {len(cases)} of {asked} cases" + (f": {counts}" if counts else "") + (f"; {stopped}" if stopped else "")
    )


ORDER = ["FAIL", "ERROR", "INVALID", "INCONCLUSIVE", "PASS", "SKIP"]
COLOURS = {
    "PASS": "green",
    "FAIL": "bold red",
    "ERROR": "bold red",
    "INVALID": "magenta",
    "INCONCLUSIVE": "yellow",
}
MEANING = {
    "simulated": "ran on a simulated SDK: nothing here speaks of the chip",
    "seeded": "weights are random (calibrated), no published checkpoint was found",
    "scenes": "pictures drawn by the suite; labels are the reference's own answers",
    "partial": "only part of the published data set was there",
    "limited": "--limit cut the data set",
    "kept": "answers of an earlier run of the same engine on the same images, scored again; speed and outputs are new",
    "host-bound": "the host enqueued as slowly as the device computed: the figure is the host's",
    "x4": "one device was measured and stands for a card of four",
    "unsteady": "the windows of a measurement vary or drift; the record says how",
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
        if r.outcome not in ("PASS", "SKIP") or (r.stage not in tabled and ran(r))
    ]
    return sorted(rows, key=lambda row: ORDER.index(row[2]))


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
            console.print(_wrapped(f"{mark.upper()}: {MEANING.get(mark, '')}", width), style="yellow", markup=False)
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
    parts += [f"- **{mark.upper()}**: {MEANING.get(mark, '')}" for mark in marks]
    return "\n".join(parts) + "\n"


def merge(runs: Sequence[Run]) -> Run:
    """Several runs as one: the newest record (by the header's time) of each case, stage and metric. A skip gives way
    to whatever ran, and what ran on a simulated SDK to what ran on a real one."""
    if len(runs) == 1:
        return runs[0]
    newest: dict[tuple[Case, str, str], Record] = {}

    def worth(record: Record) -> int:
        return 2 * ran(record) + ("simulated" not in record.marks)

    for run in sorted(runs, key=lambda run: str(run.header.get("time", ""))):
        for record in run.records:
            key = (record.case, record.stage, record.metric)
            if key not in newest or worth(record) >= worth(newest[key]):
                newest[key] = record
    hosts = sorted({str(run.header.get("host", "?")) for run in runs})
    latest = max(runs, key=lambda run: str(run.header.get("time", ""))).header
    header = {**latest, "host": " + ".join(hosts)}
    asked = max(len({record.case for record in newest.values()}), *(run.footer.get("asked", 0) for run in runs))
    stopped = "; ".join(sorted({run.footer["stopped"] for run in runs if run.footer.get("stopped")}))
    return Run(header, tuple(newest.values()), {"asked": asked, "stopped": stopped})
