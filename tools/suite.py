"""The suite as the verbs use it: the same settings as the tests, from command-line options."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import platformdirs
import typer
from rich.console import Console
from rich.progress import Progress

from harness import baselines
from harness.store import Store
from harness.suite import Settings, Suite

DataOption = Annotated[
    Path | None, typer.Option("--data", envvar="CHIPPROOF_DATA", help="published weights, images and labels")
]
CacheOption = Annotated[
    Path | None, typer.Option("--cache", envvar="CHIPPROOF_CACHE", help="where exports and engines are kept")
]
PythonOption = Annotated[str, typer.Option("--sdk-python", help="interpreter that has the vendor's SDK")]


def cache_folder(chosen: Path | None) -> Path:
    return chosen or platformdirs.user_cache_path("chipproof")


def suite(
    data: Path | None, cache: Path | None, sdk_python: str = sys.executable, progress: Progress | None = None
) -> Suite:
    """A Suite for one verb; its notes go to standard error."""
    console = Console(stderr=True)

    def begin(what: str, total: int) -> Callable[[int], None]:
        if progress is None:
            return lambda done: None
        task = progress.add_task(what, total=total)
        return lambda done: progress.advance(task, done)

    return Suite(
        Settings(
            store=Store(cache_folder(cache), say=lambda note: console.print(note, style="yellow", markup=False)),
            baselines=baselines.load(),
            data=data,
            sdk_python=sdk_python,
            progress=begin,
        )
    )
