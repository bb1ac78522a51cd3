"""The clock's arithmetic: windows are filled, warm-up stands apart, unsteady series are called so."""

import ast
import json
import math
from pathlib import Path

import pytest

from harness.errors import InvalidMeasurement
from harness.judge import timing
from harness.judge.timing import (
    Plan,
    Timing,
    Window,
    joined,
    measure,
    overlap_rate,
    overlap_rates,
    percentile,
    percentiles,
    unsteady,
)


def test_times_that_a_clock_may_show_are_taken():
    told = Timing((Window(0.0, 1.0, 1),), (Window(1.0, 2.0, 5), Window(2.5, 3.0, 5)), (0.1,))

    assert told.check() is told


@pytest.mark.parametrize(
    ("windows", "latencies"),
    [
        (((0.0, 0.0, 1),), ()),
        (((2.0, 1.0, 1),), ()),
        (((0.0, 1.0, 0),), ()),
        (((0.0, math.nan, 1),), ()),
        (((0.0, math.inf, 1),), ()),
        (((-math.inf, 1.0, 1),), ()),
        (((0.0, 1.0, 1),), (0.1, 0.0)),
        (((0.0, 1.0, 1),), (math.nan,)),
        ((), (0.1,)),
    ],
)
def test_times_that_no_clock_shows_are_no_measurement(windows, latencies):
    with pytest.raises(InvalidMeasurement, match="is no measurement") as told:
        Timing((), tuple(Window(*one) for one in windows), latencies).check()

    assert "own `measure`" in told.value.hint


def test_a_warm_up_that_no_clock_shows_is_no_measurement():
    with pytest.raises(InvalidMeasurement, match="is no measurement"):
        Timing((Window(0.0, 0.0, 1),), (Window(0.0, 1.0, 1),), ()).check()


class Device:
    """Takes `seconds` per execute on a clock of its own; `changes` maps a count of executes to a new duration."""

    def __init__(self, seconds, changes=()):
        self.seconds, self.changes = seconds, dict(changes)
        self.now = 100.0
        self.done = 0
        self.calls = []

    def __call__(self, times):
        self.calls.append(times)
        for _ in range(times):
            self.seconds = self.changes.get(self.done, self.seconds)
            self.now += self.seconds
            self.done += 1

    def clock(self):
        return self.now


def series(rates, start=0.0, seconds=1.0):
    windows = tuple(
        Window(start + n * seconds, start + (n + 1) * seconds, round(rate * seconds)) for n, rate in enumerate(rates)
    )
    return Timing((), windows, ())


@pytest.mark.parametrize("seconds", [1e-6, 0.003, 0.07, 0.9, 12.0])
def test_every_window_lasts_as_long_as_the_plan_asks(seconds):
    device = Device(seconds)

    result = measure(device, Plan(warmup_s=0.5, window_s=0.2, windows=5, latencies=3, limit_s=1e9), device.clock)

    assert len(result.windows) == 5
    assert len(result.latencies) == 3
    assert all(window.stop - window.start >= 0.2 for window in result.windows)
    assert all(window.rate == pytest.approx(1 / seconds, rel=1e-3) for window in result.windows)
    assert result.latencies == pytest.approx([seconds] * 3, rel=1e-3)


def test_windows_are_not_much_longer_than_asked():
    device = Device(0.003)

    result = measure(device, Plan(warmup_s=0.5, window_s=0.2, windows=5), device.clock)

    assert all(window.stop - window.start < 0.25 for window in result.windows)


def test_the_slow_start_is_in_the_warm_up_and_nowhere_else():
    device = Device(0.5, changes={1: 0.001})

    result = measure(device, Plan(warmup_s=1.0, window_s=0.1, windows=4, latencies=0), device.clock)

    assert result.warmup[0] == Window(100.0, 100.5, 1)
    assert result.warmup[-1].stop <= result.windows[0].start
    assert result.windows[0].start - result.warmup[0].start >= 1.0
    assert all(rate == pytest.approx(1000, rel=1e-3) for rate in result.rates)


