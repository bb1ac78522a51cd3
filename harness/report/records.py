"""Records of a run: written as JSON lines that can prove they are whole, read back, and shown as tables.

A file is a header, one line a judged stage, and a footer that counts and digests the lines before it. A file that was
cut off has no footer, and reading it says so; the footer of a run that was stopped says that it was.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.case import Case
from harness.errors import DataError, StoreError
from harness.vocabulary import Outcome

SCHEMA = 1


@dataclass(frozen=True)
class Record:
    """One judged stage of one case: a stage of STAGES, an outcome, marks of MARKS. `marks` names what keeps the record
    from being a conformance result."""

    case: Case
    stage: str
    outcome: Outcome
    text: str
    metric: str = ""
    values: Mapping[str, float | None] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "outcome", Outcome(self.outcome))  # read back from JSON it is a string

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": "record",
            "case": str(self.case),
            "stage": self.stage,
            "metric": self.metric,
            "outcome": self.outcome.value,
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


def write_run(path: Path, header: Mapping[str, Any], records: Sequence[Record], asked: int, stopped: str = "") -> None:
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
        "outcomes": dict(Counter(r.outcome.value for r in records)),
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


def read_run(path: Path) -> Run:
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
    return record.outcome.ran


def head_line(records: Iterable[Record], asked: int, stopped: str = "") -> str:
    """ "ran 7 of 120 cases: 20 PASS, 1 FAIL": counted, so that nothing ran never reads as green."""
    records = list(records)
    cases = {r.case for r in records if ran(r)}
    outcomes = Counter(r.outcome for r in records)
    counts = ", ".join(f"{n} {name}" for name, n in sorted(outcomes.items(), key=lambda item: item[0].severity))
    return (
        f"ran {len(cases)} of {asked} cases" + (f": {counts}" if counts else "") + (f"; {stopped}" if stopped else "")
    )


def merge(runs: Sequence[Run]) -> Run:
    """Several runs as one: the newest record (by the header's time) of each case, stage and metric. A skip gives way
    to whatever ran, and what ran on a simulated SDK to what ran on a real one or on the vendor's simulator."""
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
