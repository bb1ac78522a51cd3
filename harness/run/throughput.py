"""How throughput is measured: the devices of a card at once, or a CPU and eager PyTorch in turn. What was computed
meanwhile must be what is computed otherwise."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from harness.backends.base import Health
from harness.case import Tensors
from harness.errors import HarnessError, InvalidMeasurement
from harness.judge.timing import FEWEST, Plan, Timing, Window, overlap_rates
from harness.worker.process import RemoteSession

PAIR_PLAN = Plan(warmup_s=0.0, window_s=0.1, windows=1, latencies=0)  # both have just run
PAUSE_S = 0.03  # after eager PyTorch: its OpenMP threads (libgomp) keep a core each for some 10 ms, waiting for more
PAIRS_LIMIT_S = 3.0
PAIRS = 8  # windows of the chip and of eager PyTorch, one after the other
LOOK_S = 1.5  # from one look at a device under load to the next: a vendor's tool takes up to a second of the host


@dataclass(frozen=True)
class Measurement:
    """Raw windows of the devices of one card, measured at once, and what the devices said before and after.
    `peer` holds the windows of eager PyTorch between those of the chip, where that is the other side of the ratio.
    `devices_of_card` is what a card of the published figures has, `devices_here` what this card has; a card with more
    is measured on as many as the published one has."""

    timings: tuple[Timing, ...]
    peer: tuple[Window, ...]
    devices_of_card: int
    before: tuple[Health, ...]
    after: tuple[Health, ...]
    devices_here: int = 1
    note: str = ""  # what could not be told of the devices

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
        """Executes a second of one card, window by window."""
        rates = self.timings[0].rates if len(self.timings) == 1 else overlap_rates(self.timings)
        return tuple(rate * self.scaled for rate in rates)

    @property
    def latency(self) -> float:
        """Seconds of one execute on one device: the median of those alone; where it was measured in turn with eager
        PyTorch, the quickest window's, for a CPU is never idle, and other load only slows it down."""
        timing = self.timings[0]
        if timing.latencies:
            return median(timing.latencies)
        return min((window.stop - window.start) / window.executes for window in timing.windows)


@dataclass(frozen=True)
class Side:
    """Who is measured: a session, what it is fed, and what it answered to that before."""

    who: str
    session: RemoteSession
    inputs: Tensors
    answered: Tensors

    def audit(self) -> None:
        """Raises InvalidMeasurement when it answers otherwise after the timed runs, beyond rounding."""
        found = self.session.read()
        for name, value in self.answered.items():
            if not np.allclose(
                found[name], value, rtol=1e-3, atol=1e-3 * float(np.abs(value).max(initial=0.0)), equal_nan=True
            ):
                raise InvalidMeasurement(
                    f"{self.who}: output {name} differs after the timed runs from before them",
                    hint="the runtime reuses or skips work under load; no throughput of it can be trusted",
                )


def at_once(sides: Sequence[Side], plan: Plan, look: Callable[[], None] = lambda: None) -> tuple[Timing, ...]:
    """Back-to-back executes on all of them at the same time, inputs on the device. `look` is called again and again
    while they run."""
    for side in sides:  # so that timed work that is not done leaves a wrong answer behind
        side.session.run({name: np.ascontiguousarray(np.flip(value, axis=-2)) for name, value in side.inputs.items()})
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


def in_turn(sides: Sequence[Side]) -> tuple[Timing, ...]:
    """Window by window, so that other load meets all alike; eager PyTorch is last. Slow engines get fewer windows.
    Inputs go there with the first window and stay."""
    windows: list[list[Window]] = [[] for _ in sides]
    end = time.perf_counter() + PAIRS_LIMIT_S
    while len(windows[0]) < FEWEST or (len(windows[0]) < PAIRS and time.perf_counter() < end):
        if len(sides) > 1:
            time.sleep(PAUSE_S)
        for side, seen in zip(sides, windows, strict=True):
            seen.extend(side.session.measure(None if seen else side.inputs, PAIR_PLAN).windows)
    for side in sides:
        side.audit()
    return tuple(Timing((), tuple(seen), ()) for seen in windows)
