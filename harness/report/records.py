"""Records of a run: written to its journal, read back, and merged.

A run that came to its end has a footer that counts its records; the footer of a run that was stopped says so, and a run
without a footer was cut off: what it wrote before is read, and its head line says that it was cut off.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.case import Case
from harness.errors import DataError, HarnessError, StoreError
from harness.report import journal, journal_lines
from harness.report.counting import singular
from harness.store import whole_file
from harness.vocabulary import Outcome

AGAIN = (Outcome.ERROR, Outcome.INVALID)  # what --resume runs again
MOST_SHARDS = 10_000  # of one run, that a header is believed
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
CONTROLS |= {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}  # turn lines around


def harmless(text: str) -> str:
    """The text with control characters written out: a terminal obeys them, and vendors print what they like."""
    return text if text.isprintable() else text.translate(CONTROLS)  # the first is quicker: histories are long


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
        for name in ("stage", "text", "metric"):
            object.__setattr__(self, name, harmless(getattr(self, name)))
        object.__setattr__(self, "text", singular(self.text))
        object.__setattr__(self, "marks", tuple(map(harmless, self.marks)))
        facts = {name: harmless(fact) if isinstance(fact, str) else fact for name, fact in self.facts.items()}
        object.__setattr__(self, "facts", facts)

    def as_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {
            "kind": "record",
            "case": str(self.case),
            "stage": self.stage,
            "metric": self.metric,
            "outcome": self.outcome.value,
            "text": self.text,
            "values": {name: journal_lines.figure(value) for name, value in self.values.items()},
            "marks": list(self.marks),
            "facts": dict(self.facts),
        }

    @classmethod
    def of_json(cls, line: Mapping[str, Any]) -> Record:
        """The inverse of as_json. Raises KeyError or ValueError for a line that is no record."""
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
    """A record file, read back. `lines` are those of other kinds: tests begun and ended, engines, samples."""

    header: Mapping[str, Any]
    records: tuple[Record, ...]
    footer: Mapping[str, Any]
    lines: tuple[Mapping[str, Any], ...] = ()

    @property
    def head_line(self) -> str:
        """What was run and what came of it, in one line."""
        return head_line(self.records, self.footer.get("asked", 0), self.footer.get("stopped", ""))


def write_run(
    path: Path,
    header: Mapping[str, Any],
    records: Sequence[Record],
    asked: int,
    stopped: str = "",
    lines: Sequence[Mapping[str, Any]] = (),
    tests: Mapping[tuple[Case, str, str], str] | None = None,
) -> None:
    """Write a run atomically; `stopped` says why it did not come to its end. `tests` names the test of a record (by
    case, stage and metric), without which --resume cannot take it over. Raises StoreError when the file cannot be
    written."""
    whole = [{"kind": "header", "schema": journal.SCHEMA, **header}, *_among(lines, records, tests or {})]
    whole.append(footer(records, asked, stopped))
    body, chain = b"", ""
    for line in whole:
        text, chain = journal.text_of(line, chain)
        body += text
    write_whole(path, body)


def _among(
    lines: Sequence[Mapping[str, Any]], records: Sequence[Record], tests: Mapping[tuple[Case, str, str], str]
) -> Iterator[Mapping[str, Any]]:
    """The lines with each record before the one that ends its test, as its process wrote it; the other records last."""
    left: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        test = tests.get((record.case, record.stage, record.metric), "")
        left.setdefault(test, []).append({**record.as_json(), **({"test": test} if test else {})})
    for line in lines:
        if line.get("kind") == "end":
            yield from left.pop(str(line.get("test")), ())
        yield line
    for rest in left.values():
        yield from rest


def footer(records: Sequence[Record], asked: int, stopped: str = "", **more: Any) -> dict[str, Any]:
    """The last line of a run."""
    return {
        "kind": "footer",
        "records": len(records),
        "asked": asked,
        "ran": len({r.case for r in records if ran(r)}),
        "outcomes": dict(Counter(r.outcome.value for r in records)),
        "stopped": stopped,
        **more,
    }


def write_whole(path: Path, content: str | bytes) -> None:
    """All of a file or nothing; on disk when it returns. Raises StoreError when it cannot be written."""
    data = content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
    try:
        with whole_file(path) as beside:
            beside.write_bytes(data)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error}", hint="give another folder (--results), or free some space"
        ) from error


def read_run(path: Path) -> Run:
    """A run read back, also one that was cut off: its footer then says so. Raises DataError when a line was changed, or
    is no record."""
    found = journal.read(path)
    header, *rest = found.lines
    header = _harmless(header)
    ended = _harmless(rest.pop()) if rest and rest[-1].get("kind") == "footer" else None
    kept: dict[tuple[Case, str, str], Record] = {}
    for line in rest:
        if line.get("kind") != "record":
            continue
        record = _record(path, line)
        key = (record.case, record.stage, record.metric)
        before = kept.get(key)
        later = before is not None and int(record.facts.get("attempt", 1)) > int(before.facts.get("attempt", 1))
        if before is not None and ran(before) and not later:  # a skip gives way
            raise DataError(f"{path} judges {key[0]} {key[1]} twice", hint=journal.AGAIN)
        kept[key] = record
    others = tuple(line for line in rest if line.get("kind") != "record")
    records = tuple(kept.values())
    if ended is None:
        ended = footer(records, int(header.get("asked", 0)), harmless(_cut(found.cut, others)))
    return Run(header, records, ended, others)


def _harmless(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: harmless(value) if isinstance(value, str) else value for name, value in line.items()}


def _record(path: Path, line: Mapping[str, Any]) -> Record:
    try:
        return Record.of_json(line)
    except (KeyError, TypeError, ValueError, AttributeError, HarnessError) as error:
        raise DataError(f"{path} contains an invalid record: {error!r}", hint=journal.AGAIN) from error


def _cut(what: str, lines: Sequence[Mapping[str, Any]]) -> str:
    """That a run was cut off, and which test was under way."""
    ended = Counter(line.get("test") for line in lines if line.get("kind") == "end")
    begun = Counter(line.get("test") for line in lines if line.get("kind") == "begin")
    under_way = [str(test) for test in begun if begun[test] > ended[test]]
    return what + (f", in {', '.join(under_way)}" if under_way else "")


def read_parts(paths: Sequence[Path]) -> Run:
    """The parts that the processes of one run left behind, as one run. Raises DataError."""
    parts = [read_run(path) for path in paths]
    kept: dict[tuple[Case, str, str], Record] = {}
    for record in (record for part in parts for record in part.records):
        key = (record.case, record.stage, record.metric)
        if key not in kept or ran(record) or not ran(kept[key]):
            kept[key] = record
    asked = max(int(part.header.get("asked", 0)) for part in parts)
    stopped = "; ".join(sorted({part.footer["stopped"] for part in parts if part.footer["stopped"]}))
    lines = tuple(line for part in parts for line in part.lines)
    stopped = stopped or "CUT OFF: its processes ended before a summary was written"
    return Run(parts[0].header, tuple(kept.values()), footer(tuple(kept.values()), asked, stopped), lines)


def ran(record: Record) -> bool:
    """Whether something was measured for it: a skip ran nothing."""
    return record.outcome.ran


def head_line(records: Iterable[Record], asked: int, stopped: str = "") -> str:
    """ "ran 7 of 120 cases: 20 PASS, 1 FAIL": counted, so that nothing ran never reads as green."""
    records = list(records)
    cases = {r.case for r in records if ran(r)}
    outcomes = Counter(r.outcome for r in records)
    counts = ", ".join(f"{n} {name}" for name, n in sorted(outcomes.items(), key=lambda item: item[0].severity))
    whole = singular(f"ran {len(cases)} of {asked} cases")
    return whole + (f": {counts}" if counts else "") + (f"; {stopped}" if stopped else "")


def not_resumed(runs: Mapping[Path, Run]) -> list[Run]:
    """Runs, by their files, without what a run that resumed them did again, whatever their clocks say: verdicts that it
    has too, errors in a stage of a case that it reached, and that they did not come to their end."""
    found = []
    for path, run in runs.items():
        later = [other for other in runs.values() if path.name in other.header.get("resumes", ())]
        done = [record for other in later for record in other.records if ran(record)]
        again, same = {(r.case, r.stage) for r in done}, {(r.case, r.stage, r.metric) for r in done}
        left = (
            r
            for r in run.records
            if (r.case, r.stage, r.metric) not in same and (r.outcome not in AGAIN or (r.case, r.stage) not in again)
        )
        footer = {**run.footer, "stopped": ""} if later else run.footer
        found.append(replace(run, records=tuple(left), footer=footer))
    return found


def merge(runs: Sequence[Run]) -> Run:
    """Several runs as one: the newest record (by the header's time) of each case, stage and metric. A skip gives way
    to whatever ran, and what ran on a simulated SDK to what ran on a real one or on the vendor's simulator. A chip that
    one of them requires is required; `stopped` says whose end is missing, and which of the shards."""
    if len(runs) == 1:
        return runs[0]
    newest: dict[tuple[Case, str, str], Record] = {}

    def worth(record: Record) -> int:
        return 2 * ran(record) + ("simulated" not in record.marks)

    for run in sorted(runs, key=_time):
        for record in run.records:
            key = (record.case, record.stage, record.metric)
            if key not in newest or worth(record) >= worth(newest[key]):
                newest[key] = record
    hosts = sorted({str(run.header.get("host", "?")) for run in runs})
    latest = max(runs, key=_time).header
    chips = dict.fromkeys(chip for run in runs for chip in required(run.header.get("options", {})))
    options = {**latest.get("options", {}), **({"require": list(chips)} if chips else {})}
    header = {**latest, "host": " + ".join(hosts), "options": options, "shard": ""}
    shards = _shards(runs)
    asked = [run.footer.get("asked", 0) for run in runs] + [sum(parts.values()) for parts in shards.values()]
    stopped = {run.footer["stopped"] for run in runs if run.footer.get("stopped") and not _repeated(run, runs)}
    lacking = [f"no record file of shard {k}/{n} is here: copy it beside the others"
               for n, parts in shards.items() if len(parts) > 1 for k in range(1, n + 1) if k not in parts]  # fmt: skip
    footer = {"asked": max(len({record.case for record in newest.values()}), *asked),
              "stopped": "; ".join([*sorted(stopped), *lacking])}  # fmt: skip
    return Run(header, tuple(newest.values()), footer)


def _time(run: Run) -> str:
    return str(run.header.get("time", ""))


def _shards(runs: Sequence[Run]) -> dict[int, dict[int, int]]:
    """Of runs with --shard K/N, by N: by K how many cases were asked."""
    found: dict[int, dict[int, int]] = {}
    for run in runs:
        k, _, n = str(run.header.get("shard", "")).partition("/")
        if k.isdigit() and n.isdigit() and 1 <= int(k) <= int(n) <= MOST_SHARDS:
            parts = found.setdefault(int(n), {})
            parts[int(k)] = max(parts.get(int(k), 0), run.footer.get("asked", 0))
    return found


def _repeated(run: Run, runs: Sequence[Run]) -> bool:
    """Whether a later run that came to its end asked as much and did all stages of cases that this one reached."""
    reached = {(record.case, record.stage) for record in run.records}
    return any(
        _time(other) > _time(run)
        and not other.footer.get("stopped")
        and other.footer.get("asked", 0) >= run.footer.get("asked", 0)
        and reached <= {(record.case, record.stage) for record in other.records}
        for other in runs
    )


def required(options: Mapping[str, Any]) -> list[str]:
    """The chips of --require in the options of a record file's header, where the list may be text."""
    text = str(options.get("require") or "[]")
    try:
        found = ast.literal_eval(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [str(chip) for chip in found] if isinstance(found, list | tuple) else []
