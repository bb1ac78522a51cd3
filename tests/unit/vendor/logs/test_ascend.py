"""What benchmark, msame and ais_bench print in their other modes and versions."""

import json
import sys

import log_samples
import pytest

from harness.errors import DataError
from harness.vendor.logs import parse

if sys.version_info >= (3, 11):
    pass
else:
    pass
from vendor_log_texts import AIS_FOUR


# --- benchmark ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("off", [0.985, 1.0, 1.026, 1.043])
def test_a_mean_of_rates_is_no_inverse_of_the_mean_latency(off):
    (found,) = parse(log_samples.pure(500, 2 * off))

    assert (found.per_device, found.batch, found.device) == (500, 8, 1)
    assert found.latency_ms == pytest.approx(16)
    assert any("a mean of rates" in note for note in found.notes) == (off > 1.02)


@pytest.mark.parametrize("off", [0.2, 0.97, 1.12, 5, 10])
def test_a_rate_that_no_spread_explains_is_refused(off):
    with pytest.raises(DataError, match="contradicts itself: 500 samples/s"):
        parse(log_samples.pure(500, 2 * off))


@pytest.mark.parametrize(
    "form",
    [
        "ave_throughputRate: {:g}samples/s,ave_latency: {:g}ms",
        "ave_throughputRate:{:g}samples/s, ave_latency:{:g}ms",
        "[INFO]ave_throughputRate: {:g} samples/s, ave_latency: {:g} ms",
        "[INFO] ave_throughputRate = {:g} samples/s , ave_latency = {:g} ms,",
    ],
)
def test_a_missing_blank_is_no_damage(form):
    assert parse(log_samples.pure(500, 2, form))[0].per_device == 500


def test_a_missing_blank_in_benchmarks_lines_is_no_damage():
    text = log_samples.benchmark()

    assert parse(text.replace(", ", ",").replace(": ", ":").replace("] ", "]"))[0].per_device == 500


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n[", "["),  # a page joined the lines
        ("[e2e]", "[[e2e]"),  # its markup doubled a bracket
        (", moduleLatency", "\uff0cmoduleLatency"),  # retyped on a Chinese keyboard
        (": ", "\uff1a"),
        (", Interface", " Interface"),
        (", moduleLatency", " moduleLatency"),
        ("atency", "antency"),  # the wide-and-deep variant, which also prepares two inputs
        (
            "[preprocess] throughputRate: 240, moduleLatency: 4.16667\n",
            "[wide preprocess] throughputRate: 240, moduleLatency: 4.16667\n"
            "[deep preprocess] throughputRate: 250, moduleLatency: 4\n",
        ),
    ],
)
def test_benchmarks_lines_are_read_as_published_logs_have_them(old, new):
    text = log_samples.benchmark()
    assert old in text

    (found,) = parse(text.replace(old, new))

    assert (found.per_device, found.batch, found.doubts) == (500, 4, ())


def test_a_second_preparation_is_checked_too():
    two = log_samples.benchmark().replace(
        "[preprocess] throughputRate: 240,", "[deep preprocess] throughputRate: 250, moduleLatency: 4\n"
        "[wide preprocess] throughputRate: 231,"
    )  # fmt: skip
    with pytest.raises(DataError, match=r"wide preprocess\] throughputRate x moduleLatency is 962\.5"):
        parse(two)


def test_a_stage_that_stands_twice_is_two_runs():
    text = log_samples.benchmark()
    with pytest.raises(DataError, match=r"\[e2e\] line appears 2 times"):
        parse(text + text.replace("[e2e]", "[[e2e]"))


@pytest.mark.parametrize(("module", "doubted"), [(1.981, False), (1.979, True)])
def test_an_interface_that_takes_longer_than_its_module_is_doubted(module, doubted):
    (found,) = parse(log_samples.benchmark().replace("moduleLatency: 3\n", f"moduleLatency: {module}\n"))

    assert ("the interface, a part of the module, takes longer" in " ".join(found.doubts)) is doubted


# 60 images of which post-processing takes 1 s a batch of 8 and inference 50 ms each: it ends long before the run does
SLOW_POST = """[e2e] throughputRate: 6, latency: 10000
[data read] throughputRate: 250, moduleLatency: 4
[preprocess] throughputRate: 240, moduleLatency: 4.16667
[infer] throughputRate: 20, Interface throughputRate: 25, moduleLatency: 50
[post] throughputRate: 1, moduleLatency: 1000
"""


