"""What the windows of a measurement say: rates, marks, verdicts."""

from dataclasses import replace

import pytest
from made_sessions import run_of, series

from harness.backends.base import Health
from harness.baselines import load as published
from harness.judge.stats import FULL, Estimate
from harness.judge.throughput import Effort
from harness.judge.timing import Timing, Window
from harness.run import windows
from harness.run.windows import Measurement, fits_latencies, judged, slower, speed_of
from harness.vocabulary import Outcome

TIMING = Timing((), tuple(Window(float(i), i + 1.0, 100) for i in range(4)), (0.01,))
CELL = published().best("gfocalv2_r50_fpn", "t4")


def test_rates_of_all_blocks_count_and_the_time_between_blocks_does_not():
    run = run_of((series([10, 20]),), (series([30], start=1000.0),))

    assert run.rates == pytest.approx((10, 20, 30))
    assert run_of((series([10]), series([5])), devices=2).rates == pytest.approx((15,))
    two = run_of((series([10]), series([5])), (series([10], 50.0), series([7], 50.0)), devices=2)
    assert two.rates == pytest.approx((15, 17))
    assert [len(timing.windows) for timing in two.timings] == [2, 2]


def test_windows_of_one_device_are_its_own_whatever_ran_between_them():
    """As of a CPU that takes turns with eager PyTorch."""
    turns = Timing((), (Window(0, 1, 10), Window(5, 7, 40)), ())

    assert run_of((turns,), (turns,)).rates == pytest.approx((10, 20, 10, 20))


def test_each_session_counts_once_and_all_looks_before_the_fresh_ones_are_one():
    """Windows of 10, 12 and 11 in two looks, then five sessions."""
    fresh = [(series([rate, rate + 0.2], 100.0 * rate),) for rate in (10.0, 10.1, 9.9, 10.0, 10.1)]
    run = run_of((series([10, 12]),), (series([11, 11], 50.0),), *fresh, effort=Effort(3, 40.0, sessions=6))
    speed = speed_of(run, 8)

    assert len(run.rates) == speed.samples == 14
    assert speed.value == pytest.approx(8 * (11 + 10.1 + 10.2 + 10.0 + 10.1 + 10.2) / 6)
    assert speed.sessions == 6
    two = run_of(*((series([10, 12, 11]), series([5, 6, 5, 6])) for _ in range(6)), effort=Effort(2, 9.0, sessions=6))
    assert speed_of(two, 1).samples == len(two.rates) == 18, "of several devices, as many as the shortest series has"


def test_a_card_of_which_one_device_was_there_counts_for_all_of_them_once():
    run = run_of((series([10, 12, 11]),), devices=4)

    assert run.scaled == 4
    assert run.rates == pytest.approx((40, 48, 44))
    assert speed_of(run, 8).value == pytest.approx(8 * 44)
    assert run_of((series([10]), series([10])), devices=2).scaled == 1


def test_the_latency_is_the_median_of_single_executes_or_the_quickest_window_beside_eager_pytorch():
    assert run_of((series([10, 20], latencies=(0.3, 0.1, 0.2)),)).latency == 0.2
    assert run_of((series([10, 20], latencies=(0.3,)),), peer=(Window(0, 1, 1),)).latency == pytest.approx(1 / 20)
    assert run_of((series([10, 20]),)).latency == pytest.approx(1 / 20)
    assert run_of((series([10], latencies=(1.0,)), series([10], latencies=(2.0,)))).latencies == (1.0, 2.0)


def chip(share, **more):
    """A chip at that share of what was published at batch 8, one execute after the other."""
    rate = share * CELL.value / 8
    timing = Timing((), tuple(Window(n, n + 1, rate) for n in range(FULL)), (1 / rate,) * 20)
    return run_of((timing,), **more)


def of(run, speed=None, eager=None):
    return judged(run, speed or speed_of(run, 8), 8, CELL if eager is None else None, eager)


def test_a_chip_is_held_against_what_was_published():
    assert of(chip(1.0)).outcome is Outcome.PASS
    assert of(chip(0.6)).outcome is Outcome.FAIL
    assert of(chip(1.0, effort=Effort(2, 70.0))).details["look"] == 2


def test_a_chip_at_60_percent_that_counts_double_is_told():
    run = chip(0.6)
    verdict = of(run, speed_of(run, 16))

    assert verdict.outcome is Outcome.INVALID
    assert "2 executes at once on each device" in verdict.text


def test_executes_at_once_are_told_with_batch_and_devices():
    fits = fits_latencies(chip(1.0, devices=4), speed_of(chip(1.0, devices=4), 8), 8)

    assert "images/s at batch 8 on 4 devices, " in fits.text


