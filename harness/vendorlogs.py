"""What benchmark, msame, ais_bench, mm_run and trtexec print becomes images per second of one device, or an error.

The figures of such a log hang together: throughput times latency, batches times their size, parts and their sum.
Every relation that must hold is checked, so that a log that was cut off, edited, mixed from two runs, or taken at
another batch is refused. Only the published logs of DeepMAR break them, in benchmark's helper lines and in all of
these at once: such a log parses and says so. Stdlib and Python 3.7 only: the worker reads logs too.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from re import Match

from harness.errors import DataError
from harness.logtext import NUMBER, ROUNDING, Log

TOOLS = ("benchmark", "msame", "ais_bench", "mm_run", "trtexec")


@dataclass(frozen=True)
class Throughput:
    """One device's figure, as one log gives it."""

    tool: str
    per_device: float  # images/s
    batch: int
    latency_ms: float  # of one batch, on the same clock as the statistic
    statistic: str  # the vendor's name of what per_device was taken from
    lines: tuple[int, ...]  # 1-based, where the statistic stands
    device: int | None = None  # None: the log does not say
    source: str = "log"
    doubts: tuple[str, ...] = ()  # signs that the figure is of another run
    notes: tuple[str, ...] = ()  # the tool's own warnings, odd lines, and what else a reader must know

    def __str__(self) -> str:
        where = "" if self.device is None else f" on device {self.device}"
        return f"{self.tool}: {self.per_device:g} images/s{where} at batch {self.batch} ({self.statistic})"


def read(path: Path, tool: str | None = None, batch: int | None = None) -> list[Throughput]:
    """`parse` of a file; its name may state batch and device. Raises DataError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="give a text file written by the tool") from error
    return parse(text, source=str(path), tool=tool, batch=batch)


def parse(text: str, *, source: str = "log", tool: str | None = None, batch: int | None = None) -> list[Throughput]:
    """Figures of one run, one a device. `batch` is what the caller believes; a log that says otherwise is refused.

    Raises DataError when the log is cut off, damaged, of several runs, of another batch, or contradicts itself."""
    if tool is not None and tool not in TOOLS:
        raise DataError(f"{tool!r} writes no log known here", hint="one of " + ", ".join(TOOLS))
    if batch is not None and batch < 1:
        raise DataError(f"a batch of {batch} was stated", hint="state a batch of 1 or more")
    lines = tuple(_bare(line) for line in text.lstrip("\ufeff").splitlines())
    log = Log(source, lines, batch)
    if not any(lines):
        log.cut("line at all")
    _no_failure(log)
    seen = _detect(log)
    if tool is not None and seen is not None and seen != tool:
        log.refuse(f"the log is {seen}'s, not {tool}'s", "name the tool that wrote it")
    chosen = tool or seen
    if chosen is None:
        log.refuse("no known tool wrote this", "give a log of " + ", ".join(TOOLS))
    found = _READERS[chosen](log, text)
    for one in found:
        if not 0 < one.per_device < 1e7:
            log.contradiction(f"{one.per_device:g} images/s")
    return found


def _bare(line: str) -> str:
    """The line without blanks, [INFO], or trtexec's time stamp and level."""
    return re.sub(r"^(\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\] )?\[(INFO|[IWEFV])\] ?", "", line.strip()).strip()


_SIGNS = (
    ("benchmark", r"^\[(e2e|data read|infer|inference)\]|ave_throughputRate|PureInfer"),
    ("msame", r"^Inference average time|Execute sample success"),
    ("ais_bench", r"throughput \(?1000\*|NPU_compute_time|^\S+ device_\d+ throughput:"),
    ("mm_run", r"^Throughput \(qps\)|^MLU Compute \(Launch jobs\)|^Total iterations:"),
    ("trtexec", r"^GPU Compute|^Throughput: |TensorRT\.trtexec|^throughput: .* qps"),
)


def _detect(log: Log) -> str | None:
    """The tool whose lines these are; None when there are none."""
    seen = [tool for tool, sign in _SIGNS if any(re.search(sign, line) for line in log.lines)]
    if len(seen) > 1:
        log.refuse("lines of {} in one log".format(" and ".join(seen)), "give one log a run")
    return seen[0] if seen else None


