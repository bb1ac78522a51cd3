"""Reads a lab's policy file: whole and strictly, or with the place of what is wrong."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields
from datetime import date
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from string import Template
from typing import Any

from harness.case import Case
from harness.errors import UsageError
from harness.judge.policy import BOUNDS, Asked, Expected, Gate, Observed, Policy, Row
from harness.vocabulary import STAGES, Outcome

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]  # absent on newer Pythons

NAME = "chipproof.toml"  # read from the current folder when --policy names no other
ROWS: dict[str, type[Row]] = {"expect": Expected, "observe": Observed, "gate": Gate, "bound": Asked}
OWN = "own_"  # how names of models of one's own begin: no bound holds for them
ACCEPTED = (Outcome.FAIL, Outcome.INVALID, Outcome.ERROR)  # outcomes that may be expected
WORDS = ("decided", "limits", "sdk_python", "environment", *ROWS)


def read(path: Path, cases: Collection[str], steps: Collection[str]) -> Policy:
    """The policy in a file. `cases` are the case ids that patterns have to match, `steps` what a time limit may be set
    for. Raises UsageError with the file's line for a row that is wrong or matches nothing."""
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise UsageError(f"policy {path} cannot be read: {error}", hint="see docs/policy.md for its form") from error
    _known(str(path), table, WORDS)
    found: dict[str, list[Any]] = {
        name: [_row(kind, row, place, cases) for row, place in _placed(path, text, table, name)]
        for name, kind in ROWS.items()
    }
    decided = table.get("decided")
    if decided is not None and not (_number(decided) and 0 < decided <= 1):
        raise UsageError(f"{path}: decided = {decided!r} is not a share", hint="write a number above 0, at most 1")
    chips = sorted({Case.parse(case).chip for case in cases})
    return Policy(
        hashlib.sha256(text.encode()).hexdigest(), path.name, tuple(found["expect"]), tuple(found["observe"]),
        tuple(found["gate"]), tuple(found["bound"]), decided, _limits(path, table.get("limits", {}), steps, chips),
        _pythons(path, table.get("sdk_python", {})), _environment(path, table.get("environment", {}), chips),
    )  # fmt: skip


def _known(place: str, given: Mapping[str, Any], words: Collection[str]) -> None:
    for name in given:
        if name not in words:
            near = get_close_matches(name, words, 1)
            raise UsageError(f"{place}: there is no {name!r}",
                             hint=f"did you mean {near[0]}?" if near else f"there are {', '.join(words)}")  # fmt: skip


def _placed(path: Path, text: str, table: Mapping[str, Any], name: str) -> list[tuple[Mapping[str, Any], str]]:
    """The rows of one kind, each with "FILE:LINE"."""
    rows = table.get(name, [])
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise UsageError(f"{path}: {name} is not a list of rows", hint=f"write [[{name}]]")
    header = re.compile(rf"\s*\[\[\s*{name}\s*\]\]")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if header.match(line)]
    lines += [1] * (len(rows) - len(lines))
    return [(row, f"{path.name}:{line}") for row, line in zip(rows, lines, strict=False)]


def _row(kind: type[Row], given: Mapping[str, Any], place: str, cases: Collection[str]) -> Row:
    known = {field.name: field for field in fields(kind) if field.name != "place"}
    _known(place, given, known)
    values = {"link": "", **({"stage": "*"} if kind is Asked else {}), **given}
    absent = [name for name, field in known.items() if field.default is MISSING and name not in values]
    if absent:
        raise UsageError(f"{place}: {absent[0]} is missing", hint=f"a row has {', '.join(known)}")
    for name, wanted in CHECKS.items():
        if name in values and not wanted(values[name]):
            raise UsageError(f"{place}: {name} = {values[name]!r} is not allowed", hint=HINTS[name])
    if "outcome" in values:
        values["outcome"] = Outcome(values["outcome"])
    if kind is Gate and "figure" not in values:
        raise UsageError(f"{place}: figure is missing", hint=HINTS["figure"])
    if kind is Gate and ("least" in values) + ("most" in values) == 0:
        raise UsageError(f"{place}: a gate needs least or most", hint="write most = 5000")
    figures = [name for stage, names in BOUNDS.items() if values["stage"] in ("*", stage) for name in names]
    if kind is Asked and not any(name in values for name in figures):
        raise UsageError(f"{place}: a bound needs a figure", hint=f"there are {', '.join(figures) or 'none'}")
    if kind is Asked:
        cases = [case for case in cases if not case.startswith(OWN)]
    of_a_file = kind is not Asked and values["case"].startswith(OWN)  # which may be tested in another run
    if not of_a_file and not any(fnmatchcase(case, values["case"]) for case in cases):
        raise UsageError(f"{place}: no case matches {values['case']!r}", hint="list them: pytest --collect-only -q")
    return kind(**values, place=place)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


