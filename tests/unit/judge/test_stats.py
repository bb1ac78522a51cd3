"""Intervals of speeds: against scipy, against enumeration, and by how often they hold in simulations."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from harness.errors import InvalidMeasurement
from harness.judge import stats
from harness.judge.stats import (
    FULL,
    SESSIONS,
    Estimate,
    confidence_at,
    exact,
    more_windows,
    over_sessions,
    paired_ratio,
    ratio_interval,
    spent,
    throughput,
)
from harness.judge.timing import Plan

# ---------------------------------------------------------------------------------------------- windows


def autoregressive(rng, n, r, mean=1000.0, sigma=10.0):
    noise = rng.standard_normal(n) * math.sqrt(1 - r * r)
    x = np.empty(n)
    x[0] = rng.standard_normal()
    for i in range(1, n):
        x[i] = r * x[i - 1] + noise[i]
    return mean + sigma * x


def two_clocks(rng, n, leaves=0.1, apart=0.05, sigma=0.005, mean=1000.0):
    """Rates under a clock with two states, each left in a window with probability `leaves`."""
    states = (np.cumsum(rng.random(n) < leaves) + (rng.random() < 0.5)) % 2
    return mean * (1 + apart * (states - 0.5) + sigma * rng.standard_normal(n))


def one_in_ten_slow(rng, n, mean=1000.0):
    return mean * (1.02 - 0.2 * (rng.random(n) < 0.1) + 0.01 * rng.standard_normal(n))


NOISES = {
    "independent, 2 %": lambda rng, n: rng.normal(1000, 20, n),
    "independent, 5 %": lambda rng, n: rng.normal(1000, 50, n),
    "AR(0.3)": lambda rng, n: autoregressive(rng, n, 0.3, sigma=20),
    "AR(0.6)": lambda rng, n: autoregressive(rng, n, 0.6, sigma=20),
    "AR(0.9)": lambda rng, n: autoregressive(rng, n, 0.9, sigma=20),
    "two clocks, half": lambda rng, n: two_clocks(rng, n, 0.5),
    "two clocks, seldom": two_clocks,
    "heavy tails": lambda rng, n: 1000 * (1 + 0.02 * rng.standard_t(3, n) / math.sqrt(3)),
    "one in ten slow": one_in_ten_slow,
}


@pytest.mark.slow
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("windows", [FULL, 60])
def test_the_interval_of_a_throughput_holds_or_is_doubted_whatever_the_noise(noise, windows):
    """Misses and doubts are counted over all series: an interval that nobody doubts misses in at most 7 %."""
    rng = np.random.default_rng(11)
    estimates = [throughput(NOISES[noise](rng, windows)) for _ in range(1000)]
    missed = np.mean([not e.doubt and not e.low <= 1000 <= e.high for e in estimates])

    assert missed <= 0.07, f"missed in {missed:.1%} of the series without a word"
    if noise.startswith(("independent", "heavy", "two clocks, half")):
        sure = [e for e in estimates if not e.doubt]
        assert len(sure) >= 700, "such noise is no reason for doubt"
        assert 0.93 <= np.mean([e.low <= 1000 <= e.high for e in sure]) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("windows", [3, 8, 20])
def test_few_windows_give_a_wide_interval_that_holds_whatever_the_noise(noise, windows):
    rng = np.random.default_rng(12)
    estimates = [throughput(NOISES[noise](rng, windows)) for _ in range(500)]

    assert all(f"{windows} windows do not show" in e.doubt for e in estimates)
    assert np.mean([e.low <= 1000 <= e.high for e in estimates]) >= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("noise", NOISES)
def test_looking_after_every_block_does_not_raise_the_error_rate(noise):
    """A figure exactly at its bound, looked at after 20, 40, 60 and 90 windows: decided on either side in 2.5 %."""
    rng = np.random.default_rng(13)
    above = below = 0
    for _ in range(1000):
        x = NOISES[noise](rng, 90)
        for look, windows in enumerate((20, 40, 60, 90), 1):
            seen = throughput(x[:windows])
            if seen.bound(0.025 * spent(look), upper=False) >= 1000:
                above += 1
                break
            if seen.bound(0.025 * spent(look), upper=True) < 1000:
                below += 1
                break

    assert above <= 40, f"{above} of 1,000 above"
    assert below <= 40, f"{below} of 1,000 below"


def test_errors_of_all_looks_together_stay_below_the_one_allowed():
    assert [spent(look) for look in (1, 2, 3)] == pytest.approx([1 / 2, 1 / 6, 1 / 12])
    assert 0.99 < sum(map(spent, range(1, 1000))) < 1


@pytest.mark.parametrize("number", [1, 2, 3, 10])
def test_a_last_look_spends_what_is_left(number):
    earlier = sum(map(spent, range(1, number)))

    assert earlier + spent(number, last=True) == pytest.approx(1)
    assert confidence_at(spent(number, last=True)) == pytest.approx(1 - 0.05 / number)


@pytest.mark.slow
def test_the_same_looks_at_the_plain_interval_would_err_more_often_than_allowed():
    """What the spending is for: seven looks at 95 % each."""
    rng = np.random.default_rng(14)
    looks = range(40, 101, 10)
    wrong = {True: 0, False: 0}
    for _ in range(600):
        x = rng.normal(1000, 20, 100)
        for spending in wrong:
            levels = [0.025 * (spent(look) if spending else 1) for look in range(1, len(looks) + 1)]
            wrong[spending] += any(
                throughput(x[:n]).bound(a, upper=False) >= 1000 for n, a in zip(looks, levels, strict=True)
            )

    assert wrong[True] <= 0.025 * 600 < wrong[False]


def test_a_bound_at_another_level_is_students():
    x = np.random.default_rng(5).normal(1000, 10, 50)
    seen = throughput(x)
    n = seen.worth

    low, _ = scipy_stats.t.interval(0.99, n - 1, 0, x.std(ddof=1) / math.sqrt(n))
    assert seen.bound(0.005, upper=False) == pytest.approx(seen.value + low, rel=1e-4)
    assert seen.bound(0.025, upper=False) == pytest.approx(seen.low)
    assert seen.bound(0.025, upper=True) == pytest.approx(seen.high)
    assert exact(5.0).bound(1e-6, upper=True) == 5.0
    assert exact(5.0) == Estimate(5.0, 5.0, 5.0, 0.0, 1)
    assert (exact(5.0).sessions, exact(5.0).worth, exact(5.0).width, exact(5.0).slow) == (1, math.inf, 1, False)
    nothing = Estimate(5.0, 0.0, 10.0, 0.0, 9, 9)
    assert (nothing.distance(0.01, upper=False), nothing.bound(0.01, upper=False), nothing.width) == (
        math.inf,
        0,
        math.inf,
    )


def test_the_allowance_for_what_was_not_seen_does_not_grow_with_the_level():
    seen = throughput([1000.0] * 10)

    assert (seen.low, seen.high) == pytest.approx((1000 / 1.05, 1050))
    assert seen.bound(1e-6, upper=False) == pytest.approx(seen.low)


def test_the_interval_of_independent_windows_is_hardly_wider_than_students():
    rng = np.random.default_rng(5)
    wide = []
    for _ in range(200):
        x = rng.normal(1000, 10, FULL)
        low, high = scipy_stats.t.interval(0.95, FULL - 1, x.mean(), scipy_stats.sem(x))
        seen = throughput(x)
        wide += [] if seen.doubt else [(seen.high - seen.low) / (high - low)]

    assert len(wide) > 180
    assert min(wide) >= 0.995, "the lower end is on the log scale"
    assert np.median(wide) < 1.2


def test_an_interval_in_doubt_holds_every_window_and_what_was_not_seen():
    rates = [1000.0] * 30 + [700.0] * 3 + [1000.0] * 7
    seen = throughput(rates)

    assert "lie over 10%" in seen.doubt or "neighbouring windows are alike" in seen.doubt
    assert seen.low <= 700
    assert seen.high >= 1000
    few = throughput(rates[:35])
    assert (few.low, few.high) <= (700 / 1.05 + 1e-9, math.inf)
    assert few.high >= 1050


def test_slow_windows_of_another_kind_widen_the_usual_interval_by_half():
    rates = (([1000.0, 1002.0] * 5 + [800.0]) * 4)[:44]
    seen = throughput(rates)
    worth = stats._worth(np.log(np.array(rates) / np.mean(rates)))
    half = scipy_stats.t.isf(0.025, worth - 1) * np.std(rates, ddof=1) / np.mean(rates) / math.sqrt(worth)

    assert "4 of 44 windows" in seen.doubt
    assert math.log(seen.value / seen.low) == pytest.approx(1.5 * half, rel=0.02)
    assert math.log(seen.high / seen.value) == pytest.approx(1.5 * math.log1p(half), rel=0.02)
    assert seen.worth == pytest.approx(worth)


def test_the_correlation_is_corrected_for_the_bias_of_small_samples():
    """Marriott and Pope: (1 + 4 r) / n."""
    x = autoregressive(np.random.default_rng(2), 50, 0.3)
    logs = np.log(x / x.mean())
    d = logs - logs.mean()
    raw = float(d[1:] @ d[:-1] / (d @ d))
    r = raw + (1 + 4 * raw) / 50

    assert raw > 0.05
    assert throughput(x).worth == pytest.approx(50 * (1 - r) / (1 + r), rel=1e-6)


def test_the_corrected_correlation_is_right_on_average():
    """Of 40 windows of an AR(0.6), by their worth: 0.59. Corrected by (1 + 3 r) / n it is 0.576, by nothing 0.525."""
    rng = np.random.default_rng(3)
    worth = np.array([stats._worth(autoregressive(rng, FULL, 0.6)) for _ in range(4000)])

    assert ((FULL - worth) / (FULL + worth)).mean() == pytest.approx(0.6, abs=0.015)


@pytest.mark.parametrize(
    ("rates", "reason"),
    [
        ([1000.0, 1001.0] * 19 + [1000.0], "39 windows do not show a clock"),
        ([1000.0] * 20 + [1050.0] * 20, "neighbouring windows are alike"),
        (([1000.0, 1002.0] * 5 + [800.0]) * 4, "4 of 44 windows lie over 10%"),
        ([1000.0, 1001.0] * 20, ""),
        ([900.0, 1111.0] * 20, ""),
        (([1000.0, 1002.0] * 5 + [800.0]) * 11, ""),
    ],
    ids=["few", "alike", "slow ones", "steady", "far to both sides", "slow ones, and many"],
)
def test_a_doubt_has_its_reason(rates, reason):
    found = throughput(rates).doubt

    assert (reason in found) if reason else not found


@pytest.mark.parametrize(("step", "doubted"), [(1.46, False), (1.49, True)])
def test_neighbours_are_alike_from_a_correlation_of_thirty_percent_on(step, doubted):
    rates = 1000 + step * np.repeat([-1.0, 1.0], 20) + np.array([1.0, -1.0] * 20)
    d = rates - rates.mean()
    r = float(d[1:] @ d[:-1] / (d @ d))

    assert 0.29 < r < 0.32
    assert (r > 0.3) is doubted
    assert throughput(rates).slow is doubted
    assert ("(correlation 0.31; up to 0.3 is noise)" in throughput(rates).doubt) is doubted


@pytest.mark.parametrize(
    ("rates", "out"),
    [
        (([1000.0, 1002.0] * 5 + [899.0]) * 4, 4), (([1000.0, 1002.0] * 5 + [901.0]) * 4, 0),
        (([1000.0, 1002.0] * 5 + [800.0]) * 11, 0), ((([1000.0, 1002.0] * 5 + [800.0]) * 11)[:119], 10),
    ],
)  # fmt: skip
def test_windows_over_ten_percent_off_are_told_up_to_119(rates, out):
    windows = len(rates) if len(rates) < 121 else 120
    told = f"{out} of {windows} windows lie over 10% from the median; 120 windows show how often"

    assert throughput(rates[:windows]).doubt == (told if out else "")


def interval(rates, factor=1.0):
    """The value of a throughput and its usual interval on the log scale, by SciPy: neighbours of these are unlike."""
    x = np.array(rates)
    half = factor * scipy_stats.t.isf(0.025, x.size - 1) * scipy_stats.sem(x) / x.mean()
    return x.mean(), half, math.log1p(half / factor) * factor


def test_the_interval_of_a_full_series_is_students_with_its_lower_end_on_the_log_scale():
    rates = [900.0, 1111.0] * 20
    seen, (mean, down, up) = throughput(rates), interval(rates)

    assert (seen.value, seen.low, seen.high) == pytest.approx((mean, mean * math.exp(-down), mean * math.exp(up)))
    assert (seen.spread, seen.allowance, seen.slow) == (pytest.approx(np.std(rates, ddof=1) / mean), 0.0, False)
    wider = throughput(rates, confidence=0.99)
    assert math.log(mean / wider.low) / down == pytest.approx(
        scipy_stats.t.isf(0.005, 39) / scipy_stats.t.isf(0.025, 39)
    )


def test_of_samples_far_to_one_side_the_usual_interval_is_half_as_wide_again():
    rates = ([1000.0, 1002.0] * 5 + [899.0]) * 4
    seen, (mean, down, up) = throughput(rates), interval(rates, 1.5)

    assert (seen.low, seen.high) == pytest.approx((mean * math.exp(-down), mean * math.exp(up)))


def test_of_samples_that_are_alike_the_interval_is_their_range():
    rates = [1000.0] * 20 + [1050.0] * 20
    seen = throughput(rates)

    assert (seen.value, seen.low, seen.high, seen.worth) == pytest.approx((1025, 1000, 1050, math.inf))


@pytest.mark.parametrize("rates", [[900.0, 1111.0] * 15, [990.0, 1010.0] * 10 + [900.0], [1000.0, 999.0, 1200.0]])
def test_few_samples_have_their_range_or_the_usual_interval_and_five_percent(rates):
    """Either end is the one or the other, whichever is farther."""
    seen, (mean, down, up) = throughput(rates), interval(rates)

    assert seen.low == pytest.approx(min(min(rates), mean * math.exp(-down)) / 1.05)
    assert seen.high == pytest.approx(max(max(rates), mean * math.exp(up)) * 1.05)
    assert seen.allowance == pytest.approx(math.log(1.05))


def test_the_interval_of_pairs_is_students_and_of_few_pairs_five_percent_wider():
    other = [10.0, 11.0, 12.0, 13.0] * 20
    for pairs, allowance in ((80, 0.0), (20, math.log(1.05))):
        chip = [2 * y * math.exp(0.01 * (-1) ** n) for n, y in enumerate(other)]
        logs = np.log(np.array(chip[:pairs]) / other[:pairs])
        half = scipy_stats.t.isf(0.025, pairs - 1) * scipy_stats.sem(logs)
        ratio = paired_ratio(chip[:pairs], other[:pairs])

        assert ratio.value == pytest.approx(2)
        assert math.log(ratio.value / ratio.low) == pytest.approx(half + allowance)
        assert math.log(ratio.high / ratio.value) == pytest.approx(half + allowance)
        assert (ratio.samples, ratio.worth, ratio.allowance) == (pairs, pairs, pytest.approx(allowance))
        assert ratio.spread == pytest.approx(np.std(np.exp(logs), ddof=1) / 2)
        wide = paired_ratio(chip[:pairs], other[:pairs], 0.99)
        assert math.log(wide.high / wide.value) - allowance > half


def of_sessions(noise, rng, first=20, fresh=4, sessions=9):
    return [NOISES[noise](rng, first), *(NOISES[noise](rng, fresh) for _ in range(sessions - 1))]


@pytest.mark.slow
@pytest.mark.parametrize("noise", NOISES)
def test_the_interval_over_fresh_sessions_holds_whatever_the_noise(noise):
    """With 40 windows of one session, those of AR(0.9) and of a clock that changes seldom are all in doubt."""
    rng = np.random.default_rng(21)
    draws = 2000 if noise == "one in ten slow" else 600  # three of four of those are in doubt
    estimates = [over_sessions(of_sessions(noise, rng)) for _ in range(draws)]
    sure = [e for e in estimates if not e.doubt]

    assert len(sure) >= {"AR(0.9)": 500, "two clocks, seldom": 500, "one in ten slow": 400}.get(noise, 300)
    assert 0.93 <= np.mean([e.low <= 1000 <= e.high for e in sure]) <= 0.985


def test_sessions_that_differ_count_one_by_one_and_others_window_by_window():
    """By hand: means 980, 1000, 1020 twice, of equal windows; and windows of which those are no news."""
    means = [980.0, 1000.0, 1020.0] * 2
    seen = over_sessions([[mean - 1, mean + 1] * 4 for mean in means])
    half = scipy_stats.t.ppf(1 - 0.035 / 2, 5) * np.std(means, ddof=1) / math.sqrt(6)

    assert (seen.value, seen.high, seen.worth, seen.sessions) == pytest.approx((1000, 1000 + half, 6, 6))
    assert seen.low == pytest.approx(1000 / (1 + half / 1000))
    assert (seen.samples, seen.doubt) == (48, "")

    alike = np.random.default_rng(5).normal(1000, 20, (6, 8))
    assert over_sessions(list(alike)) == dataclasses.replace(throughput(alike.ravel()), sessions=6)


def test_sessions_are_pooled_where_their_windows_explain_them_with_a_chance_above_a_quarter():
    """The chance is that of SciPy's analysis of variance: sessions of eight windows, more and more apart."""
    windows, seen = np.random.default_rng(3).normal(0, 1, (6, 8)), set()
    apart = np.array([-1.0, 2.0, 0.5, -2.0, 1.0, -0.5])
    for far in np.linspace(0, 1, 2001):
        series = [list(1000 + row + far * middle) for row, middle in zip(windows, apart, strict=True)]
        chance = scipy_stats.f_oneway(*series).pvalue
        if 0.2 < chance < 0.3:
            assert (over_sessions(series).worth == 6) is bool(chance <= 0.25), (far, chance)
            seen.add(bool(chance <= 0.25))

    assert seen == {True, False}


