"""The test session itself: what is required and absent is red, what is wrong in the options is said at once."""

import fcntl
import json
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from collections import Counter
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import inside
import installed_tiny
import pytest
import warm

from harness import matrix
from harness.case import Case
from harness.judge.policy import Policy
from harness.report.causes import PASSED_ON, SWITCHES, passed_on
from harness.report.ci import Status
from harness.report.records import Record, read_run
from harness.vocabulary import STAGE_MARKERS
from tests.conformance.conftest import limits_of
from tests.session import (
    ASKED,
    ATTEMPTS,
    BOOK,
    FRESH,
    OPTIONS,
    OWN,
    POLICY,
    RECORDS,
    TESTS,
    Book,
    Gathering,
    Own,
    _own_file,
    again,
    called,
    lineup_id,
    marks_of,
    options,
    selectable,
)
from tests.spread import scope_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def warm_pytest(monkeypatch):
    """No test is about how Python starts."""
    warm.instead(monkeypatch, warm.RUN)
    monkeypatch.setenv("WARM_BELOW", "")


def session(*arguments, **environment):
    """pytest on the conformance tests, in a process of its own without any vendor's SDK."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "tests/conformance", *arguments]
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("CHIPPROOF", "PYTEST"))}
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**settings, "LC_ALL": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        timeout=900,  # against a hang alone: a busy machine takes ten times as long as a quiet one
    )


class NothingRuns:
    """Where an option is not refused, the test is red at once and not after all conformance tests."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        return True


@pytest.fixture
def refusal(monkeypatch, capfd):
    """What is said when pytest refuses its options, in this process: a start of Python for each would take longer than
    the rest of this file."""

    def refuse(*arguments):
        done = inside.conformance(monkeypatch, capfd, *arguments, plugins=(NothingRuns(),))
        said = done.stdout + done.stderr
        assert done.returncode == pytest.ExitCode.USAGE_ERROR, said
        return said

    return refuse


CASE = "regnety_016-ascend310p-fp16-bs1"
ABSENT = ("-m", "ascend310p and regnety_016 and bs1")


def test_an_absent_chip_is_skipped_with_what_was_looked_for_and_what_to_do(tmp_path):
    done = session(*ABSENT, f"--cache={tmp_path / 'cache'}", f"--results={tmp_path / 'results'}")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "ascend310p is absent" in done.stdout
    assert "set_env.sh" in done.stdout
    assert "ran 0 of 1 case" in done.stdout
    (records,) = (tmp_path / "results").glob("*.jsonl")
    assert {record.outcome for record in read_run(records).records} == {"SKIP"}


