"""A verdict is shown as its outcome and text; shares as percent with four digits."""

import pytest

from harness.judge.verdict import Verdict, percent
from harness.vocabulary import Outcome


def test_a_verdict_is_shown_with_its_outcome_first():
    assert str(Verdict(Outcome.FAIL, "3 of 5 lost")) == "FAIL: 3 of 5 lost"


@pytest.mark.parametrize(
    ("share", "shown"), [(0.01, "1 %"), (0.123456, "12.35 %"), (1.0, "100 %"), (-0.0005, "-0.05 %")]
)
def test_a_share_is_shown_as_percent(share, shown):
    assert percent(share) == shown
