"""How an output differs: every difference is counted, and stands in the map where it is."""

import json

import numpy as np
import pytest

from harness.judge.differences import BINS, CELLS, differences


def planted(shape, *places):
    """Differences of an output of that shape: (index, value) each, and nothing elsewhere."""
    error = np.zeros(shape)
    for index, value in places:
        error[index] = value
    return differences(error + 7.0, np.full(shape, 7.0))


def test_each_difference_is_counted_in_its_bin():
    """Bins of 2/41 of the largest: the middle one holds zero, the outer ones the ends."""
    seen = planted((1000,), (0, 4.0), (1, -4.0), (2, 1.0))

    assert seen["largest"] == 4.0
    assert sum(seen["counts"]) == 1000
    assert {place: n for place, n in enumerate(seen["counts"]) if n} == {0: 1, 20: 997, 25: 1, 40: 1}
    assert len(seen["counts"]) == BINS


@pytest.mark.parametrize("largest", [1.0, 64.0, 1 / 64])
def test_a_level_is_a_power_of_ten_below_the_largest(largest):
    values = (1.0, 0.11, 0.09, 0.009, 9e-4, 9e-5, 9e-6, 1e-9, 1e-12, 0.0)
    seen = planted((2, 5), *(((i // 5, i % 5), largest * value) for i, value in enumerate(values)))

    assert seen["heat"] == ["55432", "10000"]


@pytest.mark.parametrize(
    ("shape", "at", "plane", "cell"),
    [
        ((16800, 4), (8400, 3), [16800, 4], (20, 3)),  # rows fall together, columns stay
        ((3, 80, 20), (1, 79, 0), [80, 20], (39, 0)),  # the largest over the first axis
        ((1, 10, 1, 10), (0, 2, 0, 9), [10, 10], (2, 9)),  # axes of one value are none
        ((1000,), (33,), [32, 32], (1, 1)),  # in reading order
        ((5,), (4,), [2, 3], (1, 1)),
        ((41, 41), (40, 40), [41, 41], (39, 39)),
        ((), (), [1, 1], (0, 0)),
    ],
)
def test_a_difference_stands_in_the_map_where_it_is(shape, at, plane, cell):
    seen = planted(shape, (at, 1.0))

    assert seen["plane"] == plane
    assert seen["wrapped"] == (len([n for n in shape if n > 1]) < 2)
    assert [(y, x) for y, row in enumerate(seen["heat"]) for x, level in enumerate(row) if level == "5"] == [cell]
    assert len(seen["heat"]) == min(CELLS, plane[0])


def test_behind_the_end_of_a_wrapped_vector_is_nothing():
    assert planted((7,), (6, 1.0))["heat"] == ["000", "000", "5  "]


def test_of_equal_and_of_infinite_differences_nothing_is_told():
    assert planted((4,)) == {}
    with np.errstate(over="ignore"):
        assert differences(np.array([1e308]), np.array([-1e308])) == {}


def test_the_smallest_numbers_are_counted_too():
    assert sum(differences(np.array([5e-324, 0.0]), np.zeros(2))["counts"]) == 2


def test_it_is_small_and_json():
    rng = np.random.default_rng(0)
    seen = differences(rng.normal(size=(16800, 10)), rng.normal(size=(16800, 10)))

    assert len(json.dumps(seen)) < 3000