def test_a_measurement_is_of_a_whole_card_whose_executes_are_launched_alone():
    plain = Measurement(((TIMING,),), (), 1, (), ())

    assert (plain.mark, plain.launched_alone, plain.devices_here) == ("", True, 1)


def test_devices_that_were_not_there_are_taken_into_account():
    assert of(chip(0.25, devices=4)).outcome is Outcome.PASS


def test_a_cpu_is_held_against_eager_pytorch_and_a_figure_alone_gets_no_verdict():
    rate = [Window(n, n + 1, 10) for n in range(FULL)]
    run = run_of((Timing((), tuple(rate), ()),), peer=rate, effort=Effort(1, 9.0, "pairs of windows"))

    assert of(run, eager=1.0).outcome is Outcome.PASS
    assert of(run, eager=2.0).outcome is Outcome.FAIL
    assert of(run_of((Timing((), tuple(rate), ()),)), eager=1.0).outcome is Outcome.INCONCLUSIVE


def test_other_load_all_the_time_leaves_no_verdict():
    verdict = of(chip(1.0, disturbed="other programs used 97% of the cores"))

    assert verdict.outcome is Outcome.INVALID
    assert "other programs used 97% of the cores: end it" in verdict.text
    assert verdict.details == {"waited": True}


@pytest.mark.parametrize(
    ("devices", "of_card", "here", "scaled", "mark"),
    [
        (4, 4, 4, 1, ""),  # a 310 card
        (1, 4, 1, 4, "x4"),
        (2, 4, 2, 2, "x2"),
        (1, 1, 1, 1, ""),  # a 310P card
        (1, 1, 2, 1, "1-of-2"),  # a Duo: two 310P
    ],
)
def test_the_mark_says_what_was_done(devices, of_card, here, scaled, mark):
    run = Measurement(((TIMING,) * devices,), (), of_card, (), (), devices_here=here)

    assert (run.scaled, run.mark) == (scaled, mark)
    assert run.rates[0] == pytest.approx(100 * devices * scaled)


def test_a_chip_that_computes_several_executes_at_once_may_be_so_much_faster_than_one_alone():
    run = chip(1.0)
    alone = tuple(replace(timing, latencies=tuple(4 * s for s in timing.latencies)) for timing in run.timings)
    several = tuple(replace(timing, in_flight=4) for timing in alone)

    assert of(run_of(alone)).outcome is Outcome.INVALID
    assert of(run_of(several)).outcome is Outcome.PASS


def test_the_verdict_that_ends_a_measurement_takes_chip_and_eager_pytorch_apart():
    """Windows of 20/s beside eager PyTorch's 10/s, in one block: at least as fast is asked, then three times."""
    block = (series([20] * FULL), series([10] * FULL))

    for eager, outcome in ((1.0, Outcome.PASS), (3.0, Outcome.FAIL)):
        conclude = windows.conclusion(8, None, eager, 1, peers=["eager PyTorch"])
        verdict = conclude((block,), Effort(1, 9.0, "pairs of windows"))
        assert verdict.outcome is outcome
        assert verdict.details["ratio"] == pytest.approx(2.0)


def test_peers_are_taken_apart_from_the_chip_by_name_over_all_blocks():
    chip, other, eager = ([series([rate] * 2, start) for start in (0.0, 50.0)] for rate in (20, 40, 10))

    alone, beside = windows.apart(list(zip(chip, other, eager, strict=True)), ["ONNX Runtime", "eager PyTorch"])

    assert alone == ((chip[0],), (chip[1],))
    assert beside == {"ONNX Runtime": other[0].windows + other[1].windows,
                      "eager PyTorch": eager[0].windows + eager[1].windows}  # fmt: skip
    assert windows.apart([(chip[0], other[0])], []) == (((chip[0], other[0]),), {})


def test_the_verdict_that_ends_a_measurement_is_by_eager_pytorch_whatever_else_takes_turns():
    block = (series([20] * FULL), series([40] * FULL), series([10] * FULL))

    conclude = windows.conclusion(8, None, 1.0, 1, peers=["ONNX Runtime", "eager PyTorch"])
    verdict = conclude((block,), Effort(1, 9.0, "pairs of windows"))

    assert (verdict.outcome, verdict.details["ratio"]) == (Outcome.PASS, pytest.approx(2.0))


