"""Raw samples of how long executes take: the warm-up, windows of back-to-back executes, and single latencies.

This file knows no model and no chip. It also runs in the worker: Python 3.7 and the standard library only. Times are
seconds of time.perf_counter, which on Linux is CLOCK_MONOTONIC: all processes share it, so windows of several devices
of a card can be compared.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from statistics import median, pstdev
from typing import Any, Callable, Sequence

from harness.errors import InvalidMeasurement

STEADY_CV = 0.025  # coefficient of variation above which trtexec also calls a measurement unstable
STEADY_DRIFT = 0.03  # last third of the windows against the first third
OUTLIER = 0.10  # a window this far from the median, relative
FEWEST = 3  # windows needed to estimate the spread
BEYOND = 5  # samples needed beyond a percentile: with fewer, a single slow execute moves it
PERCENTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999))
UNTIMED = "the clock of the backend's own `measure`, or of the device, is wrong; report it"
HEADROOM = 1.1  # factor on the planned length of a window, so that a device that becomes faster still fills it


@dataclass(frozen=True)
class Plan:
    """How long to measure; fields ending in `_s` are seconds.

    After `windows` windows come `latencies` single executes, for at most `latency_s`. A slow engine gets fewer: the
    measurement ends after `limit_s`, but never before `FEWEST` windows and one latency. With `warmup_s` 0 there is no
    warm-up, for an engine that has just run."""

    warmup_s: float = 1.0
    window_s: float = 0.2
    windows: int = 20
    latencies: int = 20
    limit_s: float = 60.0
    latency_s: float = 60.0


@dataclass(frozen=True)
class Window:
    """`executes` calls back to back between two readings of the clock, in seconds."""

    start: float
    stop: float
    executes: int

    @property
    def rate(self) -> float:
        """Executes per second."""
        return self.executes / (self.stop - self.start)


@dataclass(frozen=True)
class Timing:
    """All samples of one measurement; latencies in seconds."""

    warmup: tuple[Window, ...]
    windows: tuple[Window, ...]
    latencies: tuple[float, ...]
    host_bound: bool = False  # the host enqueued no faster than the device computed: the rate is limited by the host
    in_flight: int = 1  # executes that the device was given to compute at the same time

    @property
    def rates(self) -> tuple[float, ...]:
        """Executes per second of each window."""
        return tuple(window.rate for window in self.windows)

    def check(self) -> Timing:
        """The same. Raises InvalidMeasurement for what no clock shows, as a backend that times itself may tell: no
        window, one of no executes or of no time, a latency of no time."""
        for window in (*self.warmup, *self.windows):
            if not (window.executes >= 1 and -math.inf < window.start < window.stop < math.inf):
                raise InvalidMeasurement(f"{window} is no measurement", hint=UNTIMED)
        wrong = [seconds for seconds in self.latencies if not 0 < seconds < math.inf]
        if wrong or not self.windows:
            what = f"a single execute of {wrong[0]:g} s" if wrong else "a series without windows"
            raise InvalidMeasurement(f"{what} is no measurement", hint=UNTIMED)
        return self

    def to_json(self) -> dict[str, Any]:
        """All samples as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Timing:
        """The Timing that `to_json` wrote."""
        warmup, windows = (tuple(Window(**window) for window in plain[name]) for name in ("warmup", "windows"))
        told = bool(plain.get("host_bound", False)), int(plain.get("in_flight", 1))
        return cls(warmup, windows, tuple(plain["latencies"]), *told)


def measure(execute: Callable[[int], None], plan: Plan, clock: Callable[[], float] = time.perf_counter) -> Timing:
    """Time `execute(times)`, which returns when that many executes are done.

    The warm-up lasts at least `plan.warmup_s` and until it has found how many executes fill `plan.window_s`. Each
    window lasts at least `plan.window_s`. Raises ValueError for a plan without windows."""
    if plan.windows < 1 or not plan.window_s > 0:
        raise ValueError(f"a plan needs at least one window of some length: {plan}")

    def window(times: int) -> Window:
        start = clock()
        execute(times)
        return Window(start, clock(), times)

    begun = clock()
    warmup: list[Window] = []
    times = 1
    while plan.warmup_s > 0 and (
        not warmup or warmup[-1].stop - begun < plan.warmup_s or _seconds(warmup[-1]) < plan.window_s
    ):
        warmup.append(window(times))
        times = _fill(warmup[-1], plan.window_s)

    windows: list[Window] = []
    end = begun + plan.limit_s
    while len(windows) < plan.windows and (len(windows) < FEWEST or windows[-1].stop < end):
        part = window(times)
        while _seconds(part) < plan.window_s:  # the device became faster: top the window up
            rest = window(_fill(part, plan.window_s) - part.executes)
            part = Window(part.start, rest.stop, part.executes + rest.executes)
        windows.append(part)
        times = max(times, part.executes)
    latencies: list[float] = []
    end = min(end, clock() + plan.latency_s)
    while len(latencies) < plan.latencies and (not latencies or clock() < end):
        latencies.append(_seconds(window(1)))
    return Timing(tuple(warmup), tuple(windows), tuple(latencies))


