"""chipproof run: the conformance tests of some cases, through pytest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UsageError
from harness.report.ci import Status

TESTS = Path(__file__).parents[1] / "tests" / "conformance"


def command(
    select: Annotated[str, typer.Argument(help="markers, as for pytest -m: 'ascend310p', 'cpu and fp32 and bs1'")],
    data: Annotated[Path | None, typer.Option(help="published weights, images and labels")] = None,
    cache: Annotated[Path | None, typer.Option(help="where exports and engines are kept")] = None,
    results: Annotated[Path | None, typer.Option(help="write records and reports here")] = None,
    limit: Annotated[int | None, typer.Option(help="only the first N images of each data set", min=1)] = None,
    require: Annotated[list[str] | None, typer.Option(help="fail when this chip is absent")] = None,
    simulate: Annotated[bool, typer.Option("--simulate", help="simulated SDKs in the place of the vendors'")] = False,
) -> None:
    """Run the conformance tests that SELECT names. Exit status: that of the run (README), or 2: could not run."""
    if not TESTS.is_dir():
        raise UsageError(
            f"there are no tests at {TESTS}", hint="run it from a checkout, installed with pip install -e ."
        )
    paths = (("data", data), ("cache", cache), ("results", results))
    options = [f"--{name}={value.resolve()}" for name, value in paths if value]  # pytest begins in another folder
    options += [f"--limit={limit}"] if limit else []
    options += [f"--require={chip}" for chip in require or []]
    options += ["--simulate"] if simulate else []
    # a process of its own: pytest turns warnings into errors and must not inherit what is imported here
    status = subprocess.run(
        [sys.executable, "-m", "pytest", str(TESTS), "-m", select, *options], cwd=TESTS.parents[1]
    ).returncode
    raise typer.Exit(status if status in set(Status) else 2)