def test_the_first_session_counts_no_more_than_a_fresh_one():
    series = [[1100.0, 1101.0] * 10, *([mean, mean + 1] * 2 for mean in (1000.0, 1010.0, 990.0, 1005.0, 995.0))]

    assert over_sessions(series).value == pytest.approx((1100 + 5000) / 6 + 0.5)


def test_the_first_session_and_the_fresh_ones_make_a_full_series_that_two_clocks_hardly_hide_in():
    assert Plan().windows + (SESSIONS - 1) * stats.SESSION_WINDOWS == FULL
    assert 0.5**SESSIONS < 0.02 < 0.5 ** (SESSIONS - 1)
    assert 0.9 ** (FULL - 1) < 0.0165 < 0.9 ** (FULL - 2)


def test_rounding_is_no_correlation():
    for middle in (0.0, 1e-3, 1.0, 1e6):
        rounded = middle + np.repeat([0.0, 1e-16 * max(1.0, middle)], 20)
        assert stats._raw_correlation(rounded) == 0.0
    assert stats._raw_correlation(np.repeat([0.0, 1e-3], 20)) > 0.9


def test_few_sessions_or_few_windows_are_not_taken_for_more():
    rng = np.random.default_rng(6)
    five = list(rng.normal(1000, 20, (SESSIONS - 1, 10)))

    assert over_sessions(five) == dataclasses.replace(throughput(np.concatenate(five)), sessions=5)
    assert over_sessions(list(rng.normal(1000, 20, (6, 3)))).worth == 6, "18 windows are no full series"
    assert over_sessions([[1000.0] * 8] * 6).low == 1000


