"""Reads the files of baselines/ row by row; whatever is wrong is an error with file and line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from harness.baselines.rows import (
    SCALES,
    UNITS,
    Best,
    Cell,
    Deviation,
    Erratum,
    Log,
    Ratio,
    Target,
    Times,
)
from harness.case import Precision
from harness.errors import BaselineError
from harness.vocabulary import ACCURACIES, METRICS, STAGES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]  # absent on newer Pythons

PRECISIONS = tuple(str(precision) for precision in Precision)
_REQUIRED = object()


class Row:
    """One TOML table with the place where it stands; every key has to be taken."""

    def __init__(self, place: tuple[str, int], *tables: Mapping[str, Any]) -> None:
        self.file, self.line = place
        self.values = {key: value for table in tables for key, value in table.items()}

    def fail(self, fact: str, hint: str) -> BaselineError:
        """An error that names the row's file and line."""
        return BaselineError(f"{self.file}:{self.line}: {fact}", hint=hint)

    def take(self, key: str, kind: type | tuple[type, ...], default: Any = _REQUIRED) -> Any:
        """The value of a key. Raises BaselineError when it is absent, empty or of another type."""
        if key not in self.values:
            if default is _REQUIRED:
                raise self.fail(f"{key} is missing", hint=f"add {key} = ... to the row or to its section")
            return default
        value = self.values.pop(key)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join(k.__name__ for k in kinds)
            raise self.fail(f"{key} = {value!r} is not a {names}", hint="see baselines/README.md for the format")
        if value == "":
            raise self.fail(f"{key} is empty", hint="say what it is, or delete the key")
        return value

    def word(self, key: str, known: tuple[str, ...], default: Any = _REQUIRED) -> Any:
        """A word that must be one of `known`. Raises BaselineError."""
        value = self.take(key, str, default)
        if value is not default and value not in known:
            raise self.fail(f"unknown {key} {value!r}", hint=f"known: {', '.join(known)}")
        return value

    def number(self, key: str, default: Any = _REQUIRED) -> Any:
        """A positive number with the digits that stand in the file."""
        value = self.take(key, (Decimal, int), default)
        if value is None:
            return None
        if (isinstance(value, Decimal) and not value.is_finite()) or value <= 0:
            raise self.fail(f"{key} = {value} is out of range", hint="write a number above zero, as printed")
        return Decimal(value)

    def whole(self, key: str, default: Any = _REQUIRED) -> Any:
        """A whole number from 1. Raises BaselineError."""
        value = self.take(key, int, default)
        if value is not default and value < 1:
            raise self.fail(f"{key} = {value} is out of range", hint="write a whole number from 1")
        return value

    def pair(self, key: str) -> tuple[Decimal, Decimal]:
        """Two numbers as printed: a rate and a latency in ms. Raises BaselineError."""
        value = self.take(key, list)
        if len(value) != 2 or not all(isinstance(v, (Decimal, int)) for v in value):
            raise self.fail(f"{key} = {value} is not two numbers", hint="write [throughputRate, moduleLatency]")
        return Decimal(value[0]), Decimal(value[1])

    def several(self, key: str) -> list[Any]:
        """A value or a list of values: the figure holds for each of them. [None] when absent."""
        value = self.values.pop(key, None)
        return value if isinstance(value, list) and value else [value]

    def origin(self) -> dict[str, Any]:
        """Document and section, file and line of the row."""
        return {
            "document": self.take("document", str),
            "section": self.take("section", str),
            "file": self.file,
            "line": self.line,
        }

    def end(self) -> None:
        """Raises BaselineError when a key of the row was not taken."""
        if self.values:
            raise self.fail(f"unknown key {', '.join(self.values)}", hint="see baselines/README.md for the format")