def test_without_warm_up_every_execute_counts_and_windows_are_filled():
    device = Device(0.03)

    result = measure(device, Plan(warmup_s=0, window_s=0.1, windows=3, latencies=0), device.clock)

    assert result.warmup == ()
    assert sum(window.executes for window in result.windows) == device.done
    assert all(0.1 <= window.stop - window.start < 0.2 for window in result.windows)


def test_a_device_that_becomes_faster_still_fills_its_windows():
    device = Device(0.010, changes={150: 0.001})

    result = measure(device, Plan(warmup_s=1.0, window_s=0.2, windows=6), device.clock)

    assert all(window.stop - window.start >= 0.2 for window in result.windows)
    assert sum(window.executes for window in (*result.warmup, *result.windows)) + len(result.latencies) == device.done


def test_once_a_device_is_faster_windows_are_filled_at_once():
    """A window that is topped up has one more gap between two calls: only the first after the change has."""
    device = Device(0.010, changes={150: 0.001})

    result = measure(device, Plan(warmup_s=1.0, window_s=0.2, windows=8, latencies=0), device.clock)

    calls = len(device.calls) - len(result.warmup)
    assert 8 < calls <= 12
    later = [window.executes for window in result.windows[2:]]
    assert min(later) >= 200


def test_every_execute_is_in_exactly_one_sample():
    device = Device(0.004)

    result = measure(device, Plan(warmup_s=0.3, window_s=0.1, windows=3, latencies=7), device.clock)

    counted = sum(window.executes for window in (*result.warmup, *result.windows)) + len(result.latencies)
    assert counted == device.done
    assert device.calls[-7:] == [1] * 7


BRIEF = {"warmup_s": 0.0, "window_s": 1.0, "windows": 3, "latencies": 0}


@pytest.mark.parametrize(
    ("plan", "seconds", "changes", "calls"),
    [
        ({"warmup_s": 1.0, "latencies": 2}, 0.25, {}, [1, 5, 5, 5, 5, 1, 1]),  # a tenth more than fills a window
        ({"warmup_s": 3.0}, 1.0, {}, [1, 2, 2, 2, 2]),  # the warm-up ends where its time does
        ({"warmup_s": 0.5}, 1.0, {}, [1, 2, 2, 2]),  # or with the first full window after it
        ({}, 1.0, {}, [1, 1, 1]),  # a full window is not topped up
        ({"windows": 1}, 1.0, {}, [1]),
        ({}, 1.0, {1: 0.25}, [1, 1, 4, 5]),  # topped up, and so are all after it
        ({}, 1 / 64, {}, [1, 9, 61, 71, 71]),  # at most ten times as many as the last
        ({"windows": 9, "limit_s": 5.0, "latencies": 3}, 1.0, {}, [1] * 5 + [1]),  # the last window reaches the limit
        ({"latencies": 9, "latency_s": 4.0}, 1.0, {}, [1] * 3 + [1] * 4),
        ({"latencies": 9, "limit_s": 5.0}, 1.0, {}, [1] * 3 + [1] * 2),  # single executes end with the whole
    ],
)
def test_what_is_called_is_what_the_plan_says_to_the_execute(plan, seconds, changes, calls):
    device = Device(seconds, changes)

    measure(device, Plan(**{**BRIEF, **plan}), device.clock)

    assert device.calls == calls


def test_a_slow_engine_gets_fewer_windows_but_never_fewer_than_three():
    device = Device(30.0)

    result = measure(device, Plan(limit_s=60.0, windows=20, latencies=20), device.clock)

    assert len(result.windows) == 3
    assert len(result.latencies) == 1


@pytest.mark.parametrize("plan", [Plan(windows=0), Plan(window_s=0.0), Plan(window_s=float("nan"))])
def test_a_plan_without_windows_is_refused(plan):
    with pytest.raises(ValueError, match="at least one window"):
        measure(lambda times: None, plan)


