"""The published figures, and a copy to spoil."""

import shutil

import pytest

from harness.baselines import load
from harness.baselines.registry import DIRECTORY


@pytest.fixture(scope="module")
def registry():
    return load()


@pytest.fixture
def copied(tmp_path):
    """A copy of baselines/ to spoil."""
    return shutil.copytree(DIRECTORY, tmp_path / "baselines", ignore=shutil.ignore_patterns("__pycache__"))