def parse(path: Path, shown: str) -> tuple[dict[str, Any], dict[str, list[int]], list[int]]:
    """A file of baselines/: its tables, the line of each `[[header]]` by name, and the line of each one-line row."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BaselineError(f"{shown}:1: cannot be read: {error}", hint="write it in UTF-8") from error
    try:
        tables = tomllib.loads(text, parse_float=Decimal)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found.group(1)) if found else len(text.splitlines())
        raise BaselineError(f"{shown}:{line}: not TOML: {error}", hint="repair the line or the one before") from error
    headers: dict[str, list[int]] = {}
    rows = []
    for number, content in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\[(\w+)\]\]", content)
        if header:
            headers.setdefault(header.group(1), []).append(number)
        elif content.lstrip().startswith("{"):
            rows.append(number)
    for name, value in tables.items():
        if not isinstance(value, list) or len(value) != len(headers.get(name, ())):
            raise BaselineError(f"{shown}:1: {name} is not a list of tables", hint=f"write [[{name}]] before each")
    return tables, headers, rows


def tables(path: Path, shown: str, name: str) -> Iterator[Row]:
    """Rows of a file that holds nothing but `[[name]]` tables."""
    content, headers, _ = parse(path, shown)
    for other in content.keys() - {name}:
        raise BaselineError(f"{shown}:{headers[other][0]}: [[{other}]] does not belong here", hint=f"write [[{name}]]")
    for line, table in zip(headers.get(name, ()), content.get(name, ()), strict=True):
        yield Row((shown, line), table)


class Reader:
    """Collects the rows of all files."""

    def __init__(self, models: tuple[str, ...], chips: tuple[str, ...]) -> None:
        self.models, self.chips = models, chips
        self.cells: list[Cell] = []
        self.logs: list[Log] = []
        self.times: list[Times] = []
        self.ratios: list[Ratio] = []
        self.bests: list[Best] = []
        self.rows_targets: list[Target] = []
        self.rows_deviations: list[Deviation] = []
        self.rows_errata: list[Erratum] = []

    def model(self, path: Path, shown: str) -> None:
        """Read a model's file. Raises BaselineError."""
        if path.stem not in self.models:
            raise BaselineError(
                f"{shown}:1: unknown model {path.stem!r}",
                hint=f"a file takes its model's name: {', '.join(self.models)}",
            )
        content, headers, lines = parse(path, shown)
        for name in content.keys() - {"section"}:
            raise BaselineError(
                f"{shown}:{headers[name][0]}: [[{name}]] does not belong here", hint="write [[section]]"
            )
        ahead = iter(lines)
        count = 0
        for header, section in zip(headers.get("section", ()), content.get("section", ()), strict=True):
            kinds = {name: section.pop(name) for name in list(section) if name in self._KINDS}
            for name in section:
                if isinstance(section[name], dict) or name not in self._DEFAULTS:
                    raise BaselineError(f"{shown}:{header}: unknown key {name}", hint="see baselines/README.md")
            for name, rows in kinds.items():
                if not isinstance(rows, list) or not all(isinstance(table, dict) for table in rows):
                    raise BaselineError(f"{shown}:{header}: {name} is not a list of rows", hint="write rows in braces")
                for table in rows:
                    count += 1
                    row = Row((shown, next(ahead, header)), section, table)
                    self._KINDS[name](self, path.stem, row)
        if count != len(lines):
            raise BaselineError(f"{shown}:1: {count} rows on {len(lines)} lines", hint="one row a line, a brace first")

    def _case(self, model: str, row: Row) -> dict[str, Any]:
        return {
            "model": model,
            "chip": row.word("chip", self.chips),
            "precision": Precision(row.word("precision", PRECISIONS)),
        }

    def _figure(self, model: str, row: Row) -> None:
        row.values.pop("images", None)
        role = row.word("role", ("source", "cell"), "cell")
        metric = row.word("metric", tuple(METRICS))
        unit = row.word("unit", tuple(SCALES))
        per = row.word("per", tuple(UNITS), "card")
        printed = row.number("value")
        accuracy = metric in ACCURACIES
        if accuracy == (unit == "images/s"):
            raise row.fail(
                f"{metric} is not in {unit}", hint='unit is "%" or "fraction" for accuracies, else "images/s"'
            )
        value = printed * SCALES[unit]
        if accuracy and value > 1:
            raise row.fail(f"{metric} = {printed} {unit} is out of range", hint="an accuracy is at most 100 %")
        chips, precisions, batches = row.several("chip"), row.several("precision"), row.several("batch")
        self._known(row, role, metric, chips, precisions, batches)
        cell = Cell(
            model, None, None, None, metric, float(value),
            unit="fraction" if accuracy else UNITS[per],
            role=role,
            protocol=row.take("protocol", str),
            chosen=row.take("chosen", bool, True) and per == "card",
            note=row.take("note", str, ""),
            printed=printed,
            scale=SCALES[unit],
            per=per,
            formula=row.take("formula", str, ""),
            labelled=row.whole("labelled", None),
            complement=row.number("complement", None),
            then=tuple(Decimal(v) for v in row.take("then", list, [])),
            **row.origin(),
        )  # fmt: skip
        row.end()
        for chip in chips:
            for precision in precisions:
                for batch in batches:
                    known = None if precision is None else Precision(precision)
                    self.cells.append(replace(cell, chip=chip, precision=known, batch=batch))

    def _known(
        self, row: Row, role: str, metric: str, chips: list[Any], precisions: list[Any], batches: list[Any]
    ) -> None:
        for key, values, names in (("chip", chips, self.chips), ("precision", precisions, PRECISIONS)):
            for value in values:
                if role == "source" and value is not None:
                    raise row.fail(f"a source has no {key}", hint=f"delete {key}, or the role")
                if role == "cell" and value not in names:
                    raise row.fail(f"unknown {key} {value!r}", hint=f"known: {', '.join(names)}")
        for batch in batches:
            if batch is None and (role == "source" or metric in ACCURACIES):
                continue
            if role == "source" or not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
                raise row.fail(f"batch = {batch!r} is out of range", hint="a whole number from 1; none for a source")

    def _log(self, model: str, row: Row) -> None:
        _drop(row, "metric", "unit", "protocol", "chosen", "note")
        log = Log(
            **self._case(model, row),
            batch=row.whole("batch"),
            images=row.whole("images"),
            e2e=row.pair("e2e"),
            read=row.pair("read"),
            preprocess=row.pair("preprocess"),
            infer=row.pair("infer"),
            post=row.pair("post"),
            **row.origin(),
        )
        row.end()
        self.logs.append(log)

    def _time(self, model: str, row: Row) -> None:
        _drop(row, "metric", "unit", "protocol", "chosen", "note", "images")
        names = ("min", "median", "p99", "max", "total_s", "without_first")
        others = {name: row.number(name) for name in names if name in row.values}
        self.times.append(
            Times(
                **self._case(model, row),
                batch=row.whole("batch"),
                of=row.take("of", str),
                mean=row.number("mean"),
                others=others,
                **row.origin(),
            )
        )
        row.end()

    def _ratio(self, model: str, row: Row) -> None:
        _drop(row, "metric", "unit", "protocol", "chosen", "note", "images")
        best = row.values.get("batch") == "best" and row.values.pop("batch")
        batch = None if best else row.whole("batch")
        value, at_least = row.number("value", None), row.number("at_least", None)
        if (value is None) == (at_least is None):
            raise row.fail("a ratio has a value, or is claimed to be at_least one", hint="write exactly one of the two")
        self.ratios.append(
            Ratio(
                **self._case(model, row),
                other=row.word("other", self.chips),
                batch=batch,
                other_batch=row.whole("other_batch", batch),
                value=value,
                at_least=at_least,
                formula=row.take("formula", str, ""),
                **row.origin(),
            )
        )
        row.end()

    def _best(self, model: str, row: Row) -> None:
        _drop(row, "metric", "unit", "protocol", "chosen", "note", "images")
        self.bests.append(Best(**self._case(model, row), value=row.number("value"), **row.origin()))
        row.end()

    _KINDS = {"figures": _figure, "logs": _log, "timings": _time, "ratios": _ratio, "bests": _best}  # noqa: RUF012
    _DEFAULTS = (
        "document", "section", "role", "protocol", "chip", "precision", "batch", "metric", "unit", "images", "chosen",
        "note",
    )  # fmt: skip

    def targets(self, path: Path, shown: str) -> None:
        """Read targets.toml. Raises BaselineError."""
        for row in tables(path, shown, "target"):
            self.rows_targets.append(
                Target(
                    chip=row.word("chip", self.chips),
                    other=row.word("other", self.chips),
                    ratio=float(row.number("ratio")),
                    aggregation=row.word("aggregation", ("best_batch",)),
                    **row.origin(),
                )
            )
            row.end()
        _unique(((t.chip, t.other), t.file, t.line) for t in self.rows_targets)

    def deviations(self, path: Path, shown: str) -> None:
        """Read deviations.toml. Raises BaselineError."""
        for row in tables(path, shown, "deviation"):
            stage = row.word("stage", tuple(STAGES))
            self.rows_deviations.append(
                Deviation(
                    case=row.take("case", str),
                    stage=stage,
                    metric=self._judged(row, stage),
                    reason=row.take("reason", str),
                    link=row.take("link", str),
                    file=row.file,
                    line=row.line,
                )
            )
            row.end()
        _unique(((d.case, d.stage, d.metric), d.file, d.line) for d in self.rows_deviations)

    def _judged(self, row: Row, stage: str) -> str:
        """Name of the verdict that a deviation speaks of, among those that the stage gives."""
        known = {
            "published": ACCURACIES,
            "accuracy": (
                *ACCURACIES,
                *(f"{metric} suppressed by chip" for metric in ACCURACIES),
                "tail",
                "devices",
                "last batch",
                "first batch",
            ),
            "throughput": ("throughput",),
            "targets": (*self.chips, "latency"),
            "numerics": ("normalised by chip", "normalised by host", "repeated", "dynamic", "static"),
        }.get(stage, ())
        if stage in ("published", "accuracy", "throughput", "targets"):
            return str(row.word("metric", known))
        return str(row.word("metric", known, ""))

    def errata(self, path: Path, shown: str) -> None:
        """Read errata.toml. Raises BaselineError."""
        for row in tables(path, shown, "erratum"):
            words = {key: row.take(key, str) for key in ("rule", "about", "says", "why")}
            self.rows_errata.append(Erratum(**words, file=row.file, line=row.line))
            row.end()
        _unique(((e.rule, e.about, e.says), e.file, e.line) for e in self.rows_errata)


def _drop(row: Row, *keys: str) -> None:
    """Defaults of the section that mean nothing to this kind of row."""
    for key in keys:
        row.values.pop(key, None)


def _unique(rows: Iterator[tuple[Any, str, int]]) -> None:
    seen: dict[Any, str] = {}
    for key, file, line in rows:
        if key in seen:
            raise BaselineError(f"{file}:{line}: {key} is already at {seen[key]}", hint="keep one of the two")
        seen[key] = f"{file}:{line}"
