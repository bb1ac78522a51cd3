"""Makes `pytest -m CHIP --data DIR` work without a path to tests, anywhere in the checkout, and says what pytest should
have been given where it does not know an option.

Before conftest.py is read, pytest does not know --data: it takes DIR for a path to tests and looks for its settings
there. This plug-in then starts pytest again with the path to the tests."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.report.messages import Translate, chosen, language, refusal, translation

PROJECT = Path(__file__).resolve().parents[1]
TESTS = "tests/conformance"
# options of tests/options.py whose values are paths
PATHS = {"--data", "--cache", "--results", "--sdk-python", "--baseline", "--resume", "--onnx", "--policy"}
BENCHMARKS = PROJECT / "tests" / "benchmarks"
HYPOTHESIS = "hypothesispytest"  # the name of its plug-in
BENCHMARK = "benchmark"  # the name of pytest-benchmark, which pyproject.toml leaves out


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before output is captured
def pytest_load_initial_conftests(early_config: Any, parser: Any, args: list[str]) -> Generator[None, None, None]:
    """Start pytest again with the path to the tests when an option's folder was taken for that path; leave out the
    plug-in that imports Hypothesis, which conformance tests do not use, and load pytest-benchmark for what needs it.
    Raises pytest.UsageError for an option that nothing knows."""
    params = early_config.invocation_params
    given = [str(word) for word in params.args]
    folder = Path(params.dir).resolve()
    mistakable = folder.is_relative_to(PROJECT) and PATHS.intersection(given)
    if (
        mistakable
        and (early_config.inipath is None or _will_be_lost(given))
        and (Path(sys.argv[0]).stem in ("pytest", "py.test", "__main__"))
    ):
        rooted = [] if folder == PROJECT else [f"--rootdir={PROJECT}", "-c", str(PROJECT / "pyproject.toml")]
        tests = TESTS if folder == PROJECT else str(PROJECT / TESTS)
        os.execv(sys.executable, [sys.executable, "-m", "pytest", *rooted, tests, *map(str, params.args)])
    yield  # the options of the conftest files are known from here on, and their values are no paths to tests
    known, unknown = parser.parse_known_and_unknown_args([str(word) for word in args])
    named = [(folder / word.partition("::")[0]).resolve() for word in known.file_or_dir]
    ours = early_config.rootpath == PROJECT
    if ours and all(PROJECT / TESTS in (path, *path.parents) for path in named):
        early_config.pluginmanager.set_blocked(HYPOTHESIS)
    if ours and any(BENCHMARKS in (path, *path.parents) or path in BENCHMARKS.parents for path in named):
        early_config.pluginmanager.unblock(BENCHMARK)
        early_config.pluginmanager.import_plugin(BENCHMARK, consider_entry_points=True)
        _, unknown = parser.parse_known_and_unknown_args([str(word) for word in args])
    wrong = [word.partition("=")[0] for word in unknown if word.startswith("--")]
    if wrong:
        raise pytest.UsageError(refusal(_unknown(wrong[0]), _reader(given)))


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: Any) -> None:
    """Say where the tests are, where a chip was named and pytest found none."""
    marks = set(re.findall(r"\w+", config.getoption("markexpr", "")))
    if exitstatus != pytest.ExitCode.NO_TESTS_COLLECTED or not marks or config.pluginmanager.hasplugin("tests.options"):
        return
    from harness.chips import CHIPS

    if marks & set(CHIPS):
        step = f"cd {PROJECT}, or: chipproof run '{config.getoption('markexpr')}'"
        here = UsageError(f"the tests of chipproof are in {PROJECT}", hint=step)
        terminalreporter.write_line(refusal(here, _reader([str(word) for word in config.invocation_params.args])))


def _reader(given: Sequence[str]) -> Translate:
    return translation(language(chosen(given), encoding=sys.stderr.encoding))


def _unknown(option: str) -> UsageError:
    """What is wrong with an option that pytest does not know, and the next step."""
    file = PROJECT / "tests" / "options.py"
    ours = set(re.findall(r'"(--[a-z-]+)"', file.read_text(encoding="utf-8"))) if file.is_file() else set()
    if option in ours:
        step = f"cd {PROJECT}, or: chipproof run MARKERS"
        return UsageError(f"{option} is known in the checkout of chipproof only", hint=step)
    near = difflib.get_close_matches(option, ours, 1)
    step = f"did you mean {near[0]}? all: pytest --help" if near else "pytest --help"
    return UsageError(f"there is no option {option}", hint=step)


def _will_be_lost(given: list[str]) -> bool:
    """Whether processes of pytest-xdist, which read the same words when the run has made its folders, would take one of
    these for the path to the tests: where none is given."""
    several = any(word.startswith(("-n", "--numprocesses", "--tx", "--dist")) for word in given)
    values = {given[i + 1] for i, word in enumerate(given[:-1]) if word.startswith("-") and "=" not in word}
    named = (word for word in given if not word.startswith("-") and word not in values)
    return several and not any((PROJECT / word.partition("::")[0]).exists() for word in named)
