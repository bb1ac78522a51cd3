"""Results of the authors' programs that the tests of several files compare with."""

import pytest
from models_golden import load


@pytest.fixture(scope="module")
def prepared():
    return load("preprocess.npz")
