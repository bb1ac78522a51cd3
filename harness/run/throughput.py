"""How throughput is measured: the devices of a card at once, or a CPU and eager PyTorch in turn, until the verdict is
known. What was computed meanwhile must be what is computed otherwise."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, repeat
from statistics import median

import numpy as np

from harness.backends.base import Health
from harness.baselines import Cell
from harness.case import Tensors
from harness.errors import HarnessError, InvalidMeasurement
from harness.judge.stats import FULL, Estimate, throughput
from harness.judge.timing import FEWEST, Plan, Timing, Window, joined, overlap_rates
from harness.judge.verdict import Effort, Verdict, judge_floor, judge_in_flight, judge_ratio
from harness.run.load import LOADED, Load, others_rest, others_share
from harness.vocabulary import Outcome
from harness.worker.process import RemoteSession

CHIP_PATIENCE_S, CPU_PATIENCE_S = 60.0, 30.0  # what a case may take until it is decided
PAIR_PLAN = Plan(warmup_s=0.0, window_s=0.1, windows=1, latencies=0)  # both have just run
SINGLES_PLAN = Plan(warmup_s=0.0, window_s=0.001, windows=1, latencies=1000, latency_s=1.0)  # after the pairs
REWARM_S = 0.2  # of warm-up before further windows: the engine has just run
PAUSE_S = 0.03  # after eager PyTorch: its OpenMP threads (libgomp) keep a core each for some 10 ms, waiting for more
PAIRS_LIMIT_S = 3.0  # for the first look
PAIRS = 8  # windows of the chip and of eager PyTorch, one after the other, at the first look
FEW_GROWTH = 3  # a slow engine is looked at before its patience is spent on a full series
LOOK_S = 1.5  # from one look at a device under load to the next: a vendor's tool takes up to a second of the host
GROWTH = 1.5  # windows at a look, in units of those at the look before: few looks, each with much of the error left
LOOKS = 3  # looks at outputs after changed inputs before each block of windows: at most so many
ROUNDING = 1e-3  # relative to the largest value: a runtime may choose another kernel for a repeated run

Block = tuple[Timing, ...]
"""What one stretch of measuring gave: a series for each device, or for chip and eager PyTorch."""
Conclude = Callable[[tuple[Block, ...], Effort], Verdict]
"""The verdict on the blocks so far."""


@dataclass(frozen=True)
class Measurement:
    """Raw windows of the devices of one card, measured at once; what the devices said before and after; `blocks`
    are the stretches, one after each look at the verdict. `peer` holds the windows of eager PyTorch between those of
    the chip, where that is the other side of the ratio. `disturbed` says what other load there was all the time.
    `devices_of_card` is what a card of the published figures has, `devices_here` what this card has; a card with more
    is measured on as many as the published one has."""

    blocks: tuple[Block, ...]
    peer: tuple[Window, ...]
    devices_of_card: int
    before: tuple[Health, ...]
    after: tuple[Health, ...]
    effort: Effort = field(default_factory=Effort)
    disturbed: str = ""
    devices_here: int = 1
    note: str = ""  # what could not be told of the devices

    @cached_property
    def timings(self) -> tuple[Timing, ...]:
        """All samples of each device."""
        return tuple(joined(parts) for parts in zip(*self.blocks, strict=True))

    @property
    def mark(self) -> str:
        """What was done where the card is not the published one or not whole: "x4", "1-of-2"; else "".

        x4: one device was measured and the figure multiplied. 1-of-2: one of two was measured, nothing multiplied."""
        if self.scaled != 1:
            return f"x{self.scaled:.3g}"
        measured = len(self.timings)
        return f"{measured}-of-{self.devices_here}" if self.devices_here > measured else ""

    @property
    def scaled(self) -> float:
        """1, or what is multiplied by where not every device of the card was there to be measured."""
        return self.devices_of_card / len(self.timings)

    @property
    def rates(self) -> tuple[float, ...]:
        """Executes a second of one card, window by window. Devices are laid over one another block by block, for
        nothing runs between blocks."""
        rates = [
            rate for block in self.blocks for rate in (block[0].rates if len(block) == 1 else overlap_rates(block))
        ]
        return tuple(rate * self.scaled for rate in rates)

    @property
    def latencies(self) -> tuple[float, ...]:
        """Seconds of single executes, of all devices."""
        return tuple(seconds for timing in self.timings for seconds in timing.latencies)

    @property
    def latency(self) -> float:
        """Seconds of one execute on one device: the median of those alone; where it was measured in turn with eager
        PyTorch, the quickest window's, for a CPU is never idle, and other load only slows it down."""
        timing = self.timings[0]
        if timing.latencies and not self.peer:
            return median(timing.latencies)
        return min((window.stop - window.start) / window.executes for window in timing.windows)


