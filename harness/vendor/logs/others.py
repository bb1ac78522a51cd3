"""What mm_run and trtexec print: the one counts images, the other batches."""

from __future__ import annotations

import re

from harness.vendor.logs.log import NUMBER, ROUNDING, Log, Throughput


def mm_run(log: Log, text: str) -> list[Throughput]:
    """Counts images, unlike trtexec; the figure is of all devices of the run together."""
    _, total = log.one("Total iterations", r"Total iterations", r"Total iterations:\s+(\d+)")
    _, wall = log.one("Host wall time", r"Host wall time", r"Host wall time\(s\):\s+(" + NUMBER + r")")
    number, match = log.one(
        "Throughput (qps)", r"Throughput \(qps\)",
        r"Throughput \(qps\):\s+(" + NUMBER + r")(?:\s+with total batch sizes: (\d+) and (" + NUMBER
        + r") iterations/second)?",
    )  # fmt: skip
    iterations, seconds, rate = int(total.group(1)), float(wall.group(1)), float(match.group(1))
    if min(iterations, seconds, rate) <= 0:
        log.contradiction("a figure is zero", number)
    if match.group(2):
        images, per_second = int(match.group(2)), float(match.group(3))
        if max(abs(images / seconds / rate - 1), abs(iterations / seconds / per_second - 1)) > ROUNDING:
            log.contradiction(
                f"{images} images in {iterations} iterations and {seconds:g} s are not {rate:g} and {per_second:g} a"
                " second",
                number,
            )
    figures = rate * seconds / iterations
    if abs(figures / max(1, round(figures)) - 1) > 2e-3:
        log.contradiction(f"{rate:g}/s for {seconds:g} s in {iterations} iterations is no batch", number)
    start = next((i for i, line in enumerate(log.lines) if line.startswith("MLU Compute (Launch jobs)")), None)
    if start is None:
        log.cut("MLU Compute summary")
    form = r"(?:Latency\((?:host|dev) clock, ms\)|Interface Duration\(ms\)):\s+(.*)"
    after = next((m for m in (re.fullmatch(form, line) for line in log.lines[start + 1 :]) if m), None)
    if after is None:
        log.cut("latency of the MLU Compute summary")
    spread = {}
    for key in ("min", "max", "mean", "median"):
        value = re.search(key + r":\s+(" + NUMBER + r")(?=\s|$)", after.group(1))
        if value is None:
            log.cut(f"{key} of the MLU Compute latency")
        spread[key] = float(value.group(1))
    if not re.search(r"percentile:(?:\s+\(\d+%\)\s+" + NUMBER + r")+$", after.group(1)):
        log.cut("percentile of the MLU Compute latency")
    log.ordered(start + 2, spread)
    batch = log.batch(figures)
    devices = _mm_devices(log)
    single = devices[0] if len(devices) == 1 else None
    count = max(1, len(devices))
    notes = (f"mean of {count} devices that ran together",) if count > 1 else ()
    return [
        Throughput(
            "mm_run", rate / count, batch, spread["mean"], "Throughput (qps)", (number,), single, log.source,
            notes=notes,
        )
    ]  # fmt: skip


def _mm_devices(log: Log) -> list[int]:
    said = set()
    for line in log.lines:
        match = re.search(r"(?<!\S)--devices(?:<\w+>)?(?:\s*[=:]\s*|\s+)((?:\d+[ ,]*)+)(?=--|$)", line)
        if match:
            said |= {int(index) for index in re.findall(r"\d+", match.group(1))}
        match = re.search(r"Device (\d+) Utilization Summary", line)
        if match:
            said.add(int(match.group(1)))
    return sorted(said)


def trtexec(log: Log, text: str) -> list[Throughput]:
    """Counts batches ("queries"): images/s = qps x batch."""
    if any("&&&& RUNNING" in line for line in log.lines) and not any("&&&& PASSED" in line for line in log.lines):
        log.cut("'&&&& PASSED'")
    if any(line.startswith(("Throughput:", "GPU Compute Time:")) for line in log.lines):
        return [_trtexec_8(log)]
    return [_trtexec_7(log)]


