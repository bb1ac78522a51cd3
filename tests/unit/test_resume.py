"""Which verdicts of an earlier run stand."""

import os
from types import SimpleNamespace

import pytest

from harness.case import Case
from harness.report.records import Record, read_run, write_run
from harness.vocabulary import Outcome
from tests.resume import Earlier, latest, read


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


def test_a_run_of_several_processes_is_resumed_like_any_other(tmp_path):
    """Its file is put together from what each process wrote; one of them died in its test."""
    case = Case.parse("regnety_016-t4-fp16-bs1")
    judged, broken = Record(case, "numerics", "PASS", "equal"), Record(case, "accuracy", "ERROR", "gw1 crashed")
    lines = [{"kind": "begin", "test": "a", "attempt": 1}, {"kind": "windows", "test": "a"},
             {"kind": "end", "test": "a", "outcome": "passed", "decided_by": "d"},
             {"kind": "begin", "test": "b", "attempt": 1}]  # fmt: skip
    tests = {(case, "numerics", ""): "a", (case, "accuracy", ""): "b"}
    path = tmp_path / "run.jsonl"

    write_run(path, {}, [broken, judged], 1, "", lines, tests)

    assert {r.outcome for r in read_run(path).records} == {"PASS", "ERROR"}
    earlier = read([path])
    assert [r.outcome for r in earlier.kept("a", "d")] == ["PASS"]
    assert earlier.samples["a"] == [{"kind": "windows", "test": "a"}]
    assert earlier.kept("b", "d") is None
    assert earlier.attempts == {"a": 1, "b": 1}


def test_what_is_no_file_is_no_run(tmp_path):
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe.part")
    (tmp_path / "killed.jsonl").write_text('{"kind": "head')
    assert latest(tmp_path) == []

    (tmp_path / "run.jsonl").write_text("{}\n")
    assert latest(tmp_path) == [tmp_path / "run.jsonl"]
