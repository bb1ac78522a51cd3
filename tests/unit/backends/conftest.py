"""The small network as a file, and a calibration set for it."""

import numpy as np
import onnx
import pytest
from ort_small import images, network


@pytest.fixture
def source(tmp_path):
    onnx.save(network(), str(tmp_path / "small.onnx"))
    return tmp_path / "small.onnx"


@pytest.fixture
def calibration(tmp_path):
    np.save(tmp_path / "calibration.npy", images(24, seed=2))
    return str(tmp_path / "calibration.npy")
