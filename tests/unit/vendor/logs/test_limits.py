"""How far the figures of a log may be apart: what lies just within a limit is read, what lies just beyond is refused.

The limits are worked from the samples' own figures, not taken from the readers."""

import json
import re

import log_samples
import pytest
from vendor_log_texts import AIS_FOUR, MM

from harness.errors import DataError
from harness.vendor.logs import parse


def edited(text, *pairs):
    for old, new in pairs:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times"
        text = text.replace(old, new)
    return text


def benchmark(*pairs):
    return edited(log_samples.benchmark(), *pairs)


def post(images_a_second):
    """benchmark's log with that rate of batches, and the time that belongs to it; infer makes 202 images/s."""
    rate = f"[post] throughputRate: {images_a_second!r}, moduleLatency: {1000 / images_a_second!r}"
    return benchmark(("[post] throughputRate: 50.5, moduleLatency: 19.802", rate))


def broken(factor, batches_of=4.0):
    """benchmark's log as of a clock that is wrong by a factor; the figures say `batches_of` images a batch."""
    rate = 202 / batches_of
    return benchmark(
        ("250, moduleLatency: 4\n", f"250, moduleLatency: {4 * factor!r}\n"),
        ("240, moduleLatency: 4.16667\n", f"240, moduleLatency: {1000 / 240 * factor!r}\n"),
        ("[post] throughputRate: 50.5, moduleLatency: 19.802",
         f"[post] throughputRate: {rate!r}, moduleLatency: {1000 / rate * factor!r}"),
    )  # fmt: skip


def msame(mean, rest):
    """Both means of runs that are not listed."""
    text = log_samples.msame([8, 8], listed=False)
    return edited(
        text, ("time: 8.000000 ms\nI", f"time: {mean!r} ms\nI"), ("first time: 8.000000", f"first time: {rest!r}")
    )


def ais_devices(total):
    return edited(AIS_FOUR, ("summary throughput:4004.0", f"summary throughput:{total!r}"))


def ais_summary(mean):
    spread = {"min": 3.5, "max": 4.5, "mean": mean, "median": 4.0, "count": 3}
    return json.dumps({"NPU_compute_time": spread, "throughput": 4000.0, "npu_compute_time_list": [3.5, 4.0, 4.5]})


def ais_rate(rate):
    return edited(log_samples.ais_bench(), (": 1600.0\n", f": {rate!r}\n"))


def ais_without_its_batch(rate):
    text = edited(log_samples.ais_bench(), ("1000*batchsize.mean(8)/NPU_compute_time.mean(5): 1600.0",
                                            f"1000*batchsize/NPU_compute_time: {rate!r}"))  # fmt: skip
    return text.replace("[INFO] try get model batchsize:8\n", "")


def mm_run(rate):
    return edited(log_samples.mm_run(), (" 500\n", f" {rate!r}\n"))


def trtexec_7(seconds):
    return edited(log_samples.trtexec_7(), ("time: 3 s", f"time: {seconds!r} s"))


def trtexec(*pairs, walls=False):
    return edited(log_samples.trtexec("--onnx=net.onnx --shapes=image:8x3x4x4", walls=walls), *pairs)


def trtexec_rate(qps, walls=False):
    return trtexec(("Throughput: 247.5 qps", f"Throughput: {qps!r} qps"), walls=walls)


def trtexec_beside_a_slow_host(qps):
    more = "End-to-End Host Latency: min = 9 ms, max = 9 ms, mean = 9 ms, median = 9 ms, percentile(99%) = 9 ms"
    return trtexec(
        ("Throughput: 247.5 qps", f"Throughput: {qps!r} qps"), ("[I] GPU Compute", f"[I] {more}\n[I] GPU Compute")
    )


def trtexec_latency(mean):
    return trtexec(("mean = 5 ms, median = 5", f"mean = {mean!r} ms, median = 5"))


def implicit(rate):
    text = log_samples.trtexec("--loadEngine=net.plan --batch=8", rate_times=8)
    return edited(text, ("Throughput: 1980 qps", f"Throughput: {rate!r} qps"))


def spread(low, high):
    """The line of ais_bench with a mean of 5 ms."""
    return log_samples.ais_bench(
        spread=f"min = {low!r}, max = {high!r}, mean = 5, median = {(low + high) / 2!r}, percentile(99%) = {high!r}"
    )


