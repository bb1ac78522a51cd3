"""Scores computed with the authors' programs."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def golden():
    """Computed with the authors' programs."""
    with np.load(Path(__file__).parents[2] / "support" / "golden" / "metrics.npz") as file:
        return dict(file)
