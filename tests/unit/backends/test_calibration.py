"""Calibration data of another model is refused; what is fed to a compiler is whole and in order."""

import numpy as np
import pytest
from ort_small import spec

from harness.backends.cpu import ort
from harness.errors import BuildError


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (None, "without calibration"),
        (np.zeros((4, 3, 16, 16), np.float32), "takes float32"),
        (np.zeros((4, 3, 12, 12), np.uint8), "takes float32"),
        (np.zeros((0, 3, 12, 12), np.float32), "takes float32"),
        (np.full((4, 3, 12, 12), np.nan, np.float32), "not finite"),
    ],
)
def test_calibration_data_that_is_not_this_models_is_refused(source, tmp_path, made, says):
    path = None if made is None else str(tmp_path / "c.npy")
    if made is not None:
        np.save(path, made)

    with pytest.raises(BuildError, match=says):
        ort.build(source, tmp_path / "e", spec("int8", calibration=path))
    assert not (tmp_path / "e").exists()
