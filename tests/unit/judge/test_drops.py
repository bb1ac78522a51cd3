"""Bounds of drops: against scipy, against enumeration, and by how often they hold in simulations."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.errors import InvalidMeasurement
from harness.judge import drops
from harness.judge.drops import (
    Drop,
    images_to_resample,
    looks,
    mcnemar,
    more_images,
    needed,
    paired_bootstrap,
    paired_drop,
    relative_drop,
    resampled_bounds,
    share_bounds,
    unseen_share,
)
from harness.judge.stats import confidence_at, spent


def answers(right, lost, gained, total):
    """(chip, reference) with so many answers that the reference has right, lost and gained by the chip."""
    reference = np.arange(total) < right
    chip = reference.copy()
    chip[:lost] = False
    chip[right : right + gained] = True
    return chip, reference


# ---------------------------------------------------------------------------------------------- drops


def test_a_drop_is_relative_to_the_reference():
    assert relative_drop(0.8, 0.6) == pytest.approx(0.25)
    assert relative_drop(0.5, 0.6) == pytest.approx(-0.2)


@pytest.mark.parametrize(("reference", "measured"), [(0.0, 0.0), (math.nan, 0.5), (0.5, math.nan), (-0.1, 0.5)])
def test_a_drop_without_meaning_is_refused(reference, measured):
    with pytest.raises(InvalidMeasurement):
        relative_drop(reference, measured)


@pytest.mark.parametrize(("count", "total"), [(0, 1), (0, 300), (1, 10), (5, 10), (299, 300), (300, 300)])
def test_bounds_of_a_share_are_clopper_and_pearsons(count, total):
    low, high = share_bounds(count, total, 0.025)
    theirs = scipy_stats.binomtest(count, total).proportion_ci(0.95, method="exact")

    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_bounds_of_a_share_of_nothing_say_nothing():
    assert share_bounds(0, 0, 0.05) == (0.0, 1.0)


def test_three_hundred_answers_without_a_loss_decide_one_percent():
    """The rule of three: 299 of them do so at exactly 95 %, 300 with the part of alpha left for gains."""
    assert unseen_share(299) <= 0.01 < unseen_share(298)
    assert paired_drop(*answers(300, 0, 0, 300)).high <= 0.01
    assert paired_drop(*answers(297, 0, 0, 297)).high > 0.01


def test_a_chip_that_answers_as_the_reference_does_has_no_drop():
    drop = paired_drop(*answers(234, 0, 0, 300))

    assert drop.value == 0
    assert drop.low < 0 < drop.high
    assert (drop.lost, drop.gained, drop.samples) == (0, 0, 300)


def test_gains_are_set_against_losses():
    with_gains, without = (paired_drop(*answers(40_000, 300, gained, 50_000)) for gained in (300, 0))

    assert with_gains.value == 0
    assert with_gains.high < 0.005 < without.high


@pytest.mark.parametrize(("right", "total"), [(6, 8), (10, 14), (9, 9)])
@pytest.mark.parametrize(("loss", "gain"), [(0.02, 0.0), (0.1, 0.3), (0.5, 0.5), (0.3, 0.0), (0.9, 0.1)])
def test_bounds_of_a_drop_hold_95_times_in_100_over_all_outcomes(right, total, loss, gain):
    """Coverage by enumerating every outcome with its probability."""
    wrong = total - right
    truth = loss - gain * wrong / right
    below = above = 0.0
    for lost, gained in itertools.product(range(right + 1), range(wrong + 1)):
        weight = scipy_stats.binom.pmf(lost, right, loss) * scipy_stats.binom.pmf(gained, wrong, gain)
        drop = paired_drop(*answers(right, lost, gained, total))
        below += weight * (drop.high >= truth - 1e-12)
        above += weight * (drop.low <= truth + 1e-12)

    assert below >= 0.95
    assert above >= 0.95


def test_bounds_of_a_drop_are_made_of_clopper_and_pearsons():
    """By hand: 40 of 800 right answers lost, 6 of 200 wrong ones gained; odds 1 : 4."""
    drop = paired_drop(*answers(800, 40, 6, 1000))

    def bound(count, total, alpha):
        return scipy_stats.binomtest(count, total).proportion_ci(1 - 2 * alpha, method="exact")

    lost, gained = (bound(40, 800, a) for a in (0.0495, 0.025)), (bound(6, 200, a) for a in (0.0005, 0.025))
    (lost_most, lost_half), (gained_least, gained_half) = lost, gained
    assert drop.high == pytest.approx(lost_most.high - 0.25 * gained_least.low)
    assert drop.low == pytest.approx(lost_half.low - 0.25 * gained_half.high)


def test_bounds_of_a_drop_are_not_needlessly_wide():
    """A real loss of 5 % is seen on 1,000 answers, and none on 10,000 with 1 % of them changed either way."""
    assert paired_drop(*answers(800, 40, 0, 1000)).low > 0.01
    assert paired_drop(*answers(7786, 50, 50, 10_000)).high < 0.01


@pytest.mark.parametrize("sizes", [(10, 11), (0, 1)])
def test_answers_to_different_questions_are_refused(sizes):
    with pytest.raises(InvalidMeasurement, match="answers of the chip against"):
        paired_drop(np.ones(sizes[0], bool), np.ones(sizes[1], bool))


def test_a_reference_without_a_right_answer_is_refused():
    with pytest.raises(InvalidMeasurement, match="no meaning"):
        paired_drop(np.ones(5, bool), np.zeros(5, bool))


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 0), (5, 5), (12, 3), (0, 7)])
def test_mcnemar_is_the_one_sided_binomial_test(lost, gained):
    theirs = (
        1.0 if lost + gained == 0 else scipy_stats.binomtest(lost, lost + gained, 0.5, alternative="greater").pvalue
    )

    assert mcnemar(lost, gained) == pytest.approx(theirs)


def test_what_is_needed_is_what_decides():
    drop = paired_drop(*answers(80, 0, 0, 100))
    more = needed(drop, 0.01, 80)
    total = 100 + more

    assert paired_drop(*answers(round(0.8 * total), 0, 0, total)).high <= 0.01
    less = round(0.97 * total)
    assert paired_drop(*answers(round(0.8 * less), 0, 0, less)).high > 0.01


def test_what_is_needed_allows_for_the_looks_that_so_many_images_have():
    """4 of 700 lost: more than 768 images are needed, which are looked at twice."""
    drop = paired_drop(*answers(700, 4, 0, 700))
    total = 700 + needed(drop, 0.01, 700)
    lost = round(4 * total / 700)

    assert len(looks(total)) > 1
    assert paired_drop(*answers(total, lost, 0, total), confidence_at(1 / len(looks(total)))).high <= 0.01
    less = total - 1 - total // 100
    fewer = paired_drop(*answers(less, round(4 * less / 700), 0, less), confidence_at(1 / len(looks(less))))
    assert fewer.high > 0.01 or round(4 * less / 700) < lost

    seen = Drop(0.004, 0.0, 0.02, 700, error=0.003)
    total = 700 + more_images(seen, 0.01)
    at = [resampled_bounds(0.004, 0.003 / math.sqrt(n / 700), 0.0, n, n, 0.05 / len(looks(n)))[1]
          for n in (total, total - total // 50)]  # fmt: skip
    assert len(looks(total)) > 1
    assert at[0] <= 0.01 < at[1]


def test_nothing_more_is_needed_when_all_is_decided():
    assert needed(paired_drop(*answers(500, 0, 0, 500)), 0.01, 500) == 0


def test_no_more_answers_are_gained_than_the_reference_has_wrong():
    """Of 7, rounding gives 6 right and 1 wrong one; of 10, 8 and 2, and the 1 that is gained of 6 becomes 2."""
    drop = paired_drop(*answers(5, 5, 1, 6))

    assert needed(drop, 0.3, 5) == 1
    assert drop.low <= 0.3 < paired_drop(*answers(6, 6, 1, 7)).low


def test_no_number_of_answers_decides_a_drop_equal_to_the_slack():
    assert needed(paired_drop(*answers(1000, 10, 0, 1000)), 0.01, 1000) is None


# ---------------------------------------------------------------------------------------------- bootstrap


def mean_of(values):
    values = np.asarray(values, np.float64)
    return lambda weights: {"ap": float(weights @ values / weights.sum())}


def test_the_bootstrap_draws_images_for_both_sides_alike():
    """A chip that loses the same share on every image has a drop without spread, however the images differ."""
    values = np.random.default_rng(0).uniform(0.1, 1, 400)
    drop = paired_bootstrap(mean_of(values * 0.95), mean_of(values), "ap", 400)

    assert drop.value == pytest.approx(0.05)
    assert drop.low == pytest.approx(0.05)
    assert drop.high == pytest.approx(0.05 + 1 / 400), "one answer more may be lost"


def test_the_bootstrap_is_the_same_every_time():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.1, 1, 50), rng.uniform(0.1, 1, 50)

    assert paired_bootstrap(mean_of(a), mean_of(b), "ap", 50) == paired_bootstrap(mean_of(a), mean_of(b), "ap", 50)


def test_the_bootstrap_agrees_with_the_delta_method():
    rng = np.random.default_rng(3)
    reference = rng.uniform(0.3, 1, 2000)
    chip = reference - rng.normal(0.01, 0.05, 2000)
    drop = paired_bootstrap(mean_of(chip), mean_of(reference), "ap", 2000, resamples=2000)

    ratio = chip.mean() / reference.mean()
    sigma = np.std(chip - ratio * reference, ddof=1) / reference.mean() / math.sqrt(2000)
    assert drop.value == pytest.approx(1 - ratio)
    assert drop.low == pytest.approx(1 - ratio - 1.645 * sigma, abs=0.15 * sigma)
    assert drop.high == pytest.approx(1 - ratio + 1.645 * sigma + 1 / 2000, abs=0.15 * sigma)


@pytest.mark.slow
def test_bounds_of_the_bootstrap_hold_about_95_times_in_100():
    rng = np.random.default_rng(7)
    truth, runs, below, above = 0.02 / 0.65, 200, 0, 0
    for run in range(runs):
        reference = rng.uniform(0.3, 1, 150)
        chip = reference - rng.normal(0.02, 0.1, 150)
        drop = paired_bootstrap(mean_of(chip), mean_of(reference), "ap", 150, resamples=300, seed=run)
        below += drop.high >= truth
        above += drop.low <= truth

    assert below >= 0.90 * runs
    assert above >= 0.90 * runs


def test_a_few_equal_images_prove_nothing():
    drop = paired_bootstrap(mean_of(np.ones(8)), mean_of(np.ones(8)), "ap", 8)

    assert drop.value == drop.error == drop.skew == 0
    assert drop.high == pytest.approx(1 - 0.05 ** (1 / 8))


def test_draws_on_which_the_reference_finds_nothing_are_drawn_again():
    values = np.zeros(12)
    values[:3] = 1
    drop = paired_bootstrap(mean_of(values / 2), mean_of(values), "ap", 12)

    assert drop.low == pytest.approx(0.5)


def first_only(weights):
    """Defined only where the first of the images is drawn: 1 - (1 - 1 / n) ** m of draws of m."""
    return {"ap": 1.0 if weights[0] else math.nan}


def test_a_metric_that_few_draws_define_has_no_bounds_but_a_number_of_images_that_would_do():
    rarely = paired_bootstrap(each_of_ten, each_of_ten, "ap", 10)
    often = paired_bootstrap(first_only, first_only, "ap", 10)

    assert (rarely.value, rarely.low, rarely.high) == (0.0, -math.inf, math.inf)
    assert math.isfinite(often.high), "two draws in three hold the first image"
    assert images_to_resample(first_only, "ap", 10) == 0


def test_a_metric_that_fewer_than_half_of_the_draws_define_has_no_bounds():
    """The first of many images is drawn exactly once in 37 of 100 draws, and at most once in 74."""
    rarely, often = (
        paired_bootstrap(
            *[lambda weights, most=most: {"ap": 1.0 if 1 - most <= weights[0] <= 1 else math.nan}] * 2, "ap", 50
        )
        for most in (0, 1)
    )

    assert (rarely.high, rarely.samples) == (math.inf, 50)
    assert math.isfinite(often.high)


def each_of_ten(weights):
    """Defined only where each of the images is drawn: of 10 that takes about 27 (coupon collector's median)."""
    return {"ap": 1.0 if weights.all() else math.nan}


def test_the_number_of_images_that_would_do_is_the_coupon_collectors():
    assert 10 + images_to_resample(each_of_ten, "ap", 10) == pytest.approx(27, abs=2)
    assert images_to_resample(lambda weights: {"ap": math.nan}, "ap", 3) is None
    assert images_to_resample(lambda weights: {"ap": 0.0}, "ap", 3) is None, "a drop from 0 has no meaning"


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_bootstrap_without_a_reference_is_refused(value):
    with pytest.raises(InvalidMeasurement):
        paired_bootstrap(mean_of(np.ones(5)), lambda weights: {"ap": value}, "ap", 5)


def test_what_a_bootstrap_cannot_see_is_counted_in_answers_not_in_images():
    drop = paired_bootstrap(mean_of(np.ones(8)), mean_of(np.ones(8)), "ap", 8, answers=400)

    assert drop.high == unseen_share(400)
    assert more_images(drop, 0.01, answers=400) == 0
    assert more_images(Drop(0.0, 0.0, unseen_share(100), 8), 0.01, answers=100) == pytest.approx(16, abs=1)


def test_more_images_are_those_that_narrow_the_bootstrap():
    seen = Drop(0.002, -0.01, 0.014, 500, error=0.004)
    more = more_images(seen, 0.01)
    at = 500 + more
    bounds = [resampled_bounds(0.002, 0.004 / math.sqrt(n / 500), 0, n, n, 0.05 / len(looks(n)))[1]
              for n in (at, round(0.97 * at))]  # fmt: skip

    assert bounds[0] <= 0.01 < bounds[1]
    assert more_images(Drop(0.0, 0.0, unseen_share(8), 8), 0.01) == pytest.approx(291, abs=2)
    assert more_images(Drop(0.01, 0.0, 0.02, 1000, error=0.01), 0.01) is None


@pytest.mark.parametrize(
    ("images", "sizes"),
    [
        (1, (1,)), (304, (304,)), (767, (767,)), (768, (512, 768)), (1000, (512, 1000)), (1535, (512, 1535)),
        (1536, (512, 1024, 1536)), (5000, (512, 1024, 2048, 5000)),
        (50_000, (512, 1024, 2048, 4096, 8192, 16_384, 32_768, 50_000)),
    ],
)  # fmt: skip
def test_looks_double_and_the_last_is_at_all_images(images, sizes):
    assert looks(images) == sizes


def test_at_the_first_look_a_chip_that_agrees_is_decided():
    """A top-1 of 78 %, none lost, at half of alpha; a fiftieth less would not do."""
    confidence = confidence_at(spent(1))

    assert paired_drop(*answers(399, 0, 0, 512), confidence).high <= 0.01
    assert paired_drop(*answers(367, 0, 0, 470), confidence).high > 0.01


@pytest.mark.parametrize("lost", [1, 2, 3, 5, 10, 30, 100])
@pytest.mark.parametrize("alpha", [0.05, 0.025, 0.05 / 6, 0.05 / 20])
def test_bounds_from_error_and_skew_are_those_of_a_poisson_number_of_losses(lost, alpha):
    """Garwood (Biometrika 28, 1936) gives those exactly; error and skew of a Poisson number are known. A verdict at 1 %
    rests on more than two losses, or on none."""
    faces = 3000
    seen = lost / faces, math.sqrt(lost) / faces, 1 / math.sqrt(lost)
    low, high = resampled_bounds(*seen, 600, faces, alpha)

    least = scipy_stats.chi2.ppf(alpha, 2 * lost) / 2 / faces
    most = scipy_stats.chi2.ppf(1 - alpha, 2 * lost + 2) / 2 / faces
    assert low <= least
    assert (0.98 if lost > 2 else 0.92) * most <= high <= 1.1 * most


def test_one_image_has_bounds():
    low, high = resampled_bounds(0.0, 0.0, 0.0, 1, 5, 0.05)

    assert (low, high) == (0.0, drops.unseen_share(5))


def test_the_longer_tail_of_a_bootstrap_widens_its_own_side_only():
    even, right, left = (resampled_bounds(0.01, 0.002, skew, 500, 10_000, 0.05) for skew in (0.0, 0.9, -0.9))

    assert (right[0], left[1]) == (even[0], even[1])
    assert right[1] - even[1] == pytest.approx(0.002 * 0.9 * ((2 * 1.648**2 + 1) / 6 + 1) - 1e-4, rel=0.01)
    assert even[0] - left[0] == pytest.approx(0.002 * 0.9 * (2 * 1.648**2 + 1) / 6, rel=0.01)


@pytest.mark.parametrize(("samples", "freedom"), [(1, 1), (2, 1), (3, 2), (40, 39)])
def test_the_bounds_of_a_bootstrap_have_at_least_one_degree_of_freedom(samples, freedom):
    low, high = resampled_bounds(0.1, 0.01, 0.0, samples, 10**9, 0.025)
    t = scipy_stats.t.isf(0.025, freedom)

    assert (low, high) == pytest.approx((0.1 - 0.01 * t, 0.1 + 0.01 * t), rel=1e-6)
