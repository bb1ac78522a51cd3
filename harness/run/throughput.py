"""How throughput is measured: the devices of a card at once, or a CPU and its peers in turn, until the verdict is
known. The outputs of timed executes must equal those of untimed ones."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count, pairwise
from statistics import median

import numpy as np

from harness.backends.base import Health
from harness.baselines import Cell
from harness.case import Tensors
from harness.chips import EAGER
from harness.errors import HarnessError, InvalidMeasurement
from harness.judge.stats import FULL, SESSION_WINDOWS, SESSIONS, Estimate, over_sessions, throughput
from harness.judge.throughput import (
    FLOOR,
    SHORTEST,
    Effort,
    judge_counted,
    judge_floor,
    judge_in_flight,
    judge_ratio,
    told_beside,
)
from harness.judge.timing import FEWEST, Plan, Timing, Window, joined, overlap_rates
from harness.judge.verdict import Verdict
from harness.run.card import unlike
from harness.run.load import LOADED, Load, others_rest, others_share
from harness.vocabulary import Outcome
from harness.worker.process import RemoteSession

CHIP_PATIENCE_S, CPU_PATIENCE_S = 60.0, 30.0  # seconds that a case may take until it is decided
PAIR_PLAN = Plan(warmup_s=0.0, window_s=0.1, windows=1, latencies=0)  # no warm-up: both have just run
SINGLES_PLAN = Plan(warmup_s=0.0, window_s=0.001, windows=1, latencies=1000, latency_s=1.0)  # after the pairs
REWARM_S = 0.2  # seconds of warm-up before further windows: the engine has just run
PAUSE_S = 0.03  # seconds after eager PyTorch: its OpenMP threads (libgomp) spin for about 10 ms, each on a core
PAIRS_LIMIT_S = 3.0  # seconds for the first look
PAIRS = 8  # windows of the chip and of each peer, one after the other, at the first look
FEW_GROWTH = 3  # growth below FULL windows: a slow engine is judged before a full series uses up its patience
LOOK_S = 1.5  # seconds between two health queries under load: a vendor's tool takes up to a second of the host
GROWTH = 1.5  # windows at a look relative to the look before: few looks leave more of the allowed error for each
OUTLIER = 0.05  # relative to the median of a host's cards: as much as the floor allows to a published figure
LOOKS = 3  # at most so many checks of outputs on changed inputs before each block of windows
FRESH_PLAN = Plan(warmup_s=0.0, window_s=1e-9, windows=2, latencies=0)  # one execute of new inputs, then one more
FRESH, FRESH_ENOUGH = 15, (1, 0.5)  # times that it is run at most; times and seconds that are enough
FRESH_SURE = (3, 2.0)  # that are enough to accuse a runtime: one stall of a CPU is no proof
REMEMBERED = 0.5  # allowed ratio of a repeated execute to one of new inputs; caches of a host give 0.8 and more
FLAT_PLAN = Plan(warmup_s=0.0, window_s=1e-9, windows=1000, latencies=0, limit_s=1.0)  # after a card's windows
GROWTH_MB = 4.0  # MB in a stretch of executes: in a thousand, a buffer of 4 KB, the smallest piece of memory, each
ROUNDING = 1e-3  # relative to the largest value: a runtime may choose another kernel for a repeated run

Block = tuple[Timing, ...]
"""The result of one stretch of measuring: a series for each device, or for the chip and its peers, eager last."""
Conclude = Callable[[tuple[Block, ...], Effort], Verdict]
"""A function that gives the verdict on the blocks so far."""


@dataclass(frozen=True)
class Measurement:
    """Raw windows of the devices of one card, measured at the same time, and the devices' health before and after.

    `blocks` are the stretches, one for each look at the verdict. `peer` holds the windows of eager PyTorch, measured
    between those of the chip, for ratios, and `beside` those of its other peers, by name. `disturbed` describes other
    load that never stopped, or is "".
    `devices_of_card` is the number of devices on a card of the published figures, `devices_here` the number on this
    card; a card with more is measured on `devices_of_card` devices."""

    blocks: tuple[Block, ...]
    peer: tuple[Window, ...]
    devices_of_card: int
    before: tuple[Health, ...]
    after: tuple[Health, ...]
    effort: Effort = field(default_factory=Effort)
    disturbed: str = ""
    devices_here: int = 1
    note: str = ""  # facts about the devices that could not be compared
    memory: Mapping[str, float] = field(default_factory=dict)  # of a worker over executes (Side.check_flat)
    beside: Mapping[str, tuple[Window, ...]] = field(default_factory=dict)

    @cached_property
    def timings(self) -> tuple[Timing, ...]:
        """All samples of each device, over all blocks."""
        return tuple(joined(parts) for parts in zip(*self.blocks, strict=True))

    @property
    def device_peak_mb(self) -> dict[str, float]:
        """{"device_peak_mb": MB} that the suite held at the end on the device with most; {} where none tells."""
        held = [health.own_mb for health in self.after if health.own_mb is not None]
        return {"device_peak_mb": round(max(held), 1)} if held else {}

    @property
    def mark(self) -> str:
        """The mark of a card that differs from the published one or is not whole, such as "x4" or "1-of-2"; else "".

        x4: one device was measured and the figure was multiplied by 4. 1-of-2: one of two devices was measured, and the
        figure was not multiplied."""
        if self.scaled != 1:
            return f"x{self.scaled:.3g}"
        measured = len(self.timings)
        return f"{measured}-of-{self.devices_here}" if self.devices_here > measured else ""

    @property
    def scaled(self) -> float:
        """The factor on the figure when fewer devices were measured than the published card has; else 1."""
        return self.devices_of_card / len(self.timings)

    @property
    def rates(self) -> tuple[float, ...]:
        """Executes per second of one card, window by window. Devices are combined block by block (overlap_rates),
        because nothing runs between blocks."""
        scaled = self.scaled
        rates = [
            rate for block in self.blocks for rate in (block[0].rates if len(block) == 1 else overlap_rates(block))
        ]
        return tuple(rate * scaled for rate in rates)

    @property
    def latencies(self) -> tuple[float, ...]:
        """Seconds of single executes, of all devices."""
        return tuple(seconds for timing in self.timings for seconds in timing.latencies)

    @property
    def latency(self) -> float:
        """Seconds of one execute on one device: the median of single executes. When measured in turn with eager
        PyTorch, that of the fastest window, because a CPU is never idle and other load only slows it down."""
        timing = self.timings[0]
        if timing.latencies and not self.peer:
            return median(timing.latencies)
        return min((window.stop - window.start) / window.executes for window in timing.windows)


def judged(
    run: Measurement, speed: Estimate, batch: int, cell: Cell | None, eager: float | None, floor: float = FLOOR
) -> Verdict:
    """The verdict on a measurement: against the published `cell`; without one, against `eager` times eager PyTorch in
    the same run; without that, INCONCLUSIVE. INVALID when there was other load or when the rate does not fit the
    latencies or the windows. `speed` is images per second of one card, `floor` the share of the published figure that
    is asked. Ratios to the programs of `run.beside` are told and change no outcome."""
    if run.disturbed:
        text = f"{speed} images/s; {run.disturbed}: end it, then measure again"
        return Verdict(Outcome.INVALID, text, {"waited": True})
    if cell is not None:
        verdict = judge_floor(speed, cell, floor, run.effort)
    elif run.peer and eager is not None:
        verdict = judge_ratio(run.timings[0].rates, [window.rate for window in run.peer], eager, run.effort)
    else:
        verdict = Verdict(Outcome.INCONCLUSIVE, f"{speed} images/s; nothing is published for this case")
    for name, windows in run.beside.items():
        verdict = told_beside(verdict, name, run.timings[0].rates, [window.rate for window in windows])
    flight = judge_in_flight(
        speed.value, batch, run.devices_of_card, run.latencies, max(timing.in_flight for timing in run.timings)
    )
    if flight.outcome is Outcome.INVALID and "width" not in verdict.details:
        return flight
    counted = judge_counted(speed.value, batch * run.scaled, run.timings)
    return counted if counted.outcome is Outcome.INVALID else verdict


def speed_of(run: Measurement, batch: int) -> Estimate:
    """Images per second of one card, with its interval; of several sessions, each counts as one observation."""
    rates = [batch * rate for rate in run.rates]
    if run.effort.sessions == 1:
        return throughput(rates)
    sizes = [min(len(timing.windows) for timing in block) for block in run.blocks]
    ends = [sum(sizes[: len(sizes) - back]) for back in range(run.effort.sessions - 1, -1, -1)]
    return over_sessions([rates[begin:end] for begin, end in zip([0, *ends], ends, strict=False)])


def slower(speeds: Mapping[int, Estimate]) -> dict[int, float]:
    """By number, the cards that are certainly (95 %) more than `OUTLIER` slower than the median of all, and by which
    share of it."""
    middle = median(speed.value for speed in speeds.values())
    return {number: 1 - speed.value / middle for number, speed in speeds.items() if speed.high < (1 - OUTLIER) * middle}


def apart(blocks: Sequence[Block], peers: Sequence[str]) -> tuple[tuple[Block, ...], dict[str, tuple[Window, ...]]]:
    """(blocks of the chip alone, windows of each peer by name); `peers` are measured after the chip, in this order."""
    if not peers:
        return tuple(blocks), {}
    series = zip(*(block[1:] for block in blocks), strict=True)
    windows = (joined(parts).windows for parts in series)
    return tuple(block[:1] for block in blocks), dict(zip(peers, windows, strict=True))


def conclusion(
    batch: int,
    cell: Cell | None,
    eager: float | None,
    devices_of_card: int,
    floor: float = FLOOR,
    peers: Sequence[str] = (),
) -> Conclude:
    """A function that applies `judged` to blocks of that case. `peers` as in apart."""

    def conclude(blocks: tuple[Block, ...], effort: Effort) -> Verdict:
        chip, windows = apart(blocks, peers)
        run = Measurement(chip, windows.get(EAGER, ()), devices_of_card, (), (), effort)
        return judged(run, speed_of(run, batch), batch, cell, eager, floor)

    return conclude


def settled(verdict: Verdict) -> bool:
    """Whether more windows cannot change the verdict: it is decided, or needs something other than windows."""
    needs = verdict.details.get("needed_windows") or verdict.details.get("needed_sessions")
    waits = needs or "width" in verdict.details
    return verdict.outcome is not Outcome.INCONCLUSIVE or not waits


def until_decided(
    measure: Callable[[int, float], Block],
    conclude: Conclude | None,
    first: int,
    patience_s: float,
    windows: str = "windows",
    clock: Callable[[], float] = time.monotonic,
    renew: Callable[[], None] | None = None,
) -> tuple[tuple[Block, ...], Effort]:
    """(blocks, effort): blocks of `measure(windows, seconds left)` until the verdict `conclude(blocks)` is settled or
    `patience_s` seconds are spent; one block without `conclude`.

    The first look has `first` windows; each further look has `FEW_GROWTH` times as many up to `FULL`, then `GROWTH`
    times as many. A verdict that more windows cannot change ends the measurement too.

    Where the verdict asks for fresh sessions, and the patience is enough for `SESSIONS`, `renew` begins each, and
    `SESSION_WINDOWS` are measured in it; looks come after `SESSIONS`, then after half as many more. What it takes to
    begin a session is not counted."""
    begun, blocks, sessions = clock(), [measure(first, max(patience_s, 0.0))], 1
    for look in count(1):
        effort = Effort(look, clock() - begun, windows, sessions)
        if conclude is None or effort.seconds >= patience_s:
            break
        verdict = conclude(tuple(blocks), effort)
        if settled(verdict):
            break
        have, left = sum(len(block[0].windows) for block in blocks), patience_s - effort.seconds
        fits = SESSION_WINDOWS * (SESSIONS - 1) * effort.seconds / have <= left
        if renew is None or not (sessions > 1 or (verdict.details.get("needed_sessions") and fits)):
            wanted = min(FULL, FEW_GROWTH * have) if have < FULL else round(GROWTH * have)
            blocks.append(measure(wanted - have, left))
            continue
        goal = max(SESSIONS, sessions + sessions // 2)
        while sessions < goal and clock() - begun < patience_s:
            now = clock()
            renew()
            begun += clock() - now
            blocks.append(measure(SESSION_WINDOWS, patience_s - (clock() - begun)))
            sessions += 1
    return tuple(blocks), effort


@dataclass(frozen=True)
class Side:
    """One measured session: its name, its inputs, and its outputs for them before the measurement; `changed` are other
    inputs, by default the images upside down. `simulated`: its times are those of a simulator, which does keep outputs.
    """

    who: str
    session: RemoteSession
    inputs: Tensors
    answered: Tensors
    changed: Tensors | None = None
    simulated: bool = False
    noted: list[tuple[int, float]] = field(default_factory=list)

    def note(self) -> None:
        """Note how many executes there were so far, and the process's resident memory after them, for check_flat."""
        resident = None if self.simulated else self.session.resident_mb
        if resident is not None:
            self.noted.append((self.session.executes, resident))

    def audit(self) -> None:
        """Raises InvalidMeasurement when the outputs after the timed runs differ from those before, beyond rounding."""
        name = _unlike(self.session.read(), self.answered)
        if name:
            raise InvalidMeasurement(
                f"{self.who}: output {name} differs after the timed runs from before them",
                hint="the runtime reuses or skips work under load; its throughput cannot be trusted",
            )

    @cached_property
    def turned(self) -> tuple[Tensors, Tensors]:
        """(other inputs, outputs for them). Raises InvalidMeasurement when these equal the outputs for the usual
        inputs."""
        inputs = self.changed
        if inputs is None:
            inputs = {name: np.ascontiguousarray(np.flip(value, axis=-2)) for name, value in self.inputs.items()}
        answered = self.session.run(inputs)
        if not _unlike(answered, self.answered):
            raise InvalidMeasurement(
                f"{self.who}: {'images upside down' if self.changed is None else 'other inputs'} give the same outputs",
                hint="the runtime returns cached outputs, or the outputs are constant; run: pytest -m numerics",
            )
        return inputs, answered

    def look(self, draw: random.Random) -> None:
        """Run a random number of single executes, each on one of two inputs chosen at random, and compare the outputs
        with the earlier ones.

        A runtime that skips an execute returns the outputs of the other input. The number of executes is random, so
        that a runtime which skips at a fixed period is found too. Raises InvalidMeasurement when an output differs."""
        pairs = ((self.inputs, self.answered), self.turned)
        for _ in range(draw.randint(1, LOOKS)):
            inputs, answered = pairs[draw.randrange(2)]
            name = _unlike(self.session.run(inputs), answered)
            if name:
                raise InvalidMeasurement(
                    f"{self.who}: output {name} is not that of the inputs which were just written",
                    hint="the runtime skips executes or returns cached outputs; its throughput cannot be trusted",
                )

    def check_fresh(self) -> None:
        """Time executes of inputs that were just written and repeated ones in turn. Inputs alternate, so that a runtime
        that keeps outputs by their inputs computes the first of each pair only.

        Raises InvalidMeasurement when the repeated ones are quicker, beyond `REMEMBERED`."""
        if self.simulated:
            return
        new: list[float] = []
        again: list[float] = []

        def remembered() -> bool:
            gained = median(new) - median(again)
            return median(again) < REMEMBERED * median(new) and gained > SHORTEST

        begun = time.perf_counter()
        while True:
            inputs = self.inputs if len(new) % 2 else self.turned[0]
            first, second = (1 / window.rate for window in self.session.measure(inputs, FRESH_PLAN).windows[:2])
            new.append(first)
            again.append(second)
            fewest, seconds = FRESH_SURE if remembered() else FRESH_ENOUGH
            if len(new) == FRESH or (len(new) >= fewest and time.perf_counter() >= begun + seconds):
                break
        if remembered():
            raise InvalidMeasurement(
                f"{self.who}: an execute takes {1e3 * median(new):.3g} ms with new inputs and "
                f"{1e3 * median(again):.3g} ms when it is repeated",
                hint="the runtime keeps outputs of inputs that it has seen; its throughput cannot be trusted",
            )

    def check_together(self, draw: random.Random) -> None:
        """Give as many executes as can be in flight together two inputs in a random order: each must give the outputs
        that its inputs give alone. Raises InvalidMeasurement when one does not."""
        if self.session.places == 1:
            return
        pairs = ((self.inputs, self.answered), self.turned)
        order = [0, 1, *draw.choices((0, 1), k=self.session.places - 2)]  # both are there
        draw.shuffle(order)
        found = self.session.together([pairs[one][0] for one in order])
        wrong = [place for place, one in enumerate(order) if _unlike(found[place], pairs[one][1])]
        if wrong:
            raise InvalidMeasurement(
                f"{self.who}: of {len(order)} executes in flight together, {len(wrong)} give other outputs than alone: "
                f"number {', '.join(str(place + 1) for place in wrong)}",
                hint="executes share a buffer: measure with one at a time (intel_*: --backend-option streams=1), and "
                "report it to the vendor",
            )

    def check_flat(self) -> dict[str, float]:
        """Hold the memory against the executes between what was noted, over the measurement and over what came after
        it: {"memory_growth_mb": MB by which the process grew in the last stretch, "memory_executes": its executes}; {}
        where the system does not tell.

        Raises InvalidMeasurement when it grew by more than `GROWTH_MB` in each: in the first a runtime may fill its
        pools, in the last it may not."""
        stretches = [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(self.noted)]
        if not stretches:
            return {}
        if min(grown for _, grown in stretches) > GROWTH_MB:
            (before, first), (after, last) = stretches[0], stretches[-1]
            raise InvalidMeasurement(
                f"{self.who}: the process grew by {first:.3g} MB in {before} executes, "
                f"then by {last:.3g} MB in {after}",
                hint="the runtime or its backend keeps memory at each execute: a server would run out of it; report it",
            )
        executes, grown = stretches[-1]
        return {"memory_growth_mb": round(grown, 3), "memory_executes": float(executes)}