def test_paths_of_options_need_no_path_of_tests(tmp_path):
    """pytest alone would look for its settings beside the data, and know none of the options."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "cpu and regnety_016 and fp32 and export"]
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("CHIPPROOF", "PYTEST"))}

    done = subprocess.run(
        [*command, "--data", tmp_path, "--results", tmp_path / "new"],
        cwd=ROOT,
        env=settings,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("tests/conformance/test_export.py") == 2


@pytest.mark.slow
def test_processes_share_the_devices_of_a_chip_and_no_test_is_lost(tmp_path, monkeypatch):
    warm.instead(monkeypatch, warm.WHOLE)
    marks = "ascend310 and (tiny_one or tiny_two) and (bs1 or bs4) and not accuracy"
    given = ["-m", marks, "--simulate", f"--cache={tmp_path / 'cache'}", f"--results={tmp_path / 'results'}"]

    done = session(*given, "-n2", PYTHONPATH=str(installed_tiny.site(tmp_path / "site")))

    assert done.returncode == 0, done.stdout + done.stderr
    (records,) = (tmp_path / "results").glob("*.jsonl")
    run = read_run(records)
    judged = [r for r in run.records if r.stage == "numerics" and r.metric == ""]
    timed = [r for r in run.records if r.stage == "throughput"]
    assert len(judged) == len(timed) == 4
    assert all("measured" in r.values and "x4" not in r.marks for r in timed), "the whole card was measured"
    built = [line["digest"] for line in run.lines if line.get("kind") == "engine"]
    assert len(list((tmp_path / "cache" / "engine").glob("*/meta.json"))) == len(set(built))


def test_a_command_to_paste_names_the_python_of_the_run_and_its_tests_from_where_it_was_started(tmp_path):
    """Without .venv on PATH `python` is another one, and from another folder the tests stand elsewhere."""
    (tmp_path / "red.py").write_text(
        "from harness.errors import RunError\n"
        "def pytest_pyfunc_call(pyfuncitem): raise RunError('planted', hint='none')\n"
    )
    (tmp_path / "lab.toml").write_text("")
    more = ["-p", "no:cacheprovider", "-p", "red", "-q", "--results=here", "--policy=lab.toml", "-k", "exported"]
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("CHIPPROOF", "PYTEST"))}
    settings |= {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT))), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "tools", "run", "cpu and fp32 and bs1 and regnety_016", *more]
    subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, timeout=300)
    (records,) = (tmp_path / "here").glob("*.jsonl")
    (red,) = read_run(records).records

    done = subprocess.run(["sh", "-c", red.facts["again"] + " --collect-only -q"], cwd=tmp_path, env=settings,
                          capture_output=True, text=True, timeout=300)  # fmt: skip

    assert "--policy=lab.toml" in red.facts["again"]
    assert done.returncode == 0, red.facts["again"] + done.stdout + done.stderr
    assert "test_the_exported_file" in done.stdout, done.stdout


def test_a_program_that_path_leads_to_goes_by_its_name(monkeypatch):
    folder = Path(sys.executable).parent
    name = Path(sys.executable).name
    started = [SimpleNamespace(invocation_params=SimpleNamespace(dir=where)) for where in (folder.parent, Path("/"))]

    monkeypatch.setenv("PATH", str(folder))
    assert called(name, started[0]) == name
    monkeypatch.setenv("PATH", "/nowhere")
    assert called(name, started[0]) == f"{folder.name}/{name}"


def gathering(**options):
    """Of pytest's configuration what Gathering needs."""
    config = SimpleNamespace(stash={RECORDS: {}, FRESH: [], ASKED: set(), TESTS: {}, ATTEMPTS: Counter(), OWN: []})
    config.stash[BOOK] = Book(config)
    config.stash[BOOK].silent = True
    config.getoption = options.get
    return config


def test_a_process_that_dies_is_an_error_on_record(tmp_path):
    """xdist makes up the report of its test."""
    config = gathering()
    test = "tests/conformance/test_accuracy.py::test_the_chip_agrees_with_the_reference[regnety_016-cpu-fp32-bs1]@cpu"

    Gathering(config).pytest_runtest_logreport(SimpleNamespace(nodeid=test, longrepr="worker 'gw0' crashed"))

    (record,) = config.stash[RECORDS].values()
    assert (str(record.case), record.stage, record.outcome) == ("regnety_016-cpu-fp32-bs1", "accuracy", "ERROR")
    assert "crashed" in record.text


def test_the_error_of_a_process_that_died_has_the_marks_and_the_stage_of_its_test():
    config, own = gathering(simulate=True), Case.parse("mine-t4-fp16-bs1")
    config.stash[OWN] = [SimpleNamespace(case=own)]
    for test in ("test_own.py::test_throughput_is_measured[mine-t4-fp16-bs1]",
                 "test_numerics.py::test_outputs_are_those_of_the_reference[regnety_016-t4-fp16-bs1]"):  # fmt: skip
        report = SimpleNamespace(nodeid=f"tests/conformance/{test}", longrepr="worker 'gw0' crashed")
        Gathering(config).pytest_runtest_logreport(report)

    assert {(r.case.model, r.stage, r.outcome, r.marks) for r in config.stash[RECORDS].values()} == {
        ("mine", "throughput", "ERROR", ("simulated",)), ("regnety_016", "numerics", "ERROR", ("simulated",))
    }  # fmt: skip