def judged(run: Measurement, speed: Estimate, batch: int, cell: Cell | None, eager: float | None) -> Verdict:
    """What follows from a measurement: against the published cell; else against `eager` times eager PyTorch in the same
    run; else a figure without a verdict. Before that, whether it can be: other load, or more executes at once than
    there were."""
    if run.disturbed:
        return Verdict(Outcome.INVALID, f"{speed} images/s; {run.disturbed}: end it, then measure again")
    if cell is not None:
        verdict = judge_floor(speed, cell, effort=run.effort)
    elif run.peer and eager is not None:
        verdict = judge_ratio(run.timings[0].rates, [window.rate for window in run.peer], eager, run.effort)
    else:
        verdict = Verdict(Outcome.INCONCLUSIVE, f"{speed} images/s; nothing is published for this case")
    flight = judge_in_flight(
        speed.value, batch, run.devices_of_card, run.latencies, max(timing.in_flight for timing in run.timings)
    )
    return flight if flight.outcome is Outcome.INVALID and "width" not in verdict.details else verdict


def speed_of(run: Measurement, batch: int) -> Estimate:
    """Images a second of one card."""
    return throughput([batch * rate for rate in run.rates])


def apart(blocks: Sequence[Block]) -> tuple[tuple[Block, ...], tuple[Window, ...]]:
    """Blocks of the chip alone, and the windows of eager PyTorch; none where it was not measured."""
    peer = tuple(window for block in blocks for timing in block[1:] for window in timing.windows)
    return tuple(block[:1] for block in blocks), peer


def conclusion(batch: int, cell: Cell | None, eager: float | None, devices_of_card: int) -> Conclude:
    """The verdict that `judged` would give on blocks of that case."""

    def conclude(blocks: tuple[Block, ...], effort: Effort) -> Verdict:
        chip, peer = (blocks, ()) if eager is None else apart(blocks)
        run = Measurement(chip, peer, devices_of_card, (), (), effort)
        return judged(run, speed_of(run, batch), batch, cell, eager)

    return conclude


def settled(verdict: Verdict) -> bool:
    """Whether more windows cannot change it: it is decided, or waits for something else than windows."""
    waits = verdict.details.get("needed_windows") or "width" in verdict.details
    return verdict.outcome is not Outcome.INCONCLUSIVE or not waits


def until_decided(
    measure: Callable[[int, float], Block],
    conclude: Conclude | None,
    first: int,
    patience_s: float,
    windows: str = "windows",
    clock: Callable[[], float] = time.monotonic,
) -> tuple[tuple[Block, ...], Effort]:
    """Blocks of `measure(windows, seconds left)` until `conclude` of all of them is settled, or `patience_s` is spent;
    one block without `conclude`. There are `first` windows, then `FEW_GROWTH` times as many up to `FULL`, from there on
    `GROWTH` times as many. A verdict that waits for another day, or for nothing, ends it too."""
    begun, blocks, wanted = clock(), list[Block](), first
    while True:
        have = sum(len(block[0].windows) for block in blocks)
        left = patience_s - (clock() - begun)
        blocks.append(measure(wanted - have, left if blocks else max(left, 0.0)))
        effort = Effort(len(blocks), clock() - begun, windows)
        if conclude is None or effort.seconds >= patience_s:
            return tuple(blocks), effort
        if settled(conclude(tuple(blocks), effort)):
            return tuple(blocks), effort
        have += len(blocks[-1][0].windows)
        wanted = min(FULL, FEW_GROWTH * have) if have < FULL else round(GROWTH * have)