def _unlike(found: Tensors, wanted: Tensors) -> str:
    """Name of the first output that differs beyond rounding, or "". NaN equals NaN, because numerics judges NaN."""
    for name, value in wanted.items():
        near = ROUNDING * float(np.abs(value).max(initial=0.0))
        if not np.allclose(found[name], value, rtol=ROUNDING, atol=near, equal_nan=True):
            return name
    return ""


def check_processes(side: Side, earlier: Tensors) -> None:
    """Raises InvalidMeasurement when the outputs of another process, for the same inputs, differ beyond rounding."""
    name = _unlike(side.answered, earlier)
    if name:
        raise InvalidMeasurement(
            f"{side.who}: output {name} differs from that of an earlier process with the same engine and inputs",
            hint="load the engine twice and compare: pytest -m numerics, two times",
        )


def check_right(sides: Sequence[Side], judge: Callable[[Tensors], Verdict]) -> None:
    """Raises InvalidMeasurement when outputs of a device are wrong: of a card on which no other stage ran."""
    for side in sides:
        verdict = judge(side.answered)
        if verdict.outcome is Outcome.FAIL:
            raise InvalidMeasurement(f"{side.who}: wrong outputs: {verdict.text}", hint="pytest -m numerics --device N")


def check_devices(sides: Mapping[str, Side], judge: Callable[[Tensors], Verdict]) -> None:
    """The devices of a card have answered the same inputs, and must have given the right outputs: those that `judge`
    passes, and alike.

    Raises InvalidMeasurement with the names of the devices that differ. Where all fail, the engine is wrong and no
    device is to blame: the stage numerics says so."""
    verdicts = {name: judge(side.answered) for name, side in sides.items()}
    failed = {name: verdict.text for name, verdict in verdicts.items() if verdict.outcome is Outcome.FAIL}
    of, alone = f"of the {len(sides)} devices measured", "run each with --device N: pytest -m numerics --device N"
    if 0 < len(failed) < len(sides):
        text = "; ".join(f"{name}: {why}" for name, why in failed.items())
        raise InvalidMeasurement(f"{', '.join(failed)} {of} computes wrong outputs, the rest right ones; {text}", alone)
    answered = [side.answered for side in sides.values()]
    odd = [list(sides)[place] for place in unlike(answered, lambda one, other: not _unlike(other, one))]
    if odd:
        raise InvalidMeasurement(f"{', '.join(odd)} {of}: outputs differ", alone)