def _trtexec_7(log: Log) -> Throughput:
    """TensorRT 7: its throughput line is 0 for explicit batches; the block under GPU Compute counts."""
    starts = [i for i, line in enumerate(log.lines) if line == "GPU Compute"]
    if len(starts) > 1:
        log.refuse(f"GPU Compute stands {len(starts)} times: several runs", "give one log a run")
    if not starts:
        log.cut("GPU Compute block")
    block = starts[0] + 1
    forms = (
        ("min", r"min: (" + NUMBER + r") ms"),
        ("max", r"max: (" + NUMBER + r") ms"),
        ("mean", r"mean: (" + NUMBER + r") ms"),
        ("median", r"median: (" + NUMBER + r") ms"),
        ("percentile", r"percentile: (" + NUMBER + r") ms at \d+(?:\.\d+)?%"),
        ("total", r"total compute time: (" + NUMBER + r") s"),
    )
    spread = {}
    for offset, (key, form) in enumerate(forms):
        line = log.lines[block + offset] if block + offset < len(log.lines) else ""
        match = re.fullmatch(form, line)
        if match is None:
            log.refuse(
                f"the GPU Compute block is cut off or damaged: {key} expected, {line[:60]!r} found",
                "give the whole output of one finished run",
                block + offset + 1,
            )
        spread[key] = float(match.group(1))
    total = spread.pop("total")
    if min(spread.values()) <= 0:
        log.contradiction("a time of zero", block)
    log.ordered(block + 3, spread)
    queries = 1000 * total / spread["mean"]
    if abs(queries - round(queries)) > 0.01 + queries * ROUNDING or round(queries) < 1:
        log.contradiction(
            "{:g} s in queries of {:g} ms are {:.2f} queries".format(total, spread["mean"], queries), block + 3
        )
    batch = log.batch()
    mean = spread["mean"]
    return Throughput(
        "trtexec", 1000 * batch / mean, batch, mean, "GPU Compute mean", (block + 3,), log.device(), log.source
    )


def _trtexec_8(log: Log) -> Throughput:
    number, match = log.one("Throughput", r"Throughput:", r"Throughput: (" + NUMBER + r") qps")
    qps = float(match.group(1))
    spreads = {}
    for key in ("Latency", "Enqueue Time", "GPU Compute Time", "H2D Latency", "D2H Latency", "End-to-End Host Latency"):
        found = log.whole(key + ":", key + r": (.*)")
        if len(found) > 1:
            log.refuse(f"{key} stands {len(found)} times: several runs", "give one log a run")
        if found:
            spreads[key] = log.spread(found[0][0], found[0][1].group(1), unit=" ms")
    for key in ("Latency", "Enqueue Time", "GPU Compute Time"):
        if key not in spreads:
            log.cut(key)
    if ("H2D Latency" in spreads) != ("D2H Latency" in spreads):
        log.cut("H2D or D2H Latency")
    if qps <= 0:
        log.contradiction(f"{qps:g} qps", number)
    mean = {key: spread["mean"] for key, spread in spreads.items()}
    gpu = mean["GPU Compute Time"]
    if "H2D Latency" in mean:
        parts = mean["H2D Latency"] + gpu + mean["D2H Latency"]
        if abs(parts / mean["Latency"] - 1) > 1e-4:
            log.contradiction("copies and compute take {:g} ms, the Latency is {:g} ms".format(parts, mean["Latency"]))
    _trtexec_rate(log, number, qps, mean)
    batch = log.batch()
    warnings = tuple(
        line.lstrip("* ") for line in log.lines if re.match(r"\* (Throughput may|GPU compute time is)", line)
    )
    return Throughput(
        "trtexec", qps * batch, batch, gpu, "Throughput", (number,), log.device(), log.source, notes=warnings
    )


def _trtexec_rate(log: Log, number: int, qps: float, mean: dict[str, float]) -> None:
    """The rate against the times: what one stream can do, and the queries counted over the wall time."""
    gpu = mean["GPU Compute Time"]
    streams = max((int(s) for line in log.lines for s in re.findall(r"--(?:infS|s)treams=(\d+)", line)), default=1)
    slowest = max(mean["Latency"] + mean["Enqueue Time"], mean.get("End-to-End Host Latency", 0))
    if not 0.9 / slowest <= qps / 1000 <= 1.02 * streams / gpu:
        log.contradiction(f"{qps:g} qps with {gpu:g} ms of compute a query", number)
    if max(mean["Enqueue Time"], mean.get("H2D Latency", 0), mean.get("D2H Latency", 0)) < gpu and qps * gpu < 500:
        log.contradiction(f"{qps:g} qps, yet {gpu:g} ms of compute and nothing slower", number)
    walls = log.whole(r"Total Host Walltime:", r"Total Host Walltime: (" + NUMBER + r") s")
    totals = log.whole(r"Total GPU Compute Time:", r"Total GPU Compute Time: (" + NUMBER + r") s")
    if len(walls) != len(totals):
        log.cut("Total Host Walltime or Total GPU Compute Time")
    if not walls:
        return
    queries = 1000 * float(totals[0][1].group(1)) / gpu
    if abs(queries / float(walls[0][1].group(1)) / qps - 1) > 1e-3:
        log.contradiction(f"{queries:.1f} queries in {walls[0][1].group(1)} s are not {qps:g} qps", number)
