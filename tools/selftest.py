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
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from multiprocessing import get_context
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
from harness.judge.stats import SESSION_WINDOWS, SESSIONS, Estimate
from harness.judge.throughput import (
    BETWEEN,
    FLOOR,
    ONE_STATE,
    WRONG,
    Effort,
    judge_batches,
    judge_in_flight,
    judge_target,
)
from harness.judge.timing import Timing, Window
from harness.judge.verdict import Verdict
from harness.run.throughput import CHIP_PATIENCE_S, until_decided
from harness.run.windows import Block, Measurement, judged, speed_of
from harness.vocabulary import Outcome
from tools.language import reader, say, show

Rates = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int, int], Rates]
"""(generator, series, windows) -> rates of mean 1, one row a series; each row is a session of its own."""

WINDOWS = 20  # at the first look, a second each, as on a chip
RED = (Outcome.FAIL, Outcome.INVALID)
ALLOWED = 1  # runs with a red verdict, in a thousand
CHANCE = 0.001  # of finding so many missed intervals or wrong verdicts, or more, when the error rate is as told
COVERED = 0.93, 0.97  # of intervals of 95 %, as far as they are not in doubt
FAULTS = Path(__file__).parents[1] / "tests" / "faults" / "test_faults.py"
TOLD_REDS = 5  # red verdicts that are told
FEW = 40  # runs that a process judges at a time
AT_FLOOR = 5  # figures exactly at the floor, judged beside each run
TOLD = 100  # characters of a message that the table shows


def independent(rng: np.random.Generator, series: int, windows: int) -> Rates:
    """Independent windows with a standard deviation of 2 %."""
    return 1 + 0.02 * rng.standard_normal((series, windows))


def correlated(r: float, rng: np.random.Generator, series: int, windows: int) -> Rates:
    """A slowly varying speed with a standard deviation of 2 %: a stationary first-order autoregression with `r`."""
    found = np.empty((series, windows))
    found[:, 0] = rng.standard_normal(series)
    for i in range(1, windows):
        found[:, i] = r * found[:, i - 1] + math.sqrt(1 - r * r) * rng.standard_normal(series)
    return 1 + 0.02 * found


def clock(leaves: float, rng: np.random.Generator, series: int, windows: int) -> Rates:
    """Two clock states 5 % apart; the clock changes in that share of windows. Independent noise of 0.5 % is added."""
    switches = np.cumsum(rng.random((series, windows)) < leaves, axis=1) + (rng.random((series, 1)) < 0.5)
    return 1 + 0.05 * (switches % 2 - 0.5) + 0.005 * rng.standard_normal((series, windows))


def heavy_tails(rng: np.random.Generator, series: int, windows: int) -> Rates:
    """Student's t with 3 degrees of freedom, standard deviation 2 %; no rate is below a tenth."""
    return np.maximum(1 + 0.02 / math.sqrt(3) * rng.standard_t(3, (series, windows)), 0.1)


NOISES: dict[str, Noise] = {
    "independent": independent,
    "AR(0.9)": partial(correlated, 0.9),
    "two clocks": partial(clock, 0.1),
    "slow clock": partial(clock, 0.01),
    "heavy tails": heavy_tails,
}
MORE: dict[str, Noise] = {
    "AR(0.5)": partial(correlated, 0.5),
    **{f"clock {leaves:g}": partial(clock, leaves) for leaves in (0.005, 0.02, 0.05)},
}
"""Noises that are judged only when they are asked for."""
OUTLASTING = {"slow clock", *(name for name in MORE if name.startswith("clock"))}
"""Noises whose states outlast a session: its interval is that of the state it shows, and PASS allows for others."""


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
    at_floor: Counter[str] = field(default_factory=Counter)

    def add(self, other: Count) -> None:
        """Add the results of further runs."""
        for name, value in vars(other).items():
            kept = getattr(self, name)
            setattr(self, name, (kept + value)[:TOLD_REDS] if name == "reds" else kept + value)

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
            "seconds_a_figure": self.seconds / self.figures, "reds": self.reds, "at_floor": dict(self.at_floor),
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
        """Whether at most one run in a thousand is red, and the intervals that miss the truth without a doubt, and the
        figures at the floor that PASS or FAIL, are no more than chance makes of 7 % and of `WRONG`."""
        from scipy.special import bdtrc  # takes as long to import as the rest of this verb's help

        decided = max(self.at_floor["PASS"], self.at_floor["FAIL"])
        counts = (
            (self.sure - self.sure_held, self.figures, 1 - COVERED[0]),
            (decided, self.at_floor.total(), WRONG),
        )
        by_chance = all(float(bdtrc(number - 1, of, share)) > CHANCE for number, of, share in counts)
        return self.red * 1000 <= ALLOWED * max(self.runs, 1000) and by_chance

    @property
    def wrong(self) -> float:
        """Share of the figures exactly at the floor that PASS."""
        return self.at_floor["PASS"] / self.at_floor.total()


