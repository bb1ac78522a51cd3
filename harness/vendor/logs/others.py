"""What mm_run and trtexec print: the one counts images, the other batches."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Sequence

from harness.vendor.logs.log import NUMBER, ROUNDING, WHOLE, Log, Throughput


def mm_run(log: Log, text: str) -> list[Throughput]:
    """Counts images, unlike trtexec. A summary a device (its source, ReportPerDev), or one figure of all together."""
    devices = _mm_devices(log)
    parts = _mm_summaries(log)
    if 1 < len(parts) == len(devices):
        return [_mm_figure(part, [number], ()) for number, part in parts]
    count = len(devices)
    return [_mm_figure(log, devices, (f"mean of {count} devices that ran together",) if count > 1 else ())]


def _mm_figure(log: Log, devices: Sequence[int | None], notes: tuple[str, ...]) -> Throughput:
    number, rate, figures = _mm_rate(log)
    _mm_shapes(log, figures)
    mean = _mm_latency(log)
    batch = log.batch(figures)
    if mean is None:
        mean = 1000 * batch / rate * max(1, len(devices))
        notes += ("no clock was recorded (--trace_time none): the latency is the time of a batch at this rate",)
    single = devices[0] if len(devices) == 1 else None
    return Throughput(
        "mm_run", rate / max(1, len(devices)), batch, mean, "Throughput (qps)", (number,), single, log.source,
        notes=notes,
    )  # fmt: skip


def _mm_summaries(log: Log) -> list[tuple[int | None, Log]]:
    """Each Performance Summary of one run with what stands before the first, and the device named above it."""
    starts = [i for i, line in enumerate(log.lines) if re.fullmatch("=+ Performance Summary", line)]
    found = []
    for before, start, end in zip([0, *starts], starts, [*starts[1:], len(log.lines)]):
        if any(re.search(r"--magicmind_model\b", line) for line in log.lines[start:end]):
            return []  # the command line of another run
        named = [match for match in map(_MM_DEVICE.search, log.lines[before:start]) if match and match.group(2)]
        kept = [*range(starts[0]), *range(start, end)]
        part = replace(log, lines=tuple(log.lines[i] for i in kept), numbers=tuple(log.numbers[i] for i in kept))
        found.append((int(named[-1].group(1)) if named else None, part))
    return found


_MM_DEVICE = re.compile(r"=+ (?:Device|Report Dev) (\d{1,9}) (?:(Utilization|PMU)|Analysis) Summary")


def _mm_rate(log: Log) -> tuple[int, float, float]:
    """Line and images/s of all devices together, and the batch that the iterations and their time say."""
    _, total = log.one("Total iterations", r"Total iterations", r"Total iterations:\s*(" + WHOLE + r")")
    _, wall = log.one("Host wall time", r"Host wall time", r"Host wall time\(s\):\s*(" + NUMBER + r")")
    number, match = log.one(
        "Throughput (qps)", r"Throughput \(qps\)",
        r"Throughput \(qps\):\s*(" + NUMBER + r")(?:\s+with total batch sizes:\s*(" + WHOLE + r") and (" + NUMBER
        + r") iterations/second)?",
    )  # fmt: skip
    iterations, seconds, rate = int(total.group(1)), float(wall.group(1)), float(match.group(1))
    if min(iterations, seconds, rate) <= 0:
        log.contradiction("a figure is zero", number)
    if match.group(2):
        images, per_second = int(match.group(2)), float(match.group(3))
        off = (abs(images / seconds - rate) / rate, abs(iterations / seconds - per_second) * seconds / iterations)
        if max(off) > ROUNDING:
            log.contradiction(
                f"{images} images in {iterations} iterations and {seconds:g} s are not {rate:g} and {per_second:g} a"
                " second",
                number,
            )
    figures = rate * seconds / iterations
    if abs(figures / max(1, round(figures)) - 1) > 2e-3:
        log.contradiction(f"{rate:g}/s for {seconds:g} s in {iterations} iterations do not give a whole batch", number)
    return number, rate, figures


def _mm_shapes(log: Log, figures: float) -> None:
    """Raises DataError when the inputs had several shapes, over which the figures are means, or another batch than the
    figures. Of several inputs the largest first axis counts: magicmind_cloud's guide to mm_run."""
    groups = {}
    for line in log.lines:
        match = re.match(r"Input shape group\s+(\d+)\s*:(.*)", line)
        if match:
            groups[match.group(1)] = [int(size) for size in re.findall(r"\[(\d{1,9})\b", match.group(2))]
    if len(groups) > 1:
        log.refuse(f"one throughput of {len(groups)} input shapes", "measure one shape a run")
    for sizes in groups.values():
        if sizes and abs(figures / max(1, *sizes) - 1) > 2e-3:
            log.another_batch(f"its figures say {figures:.5g}, its input shapes {max(sizes)}")


