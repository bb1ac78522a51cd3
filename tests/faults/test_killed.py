"""A run that is killed keeps what it had judged, leaves nothing behind, and goes on where it was."""

import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import installed_tiny
import psutil
import pytest
from apart import Apart, plain, until

from harness import matrix, store
from harness.chips import CHIPS
from harness.report.journal import read as journal_of
from harness.report.records import merge, not_resumed, read_run
from harness.run import leases
from harness.store import Store
from tests.resume import FINAL
from tools.report import left_behind

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


ROOT = Path(__file__).parents[2]
LABS = {
    "testbed and cpu": (("cpu",), "tiny_classes and ((fp32 and bs4 and (export or numerics or accuracy)) or "
                        "(testbed and fp32 and (throughput or targets)))", ()),
    "simulated": (("t4", "ascend310"), "tiny_classes and bs4 and ((t4 and fp32 and not targets) or "
                  "(ascend310 and (numerics or accuracy)))",
                  ("--simulate",)),
}  # fmt: skip
"""Chips beside the testbed, what is run, and further options."""


NOT_OURS = ("pytest-of-", ".ses", "torchinductor_")  # of pytest, ONNX Runtime and PyTorch: as many after 50 runs


@pytest.fixture
def lab(request, monkeypatch, tmp_path):
    """Chips beside the testbed's; leases and temporary folders of their own, and the run's processes can be told."""
    others, marks, more = LABS[request.param]
    monkeypatch.setattr(matrix, "CHIPS", {name: CHIPS[name] for name in others})
    monkeypatch.setattr(leases, "LEASES", tmp_path / "leases")
    monkeypatch.setattr(leases, "SIMULATED", tmp_path / "leases" / "simulated")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("KILLED_HERE", str(tmp_path))
    return marks, more


