"""A known failure passes with its reason and place shown; one that no longer occurs fails until its row is deleted."""

import pytest

from harness.baselines import Deviation
from harness.judge.known import excuse
from harness.judge.verdict import Verdict
from harness.vocabulary import Outcome

ROW = Deviation("regnety_016-t4-*", "numerics", "", "FP16 sums", "https://example.org/7", "deviations.toml", 12)


def test_a_failure_that_a_row_covers_passes_and_says_why():
    judged = excuse(Verdict(Outcome.FAIL, "cosine 0.9", {"cosine": 0.9}), ROW)

    assert judged.outcome is Outcome.PASS
    assert judged.text == "known failure (deviations.toml:12: FP16 sums; https://example.org/7): cosine 0.9"
    assert judged.details == {"cosine": 0.9, "deviation": "deviations.toml:12", "without_deviation": "FAIL"}


def test_a_row_that_is_no_longer_needed_fails_until_it_is_deleted():
    judged = excuse(Verdict(Outcome.PASS, "cosine 1"), ROW)

    assert judged.outcome is Outcome.FAIL
    assert "deviations.toml:12 no longer occurs, delete the row" in judged.text


@pytest.mark.parametrize("outcome", [Outcome.INCONCLUSIVE, Outcome.INVALID])
def test_what_does_not_say_whether_it_still_fails_stays(outcome):
    verdict = Verdict(outcome, "too little")

    assert excuse(verdict, ROW) is verdict


def test_without_a_row_nothing_changes():
    verdict = Verdict(Outcome.FAIL, "slow")

    assert excuse(verdict, None) is verdict
