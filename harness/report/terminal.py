"""The summary that ends a run in a terminal: a grid, failures by cause, marks, the report's place, the head line."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report import tables
from harness.report.causes import Cause, causes, head, where
from harness.report.grid import SIGNS, Grid, Row, grid
from harness.report.lines import COMMAND, wrapped
from harness.report.messages import Translate, translation
from harness.report.records import Record, ran
from harness.vocabulary import MARKS, Outcome

NARROWEST = 80
SCREEN = 24  # lines of the smallest terminal: what is needed stands on its last screen
IN_FULL = 3  # causes at most that are shown with text and command
IN_SHORT = 6  # further causes, a line each
SEEN = 24  # cells of what was seen of an absent chip that say something
WORD = 12  # cells that a line loses where a long word goes to the next

COLOURS: dict[str, str] = {
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.ERROR: "bold red",
    Outcome.INVALID: "magenta",
    Outcome.INCONCLUSIVE: "yellow",
}


def terminal(
    records: Sequence[Record],
    asked: int,
    width: int,
    colour: bool,
    stopped: str = "",
    *,
    verbose: bool = False,
    room: float = SCREEN,
    failures: Sequence[str] = (),
    report: Path | None = None,
    options: Mapping[str, Any] | None = None,
    lang: str = "en",
    changed: str = "",
) -> str:
    """The summary as text. Tables of figures stand in it when all of it fits `room` lines, or with `verbose`, which
    also shows what passed; `failures` are those of the run as a whole; `options` are the run's, for the commands that
    repeat a failed test; `changed` is one sentence on what changed since a baseline."""
    t, width = translation(lang), max(width, NARROWEST)
    red = causes(records, [outcome for outcome in Outcome if outcome.red], options)
    first = [line for part in (_grid(grid(records), width, t), _undecided(records, width, t)) for line in part]
    last = _marks(records, width, t, verbose)
    last += wrapped(t("since the baseline: {text}", text=changed), width, "bold") if changed else []
    for failure in failures:
        last += wrapped(failure, width, COLOURS[Outcome.FAIL])
    if report is not None:
        last.append(Text(t("report: {path}", path=report)))
    last.append(Text(head(records, asked, stopped, t), "bold"))
    last = [*_skips(records, width, t, verbose), *_red(red, width, t, SCREEN - 2 - _height(last, width)), *last]
    tabled = [section for section in tables.sections(records, t) if section[0] != tables.OTHERS]
    beside, rows = len(first) + len(last), sum(len(rows) for _, _, rows in tabled)
    figures = _figures(tabled, width, t) if verbose or beside + rows <= room else []  # drawn only where they may fit
    told = _passed(records, width, t) if verbose else []
    if not verbose and beside + max(rows, len(figures)) > room:
        figures = []
        if any(r.values for r in records if ran(r)):
            last.insert(-1, Text(t("figures: in the report, or with pytest -v")))
    console = Console(width=10_000, force_terminal=colour, highlight=False, file=io.StringIO())
    with console.capture() as capture:
        for line in (*first, *told, *figures, *last):
            line.rstrip()
            console.print(line, soft_wrap=True)
    return capture.get()


def _grid(found: Grid, width: int, t: Translate) -> list[Text]:
    """With batches over the signs where the width allows it, else with one column a batch and a legend."""
    if not found.rows:
        return []
    chips = [f"{row.chip} {row.precision}" for row in found.rows]
    models = [row.models[0] if len(row.models) == 1 else t("all {n} models", n=len(row.models)) for row in found.rows]
    edge = max(map(cell_len, chips)), max(map(cell_len, models))
    every = max((batches for _, batches in found.columns), key=len, default=())
    wide = max((len(str(b)) for b in every), default=1) + 1
    for step, most in ((wide, NARROWEST), (wide, 8), (1, 4)):
        widths = [max(len(batches) * step, min(len(stage), most)) for stage, batches in found.columns]
        if sum(edge) + 2 + sum(widths) + len(widths) - 1 <= width:
            break
    else:  # names too long for one line: the chip gets a line of its own
        edge = 0, edge[1]
    spread = step > 1
    indent = sum(edge) + 2
    lines = []
    heads = " ".join(stage[:w].ljust(w) for (stage, _), w in zip(found.columns, widths, strict=True))
    lines.append(Text(" " * indent + heads, "bold"))
    if spread and every:
        over = ("".join(str(b).ljust(step) for b in batches).ljust(w) for (_, batches), w in
                zip(found.columns, widths, strict=True))  # fmt: skip
        lines.append(Text(" " * indent + " ".join(over), "dim"))
    before = ""
    for row, chip, model in zip(found.rows, chips, models, strict=True):
        if not edge[0] and chip != before:
            lines.append(Text(chip, "bold"))
        line = Text(_left(chip if edge[0] and chip != before else "", edge[0]) + " " + _left(model, edge[1]) + " ")
        before = chip
        for (stage, batches), w in zip(found.columns, widths, strict=True):
            line.append_text(_cells(found, row, stage, batches, step, w)).append(" ")
        lines.append(line)
    legend = "  ".join(f"{SIGNS[outcome]} {outcome}" for outcome in found.outcomes)
    lines += wrapped(legend, width, "dim")
    if every and not spread:
        lines += wrapped(t("signs of a stage, left to right: batch {batches}", batches=" ".join(map(str, every))),
                          width, "dim")  # fmt: skip
    return [*lines, Text()]


def _cells(found: Grid, row: Row, stage: str, batches: Sequence[int], step: int, width: int) -> Text:
    text = Text()
    places: Sequence[int | None] = batches or [None]
    for batch in places:
        outcome = found.cell(row, stage, batch)
        sign = " " if outcome is None else SIGNS[outcome]
        text.append(sign, COLOURS.get(outcome, "dim") if outcome is not None else "").append(" " * (step - 1))
    text.append(" " * max(0, width - text.cell_len))
    return text


def _left(text: str, width: int) -> str:
    return text + " " * max(0, width - cell_len(text))


def _red(found: Sequence[Cause], width: int, t: Translate, room: int) -> list[Text]:
    """The worst causes in full and last, so that the last screen, which has that much room, shows them; further ones
    above, a line each. Of as many in full as there is room for, but of one at least."""
    told = [
        (count, [line for cause in found[:count] for line in (_title(cause, width, t), *_body(cause, width, rows, t))])
        for count in range(min(IN_FULL, len(found)), 0, -1)
        for rows in ((2, 1) if count > 2 else (4, 2))
    ]
    count, full = next((one for one in told if _height(one[1], width) <= room), told[-1] if told else (0, []))
    short = found[count:]
    lines: list[Text] = []
    for cause in short[:IN_SHORT]:
        lines.append(_cut(f"{cause.outcome} {where(cause.cases, t)}: {cause.told(t)}", width, COLOURS[cause.outcome]))
    if len(short) > IN_SHORT:
        more = len(short) - IN_SHORT
        lines.append(Text(t("and {n} more causes, in the report or with pytest -v", n=more)))
    return lines + full


def _height(lines: Sequence[Text], width: int) -> int:
    """Rows of a terminal that the lines take: a word that is longer than it, such as a test's name, takes more."""
    return sum(max(1, -(-line.cell_len // width)) for line in lines)


def _title(cause: Cause, width: int, t: Translate) -> Text:
    count = t("{n} cases", n=len(cause.cases)) + ": " if len(cause.cases) > 1 else ""
    text = Text(f"{cause.outcome} ", COLOURS[cause.outcome])
    return text + _cut(
        f"{', '.join(cause.stages)}: {count}{where(cause.cases, t)}", width - cell_len(text.plain), "bold"
    )


def _body(cause: Cause, width: int, rows: int, t: Translate) -> list[Text]:
    told = cause.told(t)
    text = t("first: {text}", text=told) if len(cause.records) > 1 else told
    lines = _shortened(text, width - 2, rows)
    lines = [Text("  ") + line for line in lines]
    if cause.next_is_command:
        lines += _pasteable(t("next: {text}", text=cause.next), width)
    elif cause.next:
        step = t("next: {text}", text=t(cause.next))
        rows = 9 if COMMAND.search(step) else 1 if rows < 3 else 2
        said = _shortened(step, width - 2, rows)
        lines += [Text("  ") + line for line in said]
    return [*lines, *_pasteable(t("again:") + " " + cause.command, width)]


def _pasteable(command: str, width: int) -> list[Text]:
    """A command on one line, or on several that a shell reads as one."""
    line, lines = "  ", []
    for word in re.findall(r"(?:'[^']*'|\"[^\"]*\"|\S)+", command):
        if cell_len(line) + cell_len(word) + 3 > width and line.strip():
            lines.append(line + "\\")
            line = "      "
        line += word + " "
    return [Text(text) for text in (*lines, line)]


def _undecided(records: Sequence[Record], width: int, t: Translate) -> list[Text]:
    """Three causes at most, two lines each: what could not be decided, why, and what would decide."""
    found = causes(records, [Outcome.INCONCLUSIVE])
    lines: list[Text] = []
    for cause in found[: 3 if len(found) == 3 else 2]:
        text = f"{cause.outcome} {', '.join(cause.stages)}, {where(cause.cases, t)}: {cause.told(t)}"
        lines += _shortened(_with_its_end(text, 2 * (width - WORD)), width, 2, "yellow")
    if len(found) > 3:
        lines += [Text(t("and {n} more reasons for INCONCLUSIVE, in the report or with pytest -v", n=len(found) - 2),
                       "yellow")]  # fmt: skip
    return lines


def _with_its_end(text: str, room: int) -> str:
    """The text in `room` cells: what is cut stands before its last clause, which says what would decide."""
    before, mark, last = re.split(r"(; |；)(?=[^;；]*$)", text) if re.search("; |；", text) else (text, "", "")
    left = room - cell_len(mark + last)
    return text if cell_len(text) <= room or left < SEEN else _cut(before, left).plain + mark + last


def _skips(records: Sequence[Record], width: int, t: Translate, verbose: bool) -> list[Text]:
    """One entry a reason, however many chips share it. Where there is no room, what was seen is cut before the next
    step is; where little of it would stand, the next step is the command that tells all of it."""
    groups = tables.skips(records)
    seen_then = rf"(.*?[(（])(.*)([)）][;；] ?{re.escape(t('next'))}[:：] ?)(.*)"
    lines: list[Text] = []
    for chips, reason, count in groups:
        text = t("skipped {n} x {chips}: {reason}", n=count, chips=", ".join(chips), reason=t(reason))
        rows = 99 if verbose else 4 if len(groups) <= 2 else 2
        if len(wrapped(text, width)) > rows and (parts := re.fullmatch(seen_then, text)):
            before, seen, after, step = parts.groups()
            left = rows * (width - WORD) - cell_len(before + after)
            step = step if left - cell_len(step) >= SEEN else "chipproof doctor"
            text = before + _cut(seen, max(left - cell_len(step), SEEN)).plain + after + step
        lines += _shortened(text, width, rows, "yellow")
    return lines


def _marks(records: Sequence[Record], width: int, t: Translate, verbose: bool) -> list[Text]:
    marks = Counter(mark for record in records if ran(record) for mark in record.marks)
    if not marks:
        return []
    names = ", ".join(mark.upper() for mark in sorted(marks))
    if not verbose:
        return wrapped(t("marks: {names}; what they mean: README.md#marks", names=names), width, "yellow")
    return [
        line for mark in sorted(marks) for line in wrapped(f"{mark.upper()}: {t(MARKS.get(mark, ''))}", width, "yellow")
    ]


def _passed(records: Sequence[Record], width: int, t: Translate) -> list[Text]:
    """Every text that is in no table, the worst first."""
    lines: list[Text] = []
    for case, stage, verdict, why in tables.other_rows(records):
        lines.append(Text(f"{verdict:<13}", COLOURS.get(verdict, "")) + Text(f"{case}  {stage}"))
        lines += [Text("    ") + line for line in wrapped(t(why), width - 4)]
    return [*lines, Text()] if lines else []


def _figures(sections: Sequence[tables.Section], width: int, t: Translate) -> list[Text]:
    lines: list[Text] = []
    for title, columns, rows in sections:
        lines += [*_table(t(title), columns, rows, width, t), Text()]
    return lines


DROPPED_FIRST = ("against", "images", "best", "p90 us", "p99.9 us", "95 % interval", "source", "published", "p50 us",
                 "p99 us", "reference", "beside")  # fmt: skip
"""Columns that a narrow terminal leaves out, in this order."""


def _table(title: str, given: Sequence[str], told: Sequence[Sequence[str]], width: int, t: Translate) -> list[Text]:
    """A row of figures is one line. A table that is too wide first loses columns in which all rows say the same, which
    then stand in its title, then tells its first column on lines of its own, then loses those of DROPPED_FIRST."""
    columns, rows = list(given), [list(row) for row in told]

    def needed() -> int:
        return sum(
            max(cell_len(cell) for cell in (t(name), *column)) + 1 for name, *column in zip(columns, *rows, strict=True)
        )

    def drop(at: int) -> None:
        del columns[at]
        for row in rows:
            del row[at]

    for name in ("chip", "precision", "model", "against", "case"):
        if needed() > width and name in columns and len({row[columns.index(name)] for row in rows}) == 1:
            title += f", {rows[0][columns.index(name)]}"
            drop(columns.index(name))
    groups: list[tuple[str, list[list[str]]]] = [("", rows)]
    if needed() > width and columns[0] in ("case", "model"):
        names = dict.fromkeys(row[0] for row in rows)
        groups = [(name, [row for row in rows if row[0] == name]) for name in names]
        drop(0)
    left = []
    for name in DROPPED_FIRST:
        if needed() > width and name in columns:
            left.append(t(name))
            drop(columns.index(name))
    lines = wrapped(title, width, "bold")
    if left:
        lines += wrapped(t("left out here: {names}", names=", ".join(left)), width, "dim")
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(t(name), justify="right" if name in tables.NUMERIC else "left", no_wrap=True)
    for _, part in groups:
        for row in part:
            table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    rendered = _rendered(table)  # a line a row, after the header's
    lines.append(rendered.pop(0))
    for name, part in groups:
        lines += [Text(name, "bold")] if name else []
        lines += [rendered.pop(0) for _ in part]
    return lines


def _rendered(table: Table) -> list[Text]:
    console = Console(width=10_000, highlight=False, file=io.StringIO(), force_terminal=True, color_system="standard")
    with console.capture() as capture:
        console.print(table)
    return [Text.from_ansi(line) for line in capture.get().splitlines()]


def _shortened(text: str, width: int, rows: int, style: str = "") -> list[Text]:
    lines = wrapped(" ".join(text.split()), width, style)
    if len(lines) <= rows:
        return lines
    rest = Text(" ".join(line.plain for line in lines[rows - 1 :]), style)
    return [*lines[: rows - 1], _cut(rest.plain, width, style)]


def _cut(text: str, width: int, style: str = "") -> Text:
    cut = Text(" ".join(text.split()), style, end="")
    if cut.cell_len > width:
        cut.truncate(width - 3)
        cut.append("...")
    return cut