def test_windows_that_are_alike_say_so():
    rng = np.random.default_rng(4)

    assert throughput(autoregressive(rng, 60, 0.9)).slow
    assert not throughput(rng.normal(1000, 20, 60)).slow


def test_more_windows_are_those_that_bring_the_interval_off_the_bound():
    rng = np.random.default_rng(3)
    seen = throughput(rng.normal(1000, 20, 60))
    more = more_windows(seen, 0.999 * seen.value)

    assert not seen.doubt
    narrow = math.log(seen.value / seen.low) * math.sqrt(60 / (60 + more))
    assert narrow == pytest.approx(-math.log(0.999), rel=0.02)
    assert more_windows(throughput([1000.0] * 10), 999.0) == FULL - 10
    assert more_windows(seen, seen.value) is None
    assert more_windows(seen, seen.value * (1 + 1e-9)) is None


def test_more_pairs_are_those_whose_students_interval_is_off_the_bound_beyond_the_allowance():
    """An interval of 1 % and the 5 % for clocks, 6 % from the bound: as many pairs again would leave 0.7 % and 5 %. A
    bound within the allowance takes a full series."""
    ratio = Estimate(1.0, math.exp(-0.03 - 0.05), math.exp(0.03 + 0.05), 0.01, 10, allowance=0.05)

    assert more_windows(ratio, math.exp(-0.07)) == math.ceil(10 * (0.03 / 0.02) ** 2 - 10) == 13
    assert more_windows(ratio, math.exp(0.07)) == 13
    assert more_windows(ratio, math.exp(-0.0505)) == FULL - 10, "never more than without the allowance"
    assert more_windows(ratio, math.exp(-0.04)) == FULL - 10
    assert more_windows(ratio, math.exp(-0.2)) == 1
    assert more_windows(dataclasses.replace(ratio, doubt="alike"), math.exp(-0.07)) == FULL - 10


