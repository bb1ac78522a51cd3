"""chipproof selftest: how often the suite would be wrong: healthy chips that turn red, planted faults that do not."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from xml.etree import ElementTree

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from harness import baselines
from harness.baselines import Baselines, Cell
from harness.errors import UsageError
from harness.judge.stats import Estimate
from harness.judge.throughput import BETWEEN, Effort, judge_batches, judge_in_flight, judge_target
from harness.judge.timing import Timing, Window
from harness.judge.verdict import Verdict
from harness.run.throughput import CHIP_PATIENCE_S, Block, Measurement, conclusion, speed_of, until_decided
from harness.vocabulary import Outcome

Rates = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int, int], Rates]
"""(generator, series, windows) -> rates of mean 1, one row a series."""

WINDOWS = 20  # at the first look, a second each, as on a chip
RED = (Outcome.FAIL, Outcome.INVALID)
ALLOWED = 1  # runs with a red verdict, in a thousand
COVERED = 0.93, 0.97  # of intervals of 95 %, as far as they are not in doubt
FAULTS = Path(__file__).parents[1] / "tests" / "faults" / "test_faults.py"
TOLD = 100  # characters of a message that the table shows


def independent(rng: np.random.Generator, series: int, windows: int) -> Rates:
    """Independent windows with a standard deviation of 2 %."""
    return 1 + 0.02 * rng.standard_normal((series, windows))


def correlated(rng: np.random.Generator, series: int, windows: int) -> Rates:
    """A slowly varying speed with a standard deviation of 2 %: a stationary first-order autoregression with 0.9."""
    found = np.empty((series, windows))
    found[:, 0] = rng.standard_normal(series)
    for i in range(1, windows):
        found[:, i] = 0.9 * found[:, i - 1] + math.sqrt(1 - 0.81) * rng.standard_normal(series)
    return 1 + 0.02 * found


def two_clocks(rng: np.random.Generator, series: int, windows: int) -> Rates:
    """Two clock states 5 % apart; the clock changes in one window of ten. Independent noise of 0.5 % is added."""
    switches = np.cumsum(rng.random((series, windows)) < 0.1, axis=1) + (rng.random((series, 1)) < 0.5)
    return 1 + 0.05 * (switches % 2 - 0.5) + 0.005 * rng.standard_normal((series, windows))


def heavy_tails(rng: np.random.Generator, series: int, windows: int) -> Rates:
    """Student's t with 3 degrees of freedom, standard deviation 2 %; no rate is below a tenth."""
    return np.maximum(1 + 0.02 / math.sqrt(3) * rng.standard_t(3, (series, windows)), 0.1)


NOISES: dict[str, Noise] = {
    "independent": independent,
    "AR(0.9)": correlated,
    "two clocks": two_clocks,
    "heavy tails": heavy_tails,
}


@dataclass
class Count:
    """Results of healthy runs under one noise. Counts of intervals are taken at the end of each measurement."""

    runs: int = 0
    red: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    early: int = 0
    waits: Counter[str] = field(default_factory=Counter)
    sure: int = 0
    sure_held: int = 0
    doubted: int = 0
    doubted_held: int = 0
    seconds: float = 0.0
    reds: list[str] = field(default_factory=list)

    @property
    def figures(self) -> int:
        """Number of judged figures over all runs."""
        return self.outcomes.total()

    def as_json(self) -> dict[str, Any]:
        """Counts and shares (0..1) as JSON values."""
        return {
            "runs": self.runs, "red_runs": self.red, "figures": self.figures, "outcomes": dict(self.outcomes),
            "decided_at_the_first_look": self.early / self.figures, "undecided": self.undecided,
            "undecided_within_runs": self.waits["windows"] / self.figures,
            "interval_covers": self.coverage, "interval_in_doubt": self.doubted / self.figures,
            "interval_in_doubt_covers": self.doubted_held / self.doubted if self.doubted else None,
            "seconds_a_figure": self.seconds / self.figures, "reds": self.reds,
        }  # fmt: skip

    @property
    def undecided(self) -> float:
        """Share of figures that end INCONCLUSIVE."""
        return self.outcomes["INCONCLUSIVE"] / self.figures

    @property
    def coverage(self) -> float | None:
        """Share of the intervals without a doubt that hold the true value; None without such intervals."""
        return self.sure_held / self.sure if self.sure else None

    @property
    def silent(self) -> float:
        """Share of all intervals that miss the truth and are not in doubt."""
        return (self.sure - self.sure_held) / self.figures

    @property
    def holds(self) -> bool:
        """Whether at most one run in a thousand is red, and at most 7 % of intervals miss the truth without a doubt."""
        return self.red * 1000 <= ALLOWED * max(self.runs, 1000) and self.silent <= 1 - COVERED[0]


