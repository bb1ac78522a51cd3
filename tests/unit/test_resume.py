"""Which verdicts of an earlier run stand."""

from types import SimpleNamespace

import pytest

from harness.case import Case
from harness.report.records import Record
from harness.vocabulary import Outcome
from tests.resume import Earlier


@pytest.mark.parametrize(
    ("outcome", "stage", "patience", "stands"),
    [
        ("INCONCLUSIVE", "throughput", "None", True),
        ("INCONCLUSIVE", "throughput", "120.0", False),
        ("PASS", "throughput", "120.0", True),
        ("INCONCLUSIVE", "accuracy", "120.0", True),
    ],
)
def test_what_was_undecided_is_measured_again_with_another_patience(outcome, stage, patience, stands):
    record = Record(Case.parse("regnety_016-cpu-fp32-bs1"), stage, Outcome(outcome), "")
    earlier = Earlier(
        [SimpleNamespace(name="run.jsonl")], {"t": [record]}, decided_by={"t": "d"}, patience={"t": "None"}
    )

    assert (earlier.kept("t", "d", patience) is not None) is stands
    assert earlier.kept("t", "other", patience) is None