CHECKS: dict[str, Callable[[Any], bool]] = {
    "case": lambda v: isinstance(v, str) and bool(v),
    "stage": lambda v: v == "*" or v in STAGES,
    "reason": lambda v: isinstance(v, str) and bool(v.strip()),
    "link": lambda v: isinstance(v, str),
    "metric": lambda v: isinstance(v, str),
    "until": lambda v: type(v) is date,
    "outcome": lambda v: v in [outcome.value for outcome in ACCEPTED],
    "figure": lambda v: isinstance(v, str) and bool(v),
    "least": _number,
    "most": _number,
    "cosine": lambda v: _number(v) and 0 < v < 1,
    **dict.fromkeys(("largest", "rms", "floor"), lambda v: _number(v) and v > 0),
    "drop": lambda v: _number(v) and 0 <= v < 1,
}
HINTS = {
    "case": 'write a pattern: case = "*-ascend310p-fp16-*"',
    "stage": f"there are {', '.join(STAGES)} and *",
    "reason": "say in words why the row is there",
    "metric": 'name the verdict: metric = "top1"',
    "link": 'write the address of the ticket: link = "https://..."',
    "until": "write a date: until = 2027-03-01",
    "outcome": f"there are {', '.join(outcome.value for outcome in ACCEPTED)}",
    "figure": 'name a figure of the records: figure = "latency_p99_us"',
    "least": "write a number",
    "most": "write a number",
    "cosine": "write a number between 0 and 1: cosine = 0.95",
    "largest": "write a relative error above 0: largest = 0.1",
    "rms": "write a relative error above 0: rms = 0.05",
    "floor": "write a share of the published figure above 0: floor = 0.9",
    "drop": "write a share, 0 or more and below 1: drop = 0.02",
}


def _limits(path: Path, given: Any, steps: Collection[str], chips: Collection[str]) -> dict[str, Mapping[str, float]]:
    """Limits by chip; those that stand in no table of a chip are "", for every chip."""
    if not isinstance(given, dict):
        raise UsageError(f"{path}: limits is not a table", hint="write [limits] and below it run = 60")
    words = (*steps, "memory_gb")
    _known(f"{path}: limits", given, (*words, *chips))
    tables = {"": {name: value for name, value in given.items() if name not in chips}}
    tables |= {chip: given[chip] for chip in chips if chip in given}
    for chip, table in tables.items():
        place = f"{path}: limits{f'.{chip}' if chip else ''}"
        if not isinstance(table, dict):
            raise UsageError(f"{place} is not a table", hint=f"write [limits.{chip}] and below it run = 60")
        _known(place, table, words)
        for name, value in table.items():
            if not _number(value) or value <= 0:
                raise UsageError(f"{place}: {name} = {value!r} is not allowed", hint="write a number above 0")
    return {chip: {name: float(value) for name, value in table.items()} for chip, table in tables.items()}


def _environment(path: Path, given: Any, chips: Collection[str]) -> dict[str, Mapping[str, str]]:
    """Variables by chip; $NAME in a value is that of the environment in which pytest was started, and nothing where it
    is not set, as in a shell."""
    right = isinstance(given, dict) and all(isinstance(table, dict) for table in given.values())
    if not right or not all(isinstance(value, str) for table in given.values() for value in table.values()):
        raise UsageError(f"{path}: environment is not a table of tables of texts",
                         hint='write [environment.ascend310p] and below it NAME = "value"')  # fmt: skip
    _known(f"{path}: environment", given, chips)
    here = defaultdict(str, os.environ)
    return {
        chip: {name: Template(value).safe_substitute(here) for name, value in table.items()}
        for chip, table in given.items()
    }


def _pythons(path: Path, given: Any) -> tuple[str, ...]:
    """CHIP=PATH for each line; a path is relative to the file's folder, a bare name is looked for on PATH."""
    if not (isinstance(given, dict) and all(isinstance(value, str) for value in given.values())):
        raise UsageError(f"{path}: sdk_python is not a table of paths",
                         hint='write [sdk_python] and below it rk3588 = "/opt/rknn/bin/python"')  # fmt: skip
    return tuple(f"{chip}={path.parent / value if '/' in value else value}" for chip, value in given.items())


ROW = """
[[expect]]
case = "{}"
stage = "{}"
metric = "{}"
outcome = "{}"
reason = ""  # why, in words
link = ""
"""


def rows_for(reds: Collection[tuple[str, str, str, str]]) -> str:
    """The text of rows that expect these (case, stage, metric, outcome), sorted; a person fills the reasons in."""
    return "".join(ROW.format(*red) for red in sorted(reds))
