"""What a log must be: whole lines, one run, one batch, one device; each refusal names its line."""

import re
import time

import pytest

from harness.errors import DataError
from harness.vendor.logs.log import Log, Throughput

RATE, FORM = "rate:", r"rate: (\d+) images/s"


def log(*lines, source="log.txt", stated=None):
    return Log(source, lines, tuple(range(11, 11 + len(lines))), stated)


def test_lines_that_begin_so_must_match_to_their_end():
    assert [(n, m.group(1)) for n, m in log("x", "rate: 5 images/s").whole(RATE, FORM)] == [(12, "5")]
    with pytest.raises(DataError, match=r"log\.txt:11: 'rate: 5 ima' is damaged or cut off"):
        log("rate: 5 ima").whole(RATE, FORM)


@pytest.mark.parametrize(
    ("lines", "fact"),
    [
        ((), "the log is cut off: no rate"),
        (("rate: 5 images/s", "x", "rate: 5 images/s"), r"rate appears 2 times \(lines 11, 13\): several runs"),
    ],
)
def test_a_run_says_a_thing_once(lines, fact):
    with pytest.raises(DataError, match=fact):
        log(*lines).one("rate", RATE, FORM)


@pytest.mark.parametrize(
    ("line", "batch"),
    [
        ("./benchmark -batch_size=16 -om_path=m.om", 16),
        ("msame --model ./gfocal_bs4.om", 4),
        ("[INFO] try get model batchsize:32", 32),
        ("Batch: 64", 64),
    ],
)
def test_a_batch_is_read_where_each_tool_says_it(line, batch):
    assert log("x", line).batch() == batch


@pytest.mark.parametrize("line", ["Batch: 1", "a bs of 4", "minibatch: 4", "--batches=5", "model_bs4_v2.txt"])
def test_what_only_looks_like_a_batch_is_none(line):
    with pytest.raises(DataError, match="does not say its batch"):
        log(line).batch()


def test_the_name_of_a_file_says_batch_and_device():
    named = log(source="/x/perf_vision_batchsize_16_device_3.txt")

    assert (named.batch(), named.device()) == (16, 3)


def test_those_who_disagree_about_the_batch_are_named():
    with pytest.raises(DataError, match="the caller says 8, line 11 says 16"):
        log("-batch_size=16", stated=8).batch()


def test_the_first_axes_of_the_inputs_say_the_batch_where_they_agree():
    assert log().batch(axes=[8, 8]) == 8
    assert log(stated=16).batch(axes=[1, 16]) == 16
    with pytest.raises(DataError, match="the caller says 16, the shape of its input says 8"):
        log(stated=16).batch(axes=[8, 8])
    with pytest.raises(DataError, match="the caller says 4, the inputs begin with 1 and 16"):
        log(stated=4).batch(axes=[16, 1, 16])
    with pytest.raises(DataError, match="inputs that begin with 1 and 16 do not say the batch"):
        log().batch(axes=[16, 1])


def test_the_figures_of_a_log_say_its_batch_too():
    assert log().batch(figures=15.99) == 16
    assert log(stated=16).batch(figures=16.01) == 16
    with pytest.raises(DataError, match=r"its figures say 8, the caller says 16"):
        log(stated=16).batch(figures=8.0)
    with pytest.raises(DataError, match=r"its figures say 8, the caller says 16"):
        log("Batch: 16", "-batch_size=16", stated=16).batch(figures=8.0)
    with pytest.raises(DataError, match=r"its figures say 8, line 11 says 16"):
        log("-batch_size=16", "-batch_size=16").batch(figures=8.0)
    with pytest.raises(DataError, match=r"its figures say 8\.5, a whole number says 8"):
        log().batch(figures=8.5)


def test_a_log_of_two_devices_contradicts_itself():
    assert log("open device 2 success").device() == 2
    assert log("x").device() is None
    with pytest.raises(DataError, match=r"it names the devices \[0, 1\]"):
        log("-device_id=0", "open device 1 success").device()


@pytest.mark.parametrize("value", [0, -1, True, "5", None, float("nan"), float("inf"), 1e12])
def test_a_figure_that_is_no_positive_number_is_a_contradiction(value):
    with pytest.raises(DataError, match="the log contradicts itself: throughput is"):
        log().positive("throughput", value)
    assert log().positive("throughput", 3) == 3.0
    assert log().positive("throughput", 1e12 - 0.25) == 1e12 - 0.25


def test_a_spread_is_read_whole_and_in_order():
    text = "min = 1 ms, max = 3 ms, mean = 2.5 ms, median = 2 ms, percentile(99%) = 2.9 ms"

    assert log().spread(11, text, "ms") == {"min": 1, "max": 3, "mean": 2.5, "median": 2, "percentile(99%)": 2.9}


@pytest.mark.parametrize(
    ("old", "new", "fact"),
    [
        ("mean = 2.5", "mean = 3.5", r"mean 3\.5 lies outside 1 \.\. 3"),
        (", median = 2 ms", "", "the line is cut off: no median"),
        (", percentile(99%) = 2.9 ms", "", "the line is cut off: no percentile"),
        ("2.9 ms", "2.9", "is damaged or cut off"),
        ("min = 1 ms", "min = x ms", "is damaged or cut off"),
    ],
)
def test_a_spoiled_spread_is_refused(old, new, fact):
    text = "min = 1 ms, max = 3 ms, mean = 2.5 ms, median = 2 ms, percentile(99%) = 2.9 ms"

    with pytest.raises(DataError, match=rf"^log\.txt:11: .*{fact}") as refused:
        log().spread(11, text.replace(old, new), "ms")
    assert refused.value.hint in ("give the log as the tool wrote it", "measure again and give the log unedited")


def test_a_figure_reads_as_one_line():
    figure = Throughput("msame", 129.44, 4, 30.9, "Inference average time", (7,), device=2)

    assert str(figure) == "msame: 129.44 images/s on device 2 at batch 4 (Inference average time)"


@pytest.mark.parametrize("figure", ["1,235.998", "235,998", "1.235,998", "1\u2019235.998"])
def test_a_number_as_another_language_writes_it_is_named(figure):
    with pytest.raises(
        DataError, match=rf"log\.txt:11: '.*{re.escape(figure[-3:])}' is written as in another language"
    ) as caught:
        log("rate: " + figure).whole("rate:", r"rate: \d+\.\d+")
    assert "LC_ALL=C" in caught.value.hint


def test_a_line_of_a_hundred_thousand_digits_is_refused_at_once():
    begun = time.process_time()

    with pytest.raises(DataError, match="is damaged or cut off"):
        log("rate: " + "9" * 100_000).whole("rate:", r"rate: \d+\.\d+")

    assert time.process_time() - begun < 5, "by its square it takes minutes"
