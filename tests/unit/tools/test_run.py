"""chipproof run hands its options to pytest, and keeps its exit status to three."""

import sys
from pathlib import Path
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
    assert str(run.TESTS) in command
    assert command[command.index("-m", 3) + 1] == "cpu and fp32"
    (root,) = (word.partition("=")[2] for word in command if word.startswith("--rootdir="))
    assert (Path(root) / "conftest.py").is_file(), "pytest's options are defined there"
    assert "cwd" not in more, "relative paths are those of the user"


def test_every_option_reaches_pytest_as_it_was_given(started):
    given = ["--data", "d", "--results=r", "--limit", "3", "--require", "cpu", "--sdk-python", "p", "-n", "2", "-v"]
    run_with("cpu", *given)

    command = started.calls[0][0]
    assert command[command.index("cpu") + 1 :] == given


@pytest.mark.parametrize(
    ("status", "code"), [(0, 0), (1, 1), (2, 2), (3, 2), (4, 2), (5, 2), (-11, 2), (10, 10), (11, 11), (12, 12)]
)
def test_it_ends_with_the_suites_own_statuses_and_with_2_for_pytests(status, code, started):
    started.status = status

    assert run_with("cpu") == code


@pytest.mark.parametrize("words", [("--chip", "ascend310p"), ("--simulate", "ascend310p")])
def test_an_option_in_the_place_of_the_markers_is_refused_with_an_example(words, started, capsys):
    assert run_with(*words) == 2

    assert started.calls == []
    said = capsys.readouterr().err
    assert f"{words[0]} is in the place of the marker expression" in said
    assert 'next: chipproof run "ascend310p and bs1"' in said


def test_without_the_conformance_tests_it_cannot_run(started, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run, "TESTS", tmp_path / "absent")

    assert run_with("cpu") == 2
    assert "there are no tests at" in capsys.readouterr().err
    assert started.calls == []


def test_markers_without_quotes_are_not_taken_for_files(started, capsys):
    assert run_with("cpu", "and", "fp32", "--limit", "3") == 2

    assert not started.calls
    assert "put it in quotes: chipproof run 'cpu and fp32'" in capsys.readouterr().err
