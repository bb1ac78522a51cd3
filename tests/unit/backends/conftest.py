"""The small network as a file, and a calibration set for it."""

import os

import numpy as np
import onnx
import pytest
import warm
from ort_small import images, network


@pytest.fixture
def source(tmp_path):
    onnx.save(network(), str(tmp_path / "small.onnx"))
    return tmp_path / "small.onnx"


@pytest.fixture
def calibration(tmp_path):
    np.save(tmp_path / "calibration.npy", images(24, seed=2))
    return str(tmp_path / "calibration.npy")


@pytest.fixture(autouse=True)
def environment():
    """Backends set variables of their worker's process, CUDA_DEVICE_ORDER for one: here that is the tests' own."""
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    """The simulated programs and the workers start warm."""
    warm.instead(monkeypatch, warm.LIGHT)
