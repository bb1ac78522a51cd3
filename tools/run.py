"""chipproof run: the conformance tests of some cases, through pytest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UsageError
from harness.report.ci import Status

PROJECT = Path(__file__).parents[1]
TESTS = PROJECT / "tests" / "conformance"


def command(
    context: typer.Context,
    select: Annotated[str, typer.Argument(help="markers, as for pytest -m: 'ascend310p', 'cpu and fp32 and bs1'")],
) -> None:
    """Run the conformance tests that SELECT names.

    Every other option goes to pytest as it is: --data, --results, --require, --sdk-python, --runner, --device, -n, -v
    and all that README.md lists. Exit status: that of the run, or 2 where it could not begin."""
    if select.startswith("-"):
        raise UsageError(
            f"{select} is in the place of the marker expression", hint='chipproof run "ascend310p and bs1" [OPTIONS]'
        )
    if {"and", "or", "not"}.intersection(context.args):
        raise UsageError("the marker expression is not one word", hint="put it in quotes: chipproof run 'cpu and fp32'")
    conformance(select, context.args)


def conformance(select: str, more: Sequence[str]) -> None:
    """Run the conformance tests in a process of their own and end with their exit status. Raises UsageError where they
    are not installed."""
    if not TESTS.is_dir():
        raise UsageError(
            f"there are no tests at {TESTS}", hint="run it from a checkout, installed with pip install -e ."
        )
    # a process of its own: pytest turns warnings into errors and must not inherit what is imported here
    root = [f"--rootdir={PROJECT}", "-c", str(PROJECT / "pyproject.toml")]
    arguments = [sys.executable, "-m", "pytest", *root, str(TESTS), "-m", select, *more]
    status = subprocess.run(arguments).returncode
    raise typer.Exit(status if status in set(Status) else 2)


command.passes_on = True  # type: ignore[attr-defined]  # options that it does not know are pytest's