def test_the_correlation_counted_is_that_of_neighbours_and_a_negative_one_is_none():
    alternating = throughput([990.0, 1010.0] * 30)

    assert alternating.worth == 60
    few = np.array([10.0, 11.0, 12.0, 11.5, 12.5, 13.0])
    d = few - few.mean()
    raw = float(d[1:] @ d[:-1] / (d @ d))  # 0.22
    logs = np.log(few / few.mean())
    dl = logs - logs.mean()
    r = float(dl[1:] @ dl[:-1] / (dl @ dl))
    r += (1 + 4 * r) / 6
    assert 0 < raw < r
    assert throughput(few).worth == pytest.approx(max(2, 6 * (1 - r) / (1 + r)))
    assert throughput([10.0, 11.0, 12.0, 13.0]).worth == 2, "never fewer than two"
    middle = throughput(autoregressive(np.random.default_rng(1), 4000, 0.2))
    assert middle.worth == pytest.approx(4000 * 0.8 / 1.2, rel=0.1)


def test_the_interval_of_a_throughput_stays_above_zero_however_the_windows_vary():
    wild, calm = throughput([1.0, 5.0, 0.2]), throughput([100.0, 101.0, 102.0, 99.0])

    assert 0 < wild.low < wild.value < wild.high
    assert math.log(calm.value / calm.low) == pytest.approx(math.log(calm.high / calm.value), rel=0.02)


