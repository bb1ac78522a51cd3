"""What NVML and nvidia-smi tell of a GPU, and what they do not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from trt_tiny import DEVICE
from vendor_sweep import tiny_spec

from harness.backends.base import Device
from harness.backends.nvidia import _nvml, ort_cuda, torch_cuda, trt
from harness.errors import DeviceError, InvalidMeasurement
from harness.run.idle import check_idle


@pytest.mark.parametrize(("bit", "spoils"), [(0x01, False), (0x02, False), (0x04, False), (0x08, True), (0x10, False),
                                             (0x20, True), (0x40, True), (0x80, True), (0x100, False)])  # fmt: skip
def test_a_clock_that_heat_or_power_slows_spoils_a_measurement(bit, spoils):
    """The bits are those of nvml.h, nvmlClocksEventReason*."""
    assert bool(_nvml._reasons(bit)) is spoils


@pytest.mark.parametrize("backend", [trt, ort_cuda, torch_cuda])
def test_health_is_that_of_the_board_and_not_of_the_number_that_cuda_gives(backend, monkeypatch):
    monkeypatch.setattr(_nvml, "state", lambda number: number)

    assert backend.health(Device(0, "Tesla T4", 3)) == 3


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


@pytest.mark.parametrize("source", ["library", "absent"])
def test_under_wsl_an_empty_list_of_processes_is_no_idle_gpu(sdk, monkeypatch, tmp_path, source):
    """There neither NVML nor nvidia-smi lists a process, whoever uses the GPU."""
    sdk.switch(nvml=source)
    assert trt.health(DEVICE).untold == ""
    monkeypatch.setattr(_nvml, "WSL", tmp_path)

    assert trt.health(DEVICE).untold == "processes unknown (WSL lists none)"
    sdk.switch(nvml=source, busy=0.9)
    assert trt.health(DEVICE).processes == ("424242 python train.py",)


@pytest.mark.parametrize(("kind", "word"), [("not_supported", "[Not Supported]"), ("na", "[N/A]")])
def test_what_nvidia_smi_does_not_tell_is_unknown_and_said(sdk, kind, word):
    sdk.switch(nvml="absent", nvidia_smi=kind, busy=0.9)

    health = trt.health(DEVICE)

    assert health.healthy
    assert (health.busy, health.processes, health.temperature_c) == (None, (), None)
    for what in ("utilisation", "processes", "throttling", "temperature"):
        assert f"{what} unknown (nvidia-smi: {word})" in health.note


def test_a_gpu_that_requires_a_reset_is_not_healthy(sdk):
    sdk.switch(nvml="absent", nvidia_smi="reset")

    health = trt.health(DEVICE)

    assert not health.healthy
    assert "nvidia-smi: [GPU requires reset]" in health.note


def test_a_gpu_that_fell_off_the_bus_does_not_hide_the_others(sdk):
    sdk.switch(devices=3, fail=[["nvmlDeviceGetHandleByIndex", 2, 15]])

    found, evidence = _nvml.gpus()

    assert [gpu.number for gpu in found] == [0, 2]
    assert "NVML: 0 Tesla T4, 2 Tesla T4, 1 does not answer (NVML: nvmlDeviceGetHandleByIndex failed" in evidence


@pytest.mark.parametrize("source", ["library", "absent"])
def test_the_name_of_a_process_may_hold_commas(sdk, source):
    sdk.switch(nvml=source, busy=0.9, process="python train.py --sizes 1,2, 4")

    assert trt.health(DEVICE).processes == ("424242 python train.py --sizes 1,2, 4",)


def test_a_query_of_processes_that_fails_is_no_idle_gpu(sdk):
    """It exits 255; whether the GPU is idle is unknown, and a measurement on it is INVALID."""
    sdk.switch(nvml="absent", nvidia_smi="no_processes")

    health = trt.health(DEVICE)

    assert not health.healthy
    assert "whether others use GPU 0 is unknown" in health.note
    assert "nvidia-smi exited with 255: Unable to determine the device handle" in health.note
    with pytest.raises(InvalidMeasurement, match="is unknown"):
        check_idle(DEVICE, health)


def test_a_row_that_cannot_be_read_is_no_idle_gpu(sdk, monkeypatch):
    sdk.switch(nvml="absent")
    real = subprocess.run

    def run(command, **more):
        done = real(command, **more)
        if "--query-compute-apps=pid,used_memory,process_name" in command:
            done.stdout = b"something else\n"
        return done

    monkeypatch.setattr(subprocess, "run", run)

    health = trt.health(DEVICE)

    assert not health.healthy
    assert "a row that cannot be read: something else" in health.note


T4 = "{0}, 00000000:{1}:00.0, 470.82.01, 0, 41, 300, GPU-{0}, Tesla T4"
TWO = T4.format(0, "3B") + "\n" + T4.format(1, "86")
LOST = "Unable to determine the device handle for GPU 0000:86:00.0: GPU is lost.  Reboot the system to recover this GPU"
PRELOAD = "ERROR: ld.so: object 'libgtk3-nocsd.so.0' from LD_PRELOAD cannot be preloaded: ignored."
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch"
DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA "
    "driver is installed and running."
)
ORIN = "0, [N/A], 540.4.0, [N/A], [N/A], [N/A], 00000000-0000-0000-0000-000000000000, Orin (nvgpu)"


@pytest.fixture
def printed(sdk, monkeypatch, tmp_path):
    """An nvidia-smi that answers the query of GPUs, that of processes and any other with (stdout, stderr, status)."""

    def program(gpus, processes=("", "", 0)):
        sdk.switch(nvml="absent")
        cases = []
        for pattern, (out, err, status) in (("--query-gpu=index*", gpus), ("--query-compute-apps*", processes)):
            name = pattern.strip("-*=")
            (tmp_path / (name + ".out")).write_text(out + "\n" * bool(out), "latin-1")
            (tmp_path / (name + ".err")).write_text(err + "\n" * bool(err))
            cases.append(f"{pattern}) cat {tmp_path}/{name}.out; cat {tmp_path}/{name}.err >&2; exit {status};;")
        path = tmp_path / "nvidia-smi"
        path.write_text('#!/bin/sh\nfor word in "$@"; do case $word in\n' + "\n".join(cases) + "\nesac; done\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return program


@pytest.mark.parametrize(
    ("out", "err", "status", "numbers", "word"),
    [
        (TWO, "", 0, [0, 1], "nvidia-smi: 0 Tesla T4, 1 Tesla T4"),
        (TWO + "\nWARNING: infoROM is corrupted at gpu 0000:3B:00.0", "", 14, [0, 1], "0 Tesla T4, 1 Tesla T4"),
        (T4.format(0, "3B") + "\n" + LOST, "", 0, [0], "cannot be read: Unable to determine the device handle"),
        (LOST + "\n" + T4.format(0, "3B"), "", 15, [0], "exited with 15: Unable to determine the device handle"),
        (T4.format(0, "3B"), LOST, 255, [0], "exited with 255: Unable to determine the device handle"),
        (TWO, PRELOAD, 0, [0, 1], "0 Tesla T4, 1 Tesla T4"),
        (PRELOAD + "\n" + TWO, "", 0, [0, 1], "0 Tesla T4, 1 Tesla T4"),
        (ORIN, "", 0, [0], "0 Orin (nvgpu)"),
        (T4.format(0, "3B").replace("00000000:3B:00.0", "[Unknown Error: 999]"), "", 0, [0], "0 Tesla T4"),
        (MISMATCH, "", 18, [], "exited with 18: " + MISMATCH),
        (MISMATCH + "\nNVML library version: 535.54", "", 18, [], "Driver/library version mismatch"),
        ("Failed to initialize NVML: Unknown Error", "", 255, [], "Failed to initialize NVML: Unknown Error"),
        ("Failed to initialize NVML: Insufficient Permissions", "", 4, [], "Insufficient Permissions"),
        (
            "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.",
            "",
            12,
            [],
            "couldn't find libnvidia-ml.so",
        ),
        (DRIVER, "", 9, [], "exited with 9: NVIDIA-SMI has failed"),
        ("No devices were found", "", 6, [], "exited with 6: No devices were found"),
        ("No devices were found", "", 0, [], "No devices were found"),
        ('Field "uuid" is not a valid field to query.', "", 2, [], "is not a valid field to query"),
        (
            "",
            "nvidia-smi: error while loading shared libraries: libc.so.6",
            127,
            [],
            "error while loading shared libraries",
        ),
        ("", "Segmentation fault (core dumped)", 139, [], "exited with 139: Segmentation fault"),
        ("", "", 0, [], "nvidia-smi printed no row"),
    ],
)
def test_pages_of_real_machines_hide_no_gpu_and_invent_none(printed, out, err, status, numbers, word):
    printed((out, err, status))

    found, evidence = _nvml.gpus()

    assert [gpu.number for gpu in found] == numbers
    assert word in evidence


@pytest.mark.parametrize(
    ("gpu", "processes", "healthy", "others", "untold"),
    [
        ("0", ("", "", 0), True, (), False),
        ("0", ("No running processes found", "", 0), True, (), False),
        ("0", ("524, [N/A], [Insufficient Permissions]", "", 0), True, ("524 [Insufficient Permissions]",), False),
        ("0", ("7001, 449, [Not Found]", "", 0), True, ("7001 [Not Found]",), False),
        ("0", ("7001, 449, C:\\a, b\\train.exe", "", 0), True, ("7001 C:\\a, b\\train.exe",), False),
        ("0", ("7001, 449, \xff\xfe", "", 0), True, ("7001 \ufffd\ufffd",), False),
        ("0", ("7001, 449, ", "", 0), True, ("7001 ",), False),
        ("0", ("7001, 449, a\nWARNING: infoROM is corrupted at gpu 0000:3B:00.0", "", 14), True, ("7001 a",), False),
        ("0", ("[N/A], [N/A], [N/A]", "", 0), True, (), True),
        ("0", ("[Insufficient Permissions], [N/A], [N/A]", "", 0), True, (), True),
        ("[Unknown Error]", ("7001, 449, a", "", 0), True, ("7001 a",), True),
        ("[N/A]", ("", "", 0), True, (), True),
        ("0", ("No devices were found", "", 0), False, (), False),
        ("0", ("7001, 449, a\n" + LOST, "", 0), False, (), False),
        ("0", ("7001, 449, a", "", 15), False, (), False),
        ("0", ("", "Segmentation fault (core dumped)", 139), False, (), False),
        ("[GPU is lost]", ("", "", 0), False, (), False),
    ],
)
def test_pages_of_real_machines_make_no_busy_gpu_idle(printed, gpu, processes, healthy, others, untold):
    printed((T4.format(0, "3B").replace("470.82.01, 0,", f"470.82.01, {gpu},"), "", 0), processes)

    health = trt.health(DEVICE)

    assert (health.healthy, health.processes) == (healthy, others)
    if healthy:
        assert any(word in health.untold for word in ("utilisation", "processes")) == untold


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
            health = trt.health(DEVICE)
        processes = health.processes
        assert (health.own_mb, health.unseen_mb) == (1.0 if pids == "own" else None, 0.0)
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
    assert ("name a GPU that exists" in found.hint) == (shown == 0)


def test_a_container_that_shows_no_gpu_is_told_by_its_variable(sdk, monkeypatch):
    sdk.switch(devices=0)
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "void")
    assert "NVIDIA_VISIBLE_DEVICES=void is set" in trt.devices(".*").evidence
    assert "docker run --gpus all" in trt.devices(".*").hint
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "all")
    assert "VISIBLE_DEVICES" not in trt.devices(".*").evidence


@pytest.mark.parametrize("source", ["library", "absent"])
def test_memory_that_no_process_shown_holds_is_the_use_of_others(sdk, source):
    """Processes of other containers are often not listed, and their memory is."""
    sdk.switch(nvml=source, hidden_mb=2000)
    few = trt.health(DEVICE)
    sdk.switch(nvml=source, hidden_mb=4000)
    much = trt.health(DEVICE)

    assert (few.unseen_mb, much.unseen_mb) == (2000, 4000)
    check_idle(DEVICE, few)
    with pytest.raises(InvalidMeasurement, match="not visible here that holds more than 2048 MB"):
        check_idle(DEVICE, much)


def test_memory_that_a_listed_process_does_not_tell_is_unknown(sdk, monkeypatch):
    import pynvml

    monkeypatch.setattr(pynvml, "_running", lambda handle: [pynvml._Row(pid=1, usedGpuMemory=None)])
    sdk.switch(hidden_mb=4000)

    assert (trt.health(DEVICE).own_mb, trt.health(DEVICE).unseen_mb) == (None, None)


def test_a_gpu_that_is_gone_is_not_healthy(sdk):
    gone = trt.health(Device(5, "Tesla T4", card=5))

    assert not gone.healthy
    assert "GPU 5 does not answer" in gone.note


def test_a_gpu_is_reset_where_nobody_uses_it(sdk):
    sdk.switch()
    assert trt.reset(DEVICE) == "nvidia-smi --gpu-reset -i 0: GPU 00000000:65:00.0 was successfully reset."

    sdk.switch(busy=0.9)
    with pytest.raises(DeviceError, match=r"failed with status 255: .* in use by another process"):
        trt.reset(DEVICE)


@pytest.mark.parametrize(
    ("status", "said", "step"),
    [
        (18, "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.144", "reboot"),
        (
            9,
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure",
            "modprobe nvidia",
        ),
        (255, "Failed to initialize NVML: Unknown Error", "start this container again"),
        (15, "Unable to determine the device handle for GPU0000:02:00.0: GPU is lost.  Reboot", "dmesg | grep Xid"),
        (6, "No devices were found", ""),
    ],
)
def test_a_driver_that_does_not_answer_is_not_to_be_installed(sdk, monkeypatch, tmp_path, status, said, step):
    """As users of nvidia-smi report it; every backend for GPUs has the same next step."""
    torch = pytest.importorskip("torch")
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    sdk.switch(nvml="absent", driver=False)

    for backend in (trt, ort_cuda, torch_cuda):
        found = backend.devices(".*")
        assert found.devices == ()
        assert said.splitlines()[0] in found.evidence
        assert step in found.hint
        assert bool(step) == bool(found.hint)


def test_the_words_of_nvml_alone_tell_the_next_step():
    for error, step in (("LibRmVersionMismatch(18)", "reboot"), ("DriverNotLoaded(9)", "modprobe")):
        assert step in _nvml.repair(f"NVML: nvmlInit failed: NVMLError_{error}; nvidia-smi is not on PATH")
    assert _nvml.repair("NVML: ModuleNotFoundError(); nvidia-smi is not on PATH") == ""


@pytest.mark.parametrize(("throttle", "idle"), [(0x1, True), (0x5, True), (0x4, False), (0x20, False)])
def test_the_clock_that_runs_is_told_and_whether_the_gpu_says_that_it_is_idle(sdk, throttle, idle):
    sdk.switch(throttle=throttle)

    health = _nvml.state(0)

    assert (health.idle, health.now_mhz, health.clock_mhz) == (idle, 1590.0, 1590.0)
