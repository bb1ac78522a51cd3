"""chipproof report: records of one run or of several machines, as tables, Markdown, HTML or JSON."""

from __future__ import annotations

import json
import shutil
import sys
from math import inf
from pathlib import Path
from typing import Annotated

import typer

from harness.report import tables
from harness.report.records import merge, read_run, write_whole
from harness.report.terminal import terminal


def command(
    files: Annotated[
        list[Path], typer.Argument(help="record files (.jsonl); of several, the newest record of a case counts")
    ],
    markdown: Annotated[Path | None, typer.Option("--md", help="write Markdown here")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="write an HTML page with charts here")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object a record")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="also what passed, each with its text")] = False,
) -> None:
    """Show the records in FILES. Exit status: 1 when one of them failed."""
    run = merge([read_run(path) for path in files])
    pages = {} if markdown is None else {markdown: tables.markdown(run)}
    if html is not None:
        from harness.report.html import page

        pages[html] = page(run)
    for path, text in pages.items():
        write_whole(path, text)
    if as_json:
        print(json.dumps([record.as_json() for record in run.records], ensure_ascii=False))
    else:
        size = shutil.get_terminal_size((120, 40)).columns
        footer = run.footer
        stopped, options = footer.get("stopped", ""), run.header.get("options", {})
        text = terminal(
            run.records, footer["asked"], size, sys.stdout.isatty(), stopped, verbose=verbose, room=inf, options=options
        )
        print(text, end="")
    if any(record.outcome.red for record in run.records):
        raise typer.Exit(1)