def test_a_steady_throughput_has_no_width():
    estimate = throughput([250.0] * FULL)

    assert (estimate.value, estimate.low, estimate.high, estimate.spread) == (250.0, 250.0, 250.0, 0.0)
    assert (estimate.samples, estimate.worth, estimate.doubt) == (FULL, FULL, "")


@pytest.mark.parametrize("rates", [[], [100.0, 101.0], [100.0, 0.0, 100.0], [100.0, math.nan, 100.0], [1, -1, 1]])
def test_too_few_or_impossible_windows_are_refused(rates):
    with pytest.raises(InvalidMeasurement, match="no throughput can be estimated"):
        throughput(rates)


# ---------------------------------------------------------------------------------------------- ratios


def test_the_interval_of_a_ratio_holds_about_95_times_in_100():
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(400):
        a, b = throughput(rng.normal(1250, 25, 10)), throughput(rng.normal(1000, 20, 10))
        ratio = ratio_interval(a, b)
        held += ratio.low <= 1.25 <= ratio.high

    assert held >= 0.93 * 400


@given(st.floats(1, 1e5), st.floats(0.001, 0.2), st.floats(1, 1e5), st.floats(0.001, 0.2))
@settings(max_examples=100, deadline=None)
def test_a_ratio_turned_over_has_its_interval_turned_over(a, da, b, db):
    one, two = Estimate(a, a * (1 - da), a * (1 + da), da, 5), Estimate(b, b * (1 - db), b * (1 + db), db, 5)
    there, back = ratio_interval(one, two), ratio_interval(two, one)

    assert there.low <= there.value <= there.high
    assert there.low * back.high == pytest.approx(1)
    assert there.high * back.low == pytest.approx(1)


