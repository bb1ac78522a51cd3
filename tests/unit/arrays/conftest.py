"""Results of the authors' programs that the tests of several files compare with."""

import numpy as np
import pytest

from harness.reference.golden import FOLDER


@pytest.fixture(scope="module")
def faces():
    with np.load(FOLDER / "retinaface_post.npz") as file:
        return dict(file)
