"""Pythons with a vendor's own toolchain, as `make test-vendor` makes them; tests that need one are skipped without."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def interpreter(name):
    """The Python of .vendor/NAME, or a skip with the command that makes it."""
    path = ROOT / ".vendor" / name / "bin" / "python"
    if not path.exists():
        pytest.skip(f"to run it: make test-vendor   ({path} is not there)")
    return str(path)
