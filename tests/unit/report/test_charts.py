"""Charts put every figure where its axis says."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest
from made_runs import past, timed

from harness.case import Case
from harness.report import charts, history
from harness.report.messages import translation
from harness.report.records import Record

CASE = Case.parse("regnety_016-ascend310p-fp16-bs16")


def test_a_target_line_stands_where_its_value_is():
    """Of a chart from 0 to 1000 images a second, a target of 500 is in the middle."""
    target = Record(CASE, "targets", "PASS", "x", "t4", {"other": 250.0, "bound": 2.0, "measured": 1000.0})
    ((_, ((_, chart), *_)),) = charts.of_models([timed(CASE, 1000.0, half=0.0), target], translation("en"))
    grid = [float(y) for y in re.findall(r'class="g" d="M\S+ ([\d.]+)H', chart)]
    (line,) = (float(y) for y in re.findall(r'class="target" d="M\S+ ([\d.]+)H', chart))

    assert line == pytest.approx((grid[0] + grid[-1]) / 2, abs=0.2)


def strip(chart):
    """Name of each line of a strip -> x of its points and of the bound."""
    bound = float(re.search(r'class="bound" d="M([\d.]+) ', chart)[1])
    names = re.findall(r'<text x="8\.0" y="[\d.]+">([^<]+)<', chart)
    points = re.findall(r'f" d="M([\d.]+) [^"]+"><title>([^<]+)<', chart)
    return names, [(float(x) + 3.5, told) for x, told in points], bound


def test_a_throughput_stands_at_what_it_is_over_what_is_asked():
    """Of each chip the batch with the least is shown."""
    other = Case.parse("regnety_016-cpu-fp32-bs1")
    beside = {
        "measured": 50.0,
        "low": 45.0,
        "high": 55.0,
        "ratio": 1.8,
        "ratio_low": 1.6,
        "ratio_high": 2.0,
        "bound": 0.9,
    }
    records = [
        replace(
            timed(CASE, 950.0, published=1000.0),
            values={"measured": 950.0, "low": 900.0, "high": 999.0, "bound": 950.0},
        ),
        replace(
            timed(replace(CASE, batch=1), 2000.0),
            values={"measured": 2000.0, "low": 1900.0, "high": 2100.0, "bound": 950.0},
        ),
        Record(other, "throughput", "PASS", "x", "", beside),
        Record(other, "targets", "PASS", "x", "t4", {**beside, "ratio": 0.1}),
        Record(other, "throughput", "SKIP", "x"),
    ]
    title, chart = charts.margins(records, translation("en"))
    names, points, bound = strip(chart)
    told = {text.split(":")[0]: (x, text.split(": ")[1]) for x, text in points}

    assert title == "throughput as a multiple of what is asked"
    assert names == ["regnety_016 ascend310p fp16 bs16", "regnety_016 cpu fp32 bs1"]
    assert told["regnety_016 ascend310p fp16 bs16"][0] == pytest.approx(bound, abs=0.1)
    assert told["regnety_016 cpu fp32 bs1"][1] == "2 (1.78 .. 2.22) PASS"
    assert charts.margins(records[-1:], translation("en")) is None


def test_the_drops_of_all_batches_of_a_metric_are_on_one_line_the_worst_in_front():
    values = {"drop": 0.01, "low": 0.0, "high": 0.02}
    records = [
        Record(replace(CASE, batch=batch), "accuracy", outcome, "x", metric, {**values, "drop": drop})
        for batch, metric, outcome, drop in [
            (1, "top1", "PASS", 0.0),
            (4, "top1", "FAIL", 0.01),
            (4, "top5", "PASS", 0.0),
        ]
    ]
    ((_, ((title, chart),)),) = charts.of_models(records, translation("en"))
    names, points, bound = strip(chart)

    assert title == "ascend310p: drop of accuracy"
    assert names == ["fp16 top1", "fp16 top5"]
    assert [told for _, told in points] == [
        "fp16 bs1 top1: 0 % PASS",
        "fp16 bs4 top1: 1 % FAIL",
        "fp16 bs4 top5: 0 % PASS",
    ]
    assert points[0][0] == points[2][0] < bound


@pytest.mark.parametrize(("slowest", "last"), [(3_000_000.0, ["100,000", "10,000,000"]), (500_000.0, ["1,000,000"])])
def test_names_of_an_axis_do_not_run_into_one_another(slowest, last):
    """From 900 microseconds on: an axis of four or five powers of ten in 312 pixels, the last name left of its end."""
    fast, slow = ({"latency_p50_us": us} for us in (900.0, slowest))
    records = [
        replace(timed(replace(CASE, batch=n), 1.0), values={"measured": 1.0, **told})
        for n, told in ((1, fast), (4, slow))
    ]
    ((_, (_, (_, chart))),) = charts.of_models(records, translation("en"))
    names = [(float(x), name) for x, name in re.findall(r'<text x="([\d.]+)" y="33\.0"[^>]*>([^<]+)<', chart)]

    assert [name for _, name in names] == ["100", "1,000", "10,000", *last]
    assert all(later - x > 8 * len(name) for (x, name), (later, _) in pairwise(names[:-1]))


def test_the_charts_of_a_model_go_chip_by_chip():
    cases = [
        Case.parse(f"{model}-{chip}-fp16-bs1")
        for model in ("regnety_016", "deepmar_resnet50")
        for chip in ("t4", "cuda")
    ]
    found = charts.of_models([timed(case, 100.0) for case in cases], translation("en"))

    assert [(model, [title.split(":")[0] for title, _ in mine]) for model, mine in found] == [
        (model, ["t4", "t4", "cuda", "cuda"]) for model in ("regnety_016", "deepmar_resnet50")
    ]


SEEN = {"output": "class", "sample": 0, "largest": 2.0, "counts": [1, 0, 100, 0, 10], "heat": ["50", "05", "0 "],
        "plane": [3, 2], "wrapped": False}  # fmt: skip


def test_counts_stand_on_a_logarithmic_axis_from_the_largest_below_to_the_largest_above():
    (_, chart), _ = charts.differences(SEEN, translation("en"))
    grid = {text: float(y) - 4 for y, text in re.findall(r'y="([\d.]+)" class="e">([\d,]+)<', chart)}
    bars = re.findall(r'd="M([\d.]+) \S+V([\d.]+)h\S+"><title>(\S+) \.\. (\S+): (\d+)<', chart)

    assert [(low, high, count) for _, _, low, high, count in bars] == [
        ("-2", "-1.2", "1"), ("-0.4", "0.4", "100"), ("1.2", "2", "10")
    ]  # fmt: skip
    assert [float(y) for _, y, *_ in bars] == pytest.approx([grid["1"], grid["100"], grid["10"]], abs=0.2)
    assert re.findall(r">(-2|0|2)</text>", chart) == ["-2", "0", "2"]


def test_a_map_has_its_cells_in_place_and_says_what_a_level_means():
    _, (title, chart) = charts.differences(SEEN, translation("en"))
    darkest = re.search(r'class="h5" d="([^"]+)"', chart)[1]

    assert title == "largest difference by place"
    assert re.findall(r"M(\S+) (\S+?)h60\.0v60\.0", darkest) == [("8.0", "36.0"), ("68.0", "96.0")]
    assert "3 rows x 2 columns<" in chart
    assert re.findall(r"&gt; [\d.e-]+", chart) == ["&gt; 0.2", "&gt; 0.02", "&gt; 0.002", "&gt; 2e-04", "&gt; 2e-05"]


def test_a_wrapped_vector_is_called_one():
    _, (_, chart) = charts.differences({**SEEN, "wrapped": True}, translation("en"))

    assert "3 rows x 2 columns, in reading order<" in chart


def test_a_map_of_forty_by_forty_cells_is_small():
    seen = {**SEEN, "heat": ["5" * 40, "12345" * 8] * 20, "counts": [5] * 41}

    assert sum(len(svg) for _, svg in charts.differences(seen, translation("en"))) < 60_000


def test_a_line_over_time_has_a_point_a_run_and_marks_where_version_and_level_changed():
    runs = past([100.0] * 9 + [90.0] * 6, ["CANN 6"] * 12 + ["CANN <7>"] * 3, noise=0.001)
    (found,) = history.trends(runs)
    title, chart = charts.trend(found, translation("en"))

    (line,) = re.findall(r'class="s0 l" d="M([^"]+)"', chart)
    points = [tuple(map(int, point.split())) for point in line.split("L")]
    assert title == "ascend310p fp16 bs16 throughput"
    assert len(points) == 15
    assert points[8][1] < 35 < 65 < points[9][1]  # down is less
    assert re.findall(r'class="bound" d="M(\d+) ', chart) == [str(points[9][0])]
    ((version, told),) = re.findall(r'class="p" d="M(\d+) [^>]+><title>([^<]+)<', chart)
    assert points[11][0] < int(version) < points[12][0]
    assert "ascend310p version: CANN 6 -&gt; CANN &lt;7&gt;" in told
    assert ">ascend310p version: CANN &lt;7&gt;<" in chart
    assert "15 runs" in chart


def test_a_line_over_time_of_equal_figures_is_level():
    (found,) = history.trends(past([100.0] * 3, noise=0))

    assert re.search(r'd="M8 49L135 49L262 49"', charts.trend(found, translation("en"))[1])