def test_a_ratio_to_an_exact_number_has_the_measured_width():
    ratio = ratio_interval(Estimate(120.0, 114.0, 126.0, 0.02, 10), exact(100.0))

    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((1.2, 1.14, 1.26))


def test_pairs_cancel_what_slows_both():
    """A machine whose speed drifts by a third within the run does not blur the ratio of windows measured in turn."""
    rng = np.random.default_rng(4)
    drift = np.linspace(1.0, 1.33, 20)
    a, b = 300 * drift * rng.normal(1, 0.002, 20), 100 * drift * rng.normal(1, 0.002, 20)

    paired, apart = paired_ratio(a, b), ratio_interval(throughput(a), throughput(b))

    assert paired.low <= 3.0 <= paired.high
    assert paired.high - paired.low < 0.05 * (apart.high - apart.low)


def test_pairs_of_equal_windows_have_a_ratio_of_one():
    ratio = paired_ratio([5.0, 6.0, 7.0] * 20, [5.0, 6.0, 7.0] * 20)

    assert (ratio.value, ratio.low, ratio.high, ratio.spread, ratio.samples) == (1.0, 1.0, 1.0, 0.0, 60)


def test_few_pairs_are_worth_what_their_correlation_leaves():
    chip = np.array([10.0, 11.0, 12.0, 11.5, 12.5, 11.0, 10.5, 11.5])
    ratio = paired_ratio(chip, np.full(8, 10.0))

    assert (ratio.samples, ratio.worth) == (8, pytest.approx(stats._worth(np.log(chip))))
    assert 2 < ratio.worth < 6


@pytest.mark.parametrize("lows", [(0.0, 0.9), (1.9, 0.0), (-1.0, 0.9), (1.9, -1.0)])
def test_a_ratio_of_intervals_that_reach_zero_is_none(lows):
    one, other = Estimate(2.0, lows[0], 2.1, 0.1, 40), Estimate(1.0, lows[1], 1.1, 0.1, 12)

    with pytest.raises(InvalidMeasurement, match=r"an interval reaches zero: 2 .* over 1 "):
        ratio_interval(one, other)


def test_a_ratio_rests_on_the_shorter_series():
    ratio = ratio_interval(Estimate(2.0, 1.9, 2.1, 0.1, 40, 40), Estimate(1.0, 0.9, 1.1, 0.1, 12, 10))

    assert (ratio.samples, ratio.worth) == (12, 10)


def test_series_that_cannot_be_paired_are_refused():
    with pytest.raises(InvalidMeasurement, match="3 windows against 4"):
        paired_ratio([1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0])
