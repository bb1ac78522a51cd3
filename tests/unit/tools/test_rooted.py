"""pytest is started again with the path that it lacked, in this project and nowhere else."""

import contextlib
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import rooted


class Parser:
    """Of pytest's parser what the plug-in asks: the paths, and the words that no option takes."""

    def __init__(self, unknown, named=()):
        self.unknown, self.named = unknown, named

    def parse_known_and_unknown_args(self, args):
        return SimpleNamespace(file_or_dir=list(self.named)), list(self.unknown)


@pytest.fixture
def again(monkeypatch):
    """Starts the plug-in as pytest does; the command that would replace the process, if any."""

    def start(*words, folder=rooted.PROJECT, inipath=None, program="pytest", unknown=()):
        started = []
        monkeypatch.setattr(rooted.os, "execv", lambda path, command: started.append((path, command)))
        monkeypatch.setattr(sys, "argv", [program])
        early = SimpleNamespace(invocation_params=SimpleNamespace(dir=folder, args=words), inipath=inipath)
        early.rootpath, early.pluginmanager = folder, SimpleNamespace(set_blocked=lambda name: None)
        steps = rooted.pytest_load_initial_conftests(early, Parser(unknown), list(words))
        assert next(steps) is None
        with contextlib.suppress(StopIteration):
            next(steps)
        return started

    return start


def test_a_path_that_was_taken_for_tests_is_given_back_its_option(again):
    ((path, command),) = again("-m", "cpu", "--data", "/data")

    assert path == sys.executable
    assert command == [sys.executable, "-m", "pytest", "tests/conformance", "-m", "cpu", "--data", "/data"]


@pytest.mark.parametrize("below", ["docs", "tests/unit"])
def test_in_a_folder_of_the_checkout_its_settings_are_given_too(below, again):
    ((_, command),) = again("-m", "cpu", "--data", "data", folder=rooted.PROJECT / below)

    project = str(rooted.PROJECT)
    assert command[3:6] == [f"--rootdir={project}", "-c", f"{project}/pyproject.toml"]
    assert command[6:] == [f"{project}/tests/conformance", "-m", "cpu", "--data", "data"]


@pytest.mark.parametrize(("marks", "told"), [("cpu and fp32", True), ("slow", False)])
def test_pytest_outside_of_the_checkout_is_told_where_the_tests_are(marks, told, tmp_path):
    """The installed package loads the plug-in; where it is not installed the module is one of the user's."""
    named = [] if any(point.name == "chipproof" for point in entry_points(group="pytest11")) else ["-p", "tools.rooted"]
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("CHIPPROOF", "PYTEST"))}

    done = subprocess.run([sys.executable, "-m", "pytest", *named, "-p", "no:cacheprovider", "-m", marks],
                          cwd=tmp_path, env={**settings, "PYTHONPATH": str(rooted.PROJECT)},
                          capture_output=True, text=True, timeout=120)  # fmt: skip

    assert done.returncode == 5, done.stdout + done.stderr
    assert (f"cd {rooted.PROJECT}, or: chipproof run '{marks}'" in done.stdout) == told


@pytest.mark.parametrize(
    ("unknown", "said"),
    [
        ("--limt", "there is no option --limt\n  next: did you mean --limit?"),
        ("--limt=8", "there is no option --limt\n"),
        ("--xyz", "there is no option --xyz\n  next: pytest --help"),
        ("--data", f"next: cd {rooted.PROJECT}, or: chipproof run"),
    ],
)
def test_an_option_that_nothing_knows_is_named_with_the_one_that_was_meant(unknown, said, again):
    with pytest.raises(pytest.UsageError, match=re.escape(said)):
        again(unknown, "8", folder=Path("/tmp"), unknown=(unknown,))


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


@pytest.mark.parametrize(
    ("named", "root", "left_out", "loaded"),
    [
        ([], rooted.PROJECT, True, False),
        (["tests/conformance"], rooted.PROJECT, True, False),
        (
            ["tests/conformance/test_export.py::test_x", str(rooted.PROJECT / "tests" / "conformance")],
            rooted.PROJECT,
            True,
            False,
        ),
        (["tests/conformance", "tests/properties"], rooted.PROJECT, False, False),
        (["tests/benchmarks"], rooted.PROJECT, False, True),
        (["tests/unit", "tests/benchmarks/test_stream.py::test_x"], rooted.PROJECT, False, True),
        (["tests"], rooted.PROJECT, False, True),
        (["tests/conformance"], Path("/tmp"), False, False),  # another project's
        ([str(rooted.PROJECT)], Path("/tmp"), False, False),
    ],
)
def test_a_run_imports_hypothesis_and_pytest_benchmark_where_tests_use_them(named, root, left_out, loaded):
    blocked, called = [], []
    early = SimpleNamespace(invocation_params=SimpleNamespace(dir=root, args=named), inipath=None, rootpath=root)
    early.pluginmanager = SimpleNamespace(
        set_blocked=blocked.append,
        unblock=lambda name: called.append(name),
        import_plugin=lambda name, consider_entry_points: called.append((name, consider_entry_points)),
    )

    list(rooted.pytest_load_initial_conftests(early, Parser((), named), named))

    assert blocked == ([rooted.HYPOTHESIS] if left_out else [])
    assert called == ([rooted.BENCHMARK, (rooted.BENCHMARK, True)] if loaded else [])
    assert {rooted.HYPOTHESIS, rooted.BENCHMARK} <= {point.name for point in entry_points(group="pytest11")}


def test_values_of_the_suites_options_are_no_paths_to_tests():
    blocked, parser = [], Parser((), [str(rooted.PROJECT.parent)])  # before --data is known as an option
    early = SimpleNamespace(invocation_params=SimpleNamespace(dir=rooted.PROJECT, args=[]), inipath=None)
    early.rootpath, early.pluginmanager = rooted.PROJECT, SimpleNamespace(set_blocked=blocked.append)
    steps = rooted.pytest_load_initial_conftests(early, parser, [])

    next(steps)
    parser.named = []
    assert list(steps) == []

    assert blocked == [rooted.HYPOTHESIS], "and pytest-benchmark is not loaded"


def test_the_benchmarks_know_the_options_of_pytest_benchmark():
    command = [sys.executable, "-m", "pytest", "tests/benchmarks/test_host_table.py", "--collect-only", "-q"]

    done = subprocess.run([*command, "--benchmark-min-rounds=1"], cwd=rooted.PROJECT, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_paths_are_those_of_the_suites_options():
    options = (rooted.PROJECT / "tests" / "options.py").read_text(encoding="utf-8")

    assert (rooted.PROJECT / rooted.TESTS).is_dir()
    assert all(f'"{option}"' in options for option in rooted.PATHS)
