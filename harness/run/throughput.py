"""How throughput is measured: the devices of a card at once, or a CPU and its peers in turn, until the verdict is
known. The outputs of timed executes must equal those of untimed ones."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from statistics import median

from harness.errors import HarnessError
from harness.judge.stats import FULL, SESSION_WINDOWS, SESSIONS
from harness.judge.throughput import Effort
from harness.judge.timing import Plan, Timing, joined
from harness.judge.verdict import Verdict
from harness.run.other_load import LOADED, Load, others_rest, others_share
from harness.run.side import Side
from harness.run.windows import Block, Conclude
from harness.vocabulary import Outcome

PAIR_PLAN = Plan(warmup_s=0.0, window_s=0.1, windows=1, latencies=0)  # no warm-up: both have just run
SINGLES_PLAN = Plan(warmup_s=0.0, window_s=0.001, windows=1, latencies=1000, latency_s=1.0)  # after the pairs
REWARM_S = 0.2  # seconds of warm-up before further windows: the engine has just run
PAUSE_S = 0.03  # seconds after eager PyTorch: its OpenMP threads (libgomp) spin for about 10 ms, each on a core
PAIRS_LIMIT_S = 3.0  # seconds for the first look
PAIRS = 8  # windows of the chip and of each peer, one after the other, at the first look
FEWEST_PAIRS = 4  # of a slow engine: with Student's t for the first look, three give an interval twice as wide
FEW_GROWTH = 2  # growth below FULL windows: a slow engine is judged before a full series uses up its patience
LOOK_S = 1.5  # seconds between two health queries under load: a vendor's tool takes up to a second of the host
GROWTH = 1.5  # windows at a look relative to the look before: few looks leave more of the allowed error for each
FLAT_PLAN = Plan(warmup_s=0.0, window_s=1e-9, windows=1000, latencies=0, limit_s=1.0)  # after a card's windows


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

    The chip is first, eager PyTorch last. Slow engines get fewer windows, at least `FEWEST_PAIRS`. Inputs are sent with
    the first window and stay on the device. Raises InvalidMeasurement when outputs differ afterwards."""
    timings: list[list[Timing]] = [[] for _ in sides]
    pairs, limit_s = pairs or PAIRS, limit_s if limit_s >= 0 else PAIRS_LIMIT_S
    end = time.perf_counter() + limit_s
    while len(timings[0]) < FEWEST_PAIRS or (len(timings[0]) < pairs and time.perf_counter() < end):
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

    sides[0].turned  # noqa: B018 - run, so that a timed execute that is skipped leaves wrong outputs
    sides[0].check_together(random.Random())
    sides[0].note()
    blocks, effort = until_decided(measure, conclude, PAIRS, patience_s, "pairs of windows")
    sides[0].note()
    sides[0].check_fresh(_seconds_of_slow(blocks))
    quiet = [block for block, said in zip(blocks, kept, strict=True) if not said]
    singles = _singles(sides[0], quiet, others, end)
    sides[0].note()
    used = tuple(quiet) or blocks
    last = (replace(used[-1][0], latencies=singles), *used[-1][1:])
    return (*used[:-1], last), effort, "" if quiet else kept[-1]


def _singles(side: Side, blocks: Sequence[Block], others: Callable[[], Load | None], end: float) -> tuple[float, ...]:
    """Look at the outputs; seconds of single executes, empty when other programs, which lengthen them, ran until `end`
    (time.monotonic).

    Where each window of `blocks` has one execute, as a slow engine's have, it is their median: where a clock changes,
    one such window in three may be twice as long, and their upper quartile does not fit the rate. Executes in flight
    together lengthen one another; where one alone takes longer than `SINGLES_PLAN`, it is those of the look."""
    slow = _seconds_of_slow(blocks)
    if slow and side.session.places == 1:
        side.look(random.Random())
        return (median(slow),)
    while True:
        before = others()
        latencies = side.look(random.Random())
        if not slow or min(latencies) < SINGLES_PLAN.latency_s:
            latencies = side.session.measure(side.inputs, SINGLES_PLAN).latencies
            side.audit()
        if others_share(before, others()) <= LOADED:
            return latencies
        if not others_rest(others, end):
            return ()


def _seconds_of_slow(blocks: Sequence[Block]) -> list[float]:
    """Seconds of the chip's windows where each has one execute, or one of each that are in flight together, as a slow
    engine's have; else empty."""
    timings = [block[0] for block in blocks]
    slow = all(window.executes == timing.in_flight for timing in timings for window in timing.windows)
    return [window.stop - window.start for timing in timings for window in timing.windows] if slow else []
