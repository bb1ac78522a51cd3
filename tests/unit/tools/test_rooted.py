"""pytest is started again with the path that it lacked, in this project and nowhere else."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import rooted


@pytest.fixture
def again(monkeypatch):
    """Starts the plug-in as pytest does; the command that would replace the process, if any."""

    def start(*words, folder=rooted.PROJECT, inipath=None, program="pytest"):
        started = []
        monkeypatch.setattr(rooted.os, "execv", lambda path, command: started.append((path, command)))
        monkeypatch.setattr(sys, "argv", [program])
        params = SimpleNamespace(dir=folder, args=words)
        steps = rooted.pytest_load_initial_conftests(SimpleNamespace(invocation_params=params, inipath=inipath))
        assert next(steps) is None
        return started

    return start


def test_a_path_that_was_taken_for_tests_is_given_back_its_option(again):
    ((path, command),) = again("-m", "cpu", "--data", "/data")

    assert path == sys.executable
    assert command == [sys.executable, "-m", "pytest", "tests/conformance", "-m", "cpu", "--data", "/data"]


@pytest.mark.parametrize("option", sorted(rooted.PATHS))
def test_every_option_with_a_path_is_looked_for(option, again):
    assert again(option, "/somewhere")


@pytest.mark.parametrize(
    ("words", "other"),
    [
        (("-m", "cpu"), {}),
        (("--data=/data",), {}),  # one word: it is taken for no path
        (("--data", "/data"), {"inipath": Path("pyproject.toml")}),
        (("--data", "/data"), {"folder": Path("/tmp")}),
        (("--data", "/data"), {"program": "/usr/bin/ipython"}),
    ],
)
def test_nothing_is_started_again_where_nothing_was_lost(words, other, again):
    assert again(*words, **other) == []


@pytest.mark.parametrize("several", [("-n", "2"), ("-n2",), ("--numprocesses=2",), ("--dist", "loadgroup", "-n4")])
def test_processes_of_xdist_are_given_the_path_before_the_run_makes_its_folders(several, again):
    """They read the command again: a folder of --results that is there by then was taken for the path to the tests."""
    found = {"inipath": rooted.PROJECT / "pyproject.toml"}

    assert again("-m", "cpu", "--results", "new", *several, **found)
    assert again("tests/conformance", "--results", "new", *several, **found) == []
    assert again("tests/conformance/test_export.py::test_x", "--results", "new", *several, **found) == []


def test_the_paths_are_those_of_the_suites_options():
    options = (rooted.PROJECT / "tests" / "options.py").read_text(encoding="utf-8")

    assert (rooted.PROJECT / rooted.TESTS).is_dir()
    assert all(f'"{option}"' in options for option in rooted.PATHS)