def test_what_is_asked_is_known_before_any_process_ends():
    """A run that was stopped said "ran 2 of 0 cases"."""
    config = gathering()
    lineup = next(case for case in matrix.lineups() if (case.model, case.chip) == ("regnety_016", "t4"))
    ids = [f"tests/conformance/test_export.py::test_the_exported_file_is_the_model[regnety_016-t4-fp16-bs{batch}]@t4"
           for batch in (1, 4)]  # fmt: skip
    ids += [f"tests/conformance/test_targets.py::test_latency_depends_on_the_batch[{lineup_id(lineup)}]",
            "tests/unit/test_case.py::test_names[regnety_016-t4-fp16-bs8]"]  # fmt: skip

    Gathering(config).pytest_xdist_node_collection_finished(None, ids)

    assert config.stash[ASKED] == {Case.parse("regnety_016-t4-fp16-bs1"), Case.parse("regnety_016-t4-fp16-bs4"), lineup}


def test_a_crash_is_not_forgotten_for_a_skip_that_another_process_reports():
    config = gathering()
    test = "tests/conformance/test_targets.py::test_latency_depends_on_the_batch[regnety_016-cpu-fp32]@cpu"
    case = next(c for c in matrix.lineups() if (c.model, c.chip, c.precision) == ("regnety_016", "cpu", "fp32"))
    skip = Record(case, "targets", "SKIP", "0 batches were measured")

    Gathering(config).pytest_runtest_logreport(SimpleNamespace(nodeid=test, longrepr="worker 'gw0' crashed"))
    again = SimpleNamespace(nodeid=test, longrepr="", chipproof=[json.dumps(skip.as_json())])
    Gathering(config).pytest_runtest_logreport(again)

    (record,) = config.stash[RECORDS].values()
    assert (record.case.chip, record.stage, record.outcome) == ("cpu", "targets", "ERROR")


@pytest.mark.parametrize("distribution", ["load", "loadgroup", "worksteal"])
def test_a_lineup_stays_in_one_process_however_tests_are_distributed(tmp_path, distribution):
    marks = "(ascend310p or mlu370_s4) and regnety_016 and (export or numerics)"

    done = session(
        "-m", marks, "-n2", f"--dist={distribution}", f"--cache={tmp_path / 'cache'}", f"--results={tmp_path}"
    )

    assert done.returncode == 0, done.stdout + done.stderr
    (records,) = tmp_path.glob("*.jsonl")
    run = read_run(records)
    assert {record.case.chip for record in run.records} == {"ascend310p", "mlu370_s4"}
    cases = {record.case for record in run.records}
    assert f"ran 0 of {len(cases)} cases" in done.stdout
    processes = {(scope_of(line["test"]), line["process"]) for line in run.lines if line["kind"] == "begin"}
    lineups = {scope for scope, _ in processes}
    assert len(processes) == len(lineups) == 4, done.stdout + done.stderr
    assert len({process for _, process in processes}) == 2
    assert not list(tmp_path.glob("*.part"))


