"""chipproof verify: verdicts of a run computed again from what was kept beside them, without a chip."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from harness.report.records import read_run
from tools.language import say
from tools.report import files_of, left_behind


def command(
    results: Annotated[list[Path], typer.Argument(help="folders of results, or record files (.jsonl)")],
    as_json: Annotated[bool, typer.Option("--json", help="print the checks as JSON")] = False,
) -> None:
    """Check that record files are as they were written, and compute every verdict again that the raw windows, answers
    and errors kept in them decide. Exit status: 1 when one does not come out, 2 when a file was changed."""
    from harness import matrix
    from harness.report.recompute import recompute, refuse_unknown

    table = matrix.published()
    found, differ = [], False
    runs = {**{path: read_run(path) for path in files_of(results)}, **left_behind(results)}
    refuse_unknown(runs)
    for path, run in runs.items():
        checks = recompute(run, path.parent, table)
        counts = Counter(check.result for check in checks)
        differ |= counts["differs"] > 0
        for check in checks:
            r = check.record
            found.append({"file": str(path), "case": str(r.case), "stage": r.stage, "metric": r.metric,
                          "outcome": r.outcome.value, "result": check.result, "why": check.why})  # fmt: skip
        if not as_json:
            for check in checks:
                r = check.record
                if check.result != "same":
                    say(f"{check.result}: {r.case} {r.stage} {r.metric}: {check.why}".replace(" : ", ": "))
            told = f"{counts['same']} same, {counts['differs']} differs, {counts['not recomputed']} not recomputed"
            say(f"{path}: {len(checks)} records: {told}" + (f"; {stop}" if (stop := run.footer["stopped"]) else ""))
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    if differ:
        raise typer.Exit(1)