def _mm_latency(log: Log) -> float | None:
    """Mean of the MLU Compute block, ms a batch; None where the run recorded no clock, so that the block tells only how
    long the call that queues the work took (Interface Duration)."""
    start = next((i for i, line in enumerate(log.lines) if line.startswith("MLU Compute (Launch jobs)")), None)
    if start is None:
        log.cut("MLU Compute summary")
    form = re.compile(r"(?:Latency\((?:host|dev) clock, ms\)|Interface Duration\(ms\)):\s*(.*)")
    after = next((i for i in range(start + 1, len(log.lines)) if form.fullmatch(log.lines[i])), None)
    if after is None:
        log.cut("latency of the MLU Compute summary")
    if log.lines[after].startswith("Interface"):
        return None
    text = log.lines[after].partition(":")[2]
    spread = {}
    for key in ("min", "max", "mean", "median"):
        value = re.search(key + r":\s*(" + NUMBER + r")(?=\s|$)", text)
        if value is None:
            log.cut(f"{key} of the MLU Compute latency")
        spread[key] = float(value.group(1))
    if not re.search(r"percentile:(?:\s*\(\d+%\)\s*" + NUMBER + r")+$", text):
        log.cut("percentile of the MLU Compute latency")
    log.ordered(log.numbers[after], spread)
    return spread["mean"]


def _mm_devices(log: Log) -> list[int]:
    said = set()
    for line in log.lines:
        match = re.search(
            r"(?<!\S)--devices(?:<[\w<>]+>)?(?:\s*[=:]\s*|\s+)((?:\d{1,9}[ ,]+)*\d{1,9})[ ,]*(?=--|$)", line
        )
        if match:
            said |= {int(index) for index in re.findall(r"\d+", match.group(1))}
        match = _MM_DEVICE.search(line)
        if match:
            said.add(int(match.group(1)))
    return sorted(said)


def trtexec(log: Log, text: str) -> list[Throughput]:
    """Counts batches ("queries"): images/s = qps x batch."""
    if any("&&&& RUNNING" in line for line in log.lines) and not any("&&&& PASSED" in line for line in log.lines):
        log.cut("'&&&& PASSED'")
    if any(line.startswith(("Throughput:", "GPU Compute Time:")) for line in log.lines):
        return [_trtexec_8(log)]
    if any("&&&& PASSED" in line for line in log.lines) and "GPU Compute" not in log.lines:
        log.refuse(
            "trtexec finished and printed no performance summary",
            "run it to measure: without --buildOnly and --skipInference",
        )
    return [_trtexec_7(log)]


