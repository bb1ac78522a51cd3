"""The suite's results beside the authors': what is equal passes, what differs is named."""

import numpy as np
import pytest

from harness.judge.golden import Compared, difference, judge_golden
from harness.vocabulary import Outcome


def compared(ours, authors, tolerance=0.0):
    return Compared("picture A", np.array(ours), np.array(authors), tolerance)


def test_equal_results_pass():
    verdict = judge_golden([compared([1.0, 2.0], [1.0, 2.0]), compared(["a 1", "b"], ["a 1", "b"])])

    assert verdict.outcome is Outcome.PASS
    assert verdict.text == "2 results equal those of the authors' programs"
    assert verdict.details == {"compared": 2, "differing": 0}


@pytest.mark.parametrize(
    ("ours", "authors", "said"),
    [
        ([1.0, 2.5, 3.5], [1.0, 2.0, 3.0], "picture A: 2 of 3 values differ; number 1 is 2.5, the authors' 2.0"),
        ([1.0, np.nan], [1.0, 2.0], "picture A: 1 of 2 values differ; number 1 is nan, the authors' 2.0"),
        (["x", "y"], ["x", "z"], "picture A: 1 of 2 values differ; number 1 is y, the authors' z"),
        ([1.0, 2.0], ["x", "y"], "picture A: 2 of 2 values differ; number 0 is 1.0, the authors' x"),
        (["x"], [1.0], "picture A: 1 of 1 values differ; number 0 is x, the authors' 1.0"),
        ([[1.0]], [1.0, 2.0], "picture A: 1 x 1 values, the authors' program gives 2"),
        ([1.0, 2.0], [[1.0, 2.0]], "picture A: 2 values, the authors' program gives 1 x 2"),
        ([1.0, 2.0], [1.0], "picture A: 2 values, the authors' program gives 1"),
        (np.uint8([3]), np.uint8([5]), "picture A: 1 of 1 values differ; number 0 is 3, the authors' 5"),
    ],
)
def test_what_differs_is_named(ours, authors, said):
    assert difference(compared(ours, authors)) == said


def test_a_difference_within_the_tolerance_is_none():
    assert difference(compared([1.0001], [1.0], 2e-4)) == ""
    assert difference(compared([1.0003], [1.0], 2e-4)) != ""


def test_one_wrong_result_fails_and_blames_the_suite():
    verdict = judge_golden([compared([1], [1]), compared([2], [1])])

    assert verdict.outcome is Outcome.FAIL
    assert "1 of 2 results are not those of the authors' programs: picture A: 1 of 1 values differ" in verdict.text
    assert verdict.text.endswith("the suite or a library that it uses is wrong, not the chip")
    assert verdict.details["differing"] == 1


def test_of_several_wrong_results_the_first_is_shown_and_all_are_counted():
    verdict = judge_golden(
        [Compared("one", np.array([1]), np.array([2])), Compared("two", np.array([3]), np.array([5]))]
    )

    assert "2 of 2 results are not those of the authors' programs: one: 1 of 1 values differ" in verdict.text
    assert verdict.details == {"compared": 2, "differing": 2}


def test_unless_a_build_of_a_library_is_known_to_differ_all_digits_count():
    assert difference(Compared("one", np.array([1.0]), np.array([np.nextafter(1.0, 2)]))) != ""
    assert difference(Compared("one", np.array([1.0]), np.array([1.0]))) == ""