@pytest.mark.parametrize(
    ("rate", "place"), [(5, "the chip is faster"), (20, "the chip is slower"), (10, "no difference is certain")]
)
def test_a_program_beside_is_told_and_changes_no_outcome(rate, place):
    windows = [Window(n, n + 1, 10) for n in range(FULL)]
    other = tuple(Window(n, n + 1 + 0.1 * (n % 3 - 1), rate) for n in range(FULL))
    run = run_of((Timing((), tuple(windows), ()),), peer=windows, effort=Effort(1, 9.0, "pairs of windows"),
                 beside={"ONNX Runtime": other})  # fmt: skip

    verdict = of(run, eager=1.0)

    assert verdict.outcome is Outcome.PASS
    assert verdict.text.endswith(f" times ONNX Runtime in the same run; not judged; {place}")
    assert verdict.details["ratio"] == 1.0
    assert verdict.details["onnx_runtime_ratio"] == pytest.approx(10 / rate, rel=0.01)
    low, high = verdict.details["onnx_runtime_ratio_low"], verdict.details["onnx_runtime_ratio_high"]
    assert low < verdict.details["onnx_runtime_ratio"] < high
    assert verdict.details["beside"] == {"ONNX Runtime": [verdict.details["onnx_runtime_ratio"], low, high]}


def test_the_verdict_that_ends_a_measurement_is_of_the_batch_and_the_cards_devices():
    published = windows.conclusion(8, CELL, None, 2)((((series([CELL.value / 16] * FULL)),),), Effort(1, 9.0))

    assert published.outcome is Outcome.PASS
    assert published.details["ratio"] == pytest.approx(1.0)
    both = tuple(series([CELL.value / 16] * FULL) for _ in range(2))
    whole = windows.conclusion(8, CELL, None, 2)((both,), Effort(1, 9.0))
    assert (whole.outcome, whole.details["ratio"]) == ("PASS", pytest.approx(1.0)), "each device counts once"


def test_cards_that_are_certainly_slower_than_the_others_are_named():
    rates = {0: (100, 1), 1: (101, 1), 2: (93, 1), 3: (93, 3), 4: (99, 1), 5: (130, 1)}
    speeds = {n: Estimate(rate, rate - width, rate + width, width, 9) for n, (rate, width) in rates.items()}

    assert slower(speeds) == {2: pytest.approx(1 - 93 / 99.5)}
    at_it = {
        0: Estimate(100, 99, 101, 1, 9),
        1: Estimate(100, 99, 101, 1, 9),
        2: Estimate(80, 70, 95.0, 1, 9),
    }
    assert slower(at_it) == {}


def test_a_device_of_a_card_that_is_certainly_slower_than_the_others_is_named():
    card = tuple(series([rate * (1 + 0.01 * (n % 2)) for n in range(60)]) for rate in (10, 10.1, 6, 10))
    run = replace(run_of(card, devices=4), numbers=(4, 5, 6, 7))

    assert windows.behind(run) == "; device 6 is 40.0% slower than the median of the 4 devices"
    assert windows.behind(replace(run_of(card[:2], devices=2), numbers=(4, 5))) == ""
    assert windows.behind(replace(run_of(card[2:3]), numbers=(6,))) == ""
    two = windows.behind(replace(run_of(card[1:3], devices=2), numbers=(5, 6)))
    assert two == "; device 6 is 25.5% slower than the median of the 2 devices"
    assert windows.behind(run_of(card, devices=4)) == "", "read back from a record: which is which is not on it"


def test_memory_of_a_card_is_that_of_its_device_with_most():
    held = [Health(own_mb=300.0), Health(own_mb=None), Health(own_mb=512.06)]

    assert Measurement((), (), 4, (), tuple(held)).device_peak_mb == {"device_peak_mb": 512.1}
    assert Measurement((), (), 4, (), (Health(),)).device_peak_mb == {}


@pytest.mark.parametrize(
    ("alone", "host_bound", "fits"), [(True, False, False), (True, True, True), (False, False, True)]
)
def test_what_lengthens_a_single_execute_explains_more_executes_at_once(alone, host_bound, fits):
    """10 ms alone and 7.5 ms in a series: launch and wait explain 0.3 ms."""
    timing = Timing((), tuple(Window(n, n + 1, 133) for n in range(FULL)), (0.01,) * 20, host_bound)
    run = Measurement(((timing,),), (), 1, (), (), launched_alone=alone)

    assert (fits_latencies(run, speed_of(run, 1), 1).outcome is Outcome.PASS) == fits
    conclude = windows.conclusion(1, None, None, 1, launched_alone=alone)
    assert (conclude(run.blocks, Effort()).outcome is Outcome.INVALID) != fits
    usual = windows.conclusion(1, None, None, 1)(run.blocks, Effort())
    assert (usual.outcome is Outcome.INVALID) != host_bound


def test_executes_in_flight_are_those_of_the_device_that_has_most():
    two = tuple(replace(series([10], latencies=(0.1,)), in_flight=n) for n in (1, 4))

    assert fits_latencies(run_of(two, devices=2), Estimate(20, 19, 21, 0.1, 9), 1).details["in_flight"] == 4
