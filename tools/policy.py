"""chipproof policy: a lab's policy file, shown, checked, and extended by what a run found."""

from __future__ import annotations

from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UsageError
from harness.judge.policyfile import NAME
from tools.language import say


class Action(str, Enum):
    """What the verb does."""

    SHOW = "show"
    UPDATE = "update"


def command(
    action: Annotated[Action, typer.Argument(help="show and check the rows, or write rows for the failures of a run")],
    results: Annotated[Path | None, typer.Argument(help="for update: a record file, or a folder of them")] = None,
    policy: Annotated[Path, typer.Option("--policy", help="the policy file")] = Path(NAME),
) -> None:
    """Show the rows of a policy with the number of cases each covers, or write rows that expect what a run found.

    update appends one row for each FAIL, INVALID or ERROR that no row covers yet. Each needs a reason, which a person
    fills in: until then the file is refused. Exit status: 0, or 2 for a file that is wrong."""
    if action is Action.UPDATE:
        _update(policy, results)
        return
    from harness import matrix
    from harness.judge import policyfile
    from harness.worker.limits import STEPS

    ids = [str(case) for case in matrix.cases()]
    found = policyfile.read(policy, ids, STEPS)
    for row in found.rows:
        covered = sum(fnmatchcase(case, row.case) for case in ids)
        until = f", until {row.until}" if row.until else ""
        what = type(row).__name__.lower()
        say(f"{row.place}: {what} {row.case} {row.stage}: {covered} cases{until}: {row.reason}")
    say(f"{len(found.rows)} rows" + (f"; at least {found.decided:.0%} decided" if found.decided else ""))


def _update(policy: Path, results: Path | None) -> None:
    from harness import matrix
    from harness.judge import policyfile
    from harness.judge.policy import Policy
    from harness.report.records import merge, read_run
    from harness.worker.limits import STEPS

    if results is None:
        raise UsageError("update: no results were given", hint="chipproof policy update RESULTS")
    files = sorted(results.glob("*.jsonl")) if results.is_dir() else [results]
    if not files:
        raise UsageError(f"{results} holds no record file", hint="give the --results folder of a run")
    run = merge([read_run(file) for file in files])
    ids = {*(str(case) for case in matrix.cases()), *(str(record.case) for record in run.records)}
    there = policyfile.read(policy, ids, STEPS) if policy.exists() else Policy()
    reds = {
        (str(r.case), r.stage, r.metric, r.outcome.value)
        for r in run.records
        if r.outcome in policyfile.ACCEPTED
        and not any(row.covers(r.case, r.stage) and fnmatchcase(r.metric, row.metric) for row in there.expected)
    }
    text = policyfile.rows_for(reds)
    if text:
        with policy.open("a", encoding="utf-8") as file:
            file.write(text)
    say(f"{policy}: {len(reds)} rows written" + ("; fill their reasons in" if reds else ""))
