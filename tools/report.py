"""chipproof report: records of one run or of several machines, as tables, Markdown, HTML or JSON."""

from __future__ import annotations

import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UsageError
from harness.report import ci
from harness.report.journal import NONE, begun
from harness.report.records import Run, merge, not_resumed, read_parts, read_run, required, write_run, write_whole
from tools.language import lang


def files_of(given: Sequence[Path]) -> list[Path]:
    """The record files that are meant: of a folder, all in it that a run wrote a line to. Raises UsageError when there
    is none."""
    files = [file for path in given for file in (_in(path, "*.jsonl") if path.is_dir() else [path])]
    if not files and not left_behind(given):
        raise UsageError(
            f"there is no record file in {', '.join(map(str, given))}",
            hint="give the folder that pytest --results DIR wrote into",
        )
    return files


def _in(folder: Path, pattern: str) -> list[Path]:
    return [path for path in sorted(folder.glob(pattern)) if not path.is_file() or begun(path)]


def left_behind(given: Sequence[Path]) -> dict[Path, Run]:
    """Runs of several processes that nobody summed up, from their parts, by the first of these: one a run whose own
    file is not there."""
    parts: dict[Path, list[Path]] = defaultdict(list)
    for folder in (path for path in given if path.is_dir()):
        for part in _in(folder, "*.part"):
            parts[part.with_name(part.name.rsplit(".", 2)[0] + ".jsonl")].append(part)
    return {found[0]: read_parts(found) for whole, found in parts.items() if not whole.exists()}


def command(
    files: Annotated[
        list[Path],
        typer.Argument(help="folders of results, or record files (.jsonl); the newest record of a case counts"),
    ],
    markdown: Annotated[Path | None, typer.Option("--md", help="write Markdown here")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="write an HTML page with charts here")] = None,
    table: Annotated[
        Path | None, typer.Option("--csv", help="write every record with its figures here, as CSV")
    ] = None,
    records: Annotated[
        Path | None, typer.Option("--records", help="write all as one record file here, for compare and --baseline")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object a record")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="also what passed, each with its text")] = False,
    baseline: Annotated[Path | None, typer.Option("--baseline", help="also say what changed since this run")] = None,
) -> None:
    """Show the records in FILES. Exit status: that of the run that wrote them, see README."""
    from harness.report import compare as changes

    given = files_of(files)
    for path in given:
        _check(path)
    runs = not_resumed({**{path: read_run(path) for path in given}, **left_behind(files)})
    run, chosen = merge(runs), lang()
    found = None if baseline is None else changes.compare(read_run(baseline), run)
    told = ("", "") if found is None else (changes.markdown(found, chosen), changes.html(found, chosen))
    pages = {}
    if markdown is not None:
        pages[markdown] = ci.markdown(run, chosen, told[0])
    if table is not None:
        pages[table] = ci.comma_separated(run.records)
    if html is not None:
        from harness.report.html import page

        pages[html] = page(run, chosen, told[1], [path if path.is_dir() else path.parent for path in files], runs)
    for path, text in pages.items():
        write_whole(path, text)
    if records is not None:
        lines = [line for one in runs for line in one.lines]
        write_run(records, run.header, run.records, run.footer["asked"], run.footer.get("stopped", ""), lines)
    if as_json:
        print(json.dumps([record.as_json() for record in run.records], ensure_ascii=False))
    else:
        from harness.report.terminal import terminal

        size = shutil.get_terminal_size((120, 40)).columns
        text = terminal(
            run.records,
            run.footer["asked"],
            size,
            sys.stdout.isatty(),
            run.footer.get("stopped", ""),
            verbose=verbose,
            room=inf,
            options=run.header.get("options", {}),
            lang=chosen,
        )
        print(text, end="")
        if found is not None:
            print(changes.summary(found, chosen))
    chips, stopped = required(run.header.get("options", {})), run.footer.get("stopped", "")
    if status := ci.status(run.records, chips, stopped=stopped):
        raise typer.Exit(int(status))


def _check(path: Path) -> None:
    """Raises UsageError when there is no file to read: nothing is wrong with a run then."""
    if not path.exists():
        near = sorted(path.parent.glob("*.jsonl")) if path.parent.is_dir() else []
        hint = f"record files there: {', '.join(each.name for each in near[:5])}" if near else (
            "pytest --results DIR writes record files into DIR; then: chipproof report DIR"
        )  # fmt: skip
        raise UsageError(f"there is no file {path}", hint=hint)
    if not path.is_file():
        raise UsageError(f"{path} is a pipe or a device, not a file", hint=NONE)