LIMITS = {
    # benchmark: infer 202/s, interface 500/s, module 3 ms, e2e 200/s, 4 images a batch
    "a stage's rate times its time, above": (lambda x: benchmark(("e: 250,", f"e: {x!r},")), 250.0045, 250.0055, None),
    "a stage's rate times its time, below": (lambda x: benchmark(("e: 250,", f"e: {x!r},")), 249.9955, 249.9945, None),
    "module and interface": (lambda x: benchmark(("Latency: 3\n", f"Latency: {x!r}\n")), 1.539, 1.538, None),
    "module and pipeline": (lambda x: benchmark(("Latency: 3\n", f"Latency: {x!r}\n")), 5.051, 5.052, None),
    "pipeline and inference": (lambda x: benchmark(("e: 200,", f"e: {x!r},")), 204.0, 204.1, None),
    "images a batch, above, not stated": (post, 50.1, 49.9, None),
    "images a batch, below, not stated": (post, 50.95, 51.1, None),
    "images a batch, above, stated": (post, 47.65, 47.6, 4),
    "images a batch, below, stated": (post, 53.0, 53.3, 4),
    "a wrong clock, fast": (lambda x: broken(x, 4), 0.51, 0.49, 4),
    "a wrong clock, slow": (lambda x: broken(x, 4), 1.99, 2.01, 4),
    "a wrong clock, of a smaller batch": (lambda x: broken(1.5, x), 40.1, 39.9, 100),
    "a wrong clock, of a larger batch": (lambda x: broken(1.5, x), 249.0, 251.0, 100),
    "a mean of rates, below": (lambda x: log_samples.pure(500, 2 * x), 0.981, 0.979, None),
    "a mean of rates, above": (lambda x: log_samples.pure(500, 2 * x), 1.099, 1.101, None),
    # msame: 8 ms
    "a mean with less than the later runs": (lambda x: msame(x, 8.0), 4.01, 3.99, None),
    "listed runs and their mean": (
        lambda x: edited(log_samples.msame([10, 10.1, 9.9]), ("average time: 10.000000", f"average time: {x!r}")),
        10.0155, 10.0165, None,
    ),
    # ais_bench: 5 ms, 8 images, 1600/s
    "two means, above": (lambda x: log_samples.ais_bench(spread=f"mean = {x!r}"), 5.00054, 5.00056, None),
    "two means, below": (lambda x: log_samples.ais_bench(spread=f"mean = {x!r}"), 4.99946, 4.99944, None),
    "rate and formula": (ais_rate, 1600.15, 1600.17, None),
    "rate and formula, below": (ais_rate, 1599.85, 1599.83, None),
    "a whole batch": (ais_without_its_batch, 1603.1, 1603.3, None),
    "the sum of devices, below": (ais_devices, 4000.1, 3999.9, None),
    "the sum of devices, above": (ais_devices, 4007.9, 4008.1, None),
    "listed times and their mean, above": (ais_summary, 4.0039, 4.0041, 16),
    "listed times and their mean, below": (ais_summary, 3.9961, 3.9959, 16),
    "a mean and the shortest run": (lambda x: spread(x, 5.2), 5.00009, 5.00012, None),
    "a mean and the longest run": (lambda x: spread(4.9, x), 4.99991, 4.99988, None),
    # mm_run
    "images and wall time": (lambda x: edited(MM, ("615.385", repr(x))), 615.3966, 615.3972, None),
    "iterations and wall time": (lambda x: edited(MM, ("76.9231", repr(x))), 76.92454, 76.92470, None),
    "a whole batch of mm_run": (mm_run, 500.95, 501.05, None),
    "a whole batch of mm_run, below": (mm_run, 499.05, 498.95, None),
    # trtexec: 4 ms a query, two copies of 0.5 ms, 0.3 ms to enqueue
    "whole queries, above": (trtexec_7, 3.00009, 3.00011, 8),
    "whole queries, below": (trtexec_7, 2.99991, 2.99989, 8),
    "copies, compute and latency, above": (trtexec_latency, 5.0007, 5.0008, None),
    "copies, compute and latency, below": (trtexec_latency, 4.9993, 4.9992, None),
    "faster than its compute": (trtexec_rate, 254.9, 255.1, None),
    "slower than all its parts": (trtexec_rate, 170.0, 169.7, None),
    "slow without a reason": (trtexec_beside_a_slow_host, 125.5, 124.5, None),
    "queries and wall time, above": (lambda x: trtexec_rate(x, walls=True), 247.74, 247.76, None),
    "queries and wall time, below": (lambda x: trtexec_rate(x, walls=True), 247.26, 247.24, None),
    "images and queries": (implicit, 1981.9, 1982.1, None),
    # all
    "more images than any device makes": (lambda x: log_samples.pure(x, 1000 / x), 9.99999e6, 1e7, None),
    "far more images": (lambda x: log_samples.pure(x, 1000 / x), 9e6, 2e7, None),
}  # fmt: skip


