"""The windows of one throughput measurement, and the verdict on them. Nothing runs here, so that a verdict on record
can be computed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median

from harness.backends.base import Health
from harness.baselines import Cell
from harness.chips import EAGER
from harness.judge.stats import Estimate, over_sessions, throughput
from harness.judge.throughput import (
    FLOOR,
    Effort,
    judge_counted,
    judge_floor,
    judge_in_flight,
    judge_ratio,
    told_beside,
)
from harness.judge.timing import Timing, Window, joined, overlap_rates
from harness.judge.verdict import Verdict
from harness.vocabulary import Outcome

OUTLIER = 0.05  # relative to the median of the others: as much as the floor allows to a published figure

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
    counters: Mapping[str, float] = field(default_factory=dict)  # of the devices under load (idle.counters)
    beside: Mapping[str, tuple[Window, ...]] = field(default_factory=dict)
    numbers: tuple[int, ...] = ()  # of the devices of a card, in the order of their timings
    launched_alone: bool = True  # as in judge_in_flight, as far as chip and backend tell

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
    flight = fits_latencies(run, speed, batch)
    if flight.outcome is Outcome.INVALID and "width" not in verdict.details:
        return flight
    counted = judge_counted(speed.value, batch * run.scaled, run.timings)
    return counted if counted.outcome is Outcome.INVALID else verdict


def fits_latencies(run: Measurement, speed: Estimate, batch: int) -> Verdict:
    """The verdict on whether the rate fits the latencies (judge_in_flight)."""
    in_flight = max(timing.in_flight for timing in run.timings)
    alone = run.launched_alone and not any(timing.host_bound for timing in run.timings)
    return judge_in_flight(speed.value, batch, run.devices_of_card, run.latencies, in_flight, alone)


def speed_of(run: Measurement, batch: int) -> Estimate:
    """Images per second of one card, with its interval; of several sessions, each counts as one observation."""
    rates = [batch * rate for rate in run.rates]
    sizes = [min(len(timing.windows) for timing in block) for block in run.blocks]
    ends = [sum(sizes[: len(sizes) - back]) for back in range(run.effort.sessions - 1, -1, -1)]
    return over_sessions([rates[begin:end] for begin, end in zip([0, *ends], ends, strict=False)])


def slower(speeds: Mapping[int, Estimate]) -> dict[int, float]:
    """By number, the cards, or devices of a card, that are certainly (95 %) more than `OUTLIER` slower than the median
    of all, and by which share of it."""
    middle = median(speed.value for speed in speeds.values())
    return {number: 1 - speed.value / middle for number, speed in speeds.items() if speed.high < (1 - OUTLIER) * middle}


def behind(run: Measurement) -> str:
    """The devices of a card that are certainly slower than the others, as the end of a verdict's text, such as
    "; device 2 is 40.0% slower than the median of the 4 devices"; "" where none is."""
    if not run.numbers:
        return ""
    speeds = {number: throughput(timing.rates) for number, timing in zip(run.numbers, run.timings, strict=True)}
    return "".join(
        f"; device {number} is {share:.1%} slower than the median of the {len(speeds)} devices"
        for number, share in slower(speeds).items()
    )


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
    launched_alone: bool = True,
) -> Conclude:
    """A function that applies `judged` to blocks of that case. `peers` as in apart, `launched_alone` as in
    Measurement."""

    def conclude(blocks: tuple[Block, ...], effort: Effort) -> Verdict:
        chip, windows = apart(blocks, peers)
        run = Measurement(chip, windows.get(EAGER, ()), devices_of_card, (), (), effort, launched_alone=launched_alone)
        return judged(run, speed_of(run, batch), batch, cell, eager, floor)

    return conclude