def _no_failure(log: Log) -> None:
    """A tool that goes on after an error measures something else; msame also exits with 0."""
    for number, line in enumerate(log.lines, 1):
        if re.match(r"\[ERROR\]|&&&& FAILED|Traceback \(most recent", line):
            log.refuse(f"the run failed: {line[:80]!r}", "repair the run and measure again", number)


# --- benchmark.x86_64 ---------------------------------------------------------------------------------------------


def _benchmark(log: Log, text: str) -> list[Throughput]:
    if any("ave_throughputRate" in line or "PureInfer" in line for line in log.lines):
        return [_pure_inference(log)]
    rate, latency = r"throughputRate: (" + NUMBER + r")", r"(?:moduleL|l)atency: (" + NUMBER + r")"

    def line(label: str, form: str) -> tuple[int, list[float]]:
        number, match = log.one("[{}] line".format(label.split("|")[0]), r"\[(?:" + label + r")\]", form + ",?")
        values = [float(value) for value in match.groups()]
        if min(values) <= 0:
            log.contradiction("a figure is zero", number)
        return number, values

    _, (e2e, seconds_ms) = line("e2e", r"\[e2e\] " + rate + ", " + latency)
    pairs = {}
    for label in ("data read", "preprocess", "post"):
        written = label + "|postprocess" if label == "post" else label
        pairs[label] = line(written, r"\[(?:" + written + r")\] " + rate + ", " + latency)[1]
    form = r"\[infer(?:ence)?\] " + rate + ", Interface " + rate + ", " + latency
    number, (infer, interface, module) = line("infer|inference", form)

    if not infer * 0.99 <= 1000 / module <= interface * 1.01:
        log.contradiction(
            f"infer {infer:g}/s, moduleLatency {module:g} ms, Interface {interface:g}/s: an image takes no longer in"
            " the interface than in the module, and no longer there than in the pipeline",
            number,
        )
    doubts, notes = [], []
    off = {label: rate * ms / 1000 for label, (rate, ms) in pairs.items()}  # each is 1: a line's two figures are one
    broken = [label for label, product in off.items() if abs(product - 1) > ROUNDING]
    if broken and (len(broken) < len(off) or not all(0.5 < product < 2 for product in off.values())):
        log.contradiction(
            ", ".join(f"[{b}] throughputRate x moduleLatency is {1000 * off[b]:.4g}, not 1000" for b in broken)
        )
    images = e2e * seconds_ms / 1000
    batches_of = infer / pairs["post"][0]  # post counts batches, infer counts images
    if broken:  # a clock that its own lines contradict: only a batch far off can be told
        batch = log.batch()
        if not 0.4 <= batches_of / batch <= 2.5:
            log.another_batch(f"infer / post rate says {batches_of:.4g}, not {batch}")
        notes.append("throughputRate x moduleLatency is not 1000 in any line")
        if not 0.75 <= batches_of / batch <= 1.33:
            doubts.append(f"infer / post rate says batch {batches_of:.3g}, not {batch}")
    else:
        if e2e > infer * 1.01:
            log.contradiction(f"e2e {e2e:g}/s is faster than infer {infer:g}/s")
        # images a batch on average: the last one may be short
        full = {size: images / max(1, -(-round(images) // size)) for size in range(1, 513)}
        near = [size for size, mean in full.items() if abs(batches_of / mean - 1) < 0.01]
        batch = near[0] if len(near) == 1 and not log.said_batches() else log.batch()
        if abs(batches_of / full.get(batch, 1) - 1) > 0.05:
            log.another_batch(f"infer / post rate says {batches_of:.4g}, not {batch}")
    return [
        Throughput(
            "benchmark", interface, batch, 1000 * batch / interface, "Interface throughputRate", (number,),
            log.device(), log.source, tuple(doubts), tuple(notes),
        )
    ]  # fmt: skip


def _pure_inference(log: Log) -> Throughput:
    """`benchmark -round=N`: random data, no data set. Latency is a single image's."""
    form = (
        r"ave_throughputRate(?: =|:) (" + NUMBER + r")\s*samples/s, ave_latency(?: =|:) ("
        + NUMBER + r")\s*ms,?"
    )  # fmt: skip
    number, match = log.one("ave_throughputRate line", r"ave_throughputRate", form)
    rate, latency = float(match.group(1)), float(match.group(2))
    if abs(rate * latency / 1000 - 1) > 0.02:
        log.contradiction(f"{rate:g} samples/s and {latency:g} ms a sample", number)
    batch = log.batch()
    return Throughput(
        "benchmark", rate, batch, 1000 * batch / rate, "ave_throughputRate", (number,), log.device(), log.source,
        notes=("pure inference: random data, not the data set",),
    )  # fmt: skip


# --- msame --------------------------------------------------------------------------------------------------------


def _msame(log: Log, text: str) -> list[Throughput]:
    """Host time around aclmdlExecute, per batch. msame knows no batch: the model's name or the caller says it."""
    form = r" ?: ?(" + NUMBER + r") ?ms"
    number, match = log.one("average time", r"Inference average time ?:", r"Inference average time" + form)
    start = r"Inference average time w"
    if not log.whole(start, r"Inference average time without first time" + form):
        log.refuse(
            "no average without the first time: the log is cut off, or the model ran once",
            "run a directory of inputs, or --loop 100, and give the whole output",
        )
    _, later = log.one("average without first time", start, r"Inference average time without first time" + form)
    mean, rest = float(match.group(1)), float(later.group(1))
    if mean <= 0 or rest <= 0:
        log.contradiction("a time of zero", number)
    if not 0.5 * rest <= mean <= 2 * rest:
        log.contradiction(f"the mean is {mean:g} ms, without the first run {rest:g} ms", number)
    runs = [float(m.group(1)) for _, m in log.whole(r"Inference time:", r"Inference time: (" + NUMBER + r") ?ms")]
    if runs and abs(sum(runs) / len(runs) - mean) > 0.006 + 1e-3 * mean:
        log.contradiction(
            f"{len(runs)} runs take {sum(runs) / len(runs):.4g} ms on average, the summary says {mean:g} ms"
        )
    if any("acl init success" in line for line in log.lines) and not any(
        "Execute sample success" in line for line in log.lines
    ):
        log.cut("'Execute sample success'")
    batch = log.batch()
    return [
        Throughput(
            "msame", 1000 * batch / mean, batch, mean, "Inference average time", (number,), log.device(), log.source
        )
    ]


# --- ais_bench ----------------------------------------------------------------------------------------------------


def _ais_bench(log: Log, text: str) -> list[Throughput]:
    if text.lstrip("\ufeff \r\n\t").startswith("{"):
        return [_ais_summary(log, text)]
    devices = log.whole(
        r"\S+ device_\d+ throughput",
        r"\S+ device_(\d+) throughput: ?(" + NUMBER + r") start_time: ?" + NUMBER + r" end_time: ?" + NUMBER,
    )  # fmt: skip
    if devices:
        return _ais_devices(log, devices)
    start = r"throughput"
    form = (
        r"throughput \(?1000\*batchsize(?:\.mean)?(?:\((?P<batch>" + NUMBER + r")\))?"
        r"/NPU_compute_time(?:\.mean\((?P<mean>" + NUMBER + r")\))?\)?: ?(?P<rate>" + NUMBER + r")"
    )
    number, match = log.one("throughput line", start, form)
    compute = log.whole(r"NPU_compute_time", r"NPU_compute_time \(ms\): (?P<spread>.*\d)")
    if len(compute) > 1:
        log.refuse(f"NPU_compute_time stands {len(compute)} times: several runs", "give one log a run")
    rate = float(match.group("rate"))
    mean = float(match.group("mean")) if match.group("mean") else None
    if compute:
        spread = log.spread(compute[0][0], compute[0][1].group("spread"), unit="")
        if mean is not None and abs(spread["mean"] / mean - 1) > 1e-4:
            log.contradiction("mean {:g} and mean {:g} ms".format(spread["mean"], mean), number)
        mean = spread["mean"] if mean is None else mean
    elif any("Performance Summary" in line for line in log.lines):
        log.cut("NPU_compute_time line")
    if mean is None:
        log.cut("mean of NPU_compute_time")
    figures = rate * mean / 1000
    if match.group("batch"):
        printed = float(match.group("batch"))
        if abs(figures / printed - 1) > 1e-4:
            log.contradiction(f"1000 x {printed:g} / {mean:g} ms is not {rate:g}/s", number)
    batch = log.batch(figures)
    return [
        Throughput(
            "ais_bench", rate, batch, mean, "throughput of NPU_compute_time mean", (number,), log.device(), log.source
        )
    ]


def _ais_devices(log: Log, devices: list[tuple[int, Match[str]]]) -> list[Throughput]:
    """`--device 0,1,...`: one line a device, and their sum."""
    number, total = log.one("summary throughput", r"summary throughput", r"summary throughput: ?(" + NUMBER + r")")
    batch = log.batch()
    found = []
    for line, match in devices:
        found.append((line, int(match.group(1)), float(match.group(2))))
    indices = [device for _, device, _ in found]
    if len(set(indices)) < len(indices):
        log.refuse(f"device {indices} stands twice: several runs", "give one log a run")
    if any(rate <= 0 for _, _, rate in found):
        log.contradiction("a device made no image")
    if abs(sum(rate for _, _, rate in found) / float(total.group(1)) - 1) > 1e-3:
        log.contradiction(f"the devices do not add up to {total.group(1)}", number)
    return [
        Throughput(
            "ais_bench", rate, batch, 1000 * batch / rate, "throughput of one device", (line,), device, log.source
        )
        for line, device, rate in found
    ]


def _ais_summary(log: Log, text: str) -> Throughput:
    """`*_summary.json` or the older `sumary.json`."""
    try:
        summary = json.loads(text.lstrip("\ufeff"))
    except ValueError:
        log.cut("end of the JSON")
    compute = summary.get("NPU_compute_time")
    if "throughput" not in summary or not isinstance(compute, dict):
        log.cut("throughput and NPU_compute_time in the summary")
    rate = log.positive("throughput", summary["throughput"])
    for key in ("min", "max", "mean", "median"):
        if key not in compute:
            log.cut(f"NPU_compute_time {key}")
    spread = {key: log.positive(key, value) for key, value in compute.items() if key != "count"}
    log.ordered(None, spread)
    times = summary.get("npu_compute_time_list")
    if isinstance(times, list) and times:
        each = [log.positive("npu_compute_time_list", value) for value in times]
        if "count" in compute and compute["count"] != len(each):
            log.contradiction("count is {}, {} times are listed".format(compute["count"], len(each)))
        if abs(sum(each) / len(each) / spread["mean"] - 1) > 1e-3:
            log.contradiction("the listed times have another mean than {:g} ms".format(spread["mean"]))
    batch = log.batch(rate * spread["mean"] / 1000)
    line = next(i for i, line in enumerate(log.lines, 1) if '"throughput"' in line)
    return Throughput(
        "ais_bench", rate, batch, spread["mean"], "throughput of NPU_compute_time mean", (line,), None, log.source
    )


# --- mm_run -------------------------------------------------------------------------------------------------------


def _mm_run(log: Log, text: str) -> list[Throughput]:
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


# --- trtexec ------------------------------------------------------------------------------------------------------


def _trtexec(log: Log, text: str) -> list[Throughput]:
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


_READERS = {
    "benchmark": _benchmark,
    "msame": _msame,
    "ais_bench": _ais_bench,
    "mm_run": _mm_run,
    "trtexec": _trtexec,
}


def once_a_device(figures: list[Throughput]) -> None:
    """Refuse two logs of one device at one batch: they are two runs, or one log given twice. Raises DataError."""
    doubled = [key for key, n in Counter((f.device, f.batch) for f in figures if f.device is not None).items() if n > 1]
    if doubled:
        device, batch = doubled[0]
        raise DataError(f"two logs of device {device} at batch {batch}", hint="give one log a device and batch")
