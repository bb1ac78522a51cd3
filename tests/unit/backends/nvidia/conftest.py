"""The simulated TensorRT and CUDA in this process, in each release, and the tiny model."""

from __future__ import annotations

import pytest
from trt_tiny import VERSIONS
from vendor_sweep import simulated, tiny_model


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    packages = ("tensorrt", "cuda", "pynvml", "simulated_gpu")
    with simulated(monkeypatch, tmp_path, "tensorrt", packages, "simulated_gpu") as sdk:
        yield sdk
        assert sdk.wrongs() == []


@pytest.fixture(params=VERSIONS)
def version(request, sdk):
    sdk.switch(trt_version=request.param)
    return request.param


@pytest.fixture
def onnx(tmp_path):
    return tiny_model(tmp_path / "tiny.onnx")


@pytest.fixture
def engine(tmp_path):
    return tmp_path / "tiny.plan"