def at_once(
    sides: Sequence[Side],
    plan: Plan,
    draw: random.Random | None = None,
    look: Callable[[], None] = lambda: None,
) -> Block:
    """One Timing for each side: back-to-back executes on all sides at the same time, with the inputs on the device.

    Outputs are checked before the timed runs, on changed inputs, and after them. `look`, which queries the devices, is
    called every `LOOK_S` seconds while they run.

    Raises InvalidMeasurement when an output differs."""
    draw = draw or random.Random()
    for side in sides:
        side.look(draw)
        side.session.run(side.turned[0])  # so that a timed execute that is skipped leaves wrong outputs
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
    """Call `look` every `LOOK_S` seconds until `done`. A failed call ends it: the check after the measurement gives the
    reason."""
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
    renew: Callable[[], None] | None = None,
) -> tuple[tuple[Block, ...], Effort]:
    """(blocks, effort) of the devices of a card at once until the verdict is known: the plan, then windows only. `look`
    as in at_once; `renew` replaces `sides` by fresh sessions. Raises InvalidMeasurement."""

    more = replace(plan, warmup_s=min(REWARM_S, plan.warmup_s), latencies=0)
    draw, following = random.Random(), plan

    def measure(windows: int, left: float) -> Block:
        nonlocal following
        now, following = following, more
        return at_once(sides, now if now is plan else replace(now, windows=windows, limit_s=left), look=look)

    def begin() -> None:
        nonlocal following
        if renew is not None and following is not plan:
            renew()
            following = replace(plan, latencies=0)
        for side in sides:
            side.check_together(draw)
        sides[0].note()

    begin()
    found = until_decided(measure, conclude, plan.windows, patience_s, renew=renew and begin)
    for side in sides:
        side.check_fresh()
    sides[0].note()
    if sides[0].noted:
        sides[0].session.measure(sides[0].inputs, FLAT_PLAN)
        sides[0].note()
    return found


