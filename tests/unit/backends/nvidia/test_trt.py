"""The TensorRT backend on its strict simulated SDK, in the surfaces of 8.6, 10 and 11."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from trt_tiny import DEVICE, distance, run
from vendor_sweep import SDK, VirtualTime, tiny_answer, tiny_batch, tiny_model, tiny_spec

from harness.backends.base import Device
from harness.backends.nvidia import torch_cuda, trt
from harness.chips import CHIPS
from harness.errors import DeviceError, RunError
from harness.vendor import logs

# --- numbers -------------------------------------------------------------------------------------------------------


def test_fp32_computes_what_the_graph_computes(version, onnx, engine):
    trt.build(onnx, engine, tiny_spec("fp32"))

    outputs = run(engine, tiny_spec("fp32"), tiny_batch())

    assert distance(outputs, tiny_answer(onnx, tiny_batch())) == 0
    assert list(outputs) == ["first", "second"]


def test_fp32_is_not_tf32_where_the_gpu_has_it(sdk, onnx, engine):
    sdk.switch(soc="NVIDIA A10")
    trt.build(onnx, engine, tiny_spec("fp32"))

    assert distance(run(engine, tiny_spec("fp32"), tiny_batch()), tiny_answer(onnx, tiny_batch())) == 0


def test_fp16_rounds_in_every_release(version, onnx, engine, tmp_path):
    half = tiny_model(tmp_path / "half.onnx", half=True)
    spec = tiny_spec("fp16", options={"onnx_fp16": str(half)})
    trt.build(onnx, engine, spec)

    far = distance(run(engine, spec, tiny_batch()), tiny_answer(onnx, tiny_batch()))

    assert 0 < far < 5e-3


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_one_profile_holds_every_batch_from_the_least_to_the_most(version, onnx, engine, batch):
    trt.build(onnx, engine, tiny_spec("fp32", batch=4, tiers=(1, 4)))

    outputs = run(engine, tiny_spec("fp32", batch=batch, tiers=(1, 4)), tiny_batch(batch))

    assert distance(outputs, tiny_answer(onnx, tiny_batch(batch))) == 0


def test_a_batch_outside_the_profile_is_refused(sdk, onnx, engine):
    trt.build(onnx, engine, tiny_spec("fp32", batch=4, tiers=(2, 4)))

    with pytest.raises(RunError, match="profiles for batch 2 to 4, not 1"):
        run(engine, tiny_spec("fp32", batch=1), tiny_batch(1))


@pytest.mark.parametrize("index", [0, 1])
def test_a_plan_runs_on_the_gpu_that_it_was_loaded_for(sdk, onnx, engine, index):
    sdk.switch(devices=2)
    trt.build(onnx, engine, tiny_spec())

    with trt.load(engine, Device(index, "Tesla T4"), tiny_spec()):
        assert sys.modules["simulated_gpu"].gpu.device == index


@pytest.mark.parametrize(("tune", "level"), [(True, 5), (False, 3)])
def test_a_tuned_plan_is_built_at_the_highest_level(version, onnx, engine, tune, level):
    trt.build(onnx, engine, tiny_spec("fp32", tune=tune))

    assert f'"level": {level}'.encode() in engine.read_bytes()
    assert distance(run(engine, tiny_spec("fp32"), tiny_batch()), tiny_answer(onnx, tiny_batch())) == 0


def test_outputs_come_in_the_order_of_the_suite(sdk, onnx, engine):
    trt.build(onnx, engine, tiny_spec())

    outputs = run(engine, replace(tiny_spec(), outputs=("second",)), tiny_batch())

    assert list(outputs) == ["second"]
    np.testing.assert_array_equal(outputs["second"], tiny_answer(onnx, tiny_batch())["second"])


# --- time ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(sdk, monkeypatch):
    modules = ("simulate", "simulated_gpu", "cuda.bindings.runtime", "tensorrt._run", "harness.backends.nvidia.trt")
    return VirtualTime(monkeypatch, *modules)


def test_executes_run_back_to_back_and_take_the_devices_time(sdk, onnx, engine, clock):
    trt.build(onnx, engine, tiny_spec())

    with trt.load(engine, DEVICE, tiny_spec()) as session:
        session.write({"image": tiny_batch()})

        assert clock.of(session, 40) == pytest.approx(0.003, rel=0.01)
        assert session.device_seconds() == pytest.approx(0.003, rel=0.01)
        assert not session.host_bound()


def test_a_host_that_is_slower_than_the_gpu_is_told(sdk, onnx, engine, clock):
    trt.build(onnx, engine, tiny_spec())
    sdk.switch(slow_host=0.005)

    with trt.load(engine, DEVICE, tiny_spec()) as session:
        session.write({"image": tiny_batch()})

        assert clock.of(session, 40) == pytest.approx(0.005, rel=0.02)
        assert session.host_bound()
        session.execute()
        assert session.host_bound(), "one execute alone changes nothing of what bounds a series"


def test_hundreds_of_cycles_leave_nothing_behind(sdk, onnx, engine):
    from simulated_gpu import gpu
    from tensorrt import _run

    trt.build(onnx, engine, tiny_spec())
    sdk.switch(slow=0.01)
    run(engine, tiny_spec(), tiny_batch())
    tracemalloc.start()
    held = []
    for _ in range(2):
        for _ in range(100):
            run(engine, tiny_spec(), tiny_batch())
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()

    assert gpu.held() == (0, 0, 0)
    assert _run.held() == 0
    assert held[1] - held[0] < 30_000, f"{held[1] - held[0]} bytes in 100 cycles"


# --- refusals ------------------------------------------------------------------------------------------------------


def test_an_engine_of_another_release_is_refused(sdk, onnx, engine):
    trt.build(onnx, engine, tiny_spec())
    sdk.switch(trt_version="10.4.0")

    with pytest.raises(DeviceError, match="not compatible with this version of TensorRT") as caught:
        run(engine, tiny_spec(), tiny_batch())
    assert "build tiny.plan again" in caught.value.hint


def test_an_engine_of_another_gpu_is_refused(sdk, onnx, engine):
    trt.build(onnx, engine, tiny_spec())
    sdk.switch(soc="NVIDIA A10")

    with pytest.raises(DeviceError, match="incompatible device"):
        run(engine, tiny_spec(), tiny_batch())


def test_a_truncated_engine_is_refused(sdk, onnx, engine):
    trt.build(onnx, engine, tiny_spec())
    engine.write_bytes(engine.read_bytes()[:-9])

    with pytest.raises(DeviceError, match=r"trt\.Runtime\.deserialize_cuda_engine failed"):
        run(engine, tiny_spec(), tiny_batch())


def test_an_engine_too_large_for_the_memory_is_refused(sdk, onnx, engine):
    trt.build(onnx, engine, tiny_spec())
    sdk.switch(memory_mb=0.001)

    with pytest.raises(DeviceError, match="cudaMalloc failed: 2 cudaErrorMemoryAllocation: out of memory"):
        run(engine, tiny_spec(), tiny_batch())


def test_inputs_that_are_not_the_engines_are_refused(sdk, onnx, engine):
    trt.build(onnx, engine, tiny_spec())

    with trt.load(engine, DEVICE, tiny_spec()) as session:
        for inputs in ({"image": tiny_batch(3)}, {"image": tiny_batch().astype("f8")}, {"x": tiny_batch()}):
            with pytest.raises(RunError):
                session.write(inputs)
        with pytest.raises(RunError, match="nothing was executed"):
            session.read()


# --- GPUs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "chips"),
    [
        ("Tesla T4", ["t4", "cuda"]),
        ("NVIDIA T4", ["t4", "cuda"]),
        ("NVIDIA T4G", ["cuda"]),
        ("NVIDIA T400", ["cuda"]),
        ("GRID T4-8Q", ["cuda"]),
        ("NVIDIA A10", ["cuda"]),
    ],
)
def test_t4_is_that_gpu_alone(sdk, name, chips):
    sdk.switch(soc=name)

    found = [chip for chip in ("t4", "cuda") if trt.devices(CHIPS[chip].match).devices]

    assert found == chips


def test_cuda_and_nvml_number_gpus_differently(sdk):
    sdk.switch(devices=3)

    found = trt.devices(".*").devices

    assert [(device.index, device.card, device.target) for device in found] == [
        (0, 2, "sm_75"),
        (1, 1, "sm_75"),
        (2, 0, "sm_75"),
    ]


# --- what a driver, a GPU or a tool does not tell -------------------------------------------------------------------


def test_what_is_not_the_variables_fault_is_not_put_on_it(sdk, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "it is a build without CUDA" in torch_cuda.devices(".*").evidence
    sdk.switch(fail=[["cudaGetDeviceCount", 0, 35]])
    evidence = trt.devices(".*").evidence
    assert "cudaErrorInsufficientDriver" in evidence
    assert "VISIBLE_DEVICES" not in evidence


def test_visible_gpus_keep_the_numbers_of_the_vendors_tools(sdk, monkeypatch):
    sdk.switch(devices=3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-00000000-0000-0000-0000-000000000001,0")

    found = trt.devices(".*").devices

    assert [(device.index, device.card) for device in found] == [(0, 1), (1, 2)]


def test_the_version_names_release_driver_and_gpu(version):
    assert trt.version() == f"TensorRT {version}, CUDA 12.6, driver 550.54.15, Tesla T4"


# --- trtexec -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", ["7.2.3", "8.4.0", "10.3.0", "11.4.0"])
def test_trtexec_prints_what_the_log_reader_reads(sdk, onnx, engine, release):
    trt.build(onnx, engine, tiny_spec(batch=4))
    sdk.switch(trt_version=release)
    command = ["trtexec", f"--loadEngine={engine}", "--shapes=image:4x3x8x8"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    (figure,) = logs.parse(printed, tool="trtexec", batch=4)

    assert figure.per_device == pytest.approx(4 / 0.004, rel=1e-3)


@pytest.mark.parametrize(
    ("version", "option", "taken"),
    [
        ("8.6.1", "--workspace=64", True),
        ("10.3.0", "--workspace=64", False),
        ("8.6.1", "--stronglyTyped", False),
        ("10.3.0", "--stronglyTyped", True),
        ("10.3.0", "--fp17", False),
        ("11.4.0", "--fp16", False),
    ],
)
def test_simulated_trtexec_takes_the_options_of_its_release_alone(sdk, onnx, version, option, taken):
    sdk.switch(trt_version=version)

    done = subprocess.run(["trtexec", f"--onnx={onnx}", option], check=False, capture_output=True, text=True)

    assert (done.returncode == 0) == taken
    assert ("Unknown option: " + option.partition("=")[0] in done.stderr) != taken


def test_simulated_trtexec_measures_nothing_where_inference_is_skipped(sdk, onnx):
    done = subprocess.run(["trtexec", f"--onnx={onnx}", "--skipInference"], check=False, capture_output=True, text=True)

    assert "&&&& PASSED" in done.stdout
    assert "Throughput" not in done.stdout


def test_trtexec_11_knows_no_precision_flags(sdk, onnx):
    sdk.switch(trt_version="11.4.0")

    done = subprocess.run(["trtexec", f"--onnx={onnx}", "--fp16"], check=False, capture_output=True, text=True)

    assert done.returncode == 1
    assert "Unknown option: --fp16" in done.stderr


def test_the_programs_are_found_in_the_simulated_sdk(sdk):
    assert Path(shutil.which("nvidia-smi")).parent == SDK / "tensorrt"
