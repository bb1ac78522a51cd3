"""chipproof compare: what changed between two runs."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import UsageError
from harness.report.messages import translation
from harness.report.records import read_run, write_whole
from tools.language import lang

if TYPE_CHECKING:
    from rich.console import Console

    from harness.report.compare import Comparison


def command(
    before: Annotated[Path, typer.Argument(help="record file (.jsonl) of the earlier run")],
    after: Annotated[Path, typer.Argument(help="record file (.jsonl) of the later run")],
    markdown: Annotated[Path | None, typer.Option("--md", help="write Markdown here")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the comparison as JSON")] = False,
) -> None:
    """Name the verdicts that flipped, the figures that moved beyond their intervals, and what else changed.

    Exit status: 0 nothing became worse, 1 something did, 2 a run cannot be read, or they have no record in
    common."""
    from rich.console import Console

    from harness.report import compare as comparing

    found = comparing.compare(read_run(before), read_run(after))
    chosen = lang()
    if markdown is not None:
        write_whole(markdown, comparing.markdown(found, chosen))
    if as_json:
        print(json.dumps(found.as_json(), ensure_ascii=False))
    else:
        width = max(80, shutil.get_terminal_size((120, 40)).columns) if sys.stdout.isatty() else 120
        show(found, Console(width=width, highlight=False), chosen)
    if not found.records:
        raise UsageError(
            "the two runs have no record in common: nothing was compared", hint="give two runs of the same cases"
        )
    if found.worse:
        raise typer.Exit(1)


def show(found: Comparison, console: Console, chosen: str) -> None:
    """Print a comparison as tables."""
    from rich.table import Table
    from rich.text import Text

    from harness.report import compare as comparing

    for title, columns, rows in comparing.blocks(found, translation(chosen)):
        table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for name in columns:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table, "")
    console.print(comparing.summary(found, chosen), style="bold", markup=False)