def of(run, folder):
    """Processes of a run, whatever became of their parents."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            ours = process.environ().get("KILLED_HERE") == str(folder)
            if ours or os.getsid(process.pid) == run.pid:
                found.append(process)
    return found


def sound(cache):
    """Every kept artefact is what was built."""
    for meta in cache.glob("*/*/meta.json"):
        said = json.loads(meta.read_text())
        beside = list(meta.parent.glob(f"{meta.parent.parent.name}*"))
        assert said["sha256"] in [store.digest(path) for path in beside], meta


@pytest.mark.slow
@pytest.mark.parametrize("lab", list(LABS), indirect=True)
def test_killed_at_random_moments_and_resumed_the_records_are_those_of_an_undisturbed_run(
    conform, lab, tmp_path, pytestconfig
):
    marks, more = lab
    watch = conform(marks, cache=tmp_path / "cache", more=(*more, f"--results={tmp_path / 'whole'}"))
    whole, lines = plain(watch.records), journal(tmp_path / "whole").count("\n")
    dice, killed, night = random.Random(15), Counter(), 0
    shared = {path.name for path in Path("/dev/shm").iterdir()}

    kills = pytestconfig.getoption("kills", 6) // len(LABS)
    while killed.total() < kills:
        night += 1
        results, cache = tmp_path / f"results{night}", tmp_path / f"cache{night}"
        given = (*more, f"--results={results}")
        ended = False
        while not ended:
            resume = ("--resume=latest",) if list(results.glob("*.jsonl")) else ()
            said = tmp_path / f"said{night}-{killed.total()}.txt"
            run = Apart(lambda r=resume, c=cache, g=given: conform(marks, cache=c, more=(*g, *r)), said)
            most = journal(results).count("\n") + dice.randint(0, lines)
            aim = most if killed.total() < kills else math.inf  # the last one comes to its end
            until(lambda run=run, r=results, aim=aim: run.ended() or journal(r).count("\n") >= aim)
            time.sleep(dice.uniform(0, 0.3))
            ended, how = run.ended(), dice.choice(("process", "group", "worker"))
            processes = of(run, tmp_path)
            workers = [process for process in processes if process.pid != run.pid]
            if not ended and how != "worker":
                run.signal(signal.SIGKILL, group=how == "group")
            elif not ended and workers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    dice.choice(workers).kill()
            killed[how] += not ended
            run.wait()
            assert gone([process for process in processes if process.is_running()]), f"left by {how} {processes}"
            assert gone(of(run, tmp_path)), "left by a process that was about to start them"
            for path in results.glob("*.jsonl"):
                read_run(path)
            sound(cache)
        check(results, whole)
        assert not Store(cache).leftovers()

    assert not list((tmp_path / "leases").rglob("*.json")), "a lease was left"
    assert {path.name for path in Path("/dev/shm").iterdir() if "chipproof" in path.name} <= shared
    ours = {path for path in (tmp_path / "tmp").iterdir() if not path.name.startswith(NOT_OURS)}
    assert ours <= {*leases.stale_scratch()}, "chipproof clean does not know it"


def check(results, whole):
    """The last of these runs says what the undisturbed one said, and nothing that had been judged ran twice."""
    runs = sorted(results.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    last = read_run(runs[-1])
    assert plain(last.records) == whole
    assert last.footer["stopped"] == ""
    judged = Counter()
    for path in (*runs, *results.glob("*.part")):  # of processes whose records nobody put together
        lines = journal_of(path).lines
        records = [line for line in lines if line["kind"] == "record"]
        final = {line["test"] for line in records} - {r["test"] for r in records if r["outcome"] not in FINAL}
        ended = [line["test"] for line in lines if line["kind"] == "end" and "taken_over" not in line]
        judged.update(test for test in ended if test in final)
    assert set(judged.values()) == {1}, "a test that had finished ran twice"


def test_a_run_that_is_resumed_again_and_again_does_not_grow(conform, tmp_path):
    marks, more = "tiny_classes and fp32 and bs4 and numerics", (f"--results={tmp_path}", "--resume=latest")
    sizes = []
    for _ in range(4):
        Apart(lambda: conform(marks, "outputs_are_those", more=more), tmp_path / "said.txt").wait()
        sizes.append(journal(tmp_path).count("\n") - sum(sizes))

    assert sizes[1:] == sizes[1:2] * 3, sizes


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


def several(cache, results, *more):
    """A run of two processes, each with a simulated chip."""
    marks = "(t4 or ascend310p) and tiny_one and fp16 and bs4 and (export or numerics)"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/conformance", "-m", marks, "-n2"]
    given = ["--simulate", f"--cache={cache}", f"--results={results}", *more]
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("CHIPPROOF", "PYTEST"))}
    settings["PYTHONPATH"] = str(cache.parent / "site")
    with (results.parent / "said.txt").open("a") as said:
        return subprocess.Popen(
            [*command, *given], cwd=ROOT, env=settings, stdout=said, stderr=said, start_new_session=True
        )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(cache, what a run of two processes says)."""
    folder = tmp_path_factory.mktemp("whole")
    installed_tiny.site(folder / "site")
    assert several(folder / "cache", folder / "results").wait(600) == 0, (folder / "said.txt").read_text()
    (path,) = (folder / "results").glob("*.jsonl")
    return folder / "cache", plain(read_run(path).records)


@pytest.mark.slow
@pytest.mark.parametrize("lab", ["simulated"], indirect=True)
@pytest.mark.parametrize("killed", ["a process", "all at once", "the one that sums up"])
def test_of_several_processes_any_may_be_killed(lab, undisturbed, tmp_path, killed):
    cache, whole = undisturbed
    results = tmp_path / "results"
    run = several(cache, results)
    until(lambda: any('"end"' in part.read_text() for part in results.glob("*.part")), 300)
    if killed == "a process":
        next(one for one in workers(run.pid) if "readline" in " ".join(one.cmdline())).kill()  # execnet's first words
    elif killed == "all at once":
        os.killpg(run.pid, signal.SIGKILL)
    else:
        run.kill()
    run.wait(300)
    processes = of(run, tmp_path)
    assert gone(processes), f"left: {processes}"

    for _ in range(2):  # what a process died in is an error of the first
        if several(cache, results, "--resume=latest").wait(300) == 0:
            break

    said = (tmp_path / "said.txt").read_text()
    check(results, whole)
    assert "verdicts taken over" in said
    told = merge(not_resumed({**{path: read_run(path) for path in results.glob("*.jsonl")}, **left_behind([results])}))
    assert plain(told.records) == whole
    assert told.footer["stopped"] == ""
    assert gone(of(run, tmp_path))
