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
PATHS = {"--data", "--cache", "--results", "--sdk-python"}  # options of conftest.py whose values are paths


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before output is captured
def pytest_load_initial_conftests(early_config: Any) -> Generator[None, None, None]:
    """Start pytest again with the path to the tests when an option's folder was taken for that path."""
    params = early_config.invocation_params
    lost = early_config.inipath is None and Path(params.dir).resolve() == PROJECT and PATHS.intersection(params.args)
    if lost and Path(sys.argv[0]).stem in ("pytest", "py.test", "__main__"):
        os.execv(sys.executable, [sys.executable, "-m", "pytest", TESTS, *map(str, params.args)])
    yield
