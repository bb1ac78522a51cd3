"""What benchmark, msame and ais_bench print: images per second of one Ascend device."""

from __future__ import annotations

import json
from re import Match

from harness.vendor.logs.log import NUMBER, ROUNDING, Log, Throughput


def benchmark(log: Log, text: str) -> list[Throughput]:
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


def msame(log: Log, text: str) -> list[Throughput]:
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


def ais_bench(log: Log, text: str) -> list[Throughput]:
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
