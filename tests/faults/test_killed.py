"""A run that is killed keeps what it had judged, leaves nothing behind, and goes on where it was."""

import random
import signal

import psutil
import pytest
from apart import Apart, until

from harness.report.records import read_run

MARKS = "tiny_classes and fp32 and bs4 and (export or numerics or accuracy)"


def journal(results):
    """The text of the run's journal so far."""
    return "".join(path.read_text() for path in sorted(results.glob("*.jsonl")))


def workers(pid):
    """Processes of the suite that belong to a run."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def gone(processes):
    """Whether these processes end soon."""
    return not psutil.wait_procs(processes, timeout=20)[1]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_run_as_ctrl_c_does_with_its_records(conform, tmp_path, name):
    run = Apart(lambda: conform(MARKS, more=(f"--results={tmp_path}",)), tmp_path / "said.txt")
    until(lambda: '"stage": "numerics"' in journal(tmp_path))
    children = workers(run.pid)

    run.signal(getattr(signal, name))
    run.wait()

    (path,) = tmp_path.glob("*.jsonl")
    kept = read_run(path)
    assert f"STOPPED by {name} before its end" in kept.head_line
    assert any(r.stage == "numerics" and r.outcome == "PASS" for r in kept.records)
    assert (tmp_path / "latest.md").exists()
    assert gone(children)


def test_a_run_that_is_killed_keeps_what_it_had_judged_and_leaves_no_process(conform, tmp_path):
    run = Apart(lambda: conform(MARKS, more=(f"--results={tmp_path}",)), tmp_path / "said.txt")
    until(lambda: '"stage": "numerics"' in journal(tmp_path))
    children = workers(run.pid)

    run.signal(signal.SIGKILL)
    run.wait()

    (path,) = tmp_path.glob("*.jsonl")
    kept = read_run(path)
    assert "CUT OFF" in kept.head_line
    assert any(r.stage == "numerics" and r.outcome == "PASS" for r in kept.records)
    assert gone(children)


def plain(records):
    """What a record says, without what differs from run to run."""
    costs = ("build_s", "worker_peak_mb")
    return {
        (str(r.case), r.stage, r.metric): (
            r.outcome, r.text, {k: v for k, v in r.values.items() if k not in costs}, set(r.marks) - {"kept"}
        )
        for r in records
    }  # fmt: skip


def test_killed_at_random_moments_and_resumed_the_records_are_those_of_an_undisturbed_run(conform, tmp_path):
    whole = plain(conform(MARKS, more=(f"--results={tmp_path / 'whole'}",)).records)
    results = tmp_path / "results"
    dice = random.Random(15)

    for attempt in range(6):
        lines = journal(results).count("\n") if results.is_dir() else 0
        more = (f"--results={results}", *(("--resume=latest",) if attempt else ()))
        run = Apart(lambda more=more: conform(MARKS, more=more), tmp_path / f"said{attempt}.txt")
        aim = lines + dice.randint(1, 8)
        until(lambda aim=aim, run=run: run.ended() or (results.is_dir() and journal(results).count("\n") >= aim))
        run.signal(signal.SIGKILL, group=dice.random() < 0.5)
        run.wait()
    conform(MARKS, more=(f"--results={results}", "--resume=latest"))

    last = read_run(max(results.glob("*.jsonl"), key=lambda path: path.stat().st_mtime))
    assert plain(last.records) == whole
    assert last.footer["stopped"] == ""
    ended = [
        line["test"]
        for path in results.glob("*.jsonl")
        for line in read_run(path).lines
        if line["kind"] == "end" and "taken_over" not in line
    ]
    judged = [test for test in ended if "suppressing" not in test and "normalising" not in test]
    assert len(judged) == len(set(judged)), "a test that had finished ran twice"


@pytest.mark.parametrize("fault", ["dies", "bf16"])
def test_what_broke_off_runs_again_and_what_was_judged_does_not(conform, monkeypatch, tmp_path, fault):
    marks = "tiny_classes and fp32 and bs4 and numerics"
    monkeypatch.setenv("TESTBED", fault)
    first = conform(marks, more=(f"--results={tmp_path}",)).records
    monkeypatch.setenv("TESTBED", "")

    second = conform(marks, more=(f"--results={tmp_path}", "--resume=latest")).records

    told = {r.metric: (r.outcome, r.facts.get("attempt", 1)) for r in second}
    if fault == "dies":
        assert {r.outcome for r in first} == {"ERROR"}
        assert told[""] == ("PASS", 2)
        assert told["repeated"] == ("PASS", 2)
    else:
        assert told[""] == ("FAIL", 1), "a verdict does not change because it is asked again"


def test_a_verdict_is_not_taken_over_when_what_decides_it_changed(conform, tmp_path):
    marks = "tiny_classes and fp32 and bs4 and accuracy"
    conform(marks, "agrees", more=(f"--results={tmp_path}",))

    watch = conform(marks, "agrees", more=(f"--results={tmp_path}", "--resume=latest", "--limit=300"))

    assert {r.facts["images"] for r in watch.records} == {300}
    assert watch.seen, "the test was not run again"


def test_a_results_folder_without_a_run_resumes_nothing(conform, tmp_path):
    watch = conform("tiny_classes and fp32 and bs4 and export", more=(f"--results={tmp_path}", "--resume=latest"))

    assert set(watch.seen.values()) == {"PASS"}