def test_what_the_engine_raises_travels():
    def execute(times):
        raise InvalidMeasurement("busy", hint="wait")

    with pytest.raises(InvalidMeasurement):
        measure(execute, Plan())


def test_samples_survive_json():
    device = Device(0.01)
    result = measure(device, Plan(windows=3, latencies=2), device.clock)

    for whole in (result, Timing(result.warmup, result.windows, result.latencies, True, 3)):
        assert Timing.from_json(json.loads(json.dumps(whole.to_json()))) == whole
    plain = result.to_json()
    del plain["host_bound"], plain["in_flight"]  # as records of version 0.1 are
    assert Timing.from_json(plain) == result


def test_a_plan_is_a_second_of_warm_up_and_20_windows_of_a_fifth():
    """Throughputs are comparable from run to run only when they were measured for equally long."""
    assert Plan() == Plan(1.0, 0.2, 20, 20, 60.0, 60.0)


def test_single_executes_have_a_time_limit_of_their_own():
    device = Device(0.01)

    result = measure(device, Plan(warmup_s=0, window_s=0.1, windows=3, latencies=1000, latency_s=1.0), device.clock)

    assert len(result.windows) == 3
    assert len(result.latencies) == pytest.approx(100, abs=1)


@pytest.mark.parametrize(
    ("samples", "names"),
    [
        (1, ["p50"]),
        (49, ["p50"]),
        (50, ["p50", "p90"]),
        (499, ["p50", "p90"]),
        (500, ["p50", "p90", "p99"]),
        (4999, ["p50", "p90", "p99"]),
        (5000, ["p50", "p90", "p99", "p999"]),
    ],
)
def test_a_percentile_is_told_where_five_samples_lie_beyond_it(samples, names):
    found = percentiles([0.001] * samples)

    assert found == {"latency_executes": samples, **{f"latency_{name}_us": pytest.approx(1000) for name in names}}


def test_percentiles_are_those_of_the_nearest_rank_in_microseconds():
    found = percentiles([n * 1e-6 for n in range(1000, 0, -1)])

    assert found["latency_p50_us"] == pytest.approx(500)
    assert found["latency_p90_us"] == pytest.approx(900)
    assert found["latency_p99_us"] == pytest.approx(990)
    assert percentiles(()) == {}
    assert [percentile([3.0, 1.0, 2.0], share) for share in (0.0, 0.33, 0.34, 0.67, 1.0)] == [1.0, 1.0, 2.0, 3.0, 3.0]
    with pytest.raises(ValueError, match="no samples"):
        percentile((), 0.5)


def test_several_measurements_of_a_session_are_one():
    one = Timing((Window(0, 1, 1),), (Window(1, 2, 5),), (0.1,))
    two = Timing((Window(3, 4, 1),), (Window(4, 5, 7),), (), host_bound=True)

    assert joined([one, two]) == Timing(
        (Window(0, 1, 1), Window(3, 4, 1)), (Window(1, 2, 5), Window(4, 5, 7)), (0.1,), True
    )
    assert not joined([one, one]).host_bound
    assert joined([Timing((), (), (), in_flight=n) for n in (2, 3, 1)]).in_flight == 3


@pytest.mark.parametrize(("start", "allowed"), [(1.0, True), (1.0 + 1e-6, False)])
def test_devices_share_at_least_half_of_the_shortest_series(start, allowed):
    """Of 20 windows and 2, the two must share one: half of the two, not of the twenty."""
    long, short = series([10] * 20, start=start), series([10] * 2)

    if allowed:
        assert overlap_rates([long, short]) == pytest.approx((20, 20))
    else:
        with pytest.raises(InvalidMeasurement, match="measured together"):
            overlap_rates([long, short])