@pytest.mark.parametrize("batch", [6, 8, 16])
def test_where_post_processing_is_slow_a_stated_batch_need_not_be_the_quotient_of_rates(batch):
    """It may be any that the times allow; the quotient, 20, would be of none."""
    assert parse(SLOW_POST, batch=batch)[0].batch == batch


@pytest.mark.parametrize("batch", [1, 4])
def test_where_post_processing_is_slow_the_times_still_refuse_a_batch(batch):
    with pytest.raises(DataError, match="for another batch"):
        parse(SLOW_POST, batch=batch)


# --- msame --------------------------------------------------------------------------------------------------------
SLOW = [200.0, 8.0, 8.2, 7.8, 8.0]


@pytest.mark.parametrize("means", ["both", "all", "later"])
def test_a_slow_first_run_does_not_count(means):
    (found,) = parse(log_samples.msame(SLOW, means=means))

    assert found.latency_ms == pytest.approx(8)
    assert found.per_device == pytest.approx(500)
    assert found.doubts == ()
    assert "first run" in found.notes[0]


def test_runs_alike_are_averaged_as_they_were_published():
    (found,) = parse(log_samples.msame([8.0, 8.02, 8.04]))

    assert found.latency_ms == pytest.approx(8.02)
    assert found.notes == ()


def test_a_slow_first_run_that_is_not_listed_is_doubted():
    """A digit that got lost in one of the two means looks the same."""
    (found,) = parse(log_samples.msame(SLOW, listed=False))

    assert found.latency_ms == pytest.approx(8)
    assert "no run is listed" in found.doubts[0]


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("means", ["all", "later"])
def test_an_older_msame_prints_one_mean(means, listed):
    (found,) = parse(log_samples.msame([8.0, 8.02, 8.04], means=means, listed=listed))

    assert found.latency_ms == pytest.approx(8.02 if means == "all" else 8.03)


@pytest.mark.parametrize("means", ["all", "later"])
def test_one_mean_and_no_end_may_be_cut_off(means):
    text = log_samples.msame([8.0, 8.02, 8.04], means=means, end=False).replace("[INFO] acl init success\n", "")

    with pytest.raises(DataError, match="the log is cut off, or the model ran once"):
        parse(text)


def test_a_whole_log_of_one_run_is_not_called_cut_off():
    """As some of ModelZoo-TensorFlow's pages are."""
    text = "Inference time: 8.69ms\nInference average time: 8.690000 ms\n[INFO] Execute sample success\n"

    with pytest.raises(DataError, match="the model ran once, and a first run is slow"):
        parse(text, batch=1)


def test_one_run_is_no_mean():
    with pytest.raises(DataError, match="the model ran once"):
        parse(log_samples.msame([8.0], means="all"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("first time: 8.000000", "first time: 7.000000", "4 runs after the first take 8 ms on average, .* says 7 ms"),
        ("average time: 46.400000", "average time: 56.400000", "5 runs take 46.4 ms on average, .* says 56.4 ms"),
        ("Inference time: 200ms", "Inference time: 20ms", "5 runs take 10.4 ms on average, .* says 46.4 ms"),
        ("first time: 8.000000", "first time: 800.000000", "contradicts itself"),
        ("first time: 8.000000", "first time: 0", "a time of zero"),
    ],
)
def test_a_slow_first_run_explains_no_other_contradiction(old, new, words):
    text = log_samples.msame(SLOW)
    assert old in text

    with pytest.raises(DataError, match=words):
        parse(text.replace(old, new))


# --- ais_bench ----------------------------------------------------------------------------------------------------
def test_pipeline_mode_prints_the_mean_only():
    (found,) = parse(log_samples.ais_bench(spread="mean = 5"))

    assert (found.per_device, found.batch, found.latency_ms) == (1600, 8, 5)
    assert "pipeline" in found.notes[0]


