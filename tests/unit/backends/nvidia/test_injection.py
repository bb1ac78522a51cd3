"""Every CUDA and TensorRT call fails once, first, middle and last time: typed error, no leak, next case clean."""

from __future__ import annotations

import numpy as np
import pytest
from vendor_sweep import simulated, sweep, tiny_batch, tiny_model, tiny_spec

from harness.backends.base import Device
from harness.backends.nvidia import trt

DEVICE = Device(0, "Tesla T4")


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    packages = ("tensorrt", "cuda", "pynvml", "simulated_gpu")
    with simulated(monkeypatch, tmp_path, "tensorrt", packages, "simulated_gpu") as sdk:
        yield sdk


def held():
    from simulated_gpu import gpu
    from tensorrt import _run

    return gpu.held(), _run.held()


@pytest.mark.parametrize(("version", "precision"), [("8.6.1", "int8"), ("11.4.0", "fp32")])
def test_every_call_of_a_whole_case_may_fail(sdk, tmp_path, version, precision):
    onnx = tiny_model(tmp_path / "tiny.onnx")
    engine = tmp_path / "tiny.plan"
    calibration = tmp_path / "calibration.npy"
    np.save(calibration, tiny_batch(6))
    cache = tmp_path / "timing.cache"
    options = {"timing_cache": str(cache), "workspace_mb": 64}
    spec = tiny_spec(precision, tiers=(1, 2), options=options, calibration=str(calibration))

    def case():
        engine.unlink(missing_ok=True)
        cache.unlink(missing_ok=True)
        try:
            trt.build(onnx, engine, spec)
        except BaseException:
            assert not engine.exists(), "a failed build leaves no engine"
            raise
        with trt.load(engine, DEVICE, spec) as session:
            for seed in range(3):
                session.write({"image": tiny_batch(seed=seed)})
                session.execute(5)
                session.read()
                session.device_seconds()

    count = sweep(sdk, case, held, {"slow": 0.001, "trt_version": version}, 700)

    assert count > 50


def test_devices_and_health_never_raise_whatever_fails(sdk):
    for call in ("nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex", "cudaGetDeviceCount",
                 "cudaDeviceGetPCIBusId", "cudaDeviceGetAttribute"):  # fmt: skip
        sdk.calls.reset()
        sdk.switch(fail=[[call, 0, 700]])

        found = trt.devices(".*")
        health = trt.health(DEVICE)

        assert call in found.evidence or call in health.note, call
        assert found.evidence
        assert bool(found.devices) == call.startswith("nvml"), "nvidia-smi stands in for NVML, nothing for CUDA"


def test_the_check_itself_sees_memory_freed_twice(sdk):
    from cuda.bindings import runtime

    _, address = runtime.cudaMalloc(64)
    runtime.cudaFree(address)
    runtime.cudaFree(address)

    assert sdk.wrongs() == ["device memory freed twice, or never allocated"]


def test_the_check_itself_sees_a_copy_past_the_end(sdk):
    from cuda.bindings import runtime

    _, address = runtime.cudaMalloc(64)
    _, stream = runtime.cudaStreamCreate()
    array = np.zeros(65, np.uint8)
    (error,) = runtime.cudaMemcpyAsync(
        address, array.ctypes.data, 65, runtime.cudaMemcpyKind.cudaMemcpyHostToDevice, stream
    )

    assert int(error) == 1
    assert "runs past an allocation" in sdk.wrongs()[0]
    runtime.cudaFree(address)
    runtime.cudaStreamDestroy(stream)


def test_results_read_before_the_synchronisation_are_rubbish(sdk, tmp_path):
    engine = tmp_path / "tiny.plan"
    trt.build(tiny_model(tmp_path / "tiny.onnx"), engine, tiny_spec())
    with trt.load(engine, DEVICE, tiny_spec()) as session:
        session.write({"image": tiny_batch()})
        assert session.context.execute_async_v3(int(session.stream))
        tensor = session.outputs[0]
        session._cuda.to_host(session._host[tensor.name], session._device[tensor.name], session.stream)
        early = session._host[tensor.name].copy()
        session._cuda.call("cudaStreamSynchronize", session.stream)

        assert set(early.tobytes()) == {0x5A}
        assert set(session._host[tensor.name].tobytes()) != {0x5A}
