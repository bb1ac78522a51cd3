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
from vendor_sweep import NORMALIZE, SDK, VirtualTime, simulated, tiny_answer, tiny_batch, tiny_model, tiny_spec

from harness.backends.base import Device
from harness.backends.nvidia import ort_cuda, torch_cuda, trt
from harness.backends.nvidia._cuda import plain_bus
from harness.chips import CHIPS
from harness.errors import BuildError, DeviceError, InvalidMeasurement, RunError
from harness.run.devices import check_idle
from harness.vendor import logs

DEVICE = Device(0, "Tesla T4")
VERSIONS = ("8.6.1", "10.3.0", "11.4.0")


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


def calibration(tmp_path, samples=5, gain=1.0):
    path = tmp_path / f"calibration{gain}.npy"
    np.save(path, gain * tiny_batch(samples, seed=3))
    return str(path)


def with_qdq(source, target):
    """The tiny model with Q/DQ in front of its convolution."""
    import onnx as package
    from onnx import helper, numpy_helper

    model = package.load(str(source))
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array(1 / 127, np.float32), "step"))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), "zero"))
    conv = next(i for i, node in enumerate(graph.node) if node.op_type == "Conv")
    graph.node[conv].input[0] = "dq"
    graph.node.insert(conv, helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]))
    graph.node.insert(conv + 1, helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["dq"]))
    package.save(model, str(target))
    return target


def run(engine, spec, inputs, times=1):
    with trt.load(engine, DEVICE, spec) as session:
        session.write({"image": inputs})
        session.execute(times)
        return session.read()


def distance(ours, theirs):
    return max(float(np.abs(ours[name] - theirs[name]).max()) for name in theirs)


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


@pytest.mark.parametrize("release", ["8.6.1", "10.3.0"])
def test_int8_is_calibrated_where_there_is_a_calibrator(sdk, onnx, engine, tmp_path, release):
    sdk.switch(trt_version=release)
    made = []
    for gain in (1.0, 3.0):
        spec = tiny_spec("int8", calibration=calibration(tmp_path, gain=gain))
        trt.build(onnx, engine, spec)
        made.append(run(engine, spec, tiny_batch()))

    assert 0 < distance(made[0], tiny_answer(onnx, tiny_batch())) < 0.3
    assert distance(*made) > 0, "the calibration data made no difference"


def test_explicit_quantisation_takes_the_place_of_calibration(version, onnx, engine, tmp_path):
    spec = tiny_spec("int8", options={"onnx_int8": str(with_qdq(onnx, tmp_path / "qdq.onnx"))})
    trt.build(onnx, engine, spec)

    assert 0 < distance(run(engine, spec, tiny_batch()), tiny_answer(onnx, tiny_batch())) < 0.3


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_strongly_typed_builder_asks_for_the_converted_model(sdk, onnx, engine, tmp_path, precision):
    sdk.switch(trt_version="11.4.0")

    with pytest.raises(BuildError, match=rf"options\['onnx_{precision}'\]"):
        trt.build(onnx, engine, tiny_spec(precision, calibration=calibration(tmp_path)))
    assert not engine.exists()


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_each_tier_has_its_profile(version, onnx, engine, batch):
    trt.build(onnx, engine, tiny_spec("fp32", batch=4, tiers=(1, 2, 4)))

    outputs = run(engine, tiny_spec("fp32", batch=batch, tiers=(1, 2, 4)), tiny_batch(batch))

    assert distance(outputs, tiny_answer(onnx, tiny_batch(batch))) == 0


def test_a_batch_between_the_tiers_is_refused(sdk, onnx, engine):
    trt.build(onnx, engine, tiny_spec("fp32", batch=4, tiers=(1, 4)))

    with pytest.raises(RunError, match="profiles for batch 1 to 1, 4 to 4, not 2"):
        run(engine, tiny_spec("fp32", batch=2), tiny_batch())


def test_outputs_come_in_the_order_of_the_suite(sdk, onnx, engine):
    trt.build(onnx, engine, tiny_spec())

    outputs = run(engine, replace(tiny_spec(), outputs=("second",)), tiny_batch())

    assert list(outputs) == ["second"]
    np.testing.assert_array_equal(outputs["second"], tiny_answer(onnx, tiny_batch())["second"])


# --- the timing cache ----------------------------------------------------------------------------------------------