@pytest.mark.parametrize(
    ("spread", "words"),
    [
        ("mean = 6", "mean 6 and mean 5 ms"),
        ("mean = 5.", "damaged or cut off"),
        ("mean =", "damaged or cut off"),
        ("max = 5", "no min"),
        ("min = 4, mean = 5", "no max"),
        ("mean = 5, median = 5", "no min"),
    ],
)
def test_half_a_line_is_no_pipeline_mode(spread, words):
    with pytest.raises(DataError, match=words):
        parse(log_samples.ais_bench(spread=spread))


def test_the_newest_version_writes_a_capital_and_p99():
    text = log_samples.ais_bench().replace("throughput 1000", "Throughput 1000").replace("percentile(99%)", "P99")
    assert "P99" in text

    assert parse(text)[0].per_device == 1600


TABLE = """╒═══════════════════════╤════════╤════════╤════════╤══════════╤════════╕
│ Metric                │    min │    max │   mean │   median │    P99 │
╞═══════════════════════╪════════╪════════╪════════╪══════════╪════════╡
│ NPU_compute_time (ms) │ 4.9000 │ 5.2000 │ 5.0000 │   4.9900 │ 5.1900 │
╘═══════════════════════╧════════╧════════╧════════╧══════════╧════════╛
"""


def newest(table=TABLE):
    """As ais_bench of msit prints it: logging before its lines, a table without, and Throughput with a capital."""
    before, _, after = log_samples.ais_bench().partition("[INFO] NPU_compute_time")
    text = before + table + after.partition("\n")[2].replace("throughput", "Throughput")
    return text.replace("[INFO] ", "2025-06-01 10:00:00,123 - 77 - ais_bench_logger - INFO - ")


def test_the_newest_version_prints_a_table():
    (found,) = parse(newest())

    assert (found.per_device, found.batch, found.latency_ms, found.notes) == (1600, 8, 5, ())


def test_a_mean_below_the_shortest_run_is_of_runs_that_overlap():
    (found,) = parse(newest(TABLE.replace("4.9000", "5.1000").replace("4.9900", "5.1500")))

    assert found.per_device == 1600
    assert "overlap" in found.notes[0]


@pytest.mark.parametrize("name", ["gbk", "latin-1", "ascii"])
def test_a_table_on_a_terminal_without_its_lines_is_read(name):
    assert parse(newest(TABLE).encode(name, "replace").decode(name))[0].per_device == 1600


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("│ 5.0000 │", "│ 6.0000 │", "outside"),
        ("│ 5.0000 │", "│ 5.1000 │", "mean 5.1 and mean 5 ms"),
        ("│ 5.0000 │", "│ 0.0000 │", "mean is 0 ms"),
        ("│ 5.0000 │", "│", "damaged or cut off"),
        ("4.9900", "5.9900", "outside"),
        ("   mean ", "   rate ", "no heading"),
        (TABLE, "", "no NPU_compute_time line"),
        (TABLE, TABLE * 2, "several runs"),
    ],
)
def test_a_damaged_table_is_refused(old, new, words):
    assert old in TABLE

    with pytest.raises(DataError, match=words):
        parse(newest(TABLE.replace(old, new)))


RUNS = [[0.0, 6.0], [5.0, 11.0], [10.0, 16.0], [20.0, 24.0]]  # busy 20 ms in all, 5 ms a run
PIPELINE = {
    "NPU_compute_time": {"mean": 5.0, "count": 4}, "H2D_latency": {"mean": 0.5, "count": 4},
    "npu_compute_time_list": RUNS, "throughput": 1600.0,
}  # fmt: skip


@pytest.mark.parametrize("indent", [None, 2])
def test_a_pipeline_summary_lists_begin_and_end(indent):
    (found,) = parse(json.dumps(PIPELINE, indent=indent), batch=8)

    assert (found.per_device, found.latency_ms) == (1600, 5)
    assert "pipeline" in found.notes[0]