def command(
    runs: Annotated[
        int, typer.Option("--runs", min=1, help="healthy runs of the whole matrix, under each noise")
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="of the noise")] = 0,
    patience: Annotated[
        float, typer.Option("--patience", min=0, help="seconds a figure is measured")
    ] = CHIP_PATIENCE_S,
    noise: Annotated[str, typer.Option("--noise", help="only this one")] = "",
    faults: Annotated[bool, typer.Option("--faults/--no-faults", help="plant the faults of tests/faults")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Judge healthy chips whose speed has noise, and print how often that is red, undecided, or outside its interval.

    Every published throughput is measured as on a chip (windows of a second until the verdict is known), by a chip
    that is exactly as fast as was published, in runs that differ by 3 %. Then every fault of tests/faults is planted,
    and the table says which stage caught it, what it said, and the fewest images with which accuracy shows it. Exit
    status 1 when more than one run in a thousand is red, intervals miss, or a fault is not caught where it should.
    """
    chosen = {name: make for name, make in NOISES.items() if noise in ("", name)}
    if not chosen:
        raise UsageError(f"--noise {noise}: there is no such noise", hint=f"there are {', '.join(NOISES)}")
    table, counts = baselines.load(), {}
    with Progress(console=Console(stderr=True), disable=as_json) as progress:
        for number, (name, make) in enumerate(chosen.items()):
            task = progress.add_task(name, total=runs)
            counts[name] = healthy(table, make, runs, np.random.default_rng((seed, number)), patience,
                                   partial(progress.advance, task))  # fmt: skip
    planted = plant(FAULTS) if faults else ()
    if as_json:
        told = {name: count.as_json() for name, count in counts.items()}
        print(json.dumps({"noises": told, "faults": None if planted is None else [asdict(one) for one in planted]}))
    else:
        print("\n".join([*_lines(counts), *(_faults(planted) if faults else ())]))
    if not (all(count.holds for count in counts.values()) and all(one.as_told for one in planted or ())):
        raise typer.Exit(1)


def healthy(
    table: Baselines, noise: Noise, runs: int, rng: np.random.Generator, patience_s: float = CHIP_PATIENCE_S,
    advance: Callable[[], None] = lambda: None,
) -> Count:  # fmt: skip
    """Judge `runs` runs of every published throughput under that noise."""
    cells = [cell for cell in table.cells if cell.chosen and cell.metric == "throughput"]
    count = Count()
    for _ in range(runs):
        shifts = rng.normal(0, BETWEEN, len(cells))
        rates = noise(rng, len(cells), max(WINDOWS, math.ceil(patience_s) + WINDOWS))
        told = list(_run(table, cells, np.exp(shifts), rates, patience_s, count))
        reds = [str(verdict) for verdict in told if verdict.outcome in RED]
        count.runs += 1
        count.red += bool(reds)
        count.reds += reds[: 5 - len(count.reds)]
        advance()
    return count


def _run(
    table: Baselines, cells: list[Cell], shares: Rates, rates: Rates, patience_s: float, count: Count
) -> Iterator[Verdict]:
    """Verdicts of one run: every figure, how latencies depend on the batch, and the targets."""
    lineups: dict[tuple[str, str | None, object], dict[int, Estimate]] = {}
    for cell, share, row in zip(cells, shares, rates, strict=True):
        batch = cell.batch or 1
        pace = share * cell.value / batch  # executes a second
        blocks, effort, verdict = measured(pace * row, batch, cell, patience_s)
        speed = speed_of(Measurement(blocks, (), 1, (), (), effort), batch)
        _note(count, verdict, effort, speed, share * cell.value)
        yield verdict
        yield judge_in_flight(speed.value, batch, 1, [1 / (pace * rate) for rate in row[:WINDOWS]])
        lineups.setdefault((cell.model, cell.chip, cell.precision), {})[batch] = speed
    for (model, chip, _), speeds in lineups.items():
        latencies = {batch: batch / speed.value for batch, speed in speeds.items()}
        yield judge_batches(latencies, noise={batch: speed.spread for batch, speed in speeds.items()})
        best = max(speeds.values(), key=lambda speed: speed.value)
        for target in table.targets(chip or ""):
            other = table.best(model, target.other)
            if other is not None:
                yield judge_target(best, other, target)


def measured(rates: Rates, batch: int, cell: Cell, patience_s: float) -> tuple[tuple[Block, ...], Effort, Verdict]:
    """Windows of a second with these rates, one after the other, until the verdict is known."""
    now = 0
    conclude = conclusion(batch, cell, None, 1)

    def measure(windows: int, left: float) -> Block:
        nonlocal now
        taken = max(1, min(windows, math.ceil(left)))
        begun, now = now, now + taken
        return (Timing((), tuple(Window(i, i + 1, rates[i]) for i in range(begun, now)), ()),)

    blocks, effort = until_decided(measure, conclude, WINDOWS, patience_s, clock=lambda: float(now))
    return blocks, effort, conclude(blocks, effort)


def _note(count: Count, verdict: Verdict, effort: Effort, speed: Estimate, truth: float) -> None:
    count.outcomes[verdict.outcome.value] += 1
    count.seconds += effort.seconds
    count.early += effort.look == 1 and verdict.outcome is not Outcome.INCONCLUSIVE
    if verdict.outcome is Outcome.INCONCLUSIVE:
        count.waits["runs" if verdict.details.get("needed_runs") else "windows"] += 1
    held = speed.low <= truth <= speed.high
    if speed.doubt:
        count.doubted, count.doubted_held = count.doubted + 1, count.doubted_held + held
    else:
        count.sure, count.sure_held = count.sure + 1, count.sure_held + held


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


def _planted(case: ElementTree.Element) -> Planted:
    told = {one.get("name"): one.get("value") or "" for one in case.iter("property")}
    broken = any(case.find(tag) is not None for tag in ("failure", "error"))
    name = told.get("fault") or str(case.get("name"))
    images = int(told["images"]) if told.get("images") else None
    return Planted(name, told.get("found", ""), told.get("message", ""), not broken, images)


def _lines(counts: dict[str, Count]) -> Iterator[str]:
    any_count = next(iter(counts.values()))
    yield (f"{any_count.runs} healthy runs of {any_count.figures // any_count.runs} figures under each noise; runs "
           f"differ by {BETWEEN:.0%}")  # fmt: skip
    yield f"{'noise':<12} {'red runs':>8} {'PASS':>7} {'undecided':>9} {'(windows)':>9} {'s/figure':>8} " \
          f"{'95 % covers':>11} {'missed':>7} {'in doubt':>8} {'doubt covers':>12}"  # fmt: skip
    for name, count in counts.items():
        covers = "doubted" if count.coverage is None or count.sure < 0.1 * count.figures else f"{count.coverage:.1%}"
        wide = f"{count.doubted_held / count.doubted:.1%}" if count.doubted else "-"
        yield (
            f"{name:<12} {count.red:>8} {count.outcomes['PASS'] / count.figures:>7.1%} {count.undecided:>9.1%} "
            f"{count.waits['windows'] / count.figures:>9.1%} {count.seconds / count.figures:>8.1f} {covers:>11} "
            f"{count.silent:>7.1%} {count.doubted / count.figures:>8.1%} {wide:>12}"
        )
        yield from (f"  red: {text}" for text in count.reds)
    yield ("undecided: all; (windows): those that longer measuring would decide, the others wait for another run. In "
           "doubt: widened, because the windows are few, alike, or of two kinds.")  # fmt: skip


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
            yield f"    {one.message[:TOLD]}{'...' if len(one.message) > TOLD else ''}"