def test_a_process_that_is_killed_costs_its_test_and_hangs_nobody(tmp_path):
    plugin = tmp_path / "dies.py"
    plugin.write_text(
        "import os, signal\n"
        "def pytest_runtest_setup(item):\n"
        "    if 'numerics' in item.nodeid and 'bs16' in item.nodeid and hasattr(item.config, 'workerinput'):\n"
        "        results = item.config.getoption('results')\n"
        "        (results / (item.config.workerinput['chipproof_stem'] + '.gw99.part')).touch()\n"  # at its begin
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    marks = "ascend310p and regnety_016 and (export or numerics)"

    done = session("-m", marks, "-n2", "-p", "dies", f"--cache={tmp_path / 'cache'}", f"--results={tmp_path}",
                   "-k", "same_input or exported", PYTHONPATH=str(tmp_path))  # fmt: skip

    (records,) = tmp_path.glob("*.jsonl")
    assert done.returncode == Status.LABORATORY, done.stdout
    kept = read_run(records)
    (lost,) = [record for record in kept.records if record.outcome == "ERROR"]
    assert (lost.case.batch, lost.stage) == (16, "numerics")
    assert "crashed" in lost.text
    assert kept.footer["outcomes"]["SKIP"] > 3, "the tests after it did not run"


def selected(*arguments):
    """(case, stage) of the tests that would run."""
    done = session("--collect-only", *arguments)
    assert done.returncode == 0, done.stdout
    return {(case, stage) for stage, case in re.findall(r"test_(\w+)\.py::\w+\[(.+)\]", done.stdout)}


@pytest.mark.parametrize("expression", [
    "cpu", "not cpu", "cpu and fp32 and bs1 and (export or numerics)", "t4 or throughput", "not (t4 and not slow)",
    "regnety_016 and not (int8 or bs64) or accuracy and not (mlu370_s4 or fp32)", "numerics", "cpu and t4", "no(thing",
])  # fmt: skip
def test_no_test_that_can_be_selected_is_left_out_and_few_others_are_made(expression):
    config = SimpleNamespace(getoption={"markexpr": expression}.get, args=["tests/conformance"])
    possible = selectable(config)
    own = [set(marks) for count in range(5) for marks in combinations((*STAGE_MARKERS, "slow"), count)]
    plain = expression.replace("no(thing", "True")

    every = {marks_of(case) for case in matrix.cases()}
    names = {name for marks in every for name in marks}
    for marks in every:
        known = {name: name in marks for name in names}
        found = any(eval(plain, {**known, **{n: n in some for n in (*STAGE_MARKERS, "slow")}}) for some in own)
        assert possible(marks) is found, marks


def test_tests_that_are_named_are_made_whatever_is_selected():
    config = SimpleNamespace(getoption={"markexpr": "cpu"}.get, args=["tests/conformance/test_export.py::test_a"])

    assert selectable(config)(("t4",))


def test_a_verdict_without_fp64_is_not_taken_over_by_a_run_that_has_it():
    def decided_in(tier):
        given = dict.fromkeys(OPTIONS) | {"tier": tier}
        return options(SimpleNamespace(getoption=given.__getitem__, stash={POLICY: Policy()}))

    assert decided_in("full") == decided_in("nightly") != decided_in("quick")


def test_tiers_hold_what_they_say():
    quick, nightly, full = (selected("-m", "t4 or cpu", f"--tier={tier}") for tier in ("quick", "nightly", "full"))

    assert quick < nightly < full
    heavy = {name for name, model in matrix.models().items() if model.heavy}
    assert heavy
    of_heavy = {(case, stage) for case, stage in quick if case.split("-")[0] in heavy}
    assert {stage for _, stage in of_heavy} >= {"export", "numerics", "throughput"}
    assert "accuracy" not in {stage for _, stage in of_heavy}
    assert {case.split("-")[0] for case, _ in quick} == set(matrix.models()), "a model is not run at all"
    assert {case.split("-")[2] for case, _ in quick if "-cpu-" in case} == {"fp32"}
    assert {case.split("-")[3] for case, stage in quick if stage == "accuracy"} == {"bs1"}
    left = full - nightly
    assert {stage for _, stage in left} == {"accuracy"}


def test_order_survives_a_plug_in_that_shuffles(tmp_path):
    (tmp_path / "shuffles.py").write_text(
        "import random\ndef pytest_collection_modifyitems(items):\n    random.Random(1).shuffle(items)\n"
    )

    done = session("--collect-only", "-p", "shuffles", "-m", "t4 and regnety_016", PYTHONPATH=str(tmp_path))

    stages = re.findall(r"test_(\w+)\.py::", done.stdout)
    assert stages.index("targets") > max(i for i, stage in enumerate(stages) if stage == "throughput")


def test_pages_that_cannot_be_written_take_neither_records_nor_summary_with_them(tmp_path):
    plugin = tmp_path / "full.py"
    plugin.write_text(
        "import errno\n"
        "from harness.report import publish\n"
        "def full(*_): raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "publish.publish = full\n"
    )

    done = session(*ABSENT, "-p", "full", f"--results={tmp_path / 'results'}", PYTHONPATH=str(tmp_path))

    assert done.returncode == Status.LABORATORY, done.stdout + done.stderr
    assert "ran 0 of 1 case" in done.stdout
    assert "the records are on disk, their pages are not: " in done.stdout
    assert "No space left" in done.stdout
    (records,) = (tmp_path / "results").glob("*.jsonl")
    assert {record.outcome for record in read_run(records).records} == {"SKIP"}


MEANWHILE = {
    "the folder is removed": "import shutil\n"
    "def pytest_runtest_teardown(item): shutil.rmtree(item.config.getoption('results'))\n",
    "the disk is full": "from harness.errors import StoreError\n"
    "from harness.report.journal import Journal\n"
    "add = Journal.add\n"
    "def full(book, line):\n"
    "    if line['kind'] == 'record': raise StoreError('No space left on device', hint='free some')\n"
    "    add(book, line)\n"
    "Journal.add = full\n",
}


@pytest.mark.parametrize("what", MEANWHILE)
def test_what_was_judged_is_on_disk_at_the_end_whatever_became_of_its_journal(tmp_path, what):
    (tmp_path / "meanwhile.py").write_text(MEANWHILE[what])

    done = session(*ABSENT, "-k", "exported", "-p", "meanwhile", f"--results={tmp_path / 'results'}",
                   PYTHONPATH=str(tmp_path))  # fmt: skip

    (records,) = (tmp_path / "results").glob("*.jsonl")
    kept = read_run(records)
    assert [record.outcome for record in kept.records] == ["SKIP"]
    assert (kept.footer["asked"], kept.footer["stopped"]) == (1, "")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("all records are on disk now" in done.stderr) == (what == "the disk is full")


@pytest.mark.parametrize(("full", "place"), [(["results"], "temporary"), (["results", "temporary"], "cache")])
def test_where_the_results_cannot_be_written_to_the_end_the_records_are_elsewhere(tmp_path, full, place):
    (tmp_path / "temporary").mkdir()
    (tmp_path / "meanwhile.py").write_text(
        MEANWHILE["the disk is full"] + "from harness.report import records\n"
        "whole = records.write_whole\n"
        "def none(path, content):\n"
        f"    if set({full}) & set(path.parts): raise StoreError('No space left on device', hint='free some')\n"
        "    whole(path, content)\n"
        "records.write_whole = none\n"
    )

    done = session(*ABSENT, "-k", "exported", "-p", "meanwhile", f"--results={tmp_path / 'results'}",
                   f"--cache={tmp_path / 'cache'}",
                   PYTHONPATH=str(tmp_path), TMPDIR=str(tmp_path / "temporary"))  # fmt: skip

    assert done.returncode == Status.LABORATORY, done.stdout + done.stderr
    (folder,) = tmp_path.glob("*/chipproof-records-*")
    (records,) = folder.iterdir()
    assert folder.parent.name == place
    assert [record.outcome for record in read_run(records).records] == ["SKIP"]
    assert "".join(str(records).split()) in "".join(done.stdout.split())


def test_an_absent_chip_that_is_required_is_a_failure(tmp_path):
    xml, summary = tmp_path / "junit.xml", tmp_path / "summary.md"
    done = session(*ABSENT, "--require=ascend310p", f"--cache={tmp_path}", f"--junitxml={xml}",
                   GITHUB_STEP_SUMMARY=str(summary))  # fmt: skip

    assert done.returncode == Status.LABORATORY, done.stdout
    assert "--require ascend310p: nothing ran on it" in done.stdout
    assert done.stdout.count("set_env.sh") == 1  # told by the summary, and not by pytest for every test
    assert 'name="export.outcome" value="SKIP"' in xml.read_text()
    assert "<error" in xml.read_text()
    assert "<skipped" not in xml.read_text()
    assert "ascend310p is absent" in summary.read_text()


def test_a_run_of_nothing_leaves_no_older_report_as_the_latest(tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    for name in ("latest.md", "latest.html", "latest.csv"):
        (results / name).write_text("yesterday: all green")

    done = session("-m", "cpu and t4", f"--results={results}")

    assert done.returncode == 5, done.stdout
    assert "nothing ran" in (results / "latest.md").read_text()
    assert "yesterday" not in (results / "latest.html").read_text() + (results / "latest.csv").read_text()
    (records,) = results.glob("*.jsonl")
    assert read_run(records).records == ()


def test_a_required_chip_of_which_nothing_was_selected_is_a_failure(tmp_path):
    done = session(*ABSENT, "--require=mlu370_s4", f"--cache={tmp_path}")

    assert done.returncode == Status.LABORATORY, done.stdout
    assert "--require mlu370_s4: nothing ran on it" in done.stdout


def test_an_option_comes_before_the_same_limit_of_the_policy():
    rules = Policy(limits={"": {"memory_gb": 32.0, "run": 60.0, "load": 5.0}})
    given = {"memory_limit": 24.0, "time_limit": ["run=90"]}
    config = SimpleNamespace(stash={POLICY: rules}, getoption=given.get)

    found = limits_of(config, matrix.chips()["cpu"])

    assert (found.memory, found.run, found.load) == (24e9, 90.0, 5.0)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--require=ascend910", "no such chip; there are ascend310"),
        ("--limit=0", "give at least 1 image"),
        ("--patience=-1", "give seconds, 0 or more"),
        ("--patience=inf", "give seconds, 0 or more"),
        ("--wait=-1", "give seconds, 0 or more"),
        ("--time-limit=bild=60", "of start, look, build, load, run, measure, close"),
        ("--memory-limit=0", "give gigabytes"),
        ("--resume=latest", "give --results DIR"),
        ("--tx=ssh=lab1//chdir=chipproof", "next: run on each host and merge"),
        ("--dist=each", "runs every test in every process"),
        ("--data=/no/such/folder", "no such folder\n  next: chipproof fetch"),
        ("--runner=aisbench", "no such backend; there are acl"),
        ("--backend-option=thread=1", "no backend knows thread"),
        ("--sdk-python=/no/such/python", "no such program\n  next: see what is here: chipproof doctor"),
        ("-m ascend31p", "-m: no marker ascend31p; chips: ascend310, "),
        ("-m ascend31p and fp16", "next: did you mean ascend310p? all: pytest --markers"),
        (f"-m {CASE}", "is a case, not a marker\n  next: -m 'regnety_016 and ascend310p and fp16 and bs1'"),
        ("--shard=4/3", "with K from 1 to N"),
        ("--onnx-input=a=0:1", "--onnx-input a=0:1 needs --onnx FILE"),
        ("--sdk-python=rk3588=/no/such/python", "rk3588=/no/such/python: no such program"),
        ("--sdk-python=rk3589=/usr/bin/python3", "no such chip"),
        ("--results=pyproject.toml", "cannot be written"),
        ("--baseline=/no/such.jsonl", "--baseline /no/such.jsonl"),
        ("--lang=fr", "invalid choice"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_runs(refusal, option, said):
    text = refusal("-m", "cpu", option)

    assert said in text
    assert "collected" not in text
    assert "ran 0 of" not in text


def test_a_refusal_is_what_a_user_sees():
    done = session("-m", "cpu", "--limit=0")

    assert done.returncode == 4, done.stdout
    assert "give at least 1 image" in done.stderr
    assert "collected" not in done.stdout


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--limit=0", "--limit 0：请至少给 1 张图片"),
        ("--limit=many", "参数 --limit：不是有效的 int"),
        ("--shard=4/3", "  下一步：请写 K/N，K 从 1 到 N"),
        ("--limt=3", "没有选项 --limt\n  下一步：是不是 --limit？全部：pytest --help"),
    ],
)
def test_a_wrong_option_is_refused_in_chinese(refusal, option, said):
    assert said in refusal("-m", "cpu", "--lang=zh", option)


def test_the_header_is_in_the_readers_language():
    done = session(
        "-v", "--lang=zh", "--collect-only", "-m", "cpu and regnety_016 and bs1", "--tier=quick", "--simulate"
    )

    assert "chipproof: 数据 无（使用自绘图片）" in done.stdout
    assert "chipproof: --tier quick：每种芯片" in done.stdout
    assert "chipproof: --simulate：使用模拟 SDK" in done.stdout


def test_the_header_names_settings_so_that_a_typo_shows():
    done = session("--collect-only", "-m", "cpu and regnety_016 and bs1", CHIPPROOF_DATTA="/typo")

    assert done.returncode == 0, done.stdout
    assert "CHIPPROOF_DATTA=/typo" in session("-v", "--collect-only", "-m", "t4", CHIPPROOF_DATTA="/typo").stdout


def test_a_terminal_that_is_not_utf_8_shows_the_summary_in_lines_and_progress_in_its_own_coding(tmp_path):
    """Pytest itself would print the summary as one line, with a backslash and an n for each end of a line."""
    (tmp_path / "chinese.py").write_text(
        "from tests.session import SCREEN\n"
        "def pytest_configure(config):\n"
        "    config.stash[SCREEN].write('用例 1/2')\n"
        "    root = config.pluginmanager.getplugin('tests.ending')\n"
        "    terminal = root.terminal\n"
        "    root.terminal = lambda *a, **k: '/数据/权重.pt is absent\\n' + terminal(*a, **k)\n",
        encoding="utf-8",
    )

    chinese = {"LC_ALL": "zh_CN.UTF-8"}  # and no terminal for it: the summary is English then
    done = session(*ABSENT, "-p", "chinese", PYTHONPATH=str(tmp_path), PYTHONIOENCODING="ascii", **chinese)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n/??/??.pt is absent\n" in done.stdout
    assert "\nran 0 of 1 case" in done.stdout
    assert r"\u7528\u4f8b 1/2" in done.stderr


def test_in_junit_and_in_pytests_counts_an_error_is_an_error_and_a_verdict_a_failure(tmp_path):
    (tmp_path / "test_three.py").write_text(
        "import pytest\n"
        "from harness.errors import InvalidMeasurement, RunError\n"
        "pytestmark = pytest.mark.numerics\n"
        "def test_breaks_off(case): raise RunError('three rows are missing', hint='look at the engine')\n"
        "def test_is_a_defect(case): raise KeyError('of our own')\n"
        "def test_is_busy(case): raise InvalidMeasurement('the device is busy', hint='wait')\n"
    )
    given = ["-p", "no:cacheprovider", "-p", "conftest", "-c", ROOT / "pyproject.toml", f"--rootdir={ROOT}"]
    given += ["-m", "cpu and regnety_016 and fp32 and bs1", f"--junitxml={tmp_path / 'junit.xml'}"]
    command = [sys.executable, "-m", "pytest", *given, tmp_path / "test_three.py"]
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("CHIPPROOF", "PYTEST"))}

    settings |= {"LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True)

    xml = (tmp_path / "junit.xml").read_text()
    assert "1 failed, " in done.stdout, done.stdout + done.stderr
    assert "2 errors" in done.stdout
    assert 'errors="2" failures="1"' in xml
    assert xml.count("three rows are missing") >= 1
    assert done.stdout.count("three rows are missing") == 1
    assert "KeyError: 'of our own'" in done.stdout
    assert "def test_is_a_defect(case)" in done.stdout, "it has no traceback, and is a defect"
    assert "def test_breaks_off(case)" not in done.stdout
    assert done.returncode == Status.LABORATORY


def screen_after(command, rows=24, columns=80, **more):
    """What a terminal of that size shows when a command has ended, as lines; and how many lines it wrote in all."""
    pyte = pytest.importorskip("pyte", reason="a terminal to look at: pip install pyte")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
    ours_only = ("CHIPPROOF", "PYTEST", "GITHUB", "CI", "COLUMNS", "LINES")
    settings = {name: value for name, value in os.environ.items() if not name.startswith(ours_only)}
    settings |= {"LC_ALL": "C.UTF-8", "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **more}
    with subprocess.Popen(command, cwd=ROOT, env=settings, stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        body = b""
        with suppress(OSError):  # what reading gives once nobody has the other end open
            while part := os.read(ours, 1 << 16):
                body += part
        os.close(ours)
        running.wait(timeout=60)
    screen = pyte.HistoryScreen(columns, rows, history=10_000)
    pyte.ByteStream(screen).feed(body)
    shown = [line.rstrip() for line in screen.display]
    return shown, len(screen.history.top) + len([line for line in shown if line])


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_screen_that_ends_a_red_run_shows_what_failed_why_and_the_command_to_run_next(tmp_path, lang):
    """A terminal of 80 columns and 24 lines, four cases and three causes; nothing needs scrolling."""
    (tmp_path / "test_red.py").write_text(
        "import pytest\n"
        "from harness.errors import InvalidMeasurement, RunError\n"
        "@pytest.mark.numerics\n"
        "def test_breaks_off(case): raise RunError('device 0 was lost: 507018', hint='npu-smi info')\n"
        "@pytest.mark.accuracy\n"
        "def test_is_short(case): raise RunError('three rows are missing', hint='look at the engine')\n"
        "@pytest.mark.throughput\n"
        "def test_is_busy(case): raise InvalidMeasurement('the device is busy', hint='wait')\n"
    )
    given = ["-p", "no:cacheprovider", "-p", "conftest", "-c", ROOT / "pyproject.toml", f"--rootdir={ROOT}"]
    four = "cpu and fp32 and (regnety_016 or deepmar_resnet50)"
    given += ["-m", four, f"--results={tmp_path}", f"--lang={lang}"]

    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    shown, written = screen_after([sys.executable, "-m", "pytest", *given, tmp_path / "test_red.py"], PATH=path)

    text = "\n".join(shown)
    assert max(map(len, shown)) <= 80, text
    for part in ("device 0 was lost: 507018", "three rows are missing", "the device is busy", "npu-smi info", "wait"):
        assert part in text, text
    for test in ("breaks_off", "is_short", "is_busy"):
        assert re.search(rf" python -m pytest '\S*::test_{test}\[\S+-cpu-fp32-bs1\]'", text), text
    assert "latest.html" in text.replace("\n", ""), text
    assert written <= 40 + 12, text  # pytest's own lines: its header, its progress and its last one


def test_the_command_to_run_a_case_again_names_its_own_file_alone(tmp_path):
    import own_models

    from harness.export import own

    files = [own_models.save(make, tmp_path / name) for make, name in
             ((own_models.dense, "a.onnx"), (own_models.two_inputs, "b.onnx"))]  # fmt: skip
    given = {"onnx_input": ["x=0:1", "a=2:3"]}
    cases = [Own(own.read(file), Case.parse(f"own_{file.stem}-cpu-fp32-bs1")) for file in files]
    config = SimpleNamespace(getoption=given.get, stash={OWN: cases})

    assert _own_file(config, cases[1].case) == {"onnx": [str(files[1])], "onnx_input": ["a=2:3"]}


LEFT_OUT = {"--wait", "--shard", "--device-reset", "--prepared-gb", "--require", "--results", "--resume", "--webhook",
            "--baseline", "--lang"}  # fmt: skip
"""Options that change nothing of what one test runs: they choose tests, wait, report or save time."""


def test_the_command_to_run_a_test_again_carries_each_option_that_changes_what_is_run():
    given = {**{name: f"a {name}" for name in PASSED_ON}, **dict.fromkeys(SWITCHES, True), "sdk_python": ["/py"],
             "backend_option": ["t4:a=1", "b=2"], "time_limit": ["build=9", "run=8"], "onnx_input": []}  # fmt: skip
    config = SimpleNamespace(getoption=given.get, stash={OWN: []}, rootpath=ROOT,
                             invocation_params=SimpleNamespace(dir=ROOT))  # fmt: skip

    told = shlex.split(again(SimpleNamespace(config=config, nodeid="tests/test_a.py::test_b")))

    wanted = ("--memory-limit=a memory_limit", "--time-limit=build=9", "--time-limit=run=8", "--tier=a tier",
              "--patience=a patience", "--backend-option=b=2", "--all-cards", "--simulate")  # fmt: skip
    assert [option for option in wanted if option not in told] == []
    text = (ROOT / "tests" / "options.py").read_text(encoding="utf-8")
    known = set(re.findall(r'addoption\(\s*"(--[a-z-]+)"', text))
    carried = {f"--{name.replace('_', '-')}" for name in (*PASSED_ON, *SWITCHES)}
    assert len(known) > 20
    assert known == carried | LEFT_OUT


def test_what_was_not_given_is_not_in_the_command():
    given = {**dict.fromkeys((*PASSED_ON, *SWITCHES)), "tier": "full", "time_limit": [], "onnx_input": []}

    assert passed_on(given) == []