def command(
    runs: Annotated[
        int, typer.Option("--runs", min=1, help="healthy runs of the whole matrix, under each noise")
    ] = 400,
    seed: Annotated[int, typer.Option("--seed", help="of the noise")] = 0,
    patience: Annotated[
        float, typer.Option("--patience", min=0, help="seconds a figure is measured")
    ] = CHIP_PATIENCE_S,
    noise: Annotated[list[str] | None, typer.Option("--noise", help="only this one; repeat for several")] = None,
    faults: Annotated[bool, typer.Option("--faults/--no-faults", help="plant the faults of tests/faults")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Judge healthy chips whose speed has noise, and print how often that is red, undecided, or outside its interval.

    Every published throughput is measured as on a chip (windows of a second until the verdict is known), by a chip
    that is exactly as fast as was published, in runs that differ by 3 %. Then every fault of tests/faults is planted,
    and the table says which stage caught it, what it said, and the fewest images with which accuracy shows it. Exit
    status 1 when more than one run in a thousand is red, intervals miss, figures that are exactly at the floor PASS or
    FAIL more often than is told, or a fault is not caught where it should.
    """
    unknown = [name for name in noise or () if name not in NOISES | MORE]
    if unknown:
        raise UsageError(f"--noise {unknown[0]}: there is no such noise", f"there are {', '.join(NOISES | MORE)}")
    counts = {name: Count() for name in noise or NOISES}
    numbers = {name: number for number, name in enumerate(NOISES | MORE)}
    parts = [(name, min(FEW, runs - begun), (seed, numbers[name], begun), patience)
             for begun in range(0, runs, FEW) for name in counts]  # fmt: skip
    with Progress(console=Console(stderr=True), disable=as_json) as progress, ExitStack() as stack:
        tasks = {name: progress.add_task(name, total=runs) for name in counts}
        several = runs > FEW and stack.enter_context(ProcessPoolExecutor(mp_context=get_context("spawn")))
        for part, count in zip(parts, (several.map if several else map)(_part, parts), strict=True):
            counts[part[0]].add(count)
            progress.advance(tasks[part[0]], count.runs)
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


def _part(part: tuple[str, int, tuple[int, ...], float]) -> Count:
    """What a process of the command counts: (noise, runs, seed, seconds of patience)."""
    name, runs, seed, patience_s = part
    return healthy(baselines.load(), (NOISES | MORE)[name], runs, np.random.default_rng(seed), patience_s,
                   name in OUTLASTING)  # fmt: skip


def healthy(
    table: Baselines, noise: Noise, runs: int, rng: np.random.Generator, patience_s: float = CHIP_PATIENCE_S,
    outlasting: bool = False,
) -> Count:  # fmt: skip
    """Judge `runs` runs of every published throughput under that noise, and beside each `AT_FLOOR` figures exactly at
    the floor. `outlasting`: states of the noise outlast a session, see `OUTLASTING`."""
    cells = [cell for cell in table.cells if cell.chosen and cell.metric == "throughput"]
    count = Count()
    for _ in range(runs):
        shares = np.exp(rng.normal(0, BETWEEN, len(cells)))
        told = list(_run(table, cells, shares, _sessions(noise, rng, len(cells), patience_s), count, outlasting))
        reds = [str(verdict) for verdict in told if verdict.outcome in RED]
        count.runs += 1
        count.red += bool(reds)
        count.reds += reds[: TOLD_REDS - len(count.reds)]
        for cell, sessions in zip(cells, _sessions(noise, rng, AT_FLOOR, patience_s), strict=False):
            pace = FLOOR * cell.value / (cell.batch or 1)
            verdict = measured(sessions, pace, cell.batch or 1, cell)[2]
            count.at_floor[verdict.outcome.value] += 1
    return count


@dataclass(frozen=True)
class Sessions:
    """Rates of the windows of one figure, relative to their mean: those of its first session, and a row for each fresh
    one. `patience_s` is what it may take, in windows of a second."""

    first: Rates
    fresh: Rates
    patience_s: float


def _sessions(noise: Noise, rng: np.random.Generator, figures: int, patience_s: float) -> Iterator[Sessions]:
    most = math.ceil(patience_s / SESSION_WINDOWS) + 1
    first = noise(rng, figures, math.ceil(patience_s) + WINDOWS)
    fresh = noise(rng, figures * most, SESSION_WINDOWS).reshape(figures, most, SESSION_WINDOWS)
    return (Sessions(*rows, patience_s) for rows in zip(first, fresh, strict=True))


def _run(
    table: Baselines, cells: list[Cell], shares: Rates, sessions: Iterator[Sessions], count: Count, outlasting: bool
) -> Iterator[Verdict]:
    """Verdicts of one run: every figure, how latencies depend on the batch, and the targets."""
    lineups: dict[tuple[str, str | None, object], dict[int, Estimate]] = {}
    for cell, share, rows in zip(cells, shares, sessions, strict=True):
        batch = cell.batch or 1
        pace = share * cell.value / batch  # executes a second
        effort, speed, verdict = measured(rows, pace, batch, cell)
        allowed = ONE_STATE if outlasting and speed.sessions < SESSIONS else 0.0
        _note(count, verdict, effort, speed, share * cell.value, allowed)
        yield verdict
        yield judge_in_flight(speed.value, batch, 1, [1 / (pace * rate) for rate in rows.first[:WINDOWS]])
        lineups.setdefault((cell.model, cell.chip, cell.precision), {})[batch] = speed
    for (model, chip, _), speeds in lineups.items():
        latencies = {batch: batch / speed.value for batch, speed in speeds.items()}
        yield judge_batches(latencies, noise={batch: speed.spread for batch, speed in speeds.items()})
        best = max(speeds.values(), key=lambda speed: speed.value)
        for target in table.targets(chip or ""):
            other = table.best(model, target.other)
            if other is not None:
                yield judge_target(best, other, target)


def measured(rows: Sessions, pace: float, batch: int, cell: Cell) -> tuple[Effort, Estimate, Verdict]:
    """Windows of a second, one after the other and session by session, until the verdict is known. `pace` is the mean
    of executes a second."""
    now, fresh, following = 0, iter(rows.fresh), iter(rows.first)
    told: list[tuple[Effort, Estimate, Verdict]] = []

    def measure(windows: int, left: float) -> Block:
        nonlocal now
        rates = list(islice(following, max(1, min(windows, math.ceil(left)))))
        begun, now = now, now + len(rates)
        return (Timing((), tuple(Window(i, i + 1, pace * rate) for i, rate in enumerate(rates, begun)), ()),)

    def renew() -> None:
        nonlocal following
        following = iter(next(fresh))

    def conclude(blocks: tuple[Block, ...], effort: Effort) -> Verdict:
        run = Measurement(blocks, (), 1, (), (), effort)
        speed = speed_of(run, batch)
        told.append((effort, speed, judged(run, speed, batch, cell, None)))
        return told[-1][2]

    blocks, effort = until_decided(measure, conclude, WINDOWS, rows.patience_s, clock=lambda: float(now), renew=renew)
    if not told or told[-1][0] != effort:
        conclude(blocks, effort)
    return told[-1]


def _note(count: Count, verdict: Verdict, effort: Effort, speed: Estimate, truth: float, allowed: float) -> None:
    count.outcomes[verdict.outcome.value] += 1
    count.seconds += effort.seconds
    count.early += effort.look == 1 and verdict.outcome is not Outcome.INCONCLUSIVE
    if verdict.outcome is Outcome.INCONCLUSIVE:
        count.waits["runs" if verdict.details.get("needed_runs") else "windows"] += 1
    held = bool(speed.low * math.exp(-allowed) <= truth <= speed.high * math.exp(allowed))
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


COLUMNS = ("noise", "red runs", "PASS", "undecided", "(windows)", "s/figure", "95 % covers", "missed", "in doubt",
           "doubt covers", "PASS at floor")  # fmt: skip


def _show(counts: dict[str, Count]) -> None:
    from rich.table import Table

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
    say("undecided: all; (windows): those that longer measuring would decide, the others wait for another run\n"
        "in doubt: widened, because the windows are few, alike, or of two kinds")  # fmt: skip


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