def in_turn(sides: Sequence[Side], pairs: int = 0, limit_s: float = -1.0) -> Block:
    """One Timing for each side, measured window by window in turn, so that other load slows all sides alike.

    The chip is first, eager PyTorch last. Slow engines get fewer windows. Inputs are sent with the first window and
    stay on the device. Raises InvalidMeasurement when outputs differ afterwards."""
    timings: list[list[Timing]] = [[] for _ in sides]
    pairs, limit_s = pairs or PAIRS, limit_s if limit_s >= 0 else PAIRS_LIMIT_S
    end = time.perf_counter() + limit_s
    while len(timings[0]) < FEWEST or (len(timings[0]) < pairs and time.perf_counter() < end):
        if len(sides) > 1:
            time.sleep(PAUSE_S)
        for side, seen in zip(sides, timings, strict=True):
            seen.append(side.session.measure(None if seen else side.inputs, PAIR_PLAN))
    for side in sides:
        side.audit()
    return tuple(replace(joined(seen), warmup=(), latencies=()) for seen in timings)


def pairs_until_decided(
    sides: Sequence[Side],
    conclude: Conclude | None,
    patience_s: float,
    others: Callable[[], Load | None] | None = None,
) -> tuple[tuple[Block, ...], Effort, str]:
    """(blocks, effort, other load): the chip and its peers in turn until the verdict is known, then single executes of
    the chip.

    A block during which other programs used more than `LOADED` of the cores is measured again when they are idle, for
    up to `patience_s` seconds. The last value describes the other load when no block was free of it, else it is "".
    `others` reads the load; default: `Load.now`."""
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
    sides[0].check_together(random.Random())
    sides[0].note()
    blocks, effort = until_decided(measure, conclude, PAIRS, patience_s, "pairs of windows")
    sides[0].note()
    sides[0].check_fresh()
    quiet = [block for block, said in zip(blocks, kept, strict=True) if not said]
    singles = _singles(sides[0], quiet, others, end)
    sides[0].note()
    used = tuple(quiet) or blocks
    last = (replace(used[-1][0], latencies=singles), *used[-1][1:])
    return (*used[:-1], last), effort, "" if quiet else kept[-1]


def _singles(side: Side, blocks: Sequence[Block], others: Callable[[], Load | None], end: float) -> tuple[float, ...]:
    """Seconds of single executes: the median of the windows of `blocks` where each has one, as a slow engine's have,
    else of further ones; empty when other programs ran until `end` (time.monotonic), which lengthen the executes.

    Where a clock changes, one such window in three may be twice as long: their upper quartile does not fit the rate."""
    windows = [window for block in blocks for window in block[0].windows]
    if windows and all(window.executes == 1 for window in windows):
        return (median(window.stop - window.start for window in windows),)
    while True:
        before = others()
        timing = side.session.measure(side.inputs, SINGLES_PLAN)
        if others_share(before, others()) <= LOADED:
            side.audit()
            return timing.latencies
        if not others_rest(others, end):
            return ()