def _trtexec_7(log: Log) -> Throughput:
    """TensorRT 7: its throughput line is 0 for explicit batches; the block under GPU Compute counts."""
    found = log.alone("GPU Compute", [(log.numbers[i], i) for i, line in enumerate(log.lines) if line == "GPU Compute"])
    if found is None:
        log.cut("GPU Compute block")
    block = range(found[1] + 1, len(log.lines))
    forms = (
        ("min", r"min:\s*(" + NUMBER + r") ms"),
        ("max", r"max:\s*(" + NUMBER + r") ms"),
        ("mean", r"mean:\s*(" + NUMBER + r") ms"),
        ("median", r"median:\s*(" + NUMBER + r") ms"),
        ("percentile", r"percentile:\s*(" + NUMBER + r") ms at \d+(?:\.\d+)?%"),
        ("total", r"total compute time:\s*(" + NUMBER + r") s"),
    )
    spread, places = {}, {}
    for offset, (key, form) in enumerate(forms):
        place = block[offset] if offset < len(block) else len(log.lines) - 1
        line = log.lines[place] if offset < len(block) else ""
        match = re.fullmatch(form, line)
        if match is None:
            log.refuse(
                f"the GPU Compute block is cut off or damaged: {key} expected, {line[:60]!r} found",
                "give the whole output of one finished run",
                log.numbers[place],
            )
        spread[key], places[key] = float(match.group(1)), log.numbers[place]
    total = spread.pop("total")
    if min(spread.values()) <= 0:
        log.contradiction("a time of zero", places["min"])
    log.ordered(places["mean"], spread)
    queries = 1000 * total / spread["mean"]
    if abs(queries - round(queries)) > 0.01 + queries * ROUNDING or round(queries) < 1:
        log.contradiction(
            "{:g} s in queries of {:g} ms are {:.2f} queries".format(total, spread["mean"], queries), places["mean"]
        )
    batch = log.batch(axes=_axes(log))
    mean = spread["mean"]
    return Throughput(
        "trtexec", 1000 * batch / mean, batch, mean, "GPU Compute mean", (places["mean"],), log.device(), log.source
    )


def _trtexec_8(log: Log) -> Throughput:
    number, match = log.one("Throughput", r"Throughput:", r"Throughput:\s*(" + NUMBER + r")\s*qps")
    qps = float(match.group(1))
    if qps <= 0:
        log.contradiction(f"{qps:g} qps", number)
    mean = _trtexec_means(log)
    gpu = mean["GPU Compute Time"]
    notes = [line.lstrip("* ") for line in log.lines if re.match(r"\* (Throughput may|GPU compute time is)", line)]
    batch, images = _trtexec_batch(log, qps, gpu)
    rate = qps if images else qps * batch
    if images:
        notes.append(f"implicit batch: the rate counts images, {batch} a query")
    notes += _trtexec_rate(log, number, rate / batch, mean)
    return Throughput(
        "trtexec", rate, batch, gpu, "Throughput", (number,), log.device(), log.source, notes=tuple(notes)
    )


CLOCK = 2.5e-4
"""ms: what trtexec's clock tells apart after 2 to 4 s, being a float of milliseconds (InferenceTrace)."""


def _trtexec_means(log: Log) -> dict[str, float]:
    """Means of TensorRT 8's summary in ms, which add up."""
    spreads = {}
    for key in ("Latency", "Enqueue Time", "GPU Compute Time", "H2D Latency", "D2H Latency", "End-to-End Host Latency"):
        found = log.alone(key, log.whole(key + ":", key + r":\s*(.*)"))
        if found is not None:
            spreads[key] = log.spread(found[0], found[1].group(1), unit="ms")
    for key in ("Latency", "Enqueue Time", "GPU Compute Time"):
        if key not in spreads:
            log.cut(key)
    if ("H2D Latency" in spreads) != ("D2H Latency" in spreads):
        log.cut("H2D or D2H Latency")
    mean = {key: spread["mean"] for key, spread in spreads.items()}
    if min(mean["GPU Compute Time"], mean["Latency"]) <= 0:
        log.contradiction("a time of zero")
    if "H2D Latency" in mean:
        parts = mean["H2D Latency"] + mean["GPU Compute Time"] + mean["D2H Latency"]
        if abs(parts - mean["Latency"]) > 1e-4 * mean["Latency"] + CLOCK:
            log.contradiction("copies and compute take {:g} ms, the Latency is {:g} ms".format(parts, mean["Latency"]))
    return mean


