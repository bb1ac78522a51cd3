"""What benchmark, msame and ais_bench print: images per second of one Ascend device."""

from __future__ import annotations

import json
import re
from re import Match
from typing import Any, NamedTuple

from harness.vendor.logs.log import NUMBER, ROUNDING, Log, Throughput

# --- benchmark ----------------------------------------------------------------------------------------------------

MEAN_OF_RATES = 1.1
"""PureInfer's rate is the mean of each run's rate, which is above the inverse of the mean latency when runs differ:
by 1.026 to 1.043 in published logs."""


PIPELINE = 0.98
"""The rate of the infer stage may be above the inverse of its mean time, by up to 1.4 % in published logs."""
UNLIKE = 1.3
"""A part that takes longer than the whole: 1.2 times in one published log, which is doubted; beyond, it is refused."""


class _Stages(NamedTuple):
    """benchmark's lines: rates in images/s (post: batches/s), times in ms."""

    e2e: float
    seconds_ms: float
    pairs: dict[str, list[float]]  # stage -> its rate and its time
    infer: float
    interface: float
    module: float
    number: int  # of the infer line


def benchmark(log: Log, text: str) -> list[Throughput]:
    """The throughput of benchmark's only device, from its interface rate or, in pure inference, its average rate.
    Raises DataError."""
    if any("ave_throughputRate" in line or "PureInfer" in line for line in log.lines):
        return [_pure_inference(log)]
    stages = _stages(log)
    infer, interface, module = stages.infer, stages.interface, stages.module
    told = f"infer {infer:g}/s, moduleLatency {module:g} ms, Interface {interface:g}/s"
    if infer * PIPELINE > 1000 / module:
        log.contradiction(f"{told}: an image takes no longer in the module than in the pipeline", stages.number)
    slower = 1000 / module > interface * 1.01
    if slower and 1000 / module > interface * UNLIKE:
        log.contradiction(f"{told}: an image takes no longer in the interface than in the module", stages.number)
    off = {stage: rate * ms / 1000 for stage, (rate, ms) in stages.pairs.items()}  # 1: a line's two figures are one
    broken = [stage for stage, product in off.items() if abs(product - 1) > ROUNDING]
    if broken and (len(broken) < len(off) or not all(0.5 < product < 2 for product in off.values())):
        log.contradiction(
            ", ".join(f"[{b}] throughputRate x moduleLatency is {1000 * off[b]:.6g}, not 1000" for b in broken)
        )
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    if broken:
        batch, doubts = _batch_of_a_broken_clock(log, stages)
        notes = ("throughputRate x moduleLatency is not 1000 in any line",)
    else:
        batch = _batch_of_stages(log, stages)
    if slower:
        doubts += (f"{told}: the interface, a part of the module, takes longer",)
    return [
        Throughput(
            "benchmark", interface, batch, 1000 * batch / interface, "Interface throughputRate", (stages.number,),
            log.device(), log.source, doubts, notes,
        )
    ]  # fmt: skip


def _stages(log: Log) -> _Stages:
    rate = r"throughputRate:\s*(" + NUMBER + r")"
    latency = r"(?:moduleL|l)an?tency:\s*(" + NUMBER + r")"  # "lantency" in the wide-and-deep variant
    gap = r"(?:\s*,\s*|\s+)"  # some logs lack a comma

    def line(label: str, form: str, open_: str = r"\[") -> tuple[int, list[float]]:
        number, match = log.one(
            "[{}] line".format(label.split("|")[0]),
            open_ + "(?:" + label + r")\]",
            open_ + "(?:" + label + r")\]\s*" + form,
        )
        values = [float(value) for value in match.groups()]
        if min(values) <= 0:
            log.contradiction("a figure is zero", number)
        return number, values

    pair = rate + gap + latency + ",?"
    _, (e2e, seconds_ms) = line("e2e", pair, r"\[?\[")  # a page's markup doubles the first bracket
    written = {"data read": "data read", "post": "post|postprocess"}
    parts = [name for name in ("wide preprocess", "deep preprocess") if any(f"[{name}]" in text for text in log.lines)]
    written.update({name: name for name in parts or ["preprocess"]})
    pairs = {stage: line(label, pair)[1] for stage, label in written.items()}
    number, (infer, interface, module) = line(
        "infer|inference", rate + gap + r"Interface\s*" + rate + gap + latency + ",?"
    )
    return _Stages(e2e, seconds_ms, pairs, infer, interface, module, number)


