"""Healthy chips whose speed has noise: how often the suite would call them red, or be wrong about how fast they are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import baselines
from harness.baselines import Baselines, Cell
from harness.chips import CHIP_PATIENCE_S
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
from harness.run.throughput import until_decided
from harness.run.windows import Block, Measurement, judged, speed_of
from harness.vocabulary import Outcome

Rates = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int, int], Rates]
"""(generator, series, windows) -> rates of mean 1, one row a series; each row is a session of its own."""

WINDOWS = 20  # at the first look, a second each, as on a chip
RED = (Outcome.FAIL, Outcome.INVALID)
ALLOWED = 1  # runs with a red verdict, in a thousand
CHANCE = 0.001  # of finding so many missed intervals or wrong verdicts, or more, when the error rate is as told
COVERED = 0.93, 0.97  # of intervals of 95 %, as far as they are not in doubt
TOLD_REDS = 5  # red verdicts that are told
AT_FLOOR = 5  # figures exactly at the floor, judged beside each run


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
        from scipy.special import bdtrc

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


def judge(part: tuple[str, int, tuple[int, ...], float]) -> Count:
    """Judge healthy runs under a noise: (noise, runs, seed, seconds of patience)."""
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
