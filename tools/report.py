"""chipproof report: records of one run or of several machines, as tables, Markdown, HTML or JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UsageError
from harness.report import tables
from harness.report.records import merge, read_run, write_whole


def command(
    files: Annotated[
        list[Path], typer.Argument(help="record files (.jsonl); of several, the newest record of a case counts")
    ],
    markdown: Annotated[Path | None, typer.Option("--md", help="write Markdown here")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="write an HTML page with charts here")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object a record")] = False,
) -> None:
    """Show the records in FILES. Exit status: 1 when one of them failed."""
    for path in files:
        _check(path)
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
        print(tables.terminal(run.records, footer["asked"], size, colour=False, stopped=footer.get("stopped", "")))
    if any(record.outcome.red for record in run.records):
        raise typer.Exit(1)


def _check(path: Path) -> None:
    """Raises UsageError when there is no file to read: nothing is wrong with a run then."""
    if path.is_dir():
        found = sorted(path.glob("*.jsonl"))
        hint = f"chipproof report {path}/*.jsonl" if found else "give the .jsonl files that pytest --results DIR wrote"
        raise UsageError(f"{path} is a folder with {len(found)} record files (.jsonl)", hint=hint)
    if not path.exists():
        near = sorted(path.parent.glob("*.jsonl")) if path.parent.is_dir() else []
        hint = f"record files there: {', '.join(each.name for each in near[:5])}" if near else (
            "pytest --results DIR writes record files into DIR; then: chipproof report DIR/*.jsonl"
        )  # fmt: skip
        raise UsageError(f"there is no file {path}", hint=hint)
    if not path.is_file():
        raise UsageError(f"{path} is a pipe or a device, not a file", hint="give a .jsonl file that the suite wrote")
