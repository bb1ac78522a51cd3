"""What cannot be computed again is said with its reason, never taken for the same."""

from types import SimpleNamespace

from harness.case import Case
from harness.report.recompute import recompute
from harness.report.records import Record, Run

CASE = Case.parse("regnety_016-cpu-fp32-bs1")
TABLE = SimpleNamespace(digest="t")


def check(tmp_path, record):
    (found,) = recompute(Run({"baselines": "t"}, (record,), {}), tmp_path, TABLE)
    return found.result, found.why


def test_a_record_without_its_evidence_is_not_recomputed(tmp_path):
    told = {
        "throughput": "its windows are not kept", "accuracy": "its answers are not kept",
        "export": "export: what it rests on is not kept",
    }  # fmt: skip
    for stage, why in told.items():
        assert check(tmp_path, Record(CASE, stage, "PASS", "fine")) == ("not recomputed", why)


def test_an_error_has_no_figure(tmp_path):
    assert check(tmp_path, Record(CASE, "numerics", "ERROR", "died"))[0] == "not recomputed"
