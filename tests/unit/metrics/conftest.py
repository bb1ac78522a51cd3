"""Scores computed with the authors' programs."""

import numpy as np
import pytest

from harness.reference.golden import FOLDER


@pytest.fixture(scope="module")
def golden():
    """Computed with the authors' programs."""
    with np.load(FOLDER / "metrics.npz") as file:
        return dict(file)