def test_the_timing_cache_is_written_and_taken_again(version, onnx, engine, tmp_path):
    cache = tmp_path / "not made yet" / "timing.cache"
    spec = tiny_spec(options={"timing_cache": str(cache)})
    trt.build(onnx, engine, spec)
    first = cache.read_bytes()
    trt.build(onnx, engine, spec)

    assert first.startswith(f"TIMING {version} Tesla T4".encode())
    assert cache.read_bytes() == first
    assert [path.name for path in cache.parent.iterdir()] == ["timing.cache"]


@pytest.mark.parametrize("known", [b"rubbish", b"TIMING 9.9.9 Tesla T4\n"], ids=["damaged", "another release"])
def test_a_timing_cache_of_another_release_is_replaced(sdk, onnx, engine, tmp_path, known):
    cache = tmp_path / "timing.cache"
    cache.write_bytes(known)

    trt.build(onnx, engine, tiny_spec(options={"timing_cache": str(cache)}))

    assert cache.read_bytes().startswith(b"TIMING 10.3.0 Tesla T4")


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


def test_the_parsers_errors_are_listed(version, engine, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"rubbish")

    with pytest.raises(BuildError, match=r"bad.onnx was refused\n.*MODEL_DESERIALIZE_FAILED"):
        trt.build(tmp_path / "bad.onnx", engine, tiny_spec())


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


def test_normalisation_is_not_taken_over(sdk, onnx, engine):
    with pytest.raises(BuildError, match="cannot normalise raw pixels"):
        trt.build(onnx, engine, tiny_spec(normalize=NORMALIZE))


def test_a_graph_fixed_at_another_batch_is_refused(sdk, onnx, engine, tmp_path):
    import onnx as package

    model = package.load(str(onnx))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    package.save(model, str(tmp_path / "fixed.onnx"))

    with pytest.raises(BuildError, match="fixed at batch 4, the case has 2"):
        trt.build(tmp_path / "fixed.onnx", engine, tiny_spec(batch=2))


@pytest.mark.parametrize(
    "array",
    [np.zeros((5, 3, 16, 16), np.float32), np.zeros((5, 8, 8, 3), np.uint8), np.full((5, 3, 8, 8), np.inf, np.float32)],
    ids=["shape", "pixels", "infinite"],
)
def test_calibration_data_of_another_model_is_refused(sdk, onnx, engine, tmp_path, array):
    np.save(tmp_path / "calibration.npy", array)

    with pytest.raises(BuildError, match="calibration data"):
        trt.build(onnx, engine, tiny_spec("int8", calibration=str(tmp_path / "calibration.npy")))


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


def test_addresses_are_the_same_in_every_spelling():
    assert plain_bus(b"0000:65:00.0\0") == plain_bus("00000000:65:00.0") == "0:65:00.0"


@pytest.mark.parametrize("source", ["library", "bytes", "absent"])
def test_health_through_nvml_and_through_nvidia_smi(sdk, source):
    sdk.switch(nvml=source)
    calm = trt.health(DEVICE)
    sdk.switch(nvml=source, busy=0.8, hot=True)
    worn = trt.health(DEVICE)

    assert (calm.busy, calm.processes, calm.throttled, calm.clock_mhz, calm.temperature_c) == (0, (), False, 1590, 41)
    assert (worn.busy, worn.processes) == (0.8, ("424242 python train.py",))
    assert worn.throttled
    assert worn.clock_mhz == 1590, "the clock asked for: that which runs follows the load"
    assert "SM at 795" in worn.note
    assert "hardware thermal" in worn.note
    assert ("nvidia-smi" in worn.note) == (source == "absent")


def test_the_power_cap_alone_is_no_throttling(sdk):
    sdk.switch(throttle=0x4)

    assert not trt.health(DEVICE).throttled


def test_a_gpu_without_an_application_clock_has_none(sdk):
    sdk.switch(fail=[["nvmlDeviceGetApplicationsClock", 0, 3]])
    through_nvml = trt.health(DEVICE)
    sdk.switch(nvml="absent", soc="NVIDIA H200")
    through_smi = trt.health(DEVICE)

    assert through_nvml.clock_mhz is None
    assert through_smi.clock_mhz is None
    assert through_nvml.healthy
    assert through_smi.healthy


# --- what a driver, a GPU or a tool does not tell -------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["450.80.02", "470.82.01", "525.85.12"])
def test_bindings_newer_than_the_driver_are_asked_by_the_older_names(sdk, driver):
    """nvidia-ml-py has the name; the driver raises FunctionNotFound. Drivers below 535 are common beside a T4."""
    sdk.switch(nvidia_driver=driver, busy=0.5, hot=True)

    health = trt.health(DEVICE)

    assert "from NVML" in health.note
    assert "unknown" not in health.note
    assert (health.busy, health.processes, health.throttled) == (0.5, ("424242 python train.py",), True)


