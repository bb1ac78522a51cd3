"""Whether a chip is as fast as required, and whether the data are enough to decide. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.baselines import Cell, Target
from harness.errors import InvalidMeasurement
from harness.judge.stats import (
    SESSION_WINDOWS,
    SESSIONS,
    UNSEEN,
    Estimate,
    exact,
    more_windows,
    paired_ratio,
    quantile,
    ratio_interval,
    spent,
)
from harness.judge.timing import Timing, percentile
from harness.judge.verdict import Verdict, percent
from harness.vocabulary import Outcome

FLOOR = 0.95  # of the published throughput
CEILING = 3.0  # times the published throughput: newer software may double it; four devices counted as one exceed this
RANGE = (0.02, 1.5)  # log-log slope of latency over batch: below, the batch is ignored; above, counted twice
EAGER_RANGE = (0.4, 1.2)  # the same slope of eager PyTorch; 0.62 to 0.96 measured on two cores, flatter on many
SLOPE_ERROR = 0.001  # chance of refusing a slope that lies in the range
WRONG = 0.025  # chance of a PASS for a figure exactly at its bound, over all looks
FAMILY = 60  # throughput verdicts of the largest run: 49 figures are published, with targets of two or three models
WRONG_RUN = 0.05  # chance of any FAIL in such a run when every figure is exactly at its bound (Bonferroni)
BETWEEN = 0.03  # standard deviation between runs and cards, log scale: a published figure is one run of one card
WIDEST = 1.5  # high / low of an interval: targets ask for 1.2 to 1.6, so a wider interval decides nothing
WIDEST_OF_PAIRS = 2.0  # the same of a ratio to eager PyTorch, of which 0.7 or 1 is asked: what slows both cancels
SHORTEST = 50e-6  # seconds: of a shorter execute, the call alone is a large part
SLOPPY = 4.0  # allowed ratio of executes at once for such an execute
IN_FLIGHT = 1.5  # allowed ratio of executes at once (rate x latency) to executes in flight; counted twice, it is 2
ALONE = 1.25  # the same where only the launch lengthens a single execute; every fourth execute skipped, it is 1.33
LAUNCH_S = 300e-6  # seconds of a single execute, at most, that launch and wait take and back-to-back executes do not
LEAST_AT_ONCE = 0.4  # allowed executes at once: a power limit slows a series, and not so far below single executes
SKIPPED = 0.1, 0.01  # times the latency, below which an execute was skipped; share of executes that gains too little
COUNTED = 0.05  # relative: windows of several devices end apart
ONE_STATE = UNSEEN / 2  # relative: so far from the mean of a clock's two states is a session that shows one of them
NEAR = 0.035  # relative, above the bound: `ONE_STATE` and the half-width of a full series whose windows differ by 3 %
AN_HOUR = 3600.0  # seconds: the longest --patience that a message asks for


@dataclass(frozen=True)
class Effort:
    """What a figure has cost so far: the number of looks at its verdict, and seconds. `windows` names its samples.
    `sessions` counts the fresh sessions: the last `sessions` - 1 blocks are one each, all before them are the first."""

    look: int = 1
    seconds: float = 0.0
    windows: str = "windows"
    sessions: int = 1


def _decide(
    seen: Estimate, bound: float, text: str, details: dict[str, Any], effort: Effort, between: float = 0.0,
    one_state: float = 0.0, widest: float = WIDEST,
) -> Verdict:  # fmt: skip
    """PASS when the whole interval is at or above the bound, FAIL when all of it is below, else INCONCLUSIVE with the
    time that would decide.

    Each end is taken at the level for this look (`spent`), so that looking again after every block does not raise the
    error rate. PASS is wrong for at most `WRONG` of figures at the bound, FAIL in at most `WRONG_RUN` of whole runs.
    FAIL also allows for `between`, the standard deviation between runs on the log scale, because one run says nothing
    about other days and cards. An interval wider than `widest` (high / low) decides nothing.

    With fewer than `SESSIONS` fresh sessions PASS asks for `one_state` (relative) more than the bound: a session may
    show one state only of a clock that changes seldom."""
    details.update(look=effort.look, doubt=seen.doubt, seconds=effort.seconds, sessions=seen.sessions)
    unseen = max(one_state - seen.allowance, 0.0) if seen.sessions < SESSIONS else 0.0
    alpha = WRONG_RUN / FAMILY * spent(effort.look)
    up = math.hypot(seen.distance(alpha, upper=True), quantile(math.inf, alpha) * between)
    low = seen.bound(WRONG * spent(effort.look), upper=False)
    if seen.width <= widest and low >= bound * math.exp(unseen):
        return Verdict(Outcome.PASS, text, details)
    if seen.width <= widest and seen.value * math.exp(up) < bound:
        return Verdict(Outcome.FAIL, text, details)
    near = seen.slow or low >= bound or bound <= seen.value < bound * math.exp(NEAR)
    alone = bool(one_state) and near and seen.sessions < SESSIONS
    why = _too_wide(seen, widest, effort, details) or _undecided(seen, bound, effort, between, alone, details)
    return Verdict(Outcome.INCONCLUSIVE, f"{text}; {why}", details)


def _too_wide(seen: Estimate, widest: float, effort: Effort, details: dict[str, Any]) -> str:
    """That the interval is too wide to decide anything, and about how long it takes to make it narrow enough (its width
    on the log scale shrinks with the square root of the time), or "". Writes its width into `details`."""
    if seen.width <= widest:
        return ""
    details["width"] = min(seen.width, 1e9)
    seconds = 1.2 * effort.seconds * (math.log(seen.width) / math.log(widest)) ** 2
    patience = f"--patience {math.ceil(seconds)}" if 0 < seconds <= AN_HOUR else "more --patience"
    return (
        f"high / low of the interval is {seen.width:.3g}, and only up to {widest:g} decides: "
        f"{seen.doubt or 'noise'}; end other programs or lock the clock, then measure again, with {patience}"
    )


def _undecided(
    seen: Estimate, bound: float, effort: Effort, between: float, alone: bool, details: dict[str, Any]
) -> str:
    """Why the figure is not decided, and what would decide it. Writes the windows, sessions or runs needed into
    `details`. `alone`: what was measured is too little for fresh sessions to tell of a clock that changes seldom."""
    if between and seen.bound(WRONG, upper=True) < bound:
        runs = math.ceil((quantile(math.inf, WRONG_RUN / FAMILY) * between / math.log(bound / seen.value)) ** 2)
        details["needed_runs"] = runs
        return (
            f"below what is asked, but runs of one chip differ by {percent(between)}: about {runs} runs on other days "
            "or cards, all like this one, would be a FAIL; run it again"
        )
    why = seen.doubt or "the interval contains the bound"
    if between and not effort.seconds:  # of figures on record, which nothing measures for longer
        details["needed_runs"] = None
        return f"{why}: too close to it for one run, and runs of one chip differ by {percent(between)}; run both again"
    more = SESSION_WINDOWS * (SESSIONS - seen.sessions) if alone else more_windows(seen, bound)
    if alone:
        unseen = f"a clock state that was not seen may make the mean {percent(ONE_STATE)} lower"
        why = f"{seen.sessions} of {SESSIONS} fresh sessions: {seen.doubt if seen.slow else unseen}"
    if more is None:
        details["needed_windows"] = None
        return f"{why}; too close to the bound for any time to decide"
    if alone or seen.sessions > 1:
        details["needed_sessions"] = math.ceil(more / SESSION_WINDOWS)
        ask = f"about {details['needed_sessions']} more fresh sessions would decide"
    else:
        details["needed_windows"] = more
        ask = f"about {more} more {effort.windows} would decide"
    if not effort.seconds:
        return f"{why}; {ask}"
    seconds = effort.seconds * (1 + more / seen.samples)
    if seconds > AN_HOUR:
        return f"{why}; more than an hour would be needed: too close to the bound"
    return f"{why}; {ask}: --patience {math.ceil(1.2 * seconds)}"


def judge_floor(throughput: Estimate, cell: Cell, slack: float = FLOOR, effort: Effort = Effort()) -> Verdict:
    """Whether the throughput of a card, images/s, is at least `slack` times the published figure of the same case.

    A throughput above `CEILING` times the published one is INVALID: devices or images were counted twice, or the timing
    did not wait for the device."""
    bound = slack * cell.value
    text = (
        f"{throughput} images/s, {throughput.value / cell.value:.3f} of the published {cell}; asked at least "
        f"{bound:.6g} ({slack:g} of it); {throughput.samples} windows, spread {percent(throughput.spread)}"
    )
    if throughput.sessions > 1:
        text += f"; {throughput.sessions} fresh sessions"
    details = {"measured": throughput.value, "low": throughput.low, "high": throughput.high, "published": cell.value,
               "ratio": throughput.value / cell.value, "spread": throughput.spread, "samples": throughput.samples,
               "bound": bound}  # fmt: skip
    if throughput.value > CEILING * cell.value:
        cause = "devices or images are counted twice, or the timing does not wait for the device"
        return Verdict(Outcome.INVALID, f"{text}; over {CEILING:g} times what was published: {cause}", details)
    return _decide(throughput, bound, text, details, effort, BETWEEN, ONE_STATE)


def judge_target(best: Estimate, other: Estimate | Cell, target: Target) -> Verdict:
    """Whether the chip's best throughput is at least `target.ratio` times the other chip's.

    Both are images/s at the best batch; `other` is an Estimate where it was measured, else the published Cell."""
    against = exact(other.value) if isinstance(other, Cell) else other
    ratio = ratio_interval(best, against)
    basis = f"published, {other.document}, {other.section}" if isinstance(other, Cell) else "measured"
    text = (
        f"{target.chip} / {target.other} is {ratio}, best batch against best batch, {best.value:.6g} over "
        f"{against.value:.6g} images/s ({basis}); asked at least {target.ratio:g}"
    )
    details = {**_quotient(ratio, target.ratio), "measured": best.value, "other": against.value,
               "other_low": against.low, "other_high": against.high, "against": basis}  # fmt: skip
    return _decide(ratio, target.ratio, text, details, Effort(), math.sqrt(2) * BETWEEN)


def judge_ratio(
    chip: Sequence[float], eager: Sequence[float], at_least: float, effort: Effort = Effort(windows="pairs of windows")
) -> Verdict:
    """Whether the chip is at least `at_least` times as fast as eager PyTorch.

    `chip` and `eager` are rates of windows measured in turn in one run; the ratio is the geometric mean of theirs."""
    ratio = paired_ratio(chip, eager)
    text = (
        f"{ratio} times eager PyTorch in the same run; asked at least {at_least:g}; {ratio.samples} pairs of windows, "
        f"spread {percent(ratio.spread)}"
    )
    return _decide(ratio, at_least, text, _quotient(ratio, at_least), effort, widest=WIDEST_OF_PAIRS)


def told_beside(verdict: Verdict, name: str, chip: Sequence[float], other: Sequence[float]) -> Verdict:
    """The verdict with how many times as fast as another program the chip is. `chip` and `other` are rates of windows
    measured in turn in one run. The outcome stays; a lab that asks for a ratio sets a gate on the figure, which is
    called after the program: `onnx_runtime_ratio`."""
    ratio = paired_ratio(chip, other)
    place = (
        "the chip is slower"
        if ratio.high < 1
        else "the chip is faster"
        if ratio.low > 1
        else "no difference is certain"
    )
    figure = f"{re.sub(r'[^a-z0-9]+', '_', name.lower())}_ratio"
    figures = {figure: ratio.value, f"{figure}_low": ratio.low, f"{figure}_high": ratio.high}
    beside = {**verdict.details.get("beside", {}), name: [ratio.value, ratio.low, ratio.high]}
    return Verdict(verdict.outcome, f"{verdict.text}; {ratio} times {name} in the same run; not judged; {place}",
                   {**verdict.details, **figures, "beside": beside})  # fmt: skip


def judge_counted(images_per_second: float, images: float, timings: Sequence[Timing]) -> Verdict:
    """Whether a throughput is that of all windows: the mean of their rates, device by device, with `images` in each
    execute. Otherwise windows were left out, or images counted twice: INVALID."""
    rates = [sum(one.rates) / len(one.rates) for one in timings]
    whole = images * sum(rates)
    windows = sum(len(one.windows) for one in timings)
    text = f"{images_per_second:.6g} images/s are reported; all {windows} windows have a mean of {whole:.6g} images/s"
    if abs(images_per_second / whole - 1) <= COUNTED:
        return Verdict(Outcome.PASS, text, {"counted": whole})
    cause = "windows are missing, or images or devices are counted twice"
    return Verdict(Outcome.INVALID, f"{text}: {cause}", {"counted": whole})


def judge_in_flight(
    images_per_second: float,
    batch: int,
    devices: int,
    latencies: Sequence[float],
    in_flight: int = 1,
    launched_alone: bool = True,
) -> Verdict:
    """Whether a throughput is consistent with the latencies (seconds) of single executes in the same session.

    Rate x latency is the number of executes that a device works on at once (Little, Operations Research 9, 1961), and
    at most `in_flight` were given to it. Above `ALONE` + `LAUNCH_S` / latency times that, and above `IN_FLIGHT` times
    that, the verdict is INVALID: images or devices are counted twice, or timed work is not done. The margin is there
    because each single execute includes its launch and the wait, which back-to-back executes pay once. Where more than
    that may lengthen a single execute (not `launched_alone`: other load on the processor, or a host that launches
    operator by operator), `IN_FLIGHT` alone holds. The upper quartile of the latencies is used, so that a runtime which
    skips every second execute is still found; one that skips fewer shows single executes that take no time (`SKIPPED`),
    INVALID too. Below `LEAST_AT_ONCE` a series would be far slower than single executes: INVALID too.
    `images_per_second` is the rate of a card of `devices` devices. INCONCLUSIVE without latencies."""
    if not latencies:
        return Verdict(Outcome.INCONCLUSIVE, "no single executes were timed: the rate cannot be checked against them")
    latency = percentile(latencies, 0.75)
    busy = images_per_second / batch / devices * latency
    most = in_flight * (min(IN_FLIGHT, ALONE + LAUNCH_S / latency) if launched_alone else IN_FLIGHT)
    text = (
        f"{images_per_second:.6g} images/s at batch {batch} on {devices} devices, where a single execute takes "
        f"{1e6 * latency:.6g} us (upper quartile of {len(latencies)}), are {busy:.3g} executes at once on each device; "
        f"{in_flight} in flight, at most {most:.3g} plausible"
    )
    details = {"executes_at_once": busy, "in_flight": in_flight}
    skipped = sum(seconds < SKIPPED[0] * latency for seconds in latencies)
    if launched_alone and latency >= SHORTEST and skipped > SKIPPED[1] * len(latencies):
        cause = f"{skipped} of them took less than a tenth of that: executes are skipped"
        return Verdict(Outcome.INVALID, f"{text}; {cause}", details)
    if LEAST_AT_ONCE <= busy <= most:
        return Verdict(Outcome.PASS, text, details)
    if latency < SHORTEST and 1 / SLOPPY <= busy <= SLOPPY * in_flight:
        return Verdict(Outcome.INCONCLUSIVE, f"{text}: a single execute is too short to decide", details)
    cause = "images or devices are counted twice, or the timed work is not done"
    if busy < LEAST_AT_ONCE:
        cause = "executes, images or devices are left out of the rate, or the latencies are in another unit"
    return Verdict(Outcome.INVALID, f"{text}: {cause}", details)


def _quotient(ratio: Estimate, bound: float) -> dict[str, Any]:
    return {"ratio": ratio.value, "ratio_low": ratio.low, "ratio_high": ratio.high, "spread": ratio.spread,
            "samples": ratio.samples, "bound": bound}  # fmt: skip


def judge_batches(
    latencies: Mapping[int, float],
    ratios: Mapping[int, float] | None = None,
    shared: bool = False,
    noise: Mapping[int, float] | None = None,
) -> Verdict:
    """Whether the latency grows with the batch as it should. `latencies` maps batch to seconds of one execute.

    The log-log slope of latency over batch, from the smallest batch to the largest, must lie in `RANGE`. Below it the
    batch is not run, above it the batch is counted twice; either is INVALID, for all throughputs of these runs. The
    flattest published slopes are 0.049 and 0.054 (MLU370 at INT8, batch 1 to 4).

    `noise` maps batch to the relative spread of its windows, which is used as the error of the latency (clocks do not
    average out). A slope outside the range is INVALID when noise explains it with a chance below `SLOPE_ERROR`, else
    INCONCLUSIVE.

    On a `shared` chip other load may slow down all windows of one batch. `ratios` maps batch to throughput relative to
    eager PyTorch in the same seconds, which cancels that load. From both comes the slope of eager PyTorch itself. Where
    that lies in `EAGER_RANGE`, no load is seen and the latencies are judged. Otherwise only the ratios are, and the
    slope is known as far as that of eager PyTorch is: all of it must lie in the range for PASS, outside for INVALID. In
    both cases PASS also asks that the slope is plausible where eager PyTorch has one of 1. Without `ratios`, a slope
    outside the range on a shared chip is INCONCLUSIVE.

    Raises InvalidMeasurement for a batch below 1 and for latencies that are not positive and finite."""
    for batch, seconds in latencies.items():
        if batch < 1 or not (math.isfinite(seconds) and seconds > 0):
            raise InvalidMeasurement(f"batch {batch} took {seconds} s", hint="look at the clock")
    if len(latencies) < 2:
        return Verdict(Outcome.INCONCLUSIVE, "only one batch was timed; measure two to see how latency grows with it")
    small, large = min(latencies), max(latencies)
    low, high, by_ratios, beside = _slope(latencies, ratios)
    spread = math.hypot(*((noise or {}).get(batch, 0.0) for batch in (small, large))) / math.log(large / small)
    slope = (f"{low:.3f}" if low == high else f"[{low:.3f}, {high:.3f}]") + (f" +- {spread:.3f}" if spread else "")
    text = (
        f"{1e3 * latencies[small]:.4g} ms at batch {small}, {1e3 * latencies[large]:.4g} ms at batch {large}{beside}: "
        f"log-log slope {slope}, plausible from {RANGE[0]} to {RANGE[1]}"
    )
    details = {"slope": (low + high) / 2, "slope_low": low, "slope_high": high, "slope_error": spread,
               "range": list(RANGE), "latencies": {str(b): s for b, s in sorted(latencies.items())}}  # fmt: skip
    sure, likely = quantile(math.inf, SLOPE_ERROR) * spread, quantile(math.inf, WRONG) * spread
    clear = RANGE[0] + likely <= low and high <= RANGE[1] - likely
    if clear and RANGE[0] <= by_ratios <= RANGE[1]:
        return Verdict(Outcome.PASS, text, details)
    unknown = shared and ratios is None
    if unknown or (RANGE[0] - sure <= high and low <= RANGE[1] + sure):
        ask = "the windows vary too much to decide; measure a larger batch, or again with the clock locked"
        if unknown or clear or low < high:
            ask = "other load on the CPU can cause this; run both again"
        return Verdict(Outcome.INCONCLUSIVE, f"{text}: {ask}", details)
    cause = "the batch is not computed" if high < RANGE[0] else "the batch is counted twice, or the device is throttled"
    return Verdict(Outcome.INVALID, f"{text}: {cause}", details)


def _slope(latencies: Mapping[int, float], ratios: Mapping[int, float] | None) -> tuple[float, float, float, str]:
    """The least and the largest slope of latency over batch that the figures leave open, one where no load is seen; the
    slope by the ratios where that of eager PyTorch is 1; and what is told of the ratios."""
    small, large = min(latencies), max(latencies)
    step = math.log(large / small)
    slope = math.log(latencies[large] / latencies[small]) / step
    if ratios is None:
        return slope, slope, slope, ""
    by_ratios = 1 - math.log(ratios[large] / ratios[small]) / step
    eager = 1 + slope - by_ratios
    told = f" ({ratios[small]:.3g} and {ratios[large]:.3g} times eager PyTorch, whose slope is {eager:.3f})"
    if EAGER_RANGE[0] <= eager <= EAGER_RANGE[1]:
        return slope, slope, by_ratios, told
    return by_ratios - 1 + EAGER_RANGE[0], by_ratios - 1 + EAGER_RANGE[1], by_ratios, told
