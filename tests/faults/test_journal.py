"""What a run leaves on disk: every record when it is made, and what its verdicts rest on."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from harness.report.recompute import recompute
from harness.report.records import read_run
from harness.run import deciding
from harness.run.references import References

MARKS = "tiny_classes and fp32 and bs4 and not targets or tiny_classes and testbed and fp32 and protocol"


@pytest.fixture
def written(conform, planted, tmp_path):
    """(file, run) of a run of one case."""
    conform(MARKS, more=(f"--results={tmp_path}",))
    (path,) = tmp_path.glob("*.jsonl")
    return path, read_run(path)


def test_every_figure_of_windows_and_paired_answers_comes_out_again(written, planted):
    path, run = written
    checks = recompute(run, path.parent, planted.table)

    told = {f"{c.record.stage} {c.record.metric}".strip(): (c.result, c.why) for c in checks}
    assert told["throughput"][0] == told["accuracy top1"][0] == told["numerics"][0] == "same", told
    assert {result for result, _ in told.values()} == {"same"}, told


@pytest.mark.parametrize(
    ("stage", "metric", "change"),
    [
        ("throughput", "", {"measured": 1e6}),
        ("throughput", "", {"outcome": "FAIL"}),
        ("accuracy", "top1", {"outcome": "INCONCLUSIVE"}),
        ("accuracy", "top1", {"low": -1.0}),
        ("numerics", "", {"largest": 0.5}),
        ("numerics", "repeated", {"outcome": "FAIL"}),
        ("accuracy", "first batch", {"outcome": "FAIL"}),
        ("accuracy", "last batch", {"outcome": "FAIL"}),
        ("export", "", {"outcome": "FAIL"}),
        ("protocol", "", {"outcome": "FAIL"}),
    ],
)
def test_a_verdict_that_does_not_come_out_is_refused(written, planted, stage, metric, change):
    path, run = written
    outcome = change.get("outcome")
    values = {name: value for name, value in change.items() if name != "outcome"}
    records = [
        replace(r, outcome=outcome or r.outcome, values={**r.values, **values})
        if (r.stage, r.metric) == (stage, metric)
        else r
        for r in run.records
    ]

    differ = [
        c for c in recompute(replace(run, records=tuple(records)), path.parent, planted.table) if c.result == "differs"
    ]

    assert [(c.record.stage, c.record.metric) for c in differ] == [(stage, metric)]


@pytest.mark.parametrize("seeded", [False, True])
@pytest.mark.parametrize("task", ["objects", "faces", "attributes"])
def test_scores_of_boxes_and_attributes_are_made_again_of_the_answers_that_were_kept(
    conform, planted, monkeypatch, tmp_path, task, seeded
):
    """Of a network without trained weights the reference's own answers are the truth."""
    resolved = References.weights
    monkeypatch.setattr(References, "weights", lambda self, model: replace(resolved(self, model), seeded=seeded))
    monkeypatch.setenv("TESTBED", "wrong_sometimes")
    conform(f"tiny_{task} and fp32 and bs4 and accuracy", "agrees", more=(f"--results={tmp_path}",))
    (path,) = tmp_path.glob("*.jsonl")
    run = read_run(path)
    judged = {r.metric for r in run.records} - {"devices", "last batch", "first batch"}

    def results(run):
        return {c.record.metric: c for c in recompute(run, tmp_path, planted.table) if c.record.metric in judged}

    assert "tail" in judged
    assert len(judged) > 1
    assert {name: check.result for name, check in results(run).items()} == dict.fromkeys(judged, "same")
    altered = [replace(r, values={**r.values, "drop": 0.0}) if r.metric != "tail" else
               replace(r, values={**r.values, "ruined": 0, "low": 0.0}) for r in run.records]  # fmt: skip
    again = results(replace(run, records=tuple(altered)))
    assert {check.result for check in again.values()} == {"differs"}, again


def test_answers_that_were_changed_are_refused(written, planted):
    path, run = written
    (answers,) = path.with_suffix("").glob("*.npz")
    answers.write_bytes(answers.read_bytes()[:-1])

    told = {c.record.metric: c for c in recompute(run, path.parent, planted.table) if c.record.stage == "accuracy"}
    assert told["top1"].result == "differs"
    assert "was changed after it was written" in told["top1"].why


def test_answers_outside_the_results_are_not_read(written, planted, tmp_path):
    path, run = written
    lines = tuple({**line, "file": "../../etc/passwd"} if line["kind"] == "answers" else line for line in run.lines)

    told = recompute(replace(run, lines=lines), path.parent, planted.table)
    assert any("lies outside" in check.why for check in told)