def test_the_newest_summary_lists_begin_and_end_beside_the_spread():
    spread = {"min": 4.0, "max": 6.0, "mean": 5.0, "median": 6.0, "P99": 6.0, "count": 4}
    short = [[0.0, 4.0], [0.0, 6.0], [0.0, 6.0], [0.0, 4.0]]  # 6 ms in all, 1.5 ms a run

    assert parse(json.dumps({**PIPELINE, "NPU_compute_time": spread}))[0].per_device == 1600
    merged = {"NPU_compute_time": {**spread, "mean": 1.5}, "npu_compute_time_list": short, "throughput": 8000 / 1.5}
    assert parse(json.dumps({**PIPELINE, **merged}))[0].batch == 8
    with pytest.raises(DataError, match="outside"):
        parse(json.dumps({**PIPELINE, "NPU_compute_time": {**spread, "median": 7.0}}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"NPU_compute_time": {"mean": 4.0, "count": 4}, "throughput": 2000.0}, "another mean than 4 ms"),
        ({"NPU_compute_time": {"mean": 5.0, "count": 5}}, "count is 5, 4 times"),
        ({"NPU_compute_time": {"mean": 5.0, "count": 3}}, "count is 3, 4 times"),
        ({"npu_compute_time_list": [*RUNS[:3], [24.0, 20.0]]}, r"not \[begin, end\]"),
        ({"npu_compute_time_list": [*RUNS[:3], [20.0]]}, r"not \[begin, end\]"),
        ({"npu_compute_time_list": [*RUNS[:3], [20.0, 20.0]]}, r"not \[begin, end\]"),
        ({"npu_compute_time_list": [[-0.5, 4.0], *RUNS[1:]]}, r"has \[-0.5, 4.0\], not \[begin, end\]"),
        ({"npu_compute_time_list": [5.0] * 4}, r"not \[begin, end\]"),
        ({"npu_compute_time_list": [[True, 5.0]] * 4}, r"not \[begin, end\]"),
        ({"NPU_compute_time": {"count": 4}}, "no NPU_compute_time mean"),
        ({"NPU_compute_time": {"mean": 5.0, "max": 6.0, "count": 4}}, "no NPU_compute_time min"),
        ({"throughput": 1700.0}, "another batch"),
    ],
)
def test_a_pipeline_summary_that_contradicts_itself_is_refused(change, words):
    with pytest.raises(DataError, match=words):
        parse(json.dumps({**PIPELINE, **change}), batch=8)


def test_a_summary_without_its_list_of_files_is_read():
    """As pages show it: from its second key on."""
    text = (
        '"NPU_compute_time": {"min": 3.5, "max": 9.5, "mean": 4.0, "median": 3.9, "percentile(99%)": 9.0},\n'
        '"H2D_latency": {"min": 1, "max": 2, "mean": 1.5, "median": 1.5, "percentile(99%)": 2},\n'
        '"throughput": 4000.0}\n'
    )
    (found,) = parse(text)

    assert (found.per_device, found.batch, found.latency_ms) == (4000, 16, 4.0)
    with pytest.raises(DataError, match="no end of the JSON"):
        parse(text.rsplit("}", 1)[0])


@pytest.mark.parametrize("text", ['{"NPU_compute_time":' + "[" * 100_000, '{"NPU_compute_time": ' + "9" * 5000 + "}"])
def test_hostile_json_is_refused(text):
    with pytest.raises(DataError, match="cut off"):
        parse(text, batch=8)


def test_four_devices_of_one_run_are_four_figures():
    figures = parse(AIS_FOUR)

    assert [(f.device, f.per_device) for f in figures] == [(0, 1000), (1, 1010), (2, 990), (3, 1004)]


def test_only_a_summary_of_pipeline_mode_says_that_runs_overlap():
    spread = {"min": 4.9, "max": 5.1, "mean": 5.0, "median": 5.0, "P99": 5.1, "count": 3}
    times = {"npu_compute_time_list": [4.9, 5.0, 5.1], "throughput": 1600.0}

    assert parse(json.dumps({"NPU_compute_time": spread, **times}))[0].notes == ()
    assert "overlap" in parse(json.dumps(PIPELINE))[0].notes[0]


@pytest.mark.parametrize("which", [0, 1])
def test_a_mean_that_stands_twice_is_named_with_its_lines(which):
    text = log_samples.msame([8.0, 8.0], listed=False)
    line = [one for one in text.splitlines() if one.startswith("Inference average")][which]
    name = ("Inference average time", "Inference average time without first time")[which]

    with pytest.raises(DataError, match=rf"^log: {name} appears 2 times \(lines {4 + which}, 8\): several runs\n"):
        parse(f"{text}{line}\n")