@dataclass(frozen=True)
class Side:
    """Who is measured: a session, what it is fed, and what it answered to that before."""

    who: str
    session: RemoteSession
    inputs: Tensors
    answered: Tensors

    def audit(self) -> None:
        """Raises InvalidMeasurement when it answers otherwise after the timed runs, beyond rounding."""
        name = _unlike(self.session.read(), self.answered)
        if name:
            raise InvalidMeasurement(
                f"{self.who}: output {name} differs after the timed runs from before them",
                hint="the runtime reuses or skips work under load; no throughput of it can be trusted",
            )

    @cached_property
    def turned(self) -> tuple[Tensors, Tensors]:
        """Other inputs (images upside down) and what it answers to them. Raises InvalidMeasurement when that is what it
        answers to the usual ones."""
        inputs = {name: np.ascontiguousarray(np.flip(value, axis=-2)) for name, value in self.inputs.items()}
        answered = self.session.run(inputs)
        if not _unlike(answered, self.answered):
            raise InvalidMeasurement(
                f"{self.who}: images upside down give the same outputs",
                hint="the runtime answers from memory, or the outputs are constant: see numerics",
            )
        return inputs, answered

    def look(self, draw: random.Random) -> None:
        """Run a random number of single executes, each on one of two inputs at random, and hold each answer against
        what was answered before. What skips an execute now and then leaves the other input's answer behind, and a count
        that nobody can foresee lets no period of skipping pass by.

        Raises InvalidMeasurement when an answer differs."""
        pairs = ((self.inputs, self.answered), self.turned)
        for _ in range(draw.randint(1, LOOKS)):
            inputs, answered = pairs[draw.randrange(2)]
            name = _unlike(self.session.run(inputs), answered)
            if name:
                raise InvalidMeasurement(
                    f"{self.who}: output {name} is not that of the inputs which were just written",
                    hint="the runtime skips executes or answers from memory; no throughput of it can be trusted",
                )


def _unlike(found: Tensors, wanted: Tensors) -> str:
    """Name of the first output that is another beyond rounding, or "". NaN equals NaN: numerics judges that."""
    for name, value in wanted.items():
        near = ROUNDING * float(np.abs(value).max(initial=0.0))
        if not np.allclose(found[name], value, rtol=ROUNDING, atol=near, equal_nan=True):
            return name
    return ""


def at_once(
    sides: Sequence[Side],
    plan: Plan,
    draw: random.Random | None = None,
    look: Callable[[], None] = lambda: None,
) -> Block:
    """Back-to-back executes on all of them at the same time, inputs on the device; outputs are looked at before, after
    changed inputs, and after. All sides are fed the same and must answer the same. `look`, at the devices, is called
    again and again while they run.

    Raises InvalidMeasurement when an answer differs."""
    draw = draw or random.Random()
    for number, side in enumerate(sides[1:], 2):
        name = _unlike(side.answered, sides[0].answered)
        if name:
            raise InvalidMeasurement(
                f"{side.who}: output {name} of device {number} of the {len(sides)} measured differs from the first's",
                hint="measure each device alone with --device N; the one that fails numerics is damaged",
            )
    for side in sides:
        side.look(draw)
        side.session.run(side.turned[0])  # so that timed work that is not done leaves a wrong answer behind
    for side in sides:
        side.session.start(side.inputs, plan)
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(look, done), daemon=True)
    watch.start()
    try:
        timings = tuple(side.session.finish() for side in sides)
    finally:
        done.set()
        watch.join()
    for side in sides:
        side.audit()
    return timings