def _trtexec_batch(log: Log, qps: float, gpu: float) -> tuple[int, bool]:
    """The batch, and whether the rate counts images, as TensorRT 8 does with an implicit batch (`--batch=N`).

    The queries over the wall time tell; without those lines, what the streams can do at `gpu` ms a query."""
    timed = _queries(log, gpu)
    times = qps / timed if timed else 1.0
    if times > 1.5 and abs(times / round(times) - 1) < 1e-3:
        return log.batch(float(round(times))), True
    batch = log.batch(axes=_axes(log))
    implicit = any(re.search(r"(?<!\S)--batch=\d", line) for line in log.lines)
    return batch, batch > 1 and implicit and timed is None and qps / 1000 > 1.02 * _streams(log) / gpu


_SHAPE = r"(\d{1,9})(?:x\d{1,9})*(?![\dx])"
_SHAPES = (
    r"^Input inference shape\s*:.*=" + _SHAPE,
    r"^(?:Created input|Input) binding for .* with dimensions " + _SHAPE,
)


def _axes(log: Log) -> list[int]:
    """The first axis of each input of an explicit batch, by the command line and by what trtexec lists (printShapes,
    FillBindingClosure in its source). Of an implicit batch the shapes hold one image: none."""
    if any(re.match(r"Batch: \d", line) or re.search(r"(?<!\S)--batch=\d", line) for line in log.lines):
        return []
    found = []
    for line in log.lines:
        for option in re.findall(r"--shapes=(\S+)", line):  # a name may hold a colon: x:0
            found += [int(n) for n in re.findall(r":" + _SHAPE + r"(?=['\"]*(?:,|$))", option)]
        for form in _SHAPES:
            found += [int(n) for n in re.findall(form, line)]
    return found


def _queries(log: Log, gpu: float) -> float | None:
    """Queries/s over the wall time; None when the log does not give it."""
    number = r"\s*(" + NUMBER + r")\s*s"
    wall = log.alone("Total Host Walltime", log.whole(r"Total Host Walltime:", r"Total Host Walltime:" + number))
    total = log.alone(
        "Total GPU Compute Time", log.whole(r"Total GPU Compute Time:", r"Total GPU Compute Time:" + number)
    )
    if (wall is None) != (total is None):
        log.cut("Total Host Walltime or Total GPU Compute Time")
    if wall is None or total is None:
        return None
    seconds, computed = float(wall[1].group(1)), float(total[1].group(1))
    if seconds <= 0:
        log.contradiction("a time of zero", wall[0])
    return 1000 * computed / gpu / seconds


def _streams(log: Log) -> int:
    return max((int(s) for line in log.lines for s in re.findall(r"--(?:infS|s)treams=(\d{1,9})", line)), default=1)


def _trtexec_rate(log: Log, number: int, qps: float, mean: dict[str, float]) -> tuple[str, ...]:
    """Checks the rate in queries/s against the times: what the streams can do, and the queries over the wall time.
    Returns what the reader should know of it."""
    gpu = mean["GPU Compute Time"]
    timed = _queries(log, gpu)
    if qps / 1000 > 1.02 * _streams(log) / gpu or (timed is None and _too_slow(qps, mean)):
        log.contradiction(f"{qps:g} qps with {gpu:g} ms of compute a query", number)
    if timed is not None and abs(timed / qps - 1) > 1e-3:
        log.contradiction(f"the queries over the Total Host Walltime are {timed:.6g} a second, not {qps:g}", number)
    if timed is not None and _too_slow(qps, mean):
        return (f"the GPU computed in {qps * gpu / 10:.0f} % of the time: small kernels, or a host that waits",)
    return ()


def _too_slow(qps: float, mean: dict[str, float]) -> bool:
    """Whether the times explain no rate as low as this. It is the log that is wrong, unless it gives the wall time."""
    gpu = mean["GPU Compute Time"]
    slowest = max(mean["Latency"] + mean["Enqueue Time"], mean.get("End-to-End Host Latency", 0))
    others = max(mean[name] for name in ("Enqueue Time", "H2D Latency", "D2H Latency") if name in mean)
    return qps / 1000 < 0.9 / slowest or (others < gpu and qps * gpu < 500)
