"""Goes on where an earlier run ended: verdicts that are decided by the same are taken over, the rest runs again."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import DataError, UsageError
from harness.report import journal
from harness.report.records import Record
from harness.vocabulary import Outcome

FINAL = (Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE)  # ERROR and INVALID run again
SAMPLES = ("windows", "answers")


@dataclass
class Earlier:
    """What earlier runs left of each test, by node id: its records, what they rest on, what decided them, and how often
    it was begun."""

    files: list[Path] = field(default_factory=list)
    records: dict[str, list[Record]] = field(default_factory=dict)
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    decided_by: dict[str, str] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    ended: dict[str, str] = field(default_factory=dict)  # pytest's outcome
    patience: dict[str, str] = field(default_factory=dict)  # of the run that measured the test
    engines: dict[str, dict[str, Any]] = field(default_factory=dict)  # by digest: each run repeats those before it

    def kept(self, test: str, decided_by: str, patience: str = "None") -> list[Record] | None:
        """The records of a test that need not run again, or None. What was undecided is measured again when `patience`
        (--patience as the header has it) is another."""
        if test not in self.decided_by or self.decided_by[test] != decided_by:
            return None
        undecided = any(r.outcome is Outcome.INCONCLUSIVE and r.stage == "throughput" for r in self.records[test])
        if undecided and self.patience.get(test) != patience:
            return None
        said = {"taken_over": self.files[0].name}
        return [replace(r, facts={**r.facts, **said}) for r in self.records[test]]


def latest(results: Path) -> list[Path]:
    """The files of the newest run in a folder: its own, or the parts that its processes left. [] without any. A run
    that another one resumed is not the newest, whatever the clocks say."""
    runs: dict[str, list[Path]] = defaultdict(list)
    for path in (*results.glob("*.jsonl"), *results.glob("*.part")):
        if path.is_file() and journal.begun(path):  # no pipe, no folder, no link to nothing
            runs[path.name.split(".")[0]].append(path)
    if not runs:
        return []
    resumed = {name for paths in runs.values() for path in paths for name in _resumed(path)}
    last = [paths for name, paths in runs.items() if name not in resumed]
    newest = max(last or runs.values(), key=lambda paths: max(path.stat().st_mtime_ns for path in paths))
    whole = [path for path in newest if path.suffix == ".jsonl"]
    return whole or sorted(newest)


def _resumed(path: Path) -> set[str]:
    """The runs that a file says it resumed, by the names of their files up to the ending."""
    with path.open("rb") as file:
        header = file.readline(1 << 20)
    try:
        return {name.split(".")[0] for name in json.loads(header).get("resumes", ())}
    except (ValueError, AttributeError, TypeError, RecursionError):  # read() says what is wrong with it
        return set()


def read(files: Sequence[Path]) -> Earlier:
    """What these files and those that they resumed left, the newest first. Raises DataError for one that was changed,
    UsageError for one that is missing."""
    found, seen = Earlier(), set()
    waiting = list(files)
    while waiting:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        if not path.exists():
            raise UsageError(f"--resume {path}: no such file", hint="give a .jsonl file, or latest")
        lines = journal.read(path).lines
        found.files.append(path)
        _add(found, lines)
        waiting += [path.with_name(str(name)) for name in lines[0].get("resumes", ())]
    return found


def _add(found: Earlier, lines: Sequence[Mapping[str, Any]]) -> None:
    records: dict[str, dict[tuple[str, str], Record]] = defaultdict(dict)
    samples: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        test, kind = str(line.get("test", "")), line.get("kind")
        if kind == "begin":
            records.pop(test, None)
            samples.pop(test, None)
            found.attempts[test] = max(found.attempts[test], int(line.get("attempt", 1)))
        elif kind == "record":
            try:
                record = Record.of_json(line)
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"a record of {test} cannot be read: {error!r}", hint=journal.AGAIN) from error
            records[test][record.stage, record.metric] = record
        elif kind in SAMPLES:
            samples[test].append(dict(line))
        elif kind == "engine":
            found.engines.setdefault(str(line.get("digest")), dict(line))
        elif kind == "end" and line.get("decided_by") and test not in found.decided_by:
            mine = list(records[test].values())
            if mine and all(record.outcome in FINAL for record in mine):
                found.records[test], found.samples[test] = mine, samples[test]
                found.decided_by[test] = str(line["decided_by"])
                found.ended[test] = str(line.get("outcome", ""))
                found.patience[test] = str((lines[0].get("options") or {}).get("patience"))