# (":line", what it says) of the log beyond each limit
SAID = {
    "a stage's rate times its time, above": ("", "[data read] throughputRate x moduleLatency is 1000.02, not 1000"),
    "a stage's rate times its time, below": ("", "[data read] throughputRate x moduleLatency is 999.978, not 1000"),
    "module and interface": (
        ":4",
        "infer 202/s, moduleLatency 1.538 ms, Interface 500/s: an image takes no longer in the interface than in "
        "the module",
    ),
    "module and pipeline": (
        ":4",
        "infer 202/s, moduleLatency 5.052 ms, Interface 500/s: an image takes no longer in the module than in the"
        " pipeline",
    ),
    "pipeline and inference": ("", "e2e 204.1/s is faster than infer 202/s"),
    "images a batch, above, not stated": ("", "the log does not say its batch"),
    "images a batch, below, not stated": ("", "the log does not say its batch"),
    "images a batch, above, stated": ("", "infer / post rate says 4.244, not 4"),
    "images a batch, below, stated": ("", "infer / post rate says 3.79, not 4"),
    "a wrong clock, fast": (
        "",
        "[data read] throughputRate x moduleLatency is 490, not 1000, [post] throughputRate x moduleLatency is "
        "490, not 1000, [preprocess] throughputRate x moduleLatency is 490, not 1000",
    ),
    "a wrong clock, slow": (
        "",
        "[data read] throughputRate x moduleLatency is 2010, not 1000, [post] throughputRate x moduleLatency is "
        "2010, not 1000, [preprocess] throughputRate x moduleLatency is 2010, not 1000",
    ),
    "a wrong clock, of a smaller batch": ("", "infer / post rate says 39.9, not 100"),
    "a wrong clock, of a larger batch": ("", "infer / post rate says 251, not 100"),
    "a mean of rates, below": (":4", "500 samples/s and 1.958 ms a sample: their product is 979, not 980 to 1100"),
    "a mean of rates, above": (":4", "500 samples/s and 2.202 ms a sample: their product is 1101, not 980 to 1100"),
    "a mean with less than the later runs": (":4", "the mean is 3.99 ms, without the first run 8 ms"),
    "listed runs and their mean": (
        "",
        "3 runs take 10 ms on average, the summary says 10.0165 ms: runs are missing from the log, or figures "
        "were changed",
    ),
    "two means, above": (":5", "mean 5.00056 and mean 5 ms"),
    "two means, below": (":5", "mean 4.99944 and mean 5 ms"),
    "rate and formula": (":5", "1000 x 8 / 5 ms is not 1600.17/s"),
    "rate and formula, below": (":5", "1000 x 8 / 5 ms is not 1599.83/s"),
    "a whole batch": ("", "its figures say 8.0165, a whole number says 8"),
    "the sum of devices, below": (":6", "the devices do not add up to 3999.9"),
    "the sum of devices, above": (":6", "the devices do not add up to 4008.1"),
    "listed times and their mean, above": ("", "the listed times have another mean than 4.0041 ms"),
    "listed times and their mean, below": ("", "the listed times have another mean than 3.9959 ms"),
    "a mean and the shortest run": (":4", "mean 5 lies outside 5.00012 .. 5.2"),
    "a mean and the longest run": (":4", "mean 5 lies outside 4.9 .. 4.99988"),
    "images and wall time": (":5", "8000 images in 1000 iterations and 13 s are not 615.397 and 76.9231 a second"),
    "iterations and wall time": (
        ":5",
        "8000 images in 1000 iterations and 13 s are not 615.385 and 76.9247 a second",
    ),
    "a whole batch of mm_run": (":4", "501.05/s for 16 s in 1000 iterations do not give a whole batch"),
    "a whole batch of mm_run, below": (":4", "498.95/s for 16 s in 1000 iterations do not give a whole batch"),
    "whole queries, above": (":4", "3.00011 s in queries of 4 ms are 750.03 queries"),
    "whole queries, below": (":4", "2.99989 s in queries of 4 ms are 749.97 queries"),
    "copies, compute and latency, above": ("", "copies and compute take 5 ms, the Latency is 5.0008 ms"),
    "copies, compute and latency, below": ("", "copies and compute take 5 ms, the Latency is 4.9992 ms"),
    "faster than its compute": (":3", "255.1 qps with 4 ms of compute a query"),
    "slower than all its parts": (":3", "169.7 qps with 4 ms of compute a query"),
    "slow without a reason": (":3", "124.5 qps with 4 ms of compute a query"),
    "queries and wall time, above": (":3", "the queries over the Total Host Walltime are 247.5 a second, not 247.76"),
    "queries and wall time, below": (":3", "the queries over the Total Host Walltime are 247.5 a second, not 247.24"),
    "images and queries": (":3", "1982.1 qps with 4 ms of compute a query"),
    "more images than any device makes": ("", "1e+07 images/s"),
    "far more images": ("", "2e+07 images/s"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_what_lies_within_a_limit_is_read_and_what_lies_beyond_is_refused(name):
    make, within, beyond, batch = LIMITS[name]

    assert len(parse(make(within), batch=batch)) >= 1
    with pytest.raises(DataError) as refused:
        parse(make(beyond), batch=batch)
    place, fact = SAID[name]
    kind = re.escape(f"log{place}: ") + "(the log contradicts itself: |the log is for another batch: )?"
    assert re.fullmatch(kind + re.escape(fact), refused.value.fact)


@pytest.mark.parametrize(
    ("batches_of", "doubted"), [(74.9, True), (75.1, False), (132.9, False), (133.1, True)]
)  # fmt: skip
def test_a_wrong_clock_casts_doubt_on_a_batch_that_is_off_by_a_third(batches_of, doubted):
    (found,) = parse(broken(1.5, batches_of), batch=100)

    assert bool(found.doubts) == doubted
    assert found.batch == 100
    assert found.notes


@pytest.mark.parametrize(("off", "noted"), [(1.019, False), (1.021, True)])
def test_a_mean_of_rates_is_said_from_two_percent_on(off, noted):
    (found,) = parse(log_samples.pure(500, 2 * off))

    assert any("a mean of rates" in note for note in found.notes) == noted


@pytest.mark.parametrize(
    ("mean", "latency", "noted", "doubted"),
    [(8.079, 8.079, False, False), (8.081, 8.0, True, False), (15.9, 8.0, True, False), (16.1, 8.0, True, True)],
)
def test_a_first_run_is_slow_from_one_percent_of_the_mean_on_and_doubtful_from_twice(mean, latency, noted, doubted):
    (found,) = parse(msame(mean, 8.0))

    assert found.latency_ms == latency
    assert found.per_device == pytest.approx(4000 / latency)
    assert (bool(found.notes), bool(found.doubts)) == (noted, doubted)


def test_a_quick_first_run_leaves_the_mean_of_all():
    (found,) = parse(msame(7.5, 8.0))

    assert (found.latency_ms, found.notes, found.doubts) == (7.5, (), ())


def test_a_last_batch_that_is_short_tells_the_batch_too():
    """10 images in 3 batches of 4: 3.33 images a batch on average."""
    text = benchmark(
        ("e: 200, latency: 100000", "e: 200, latency: 50"),
        ("[post] throughputRate: 50.5, moduleLatency: 19.802", "[post] throughputRate: 60.6, moduleLatency: 16.5017"),
    )

    assert parse(text)[0].batch == 4


@pytest.mark.parametrize(("low", "overlap"), [(5.00009, False), (5.00012, True)])
def test_a_table_whose_mean_is_below_its_shortest_run_is_of_runs_that_overlap(low, overlap):
    row = f"│ NPU_compute_time (ms) │ {low!r} │ 5.2 │ 5.0000 │ 5.1 │ 5.19 │\n"
    text = log_samples.ais_bench()
    line = next(one for one in text.splitlines(keepends=True) if "NPU_compute_time (ms)" in one)

    (found,) = parse(edited(text, (line, "│ Metric │ min │ max │ mean │ median │ P99 │\n" + row)))

    assert bool(found.notes) == overlap
    assert found.per_device == 1600


@pytest.mark.parametrize(
    ("text", "given", "fact", "hint"),
    [
        ("x", {"batch": 0}, "a batch of 0 was stated", "state a batch of 1 or more"),
        ("", {}, "log: the log is cut off: no line at all", "give the whole output of one finished run"),
        ("[V] a tactic\n", {}, "log: there are only explanations and verbose lines",
         "give the whole output of one finished run"),
        ("x\n\n[ERROR] no device\n", {}, "log:3: the run failed: '[ERROR] no device'",
         "repair the run and measure again"),
        (log_samples.mm_run() + log_samples.pure(500, 2), {}, "log: lines of benchmark and mm_run in one log",
         "give one log a run"),
        (log_samples.mm_run(), {"tool": "msame"}, "log: the log is mm_run's, not msame's",
         "name the tool that wrote it"),
        ("x\n", {}, "log: no known tool wrote this", "give a log of benchmark, msame, ais_bench, mm_run, trtexec"),
        ("a b [e2e] throughputRate: 1\n\nc d [post] throughputRate: 1\n", {},
         "log:1: 'a b ' comes before the tool's own text, and 'c d ' before line 3: they cannot be taken away",
         "take away what was put before the lines: sed 's/^...//' LOG > CLEAN, with the prefix of your lines"),
        ("x\na b [e2e] throughputRate: 1\n", {},
         "log:2: 'a b ' comes before the tool's own text and before no other line",
         "take away what was put before the lines: sed 's/^...//' LOG > CLEAN, with the prefix of your lines"),
    ],
)  # fmt: skip
def test_what_is_no_log_of_one_run_is_refused_with_the_next_step(text, given, fact, hint):
    with pytest.raises(DataError) as refused:
        parse(text, **given)

    assert (refused.value.fact, refused.value.hint) == (fact, hint)


def test_a_batch_of_one_is_a_batch():
    assert parse(log_samples.pure(500, 2).replace("bs8", "bs1"), batch=1)[0].batch == 1


def test_a_tool_that_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(DataError, match="'perf' has no known log format") as refused:
        parse(log_samples.benchmark(), tool="perf")

    assert refused.value.hint == "one of benchmark, msame, ais_bench, mm_run, trtexec"


@pytest.mark.parametrize(
    ("name", "statistic", "latency", "line", "device"),
    [
        ("benchmark", "Interface throughputRate", 8, 4, None),
        ("pure", "ave_throughputRate", 16, 4, 1),
        ("msame", "Inference average time", 10, 10, 0),
        ("ais_bench", "throughput of NPU_compute_time mean", 5, 5, 0),
        ("mm_run", "Throughput (qps)", 16, 4, 0),
        ("trtexec_7", "GPU Compute mean", 4, 4, None),
        ("trtexec", "Throughput", 4, 3, None),
    ],
)
def test_a_figure_says_where_it_stands(name, statistic, latency, line, device):
    batch = 4 if name in ("benchmark", "msame") else 8
    (found,) = parse(log_samples.ALL[name], source="a.log", batch=batch)

    assert (found.statistic, found.latency_ms, found.batch) == (statistic, latency, batch)
    assert (found.lines, found.device, found.source, found.doubts) == ((line,), device, "a.log", ())


def test_figures_of_four_devices_say_where_each_stands():
    found = parse(AIS_FOUR, source="a.log")

    assert [(one.device, one.lines, one.batch, one.latency_ms) for one in found] == [
        (device, (device + 2,), 16, 16000 / one.per_device) for device, one in enumerate(found)
    ]
    assert {(one.statistic, one.source) for one in found} == {("throughput of one device", "a.log")}


def test_a_summary_in_json_says_where_its_throughput_stands():
    text = json.dumps(json.loads(ais_summary(4.0)), indent=1)
    (found,) = parse(text)

    assert [text.splitlines()[line - 1] for line in found.lines] == [' "throughput": 4000.0,']
    assert (found.statistic, found.latency_ms) == ("throughput of NPU_compute_time mean", 4.0)


LONG = "x" * 200
QUOTED = {  # (log, what is quoted of it, so many characters at most)
    "a failure": ("[ERROR] " + LONG, "[ERROR] " + LONG, 80),
    "a damaged line": (benchmark(("latency: 100000", f"latency: 100000{LONG}")),
                       f"[e2e] throughputRate: 200, latency: 100000{LONG}", 80),
    "another line in a block": (edited(log_samples.trtexec_7(), ("max: 4.2 ms", LONG)), LONG, 60),
    "what comes before the lines": (f"{LONG} {log_samples.pure(500, 2).splitlines()[-2]}\n", LONG, 60),
    "what comes before some lines": (
        f"{LONG[1:]}a [e2e] throughputRate: 1\n{LONG[1:]}b [post] throughputRate: 1\n", LONG[1:] + "a", 60,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", QUOTED)
def test_of_a_long_line_its_beginning_is_quoted(name):
    text, whole, most = QUOTED[name]

    with pytest.raises(DataError) as refused:
        parse(text, batch=4)

    assert repr(whole[:most]) in refused.value.fact


def test_of_a_long_entry_of_a_list_its_beginning_is_quoted():
    summary = {**json.loads(ais_summary(4.0)), "npu_compute_time_list": [[0.0, 4.0], [LONG]]}

    with pytest.raises(DataError, match=rf"list has {re.escape(str([LONG])[:60])}, not \[begin, end\]"):
        parse(json.dumps(summary))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (log_samples.trtexec("--shapes=i:8x3").replace("[I] Total G", "[I] Total Host Walltime: 3 s\n[I] Total G"),
         r"Total Host Walltime appears 2 times \(lines 9, 10\): several runs"),
        (log_samples.trtexec("--shapes=i:8x3").replace("[I] H2D", "[I] Enqueue Time: a\n[I] H2D"),
         r"Enqueue Time appears 2 times \(lines 5, 6\): several runs"),
        (log_samples.trtexec_7() * 2, r"GPU Compute appears 2 times \(lines 1, 8\): several runs"),
        (log_samples.ais_bench().replace("[INFO] through", "[INFO] NPU_compute_time (ms): mean = 5\n[INFO] through"),
         r"NPU_compute_time appears 2 times \(lines 4, 5\): several runs"),
    ],
)  # fmt: skip
def test_what_stands_twice_is_named_with_its_lines(text, said):
    with pytest.raises(DataError, match=said):
        parse(text, batch=8)


SLOW_BENCHMARK = """[e2e] throughputRate: 0.2, latency: 100000000
[data read] throughputRate: 0.25, moduleLatency: 4000
[preprocess] throughputRate: 0.24, moduleLatency: 4166.67
[infer] throughputRate: 0.202, Interface throughputRate: 0.5, moduleLatency: 3000
[post] throughputRate: 0.0505, moduleLatency: 19802
"""
SLOW_DEVICES = """[INFO] try get model batchsize:16
0:0 device_0 throughput:0.25 start_time:1.5 end_time:3.5
1:0 device_1 throughput:0.5 start_time:1.5 end_time:3.5
[INFO] summary throughput:0.75
"""
QUICK_7 = edited(
    log_samples.trtexec_7(), ("3.9 ms", "0.39 ms"), ("4.2 ms", "0.42 ms"), ("mean: 4 ms", "mean: 0.4 ms"),
    ("median: 4 ms", "median: 0.4 ms"), ("4.1 ms", "0.41 ms"), ("time: 3 s", "time: 0.3 s"),
)  # fmt: skip
SHORT_8 = edited(
    log_samples.trtexec("--shapes=i:8x3", gpu=0.25), ("Walltime: 3 s", "Walltime: 0.5 s"),
    ("Total GPU Compute Time: 2.97 s", "Total GPU Compute Time: 0.495 s"),
)  # fmt: skip
QUICK_TABLE = log_samples.ais_bench(mean=0.5, spread="").replace(
    "[INFO] NPU_compute_time (ms): \n",
    "│ Metric │ min │ max │ mean │ median │ P99 │\n│ NPU_compute_time (ms) │ 0.4 │ 0.6 │ 0.5 │ 0.5 │ 0.6 │\n",
)
SLOW_SUMMARY = {"NPU_compute_time": dict.fromkeys(("min", "max", "mean", "median"), 16000.0), "throughput": 0.5}


@pytest.mark.parametrize(
    ("text", "batch", "rates"),
    [
        (SLOW_BENCHMARK, 4, [0.5]),
        (log_samples.pure(0.5, 2000), 8, [0.5]),
        (log_samples.msame([0.5, 0.5, 0.5]), 4, [8000]),
        (log_samples.ais_bench(mean=0.5), 8, [16000]),
        (QUICK_TABLE, 8, [16000]),
        (SLOW_DEVICES, 16, [0.25, 0.5]),
        (json.dumps(SLOW_SUMMARY), 8, [0.5]),
        (edited(log_samples.mm_run(), (" 500\n", " 0.5\n"), (" 16\n", " 16000\n")), 8, [0.5]),
        (edited(log_samples.mm_run(), (" 500\n", " 16000\n"), (" 16\n", " 0.5\n")), 8, [16000]),
        (QUICK_7, 8, [20000]),
        (SHORT_8, 8, [8 * 3960]),
    ],
)
def test_figures_below_one_are_read_like_others(text, batch, rates):
    assert [one.per_device for one in parse(text, batch=batch)] == pytest.approx(rates)