def _watch(look: Callable[[], None], done: threading.Event) -> None:
    """Look until it is done. A look that fails is the last: the one after the measurement says why."""
    while not done.is_set():
        try:
            look()
        except HarnessError:
            return
        done.wait(LOOK_S)


def card_until_decided(
    sides: Sequence[Side],
    plan: Plan,
    conclude: Conclude | None,
    patience_s: float,
    look: Callable[[], None] = lambda: None,
) -> tuple[tuple[Block, ...], Effort]:
    """The devices of a card at once until the verdict is known: the plan, then windows only. `look` as in at_once."""

    more = replace(plan, warmup_s=min(REWARM_S, plan.warmup_s), latencies=0)
    plans = chain([plan], repeat(more))

    def measure(windows: int, left: float) -> Block:
        now = next(plans)
        return at_once(sides, now if now is plan else replace(now, windows=windows, limit_s=left), look=look)

    return until_decided(measure, conclude, plan.windows, patience_s)


def in_turn(sides: Sequence[Side], pairs: int = 0, limit_s: float = -1.0) -> Block:
    """Window by window, so that other load meets all alike; eager PyTorch is last. Slow engines get fewer windows.
    Inputs go there with the first window and stay."""
    windows: list[list[Window]] = [[] for _ in sides]
    pairs, limit_s = pairs or PAIRS, limit_s if limit_s >= 0 else PAIRS_LIMIT_S
    end = time.perf_counter() + limit_s
    while len(windows[0]) < FEWEST or (len(windows[0]) < pairs and time.perf_counter() < end):
        if len(sides) > 1:
            time.sleep(PAUSE_S)
        for side, seen in zip(sides, windows, strict=True):
            seen.extend(side.session.measure(None if seen else side.inputs, PAIR_PLAN).windows)
    for side in sides:
        side.audit()
    return tuple(Timing((), tuple(seen), ()) for seen in windows)


def pairs_until_decided(
    sides: Sequence[Side],
    conclude: Conclude | None,
    patience_s: float,
    others: Callable[[], Load | None] | None = None,
) -> tuple[tuple[Block, ...], Effort, str]:
    """Chip and eager PyTorch in turn until the verdict is known, then single executes of the chip. A block during which
    others used more than `LOADED` of the cores is taken again when they are done, as long as patience lasts; returned
    last is what there was of other load when no block was free of it, or "".

    `others` reads the load; by default `Load.now`."""
    others = others or Load.now
    end = time.monotonic() + patience_s
    kept: list[str] = []

    def measure(pairs: int, left: float) -> Block:
        while True:
            before = others()
            block = in_turn(sides, pairs, PAIRS_LIMIT_S if not kept else left)
            share = others_share(before, others())
            busy = f"other programs used {share:.0%} of the cores (up to {LOADED:.0%} is idle)"
            said = "" if share <= LOADED else busy
            if not said or not others_rest(others, end):
                kept.append(said)
                return block

    sides[0].look(random.Random())
    blocks, effort = until_decided(measure, conclude, PAIRS, patience_s, "pairs of windows")
    quiet = [block for block, said in zip(blocks, kept, strict=True) if not said]
    singles = _singles(sides[0], others, end)
    used = tuple(quiet) or blocks
    last = (replace(used[-1][0], latencies=singles), *used[-1][1:])
    return (*used[:-1], last), effort, "" if quiet else kept[-1]


def _singles(side: Side, others: Callable[[], Load | None], end: float) -> tuple[float, ...]:
    """Seconds of single executes; none where other programs ran meanwhile until `end`, for they only lengthen them."""
    while True:
        before = others()
        timing = side.session.measure(side.inputs, SINGLES_PLAN)
        if others_share(before, others()) <= LOADED:
            side.audit()
            return timing.latencies
        if not others_rest(others, end):
            return ()