def test_bindings_older_than_the_names_are_asked_by_the_older_names(sdk, monkeypatch):
    import pynvml

    monkeypatch.delattr(pynvml, "nvmlDeviceGetCurrentClocksEventReasons")
    sdk.switch(hot=True)

    assert trt.health(DEVICE).throttled


def test_a_driver_that_knows_no_name_leaves_that_figure_unknown_and_the_others_told(sdk):
    names = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
    sdk.switch(fail=[[name, 0, 13] for name in names], busy=0.25)

    health = trt.health(DEVICE)

    assert "throttling unknown (NVML: Function Not Found)" in health.note
    assert "from NVML" in health.note
    assert (health.healthy, health.busy, health.temperature_c) == (True, 0.25, 41)


def test_what_nvml_does_not_support_is_unknown_and_said(sdk):
    sdk.switch(nvml="partial", busy=0.9)

    health = trt.health(DEVICE)

    assert health.healthy
    assert health.busy is None
    assert health.untold == "utilisation unknown (NVML: Not Supported), processes unknown (NVML: Not Supported)"
    assert "utilisation unknown (NVML: Not Supported)" in health.note
    assert "processes unknown (NVML: Not Supported)" in health.note


@pytest.mark.parametrize(("kind", "word"), [("not_supported", "[Not Supported]"), ("na", "[N/A]")])
def test_what_nvidia_smi_does_not_tell_is_unknown_and_said(sdk, kind, word):
    sdk.switch(nvml="absent", nvidia_smi=kind, busy=0.9)

    health = trt.health(DEVICE)

    assert health.healthy
    assert (health.busy, health.processes, health.temperature_c) == (None, (), None)
    for what in ("utilisation", "processes", "throttling", "temperature"):
        assert f"{what} unknown (nvidia-smi: {word})" in health.note


@pytest.mark.parametrize("source", ["library", "absent"])
def test_the_name_of_a_process_may_hold_commas(sdk, source):
    sdk.switch(nvml=source, busy=0.9, process="python train.py --sizes 1,2, 4")

    assert trt.health(DEVICE).processes == ("424242 python train.py --sizes 1,2, 4",)


def test_a_query_of_processes_that_fails_is_no_idle_gpu(sdk):
    """It exits 255; whether the GPU is idle cannot be told, and a measurement on it is INVALID."""
    sdk.switch(nvml="absent", nvidia_smi="no_processes")

    health = trt.health(DEVICE)

    assert not health.healthy
    assert "whether others use GPU 0 cannot be told" in health.note
    assert "nvidia-smi exited with 255: Unable to determine the device handle" in health.note
    with pytest.raises(InvalidMeasurement, match="cannot be told"):
        check_idle(DEVICE, health)


def test_a_row_that_cannot_be_read_is_no_idle_gpu(sdk, monkeypatch):
    sdk.switch(nvml="absent")
    real = subprocess.run

    def run(command, **more):
        done = real(command, **more)
        if "--query-compute-apps=pid,process_name" in command:
            done.stdout = b"something else\n"
        return done

    monkeypatch.setattr(subprocess, "run", run)

    health = trt.health(DEVICE)

    assert not health.healthy
    assert "a row that cannot be read: something else" in health.note


def test_warnings_among_the_rows_are_no_gpu(sdk):
    sdk.switch(nvml="absent", nvidia_smi="warns")

    assert "nvidia-smi: 0 Tesla T4" in trt.devices(".*").evidence
    assert trt.health(DEVICE).healthy


@pytest.mark.parametrize("source", ["library", "absent"])
def test_a_process_of_the_suite_is_listed_by_a_container_under_a_foreign_number(sdk, onnx, engine, tmp_path, source):
    """Without the host's process numbers in /proc the number stays first, so that it can be told from a stranger's by
    when it came."""
    trt.build(onnx, engine, tiny_spec())
    for pids in ("own", "host"):
        sdk.switch(nvml=source, machine=str(tmp_path / "machine"), pids=pids)
        assert trt.health(DEVICE).processes == ()
        with trt.load(engine, DEVICE, tiny_spec()):
            processes = trt.health(DEVICE).processes
        for path in (tmp_path / "machine").iterdir():
            path.unlink()

        if pids == "own":
            assert processes == ()
        else:
            (process,) = processes
            number, name = process.split(" ", 1)
            assert number.isdigit()
            assert not Path("/proc", number).exists()
            assert name == ("of unknown name" if source == "library" else "[Not Found]")


