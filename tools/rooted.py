"""Makes `pytest -m CHIP --data DIR` work without a path to tests.

Before conftest.py is read, pytest does not know --data: it takes DIR for a path to tests and looks for its settings
there. This plug-in then starts pytest again with the path to the tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[1]
TESTS = "tests/conformance"
# options of tests/options.py whose values are paths
PATHS = {"--data", "--cache", "--results", "--sdk-python", "--baseline", "--resume", "--onnx", "--policy"}


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before output is captured
def pytest_load_initial_conftests(early_config: Any) -> Generator[None, None, None]:
    """Start pytest again with the path to the tests when an option's folder was taken for that path."""
    params = early_config.invocation_params
    given = [str(word) for word in params.args]
    mistakable = Path(params.dir).resolve() == PROJECT and PATHS.intersection(given)
    if (
        mistakable
        and (early_config.inipath is None or _will_be_lost(given))
        and (Path(sys.argv[0]).stem in ("pytest", "py.test", "__main__"))
    ):
        os.execv(sys.executable, [sys.executable, "-m", "pytest", TESTS, *map(str, params.args)])
    yield


def _will_be_lost(given: list[str]) -> bool:
    """Whether processes of pytest-xdist, which read the same words when the run has made its folders, would take one of
    these for the path to the tests: where none is given."""
    several = any(word.startswith(("-n", "--numprocesses", "--tx", "--dist")) for word in given)
    values = {given[i + 1] for i, word in enumerate(given[:-1]) if word.startswith("-") and "=" not in word}
    named = (word for word in given if not word.startswith("-") and word not in values)
    return several and not any((PROJECT / word.partition("::")[0]).exists() for word in named)
