"""TensorRT itself: found or not, gated on a GPU, heard through its logger."""

from __future__ import annotations

import sys

import pytest
from trt_tiny import VERSIONS, run
from vendor_sweep import tiny_batch, tiny_spec

from harness.backends.nvidia import trt
from harness.errors import BuildError, DeviceError


@pytest.mark.parametrize("release", VERSIONS)
def test_without_a_gpu_no_tensorrt_object_is_made(sdk, onnx, engine, release):
    """TensorRT 11 dies of a segmentation fault there: this test would take pytest with it."""
    trt.build(onnx, engine, tiny_spec())
    for missing in ({"driver": False}, {"devices": 0}):
        sdk.switch(trt_version=release, **missing)

        with pytest.raises(BuildError, match="no GPU: cudaGetDeviceCount") as raised:
            trt.build(onnx, engine.with_name("other.plan"), tiny_spec())
        assert "TensorRT for RTX builds without a GPU" in raised.value.hint
        with pytest.raises(DeviceError, match="no GPU: cudaGetDeviceCount"):
            run(engine, tiny_spec(), tiny_batch())
        assert trt.devices(".*").devices == ()


def test_without_the_sdk_there_are_no_devices_and_the_reason(sdk, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)

    found = trt.devices(".*")

    assert found.devices == ()
    assert "NVML: 0 Tesla T4" in found.evidence
    assert "tensorrt cannot be imported" in found.evidence