@pytest.mark.parametrize(("told", "shown"), [("7", 0), ("", 0), ("-1", 0), ("1", 1), ("0,2", 2), ("2,9,0", 1)])
def test_a_variable_that_hides_every_gpu_is_named(sdk, monkeypatch, told, shown):
    sdk.switch(devices=3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)

    found = trt.devices(".*")

    assert len(found.devices) == shown
    assert (f"CUDA_VISIBLE_DEVICES={told} hides every GPU" in found.evidence) == (shown == 0)


def test_onnx_runtime_and_pytorch_name_the_variable_as_well(sdk, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "hides every GPU" not in ort_cuda.devices(".*").evidence
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    for backend in (ort_cuda, torch_cuda):
        assert "CUDA_VISIBLE_DEVICES=7 hides every GPU" in backend.devices(".*").evidence


def test_what_is_not_the_variables_fault_is_not_put_on_it(sdk, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "it is a build without CUDA" in torch_cuda.devices(".*").evidence
    sdk.switch(fail=[["cudaGetDeviceCount", 0, 35]])
    evidence = trt.devices(".*").evidence
    assert "cudaErrorInsufficientDriver" in evidence
    assert "VISIBLE_DEVICES" not in evidence


def test_a_container_that_shows_no_gpu_is_told_by_its_variable(sdk, monkeypatch):
    sdk.switch(devices=0)
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "void")
    assert "NVIDIA_VISIBLE_DEVICES=void is set" in trt.devices(".*").evidence
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "all")
    assert "VISIBLE_DEVICES" not in trt.devices(".*").evidence


def test_visible_gpus_keep_the_numbers_of_the_vendors_tools(sdk, monkeypatch):
    sdk.switch(devices=3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-00000000-0000-0000-0000-000000000001,0")

    found = trt.devices(".*").devices

    assert [(device.index, device.card) for device in found] == [(0, 1), (1, 2)]


def test_another_worker_of_the_suite_is_no_stranger():
    """Siblings keep engines loaded while one of them measures."""
    script = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as sibling:
        question = f"import sys; sys.path.insert(0, {str(SDK.parents[1])!r})\n"
        question += "from harness.backends._own_processes import ours\n"
        question += f"print(ours({sibling.pid}), ours(1))"
        answer = subprocess.run([sys.executable, "-c", question], check=True, capture_output=True, text=True).stdout
        sibling.stdin.close()

    assert answer.split() == ["True", "False"]


def test_a_gpu_that_is_gone_is_not_healthy(sdk):
    gone = trt.health(Device(5, "Tesla T4", card=5))

    assert not gone.healthy
    assert "GPU 5 does not answer" in gone.note


def test_the_version_names_release_driver_and_gpu(version):
    assert trt.version() == f"TensorRT {version}, CUDA 12.6, driver 550.54.15, Tesla T4"


def test_without_the_sdk_there_are_no_devices_and_the_reason(sdk, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)

    found = trt.devices(".*")

    assert found.devices == ()
    assert "NVML: 0 Tesla T4" in found.evidence
    assert "tensorrt cannot be imported" in found.evidence


def test_the_old_import_of_cuda_python_works(sdk, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    monkeypatch.delattr("cuda.bindings.runtime", raising=False)
    shim = type(sys)("cuda.cudart")
    shim.cudaGetDeviceCount = lambda: (0, 7)
    monkeypatch.setitem(sys.modules, "cuda.cudart", shim)
    import cuda

    from harness.backends.nvidia._cuda import Cuda

    monkeypatch.setattr(cuda, "cudart", shim, raising=False)

    assert Cuda().count() == (7, "")


# --- trtexec -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", ["7.2.3", "8.4.0", "10.3.0", "11.4.0"])
def test_trtexec_prints_what_the_log_reader_reads(sdk, onnx, engine, release):
    trt.build(onnx, engine, tiny_spec(batch=4))
    sdk.switch(trt_version=release)
    command = ["trtexec", f"--loadEngine={engine}", "--shapes=image:4x3x8x8"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    (figure,) = logs.parse(printed, tool="trtexec", batch=4)

    assert figure.per_device == pytest.approx(4 / 0.004, rel=1e-3)


def test_trtexec_11_knows_no_precision_flags(sdk, onnx):
    sdk.switch(trt_version="11.4.0")

    done = subprocess.run(["trtexec", f"--onnx={onnx}", "--fp16"], check=False, capture_output=True, text=True)

    assert done.returncode == 1
    assert "Unknown option: --fp16" in done.stderr


def test_the_programs_are_found_in_the_simulated_sdk(sdk):
    assert Path(shutil.which("nvidia-smi")).parent == SDK / "tensorrt"