def _batch_of_stages(log: Log, stages: _Stages) -> int:
    """The batch, which the figures say too: post counts batches, infer counts images.

    Where post-processing takes longer than inference, their rates are of unlike times, and a stated batch is held
    against what these allow: post begins after the first batch and ends with the run."""
    if stages.e2e > stages.infer * 1.01:
        log.contradiction(f"e2e {stages.e2e:g}/s is faster than infer {stages.infer:g}/s")
    images = stages.e2e * stages.seconds_ms / 1000
    post = stages.pairs["post"][0]
    batches_of = stages.infer / post
    # images a batch on average: the last one may be short
    full = {size: images / max(1, -(-round(images) // size)) for size in range(1, 513)}
    near = [size for size, mean in full.items() if mean and abs(batches_of / mean - 1) < 0.01]
    batch = near[0] if len(near) == 1 and not log.said_batches() else log.batch()
    count = max(1, -(-round(images) // batch))
    shortest, longest = images / stages.infer * (count - 1) / count, stages.seconds_ms / 1000
    if not 0.95 * post * shortest <= count <= 1.05 * post * longest:
        log.another_batch(f"infer / post rate says {batches_of:.4g}, not {batch}")
    return batch


def _batch_of_a_broken_clock(log: Log, stages: _Stages) -> tuple[int, tuple[str, ...]]:
    """The stated batch and what speaks against it: of such lines, only a batch far off can be told."""
    batch = log.batch()
    batches_of = stages.infer / stages.pairs["post"][0]
    if not 0.4 <= batches_of / batch <= 2.5:
        log.another_batch(f"infer / post rate says {batches_of:.4g}, not {batch}")
    if 0.75 <= batches_of / batch <= 1.33:
        return batch, ()
    return batch, (f"infer / post rate says batch {batches_of:.3g}, not {batch}",)


def _pure_inference(log: Log) -> Throughput:
    """`benchmark -round=N`: random data, no data set. Latency is a single image's."""
    form = (
        r"ave_throughputRate\s*[=:]\s*(" + NUMBER + r")\s*samples/s\s*,\s*ave_latency\s*[=:]\s*("
        + NUMBER + r")\s*ms,?"
    )  # fmt: skip
    number, match = log.one("ave_throughputRate line", r"ave_throughputRate", form)
    rate, latency = float(match.group(1)), float(match.group(2))
    product = rate * latency / 1000
    if not 0.98 <= product <= MEAN_OF_RATES:
        log.contradiction(
            f"{rate:g} samples/s and {latency:g} ms a sample: their product is {1000 * product:.4g}, not 980 to"
            f" {1000 * MEAN_OF_RATES:g}",
            number,
        )
    notes = ["pure inference: random data, not the data set"]
    if product > 1.02:
        notes.append(
            f"the rate is {product:.3f} times the inverse of the mean latency: a mean of rates; "
            "runs took different times"
        )
    batch = log.batch()
    return Throughput(
        "benchmark", rate, batch, 1000 * batch / rate, "ave_throughputRate", (number,), log.device(), log.source,
        notes=tuple(notes),
    )  # fmt: skip


# --- msame --------------------------------------------------------------------------------------------------------

SLOW_FIRST = 0.01
"""From this share on, the first run makes the mean of all runs another figure than that of the runs after it."""


def msame(log: Log, text: str) -> list[Throughput]:
    """Host time around aclmdlExecute, per batch. msame knows no batch: the model's name or the caller says it.

    The figure is the mean of all runs, as it was published, or without the first run where that one was slow."""
    name, form = "Inference average time", r"\s*:\s*(" + NUMBER + r")\s*ms"
    without = f"{name} without first time"
    whole = log.alone(name, log.whole(name + r"\s*:", name + form))
    later = log.alone(without, log.whole(name + " w", without + form))
    runs = [float(m.group(1)) for _, m in log.whole(r"Inference time\s*:", r"Inference time" + form)]
    if 0 in (*runs, *(float(one[1].group(1)) for one in (whole, later) if one is not None)):
        log.contradiction("a time of zero")
    number, mean, notes, doubts = _msame_mean(log, whole, later, runs)
    _msame_ended(log)
    batch = log.batch()
    statistic = "Inference average time"
    return [
        Throughput(
            "msame", 1000 * batch / mean, batch, mean, statistic, (number,), log.device(), log.source, doubts, notes
        )
    ]


_Line = Any  # Optional[Tuple[int, Match[str]]]: the number of a line and its figure


def _msame_mean(
    log: Log, whole: _Line, later: _Line, runs: list[float]
) -> tuple[int, float, tuple[str, ...], tuple[str, ...]]:
    """Line, ms of a batch, notes and doubts. Older versions print one of the two means only."""
    if whole is None and later is None:
        log.cut("average time")
    if whole is None:
        _near(log, runs[1:], float(later[1].group(1)), " after the first")
        _needs_an_end(log)
        return later[0], float(later[1].group(1)), ("only the mean without the first run is printed",), ()
    number, mean = whole[0], float(whole[1].group(1))
    _near(log, runs, mean, "")
    if later is None:
        if len(runs) == 1:
            _ran_once(log)
        _needs_an_end(log)
        if not runs:
            return number, mean, ("the mean includes the first run: no other is printed",), ()
        rest = sum(runs[1:]) / (len(runs) - 1)
        return (number, rest, *_slow_first(mean, rest, True)) if _differs(mean, rest) else (number, mean, (), ())
    rest = float(later[1].group(1))
    _near(log, runs[1:], rest, " after the first")
    if mean < 0.5 * rest:  # n runs: mean >= rest * (n - 1) / n
        log.contradiction(f"the mean is {mean:g} ms, without the first run {rest:g} ms", number)
    if mean > rest and _differs(mean, rest):
        return (later[0], rest, *_slow_first(mean, rest, bool(runs)))
    return number, mean, (), ()


def _differs(mean: float, rest: float) -> bool:
    return abs(mean / rest - 1) > SLOW_FIRST


def _slow_first(mean: float, rest: float, listed: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    said = f"the first run was slow: {mean:g} ms on average with it, {rest:g} ms without it; the latter counts"
    if listed or mean <= 2 * rest:
        return (said,), ()
    return (said,), (f"the mean is {mean:g} ms, without the first run {rest:g} ms, and no run is listed to check that",)


def _near(log: Log, runs: list[float], mean: float, which: str) -> None:
    if runs and abs(sum(runs) / len(runs) - mean) > 0.006 + 1e-3 * mean:
        log.contradiction(
            f"{len(runs)} runs{which} take {sum(runs) / len(runs):.4g} ms on average, the summary says {mean:g} ms:"
            " runs are missing from the log, or figures were changed"
        )


def _ran_once(log: Log) -> None:
    """Raises DataError: there is one run, or one mean that may be half of two. With its end it ran once."""
    whole = any(_END in line for line in log.lines)
    log.refuse(
        "the model ran once, and a first run is slow"
        if whole
        else "no average without the first time: the log is cut off, or the model ran once",
        "run a directory of inputs, or --loop 100, and give the whole output",
    )


_END = "Execute sample success"


def _msame_ended(log: Log) -> None:
    if any("acl init success" in line for line in log.lines) and not any(_END in line for line in log.lines):
        log.cut(f"'{_END}'")


def _needs_an_end(log: Log) -> None:
    """One mean alone may be half of the two that newer versions print: only what comes after tells."""
    if not any(_END in line or "unload model success" in line for line in log.lines):
        _ran_once(log)


# --- ais_bench ----------------------------------------------------------------------------------------------------


def ais_bench(log: Log, text: str) -> list[Throughput]:
    """One throughput for each device, from ais_bench's text or its JSON summary. Raises DataError."""
    if any(line.startswith(("{", '"NPU_compute_time"')) for line in log.lines[:1]):
        return [_ais_summary(log)]
    devices = log.whole(
        r"\S+ device_\d+ throughput",
        r"\S+ device_(\d{1,9}) throughput: ?(" + NUMBER + r") start_time: ?" + NUMBER + r" end_time: ?" + NUMBER,
    )  # fmt: skip
    if devices:
        return _ais_devices(log, devices)
    form = (
        r"[Tt]hroughput\s*\(?1000\*batchsize(?:\.mean)?(?:\((?P<batch>" + NUMBER + r")\))?"
        r"/NPU_compute_time(?:\.mean\((?P<mean>" + NUMBER + r")\))?\)?:\s*(?P<rate>" + NUMBER + r")"
    )
    number, match = log.one("throughput line", r"[Tt]hroughput", form)
    rate = float(match.group("rate"))
    mean = float(match.group("mean")) if match.group("mean") else None
    overlap, compute = _ais_compute(log)
    if mean is None:
        mean = compute
    elif compute is not None and abs(compute - mean) > 1e-4 * mean + HALF_A_DIGIT:
        log.contradiction(f"mean {compute:g} and mean {mean:g} ms", number)
    if mean is None:
        log.cut("mean of NPU_compute_time")
    if mean <= 0:
        log.contradiction(f"a batch takes {mean:g} ms", number)
    figures = rate * mean / 1000
    if match.group("batch"):
        printed = float(match.group("batch"))
        if abs(figures - printed) > 1e-4 * printed:
            log.contradiction(f"1000 x {printed:g} / {mean:g} ms is not {rate:g}/s", number)
    batch = log.batch(figures)
    return [
        Throughput(
            "ais_bench", rate, batch, mean, AIS_STATISTIC, (number,), log.device(), log.source,
            notes=(OVERLAP,) if overlap else (),
        )
    ]  # fmt: skip


AIS_STATISTIC = "throughput of NPU_compute_time mean"
OVERLAP = "pipeline mode: the mean is the time in which any run was computing, divided by the runs, which overlap"
HALF_A_DIGIT = 5e-5
"""ms: the table of the newest ais_bench (msit, tabulate with floatfmt .4f) has four decimals."""


def _ais_compute(log: Log) -> tuple[bool, float | None]:
    """Whether runs overlapped as in pipeline mode, and the mean compute time in ms; None when it is not printed."""
    table = _ais_table(log)
    if table is not None:
        return table
    compute = log.alone(
        "NPU_compute_time", log.whole(r"NPU_compute_time", r"NPU_compute_time \(ms\):\s*(?P<spread>.*\d)")
    )
    if compute is not None:
        number, match = compute
        alone = re.fullmatch(r"mean\s*=\s*(" + NUMBER + ")", match.group("spread"))
        if alone:
            return True, float(alone.group(1))
        return False, log.spread(number, match.group("spread"), unit="")["mean"]
    if any("Performance Summary" in line for line in log.lines):
        log.cut("NPU_compute_time line")
    return False, None


def _ais_table(log: Log) -> tuple[bool, float] | None:
    """The same of the table that the newest version prints in the place of the line; None when there is none."""
    row, between = r"[^\w\s\[]\s*NPU_compute_time \(ms\)", r"[^\w.]+"
    whole = log.whole(row, row + between + between.join(["(" + NUMBER + ")"] * 5) + between)
    found = log.alone("NPU_compute_time", whole)
    if found is None:
        return None
    number, match = found
    if not any(re.search(r"\bmin\b\W+max\b\W+mean\b\W+median\b\W+P\d", line) for line in log.lines):
        log.cut("heading 'min max mean median P99' of the table")
    spread = dict(zip(("min", "max", "mean", "median", "percentile"), map(float, match.groups())))
    return _overlap(log, number, spread), spread["mean"]


def _overlap(log: Log, number: int | None, spread: dict[str, float]) -> bool:
    """Whether the mean is below the shortest run, as only pipeline mode's can be. The others have to be in order."""
    mean = spread["mean"]
    overlap = mean < spread["min"] * (1 - ROUNDING)
    log.ordered(number, {key: value for key, value in spread.items() if key != "mean" or not overlap})
    if mean <= 0:
        log.contradiction(f"the mean is {mean:g} ms", number)
    return overlap


def _ais_devices(log: Log, devices: list[tuple[int, Match[str]]]) -> list[Throughput]:
    """`--device 0,1,...`: one line a device, and their sum."""
    number, total = log.one("summary throughput", r"summary throughput", r"summary throughput: ?(" + NUMBER + r")")
    batch = log.batch()
    found = []
    for line, match in devices:
        found.append((line, int(match.group(1)), float(match.group(2))))
    indices = [device for _, device, _ in found]
    if len(set(indices)) < len(indices):
        log.refuse(f"device {indices} appears twice: several runs", "give one log a run")
    if any(rate <= 0 for _, _, rate in found):
        log.contradiction("a device made no image")
    if abs(sum(rate for _, _, rate in found) - float(total.group(1))) > 1e-3 * float(total.group(1)):
        log.contradiction(f"the devices do not add up to {total.group(1)}", number)
    return [
        Throughput(
            "ais_bench", rate, batch, 1000 * batch / rate, "throughput of one device", (line,), device, log.source
        )
        for line, device, rate in found
    ]


def _ais_summary(log: Log) -> Throughput:
    """`*_summary.json` or the older `sumary.json`."""
    whole = "\n".join(log.lines)
    try:
        summary = json.loads(whole if whole.startswith("{") else "{" + whole)  # its list of files was left out
    except (ValueError, RecursionError):
        log.cut("end of the JSON")
    compute = summary.get("NPU_compute_time")
    if "throughput" not in summary or not isinstance(compute, dict):
        log.cut("throughput and NPU_compute_time in the summary")
    rate = log.positive("throughput", summary["throughput"])
    times = summary.get("npu_compute_time_list")
    pairs = isinstance(times, list) and bool(times) and isinstance(times[0], list)
    alone = set(compute) <= {"mean", "count"}
    for key in ("mean",) if alone else ("min", "max", "mean", "median"):
        if key not in compute:
            log.cut(f"NPU_compute_time {key}")
    spread = {key: log.positive(key, value) for key, value in compute.items() if key != "count"}
    if pairs and not alone:
        _overlap(log, None, spread)
    elif not alone:
        log.ordered(None, spread)
    if isinstance(times, list) and times:
        means = _overlapping(log, times) if pairs or alone else [sum(_each(log, times)) / len(times)]
        if "count" in compute and compute["count"] != len(times):
            log.contradiction("count is {}, {} times are listed".format(compute["count"], len(times)))
        if all(abs(mean / spread["mean"] - 1) > 1e-3 for mean in means):
            log.contradiction("the listed times have another mean than {:g} ms".format(spread["mean"]))
    batch = log.batch(rate * spread["mean"] / 1000)
    line = next((number for number, line in zip(log.numbers, log.lines) if '"throughput"' in line), 1)
    return Throughput(
        "ais_bench", rate, batch, spread["mean"], AIS_STATISTIC, (line,), None, log.source,
        notes=(OVERLAP,) if pairs or alone else (),
    )  # fmt: skip


def _each(log: Log, times: list[Any]) -> list[float]:
    return [log.positive("npu_compute_time_list", value) for value in times]


def _overlapping(log: Log, times: list[Any]) -> list[float]:
    """Pipeline mode lists [begin, end] of each run, ms: the time in which any of them ran, a run, and their mean."""
    for pair in times:
        numbers = isinstance(pair, list) and len(pair) == 2 and all(type(t) in (int, float) for t in pair)
        if not numbers or not 0 <= pair[0] < pair[1] < 1e15:
            log.contradiction(f"npu_compute_time_list has {str(pair)[:60]}, not [begin, end]")
    busy, last = 0.0, 0.0
    for begin, end in sorted(times):
        busy += max(0.0, end - max(begin, last))
        last = max(last, end)
    return [busy / len(times), sum(end - begin for begin, end in times) / len(times)]
