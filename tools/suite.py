"""The RunContext of the verbs, with the same settings as the tests, and the command-line options for it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import StoreError, UsageError
from tools.language import reader

if TYPE_CHECKING:
    from rich.progress import Progress

    from harness.chips import Chip
    from harness.judge.policy import Policy
    from harness.run.context import RunContext

DataOption = Annotated[
    Path | None, typer.Option("--data", envvar="CHIPPROOF_DATA", help="published weights, images and labels")
]
CacheOption = Annotated[
    Path | None, typer.Option("--cache", envvar="CHIPPROOF_CACHE", help="where exports and engines are kept")
]
DeviceOption = Annotated[int | None, typer.Option("--device", metavar="N", help="use only this device of the chip")]
RunnerOption = Annotated[
    str | None, typer.Option("--runner", metavar="BACKEND", help="drive the chip by this backend instead of its own")
]
PolicyOption = Annotated[
    Path | None,
    typer.Option("--policy", metavar="FILE", help="the lab's own rules (default: chipproof.toml here, if there)"),
]
TuneOption = Annotated[bool, typer.Option("--tune", help="let the compiler search longer for a faster engine")]
SimulateOption = Annotated[
    bool, typer.Option("--simulate", help="replace the vendor's SDK with a simulated one; $CHIPPROOF_SIM sets it")
]
PythonOption = Annotated[
    list[str] | None,
    typer.Option("--sdk-python", metavar="[CHIP=]PATH", help="Python that has the vendor's SDK, for all chips or one"),
]
BackendOptionOption = Annotated[
    list[str] | None,
    typer.Option("--backend-option", metavar="[CHIP:]KEY=VALUE", help="a setting of the compiler or runtime"),
]


def deliver(kept: Path, out: Path) -> None:
    """Copy a file of the cache to where the user wants it, all of it or nothing. Raises StoreError."""
    from harness.store import whole_file

    try:
        with whole_file(out) as beside:
            shutil.copyfile(kept, beside)
    except OSError as error:
        raise StoreError(
            f"{out} cannot be written: {error}", hint=f"give another --out; it is kept at {kept}"
        ) from error


def no_simulator(chip: Chip) -> None:
    """None for every chip: no simulated SDK."""


def cache_folder(chosen: Path | None) -> Path:
    """The folder of exports and engines: `chosen`, or the user's cache folder."""
    import platformdirs

    return chosen or platformdirs.user_cache_path("chipproof")


def suite(
    data: Path | None,
    cache: Path | None,
    sdk_python: Sequence[str] | None = None,
    progress: Progress | None = None,
    simulate: bool = False,
    backend_option: Sequence[str] | None = None,
    tune: bool = False,
    device: int | None = None,
    runner: str | None = None,
    policy: Policy | None = None,
) -> RunContext:
    """A RunContext for one verb; its notes go to standard error."""
    from rich.console import Console

    from harness import matrix
    from harness.backends.registry import backend_options, backends, pythons
    from harness.judge.policy import Policy
    from harness.run.context import RunContext
    from harness.run.settings import Settings
    from harness.run.simulation import simulator
    from harness.store import Store

    if runner is not None and runner not in backends():
        raise UsageError(f"--runner {runner}: no such backend", hint=f"there are {', '.join(backends())}")
    lab = policy or Policy()
    memory = str(cache_folder(cache) / "simulated")
    console, t = Console(stderr=True), reader(sys.stderr)
    if data is not None and not data.is_dir():
        raise UsageError(
            f"--data {data}: no such folder",
            hint="chipproof fetch lists what belongs there; leave --data out for drawn pictures",
        )

    def begin(what: str, total: int) -> Callable[[int], None]:
        if progress is None:
            return lambda done: None
        task = progress.add_task(what, total=total)
        return lambda done: progress.advance(task, done)

    return RunContext(
        Settings(
            store=Store(cache_folder(cache), say=lambda note: console.print(t(note), style="yellow", markup=False)),
            baselines=matrix.published(),
            data=data,
            pythons=pythons([*lab.pythons, *(sdk_python or [])], matrix.chips()),
            backend_options=backend_options(backend_option or [], matrix.chips()),
            tune=tune,
            device=device,
            runner=runner,
            policy=lab,
            environment=partial(simulator, runner=runner, memory=memory) if simulate else no_simulator,
            progress=begin,
        )
    )