def joined(parts: Sequence[Timing]) -> Timing:
    """The samples of several measurements of one session, in order, as one."""
    return Timing(
        tuple(window for part in parts for window in part.warmup),
        tuple(window for part in parts for window in part.windows),
        tuple(seconds for part in parts for seconds in part.latencies),
        any(part.host_bound for part in parts),
        max(part.in_flight for part in parts),
    )


def percentile(seconds: Sequence[float], share: float) -> float:
    """The smallest sample that is not exceeded by at least `share` (0..1) of the samples (nearest rank). Raises
    ValueError without samples."""
    if not seconds:
        raise ValueError("no samples: no percentile")
    return sorted(seconds)[max(0, math.ceil(share * len(seconds)) - 1)]


def percentiles(latencies: Sequence[float]) -> dict[str, float]:
    """Percentiles of `latencies` (seconds) in microseconds, and their number as `latency_executes`.

    p50 is always there; p90, p99 and p99.9 only where at least `BEYOND` samples lie beyond. Empty without latencies."""
    if not latencies:
        return {}
    found = {"latency_executes": float(len(latencies))}
    for name, share in PERCENTILES:
        if share == 0.5 or round((1 - share) * len(latencies), 6) >= BEYOND:
            found[f"latency_{name}_us"] = 1e6 * percentile(latencies, share)
    return found


def unsteady(timing: Timing) -> list[str]:
    """Reasons why one figure does not describe these windows; empty when they are steady."""
    rates = timing.rates
    if len(rates) < FEWEST:
        return [f"{len(rates)} windows say nothing about the spread: measure at least 3"]
    reasons = []
    middle, mean = median(rates), sum(rates) / len(rates)
    cv = pstdev(rates) / mean
    if cv > STEADY_CV:
        reasons.append(f"rates vary by {cv:.1%} (coefficient of variation; {STEADY_CV:.1%} is steady)")
    third = len(rates) // 3
    drift = median(rates[-third:]) / median(rates[:third]) - 1
    if abs(drift) > STEADY_DRIFT:
        word = "faster" if drift > 0 else "slower"
        reasons.append(f"the last third of the windows is {abs(drift):.1%} {word} than the first")
    out = [number for number, rate in enumerate(rates, 1) if abs(rate / middle - 1) > OUTLIER]
    if out:
        numbers = ", ".join(str(number) for number in out)
        reasons.append(f"windows {numbers} of {len(rates)} lie over {OUTLIER:.0%} from the median")
    return reasons


def overlap_rates(timings: Sequence[Timing]) -> tuple[float, ...]:
    """Executes per second of all devices together, which were measured at the same time; one rate per slice.

    The time in which every device was measuring is cut into as many equal slices as the shortest series has windows. A
    window across a border counts in proportion. Raises InvalidMeasurement when the devices did not measure at the same
    time for at least half of the shortest series."""
    spans = [(timing.windows[0].start, timing.windows[-1].stop) for timing in timings]
    start, stop = max(span[0] for span in spans), min(span[1] for span in spans)
    shortest = min(span[1] - span[0] for span in spans)
    if stop - start < shortest / 2:
        raise InvalidMeasurement(
            f"the {len(timings)} devices measured together for {max(0.0, stop - start):.2f} s of {shortest:.2f} s",
            hint="give each device longer windows, so that one's warm-up is not another's measurement",
        )
    slices = min(len(timing.windows) for timing in timings)
    edges = [start + (stop - start) * number / slices for number in range(slices + 1)]
    return tuple(
        sum(_within(window, left, right) for timing in timings for window in timing.windows) / (right - left)
        for left, right in zip(edges, edges[1:])
    )


def overlap_rate(timings: Sequence[Timing]) -> float:
    """Executes per second of all devices together, over the time in which all of them measured. Raises as
    overlap_rates."""
    rates = overlap_rates(timings)
    return sum(rates) / len(rates)


def _seconds(window: Window) -> float:
    return window.stop - window.start


def _fill(last: Window, window_s: float) -> int:
    """How many executes fill a window, estimated from the last one; at most ten times as many as the last had."""
    seconds = _seconds(last)
    most = last.executes * 10
    if seconds * 10 <= window_s:
        return most
    return min(most, math.ceil(window_s * HEADROOM * last.executes / seconds))


def _within(window: Window, left: float, right: float) -> float:
    shared = min(window.stop, right) - max(window.start, left)
    return max(0.0, shared) * window.rate
