"""chipproof run hands its options to pytest, and keeps its exit status to three."""

import sys
from types import SimpleNamespace

import pytest

from tools import cli, run


@pytest.fixture
def started(monkeypatch):
    """How pytest was started; it ends with the status that is put in."""
    calls = []
    ends = SimpleNamespace(status=0, calls=calls)

    def start(command, **more):
        calls.append((command, more))
        return SimpleNamespace(returncode=ends.status)

    monkeypatch.setattr(run.subprocess, "run", start)
    return ends


def run_with(*words):
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", *map(str, words)])
    return ended.value.code


def test_pytest_is_started_on_the_conformance_tests_with_the_markers(started):
    assert run_with("cpu and fp32") == 0

    ((command, more),) = started.calls
    assert command[:3] == [sys.executable, "-m", "pytest"]
    assert command[3] == str(run.TESTS)
    assert command[command.index("-m", 3) + 1] == "cpu and fp32"
    assert (more["cwd"] / "conftest.py").is_file(), "pytest begins where its options are defined"


def test_every_option_reaches_pytest_and_paths_mean_the_same_there(started, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    run_with("cpu", "--data", "d", "--cache", "c", "--results", "r", "--limit", 3, "--require", "cpu", "--require",
             "t4", "--simulate")  # fmt: skip

    command = started.calls[0][0]
    assert {f"--data={tmp_path / 'd'}", f"--cache={tmp_path / 'c'}", f"--results={tmp_path / 'r'}"} <= set(command)
    assert {"--limit=3", "--require=cpu", "--require=t4", "--simulate"} <= set(command)


def test_what_was_not_asked_for_is_not_handed_on(started):
    run_with("cpu")

    assert not [word for word in started.calls[0][0] if word.startswith("--")]


@pytest.mark.parametrize(("status", "code"), [(0, 0), (1, 1), (2, 2), (3, 2), (4, 2), (5, 2), (-11, 2)])
def test_only_a_failed_check_ends_with_1(status, code, started):
    started.status = status

    assert run_with("cpu") == code


def test_without_the_conformance_tests_it_cannot_run(started, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run, "TESTS", tmp_path / "absent")

    assert run_with("cpu") == 2
    assert "there are no tests at" in capsys.readouterr().err
    assert started.calls == []
