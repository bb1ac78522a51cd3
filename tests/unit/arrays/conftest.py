"""Results of the authors' programs that the tests of several files compare with."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def faces():
    with np.load(Path(__file__).parents[2] / "support" / "golden" / "retinaface_post.npz") as file:
        return dict(file)
