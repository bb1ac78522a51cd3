"""chipproof selftest: how often the suite would be wrong: healthy chips that turn red, planted faults that do not."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.chips import CHIP_PATIENCE_S
from harness.errors import UsageError
from harness.vocabulary import Outcome
from tools.language import reader, say, show

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from tools.healthy import Count

FAULTS = Path(__file__).parents[1] / "tests" / "faults" / "test_faults.py"
FEW = 40  # runs that a process judges at a time
TOLD = 100  # characters of a message that the table shows


def command(
    runs: Annotated[
        int, typer.Option("--runs", min=1, help="healthy runs of the whole matrix, under each noise")
    ] = 400,
    seed: Annotated[int, typer.Option("--seed", help="random seed of the noise")] = 0,
    patience: Annotated[
        float, typer.Option("--patience", min=0, help="seconds a figure is measured")
    ] = CHIP_PATIENCE_S,
    noise: Annotated[list[str] | None, typer.Option("--noise", help="only this one; repeat for several")] = None,
    faults: Annotated[bool, typer.Option("--faults/--no-faults", help="plant the faults of tests/faults")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Judge simulated healthy chips whose speed has noise, and print how often verdicts are red or undecided and how
    often intervals miss the true value.

    Every published throughput is measured as on a chip (windows of a second until the verdict is known), by a chip
    that is exactly as fast as was published, in runs that differ by 3 %. Then every fault of tests/faults is planted,
    and the table says which stage caught it, what it said, and the fewest images with which accuracy shows it. Exit
    status 1 when more than one run in a thousand is red, intervals miss, figures that are exactly at the floor PASS or
    FAIL more often than stated, or a fault is not caught where it should.
    """
    counts = _judge(noise, runs, seed, patience, as_json)
    planted = plant(FAULTS) if faults else ()
    if as_json:
        told = {name: count.as_json() for name, count in counts.items()}
        print(json.dumps({"noises": told, "faults": None if planted is None else [asdict(one) for one in planted]}))
    else:
        _show(counts)
        if faults:
            say("\n".join(_faults(planted)))
    if not (all(count.holds for count in counts.values()) and all(one.as_told for one in planted or ())):
        raise typer.Exit(1)


def _judge(noise: Sequence[str] | None, runs: int, seed: int, patience: float, quiet: bool) -> dict[str, Count]:
    """Results of the runs under each noise, judged in several processes. Raises UsageError for an unknown noise."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from rich.console import Console
    from rich.progress import Progress

    from tools.healthy import MORE, NOISES, Count, judge

    unknown = [name for name in noise or () if name not in NOISES | MORE]
    if unknown:
        raise UsageError(f"--noise {unknown[0]}: there is no such noise", hint=f"there are {', '.join(NOISES | MORE)}")
    counts = {name: Count() for name in noise or NOISES}
    numbers = {name: number for number, name in enumerate(NOISES | MORE)}
    parts = [(name, min(FEW, runs - begun), (seed, numbers[name], begun), patience)
             for begun in range(0, runs, FEW) for name in counts]  # fmt: skip
    with Progress(console=Console(stderr=True), disable=quiet) as progress, ExitStack() as stack:
        tasks = {name: progress.add_task(name, total=runs) for name in counts}
        several = runs > FEW and stack.enter_context(ProcessPoolExecutor(mp_context=get_context("spawn")))
        for part, count in zip(parts, (several.map if several else map)(judge, parts), strict=True):
            counts[part[0]].add(count)
            progress.advance(tasks[part[0]], count.runs)
    return counts


@dataclass(frozen=True)
class Planted:
    """What became of one fault: stages that turned red, with their outcomes, and what the first of them said."""

    name: str
    found: str
    message: str
    as_told: bool  # red at the stages that tests/faults names, and at no other
    images: int | None = None  # the fewest with which the accuracy shows it; None where that does not

    @property
    def caught(self) -> bool:
        """Whether any stage turned red."""
        return any(outcome.value in self.found for outcome in Outcome if outcome.red)


def plant(tests: Path) -> list[Planted] | None:
    """Plant every fault, by the tests of tests/faults in processes of their own, those that were missed first; None
    where they are not installed. Raises UsageError when they cannot be run."""
    from xml.etree import ElementTree

    if not tests.is_file():
        return None
    root = tests.parents[2]
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "faults.xml"
        command = [sys.executable, "-m", "pytest", f"--rootdir={root}", "-c", str(root / "pyproject.toml"), str(tests),
                   "-k", "test_a_planted_fault_is_caught", "-q", "-p", "no:cacheprovider", "-n", "auto",
                   f"--junitxml={told}"]  # fmt: skip
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if not told.is_file():
            raise UsageError(
                f"{tests} could not be run: {done.stderr.strip()[-300:] or done.stdout.strip()[-300:]}",
                hint=f"run it by hand: {shlex.join(command[:-1])}",
            )
        planted = [_planted(case) for case in ElementTree.parse(told).iter("testcase")]
        return sorted(planted, key=lambda one: (one.as_told, one.name))


def _planted(case: Element) -> Planted:
    told = {one.get("name"): one.get("value") or "" for one in case.iter("property")}
    broken = any(case.find(tag) is not None for tag in ("failure", "error"))
    name = told.get("fault") or str(case.get("name"))
    images = int(told["images"]) if told.get("images") else None
    return Planted(name, told.get("found", ""), told.get("message", ""), not broken, images)


COLUMNS = ("noise", "red runs", "PASS", "undecided", "(windows)", "s/figure", "95 % covers", "missed", "in doubt",
           "doubt covers", "PASS at floor")  # fmt: skip


def _show(counts: dict[str, Count]) -> None:
    from rich.table import Table

    from harness.judge.throughput import BETWEEN

    of = next(iter(counts.values()))
    say(f"{of.runs} healthy runs of {of.figures // of.runs} figures under each noise; runs differ by {BETWEEN:.0%}")
    table = Table(box=None, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "noise" else "right", no_wrap=True)
    for name, count in counts.items():
        covers = "doubted" if count.coverage is None or count.sure < 0.1 * count.figures else f"{count.coverage:.1%}"
        wide = f"{count.doubted_held / count.doubted:.1%}" if count.doubted else "-"
        shares = (count.outcomes["PASS"] / count.figures, count.undecided, count.waits["windows"] / count.figures)
        table.add_row(name, str(count.red), *(f"{share:.1%}" for share in shares),
                      f"{count.seconds / count.figures:.1f}", reader()(covers), f"{count.silent:.1%}",
                      f"{count.doubted / count.figures:.1%}", wide, f"{count.wrong:.1%}")  # fmt: skip
    show(table, least=120)
    for name, count in counts.items():
        for text in count.reds:
            say(f"{name}: red: {text}")
    say("undecided: all; (windows): those that a longer measurement would decide, the others need another run\n"
        "in doubt: widened, because the windows are few, similar, or in two groups")  # fmt: skip


def _faults(planted: Sequence[Planted] | None) -> Iterator[str]:
    yield ""
    if planted is None:
        yield "no planted faults here: they come with a checkout of the project"
        return
    missed = [one for one in planted if not one.as_told]
    caught = sum(one.caught or one.as_told for one in planted)
    yield f"{len(planted)} faults planted, {caught} caught, {len(missed)} not as tests/faults says"
    for one in planted:
        sign = " " if one.as_told else "!"
        images = f"; accuracy shows it from {one.images} images on" if one.images else ""
        yield f"{sign} {one.name}: {one.found or 'nothing is red'}{images}"
        if one.message:
            told = reader()(one.message)
            yield f"    {told[:TOLD]}{'...' if len(told) > TOLD else ''}"