def test_the_key_of_the_engine_is_in_the_journal(written):
    _, run = written
    engines = {line["digest"]: line for line in run.lines if line["kind"] == "engine"}
    named = {key: {r.metric for r in run.records if r.facts.get("engine_key") == key} for key in engines}

    assert all(line["key"]["packages"] == {} for line in engines.values())
    assert [names for names in named.values() if "dynamic" in names] == [{"dynamic"}], (
        "no other record is of that engine"
    )
    assert sorted(map(len, named.values()))[0] == 1 < len(engines) == 2
    assert set().union(*named.values()) == {r.metric for r in run.records}


def test_each_test_is_begun_and_ended_once(written):
    _, run = written
    begun = [line["test"] for line in run.lines if line["kind"] == "begin"]

    assert begun == [line["test"] for line in run.lines if line["kind"] == "end"]
    assert len(begun) == len(set(begun)) > 3


def test_a_test_that_fails_outside_accept_is_on_record(conform, monkeypatch):
    """As pytest-timeout ends a test: by pytest.fail, wherever it is."""

    def fail(*arguments):
        pytest.fail("Timeout (>5.0s) from pytest-timeout.")

    monkeypatch.setattr("harness.run.case_run.CaseRun.outputs", fail)
    records = conform("tiny_classes and fp32 and bs4 and numerics", "reference").records

    assert [(r.outcome, r.text) for r in records] == [("ERROR", "Timeout (>5.0s) from pytest-timeout.")]


def test_weights_that_may_not_be_read_are_an_error_on_record_and_end_no_run(conform, planted, monkeypatch, tmp_path):
    """A folder of another user's; root may read all, so the system is told to refuse."""
    look = os.stat

    def refuse(path, *arguments, **more):
        if planted.data / "weights" in Path(os.fsdecode(path) if not isinstance(path, int) else "/").parents:
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, *arguments, **more)

    monkeypatch.setattr(os, "stat", refuse)
    records = conform("tiny_classes and fp32 and bs4", more=(f"--results={tmp_path}",)).records

    assert len({record.stage for record in records if record.outcome == "ERROR"}) > 2
    for record in records:
        assert record.outcome != "ERROR" or "no access to" in record.text, record.text
    (path,) = tmp_path.glob("*.jsonl")
    assert read_run(path).footer["stopped"] == ""


def test_the_error_of_one_test_leaves_the_verdict_of_another(conform, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("as if")

    monkeypatch.setattr("harness.run.case_run.CaseRun.repeated", fail)
    records = {
        r.metric: r.outcome for r in conform("tiny_classes and fp32 and bs4 and numerics and not dynamic").records
    }

    assert records == {"": "PASS", "rows": "PASS", "the same input gives the same output twice": "ERROR"}


def test_a_verdict_computed_by_other_figures_says_so(written, planted):
    path, run = written
    other = replace(planted.table, digest="another")

    told = {c.record.stage: c for c in recompute(run, path.parent, other)}
    assert (told["throughput"].result, told["published"].result) == ("not recomputed", "not recomputed")


def test_a_red_test_that_is_taken_over_is_red_again(conform, monkeypatch, tmp_path):
    monkeypatch.setenv("TESTBED", "mean_forgotten")

    first, second = (
        conform("tiny_classes and fp32 and bs4 and numerics", more=(f"--results={tmp_path}", *more))
        for more in ((), ("--resume=latest",))
    )

    assert all("taken_over" in record.facts for record in second.records)
    assert "FAIL" in second.seen.values()
    assert second.seen == first.seen


def test_a_ratio_is_judged_anew_where_a_throughput_that_it_rests_on_was_measured_anew(conform, monkeypatch, tmp_path):
    """The ratio itself is decided by the same as before."""
    digest, salt = deciding.artefacts.digest_of, []
    monkeypatch.setattr(
        deciding.artefacts, "digest_of", lambda key: digest([key, salt if str(key.get("case")).endswith("bs1") else []])
    )

    def run(*more):
        records = conform(
            "tiny_classes and fp32 and (throughput or targets)", more=(f"--results={tmp_path}", *more)
        ).records
        return {(record.stage, record.case.batch): "taken_over" in record.facts for record in records}

    assert set(run().values()) == {False}
    assert run("--resume=latest") == {("throughput", 1): True, ("throughput", 4): True, ("targets", 4): True}
    salt.append("another compiler")
    assert run("--resume=latest") == {("throughput", 1): False, ("throughput", 4): True, ("targets", 4): False}