def test_an_even_series_is_steady():
    assert unsteady(series([1000, 1010, 990, 1005, 995, 1000])) == []


@pytest.mark.parametrize(
    ("rates", "reason"),
    [
        ([1000, 1000], "2 windows say nothing"),
        ([1000, 1060, 940, 1050, 950, 1000, 1060, 940], "vary by"),
        ([1000, 999, 990, 985, 970, 965, 955, 950, 948], "slower than the first"),
        ([1000, 1000, 1000, 1000, 1035], "the last third of the windows is 3.5% faster than the first"),
        ([950, 955, 965, 970, 985, 990, 999, 1000, 1002], "faster than the first"),
        ([1000] * 10 + [850] + [1000] * 20, "windows 11 of 31 lie over 10%"),
    ],
)
def test_an_uneven_series_is_called_so_with_the_reason(rates, reason):
    reasons = unsteady(series(rates))

    assert any(reason in text for text in reasons), reasons


@pytest.mark.parametrize(
    ("rates", "reasons"),
    [
        ([1000, 1000, 1000], []),
        ([39, 41] * 3, []),  # exactly 2.5 %
        ([38, 42] * 3, ["rates vary by 5.0% (coefficient of variation; 2.5% is steady)"]),
        ([1000] * 6 + [971] * 3, []),
        ([1000] * 6 + [969] * 3, ["the last third of the windows is 3.1% slower than the first"]),
        ([1000] * 4 + [1031] * 2, ["the last third of the windows is 3.1% faster than the first"]),
        ([1000] * 20 + [890] + [1111] + [1000] * 20, ["windows 21, 22 of 42 lie over 10% from the median"]),
        ([1000] * 20 + [901] + [1099] + [1000] * 20, []),
    ],
)
def test_reasons_are_told_in_full_and_only_beyond_what_is_steady(rates, reasons):
    assert unsteady(series(rates)) == reasons


def test_one_device_overlaps_with_itself():
    assert overlap_rate([series([10, 20, 30])]) == pytest.approx(20)
    assert overlap_rates([series([10, 20, 30])]) == pytest.approx((10, 20, 30))


def test_rates_of_devices_add_up_over_the_time_they_share():
    # by hand: shared time is 2..10; the first does 8 windows of 10/s there, the second 5/s in its first 8 s
    first, second = series([10] * 10), series([5] * 10, start=2.0)

    assert overlap_rates([first, second]) == pytest.approx((15,) * 10)
    assert overlap_rate([first, second]) == pytest.approx(15)


def test_a_window_across_the_border_counts_in_proportion():
    # shared time is 0.5..4; the first: half a window at 40/s, then 3 s at 20/s = 80; the second: 3.5 s at 10/s = 35
    first, second = series([40, 20, 20, 20]), series([10, 10, 10, 10], start=0.5)

    assert overlap_rate([first, second]) == pytest.approx((20 + 60 + 35) / 3.5)


def test_gaps_between_windows_lower_the_rate():
    gap = Timing((), (Window(0, 1, 10), Window(2, 3, 10)), ())

    assert overlap_rate([gap]) == pytest.approx(20 / 3)


@pytest.mark.parametrize("start", [5.1, 10.0, 20.0])
def test_devices_that_measured_at_different_times_are_invalid(start):
    with pytest.raises(InvalidMeasurement, match=rf"measured together for {max(0, 10 - start):.2f} s of 10.00 s"):
        overlap_rate([series([10] * 10), series([10] * 10, start=start)])


def test_the_default_clock_is_the_one_all_processes_share():
    import time

    assert time.get_clock_info("perf_counter").implementation == time.get_clock_info("monotonic").implementation


def test_it_parses_as_python_3_7_and_imports_the_standard_library_only():
    tree = ast.parse(Path(timing.__file__).read_text(), feature_version=(3, 7))

    imported = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert imported <= {"__future__", "math", "time", "dataclasses", "statistics", "typing", "harness"}
