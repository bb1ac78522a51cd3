"""Which verdicts of an earlier run stand."""

import os
from types import SimpleNamespace

import pytest

from harness.case import Case
from harness.report.journal import Journal
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


@pytest.mark.parametrize(
    ("outcomes", "stands"),
    [
        (["PASS"], True),
        (["PASS", "FAIL", "INCONCLUSIVE"], True),
        (["INVALID"], False),
        (["PASS", "INVALID"], False),
        (["ERROR", "PASS"], False),
        (["SKIP"], False),
        ([], False),
    ],
)
def test_a_test_stands_when_all_its_verdicts_are_final(outcomes, stands, tmp_path):
    case = Case.parse("regnety_016-t4-fp16-bs1")
    records = [Record(case, "accuracy", outcome, "", f"metric {place}") for place, outcome in enumerate(outcomes)]
    lines = [{"kind": "begin", "test": "a"}, {"kind": "end", "test": "a", "outcome": "failed", "decided_by": "d"}]
    write_run(tmp_path / "run.jsonl", {}, records, 1, "", lines, {(case, "accuracy", r.metric): "a" for r in records})

    kept = read([tmp_path / "run.jsonl"]).kept("a", "d")

    assert (kept is not None) is stands
    assert not stands or [record.outcome for record in kept] == outcomes


def test_the_latest_run_is_the_one_that_resumed_the_others_though_the_clock_was_set_back(tmp_path):
    for name, resumes, changed in (("a", [], 900), ("b", ["a.jsonl"], 600), ("c", ["b.jsonl"], 300)):
        write_run(tmp_path / f"{name}.jsonl", {"resumes": resumes}, [], 0)
        os.utime(tmp_path / f"{name}.jsonl", (changed, changed))

    assert latest(tmp_path) == [tmp_path / "c.jsonl"]

    (tmp_path / "d.jsonl").write_text('{"kind": "header", "resumes": 5}\n')
    os.utime(tmp_path / "d.jsonl", (100, 100))
    assert latest(tmp_path) == [tmp_path / "c.jsonl"]


def test_of_a_test_that_was_begun_again_only_the_last_attempt_counts(tmp_path):
    """It died after its first verdict, and --resume ran it again."""
    case = Case.parse("regnety_016-t4-fp16-bs1")
    book = Journal(tmp_path / "run.jsonl", {})
    for attempt, metric in ((1, "top1"), (2, "top5")):
        book.add({"kind": "begin", "test": "a", "attempt": attempt})
        book.add({**Record(case, "accuracy", "PASS", "", metric).as_json(), "test": "a"})
        book.add({"kind": "answers", "test": "a", "attempt": attempt})
    book.add({"kind": "end", "test": "a", "outcome": "passed", "decided_by": "d"})
    book.close()

    earlier = read([tmp_path / "run.jsonl"])

    assert [record.metric for record in earlier.kept("a", "d")] == ["top5"]
    assert [line["attempt"] for line in earlier.samples["a"]] == [2]
    assert earlier.attempts["a"] == 2


def test_what_is_no_file_is_no_run(tmp_path):
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe.part")
    (tmp_path / "killed.jsonl").write_text('{"kind": "head')
    assert latest(tmp_path) == []

    (tmp_path / "run.jsonl").write_text("{}\n")
    assert latest(tmp_path) == [tmp_path / "run.jsonl"]


def written(path, *, record=None, seconds, **header):
    """A run of one test, whose file was changed that many seconds after 1970."""
    book = Journal(path, header)
    book.add({"kind": "begin", "test": "a", "attempt": 1})
    if record is not None:
        book.add({**record.as_json(), "test": "a"})
        book.add({"kind": "end", "test": "a", "outcome": "passed", "decided_by": "d"})
    book.close()
    os.utime(path, (seconds, seconds))
    return path


def test_the_latest_run_is_the_newest_of_the_folder(tmp_path):
    for name, seconds in (("a", 30), ("b", 50), ("c", 40)):
        written(tmp_path / f"{name}.jsonl", seconds=seconds)

    assert latest(tmp_path) == [tmp_path / "b.jsonl"]


def test_verdicts_of_a_run_that_was_resumed_stand_where_the_later_one_has_none(tmp_path):
    """Stopped twice: what the first run judged is taken over by the third."""
    case = Case.parse("regnety_016-t4-fp16-bs1")
    verdict = Record(case, "numerics", "PASS", "of the first")
    written(tmp_path / "first.jsonl", record=verdict, seconds=1)
    second = written(tmp_path / "second.jsonl", seconds=2, resumes=["first.jsonl"])

    assert [record.text for record in read([second]).kept("a", "d")] == ["of the first"]


def test_of_two_runs_that_judged_a_test_the_later_one_counts(tmp_path):
    case = Case.parse("regnety_016-t4-fp16-bs1")
    first, second = (Record(case, "numerics", "PASS", text) for text in ("of the first", "of the second"))
    written(tmp_path / "first.jsonl", record=first, seconds=1)
    path = written(tmp_path / "second.jsonl", record=second, seconds=2, resumes=["first.jsonl"])

    assert [record.text for record in read([path]).kept("a", "d")] == ["of the second"]
