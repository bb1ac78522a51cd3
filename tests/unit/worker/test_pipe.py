"""Whatever a vendor's SDK does, it costs one case: a typed error, no process, no file and no descriptor left."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from fake_workers import DEVICE, ROOT, SDK, SPEC, X, worker
from patience import in_call, patient

from harness.backends.base import BuildSpec, Device, TensorSpec, scratch
from harness.errors import WorkerError
from harness.judge.timing import Plan
from harness.worker.limits import Limits
from harness.worker.process import Worker


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter when it goes between opening and reading
        return False


def ends(pid):
    """Whether a process that is not our child, so not ours to wait for, ends soon."""
    deadline = time.monotonic() + 60
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_running(pid)


def group(leader, size):
    """Processes of a group, as soon as there are that many."""
    deadline = time.monotonic() + 60
    while True:
        stats = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                stats.append(entry.read_text())
        found = [int(stat.split()[0]) for stat in stats if int(stat.rsplit(")", 1)[1].split()[2]) == leader]
        if len(found) >= size or time.monotonic() > deadline:
            assert len(found) >= size, found
            return found
        time.sleep(0.02)


def test_a_wait_that_is_interrupted_ends_the_worker():
    with worker("doubles") as chip:

        class Interrupted:
            def poll(self, milliseconds):
                raise KeyboardInterrupt

        chip.pipe._waiting = Interrupted()
        with pytest.raises(KeyboardInterrupt):
            chip.version()

        assert not chip.alive
        with pytest.raises(WorkerError, match="start a new one"):
            chip.version()


def test_memory_of_a_compiler_that_the_sdk_starts_counts_too(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"graph")
    with worker("compiles_in_much_memory", limits=Limits(memory=300 << 20)) as chip:
        with pytest.raises(WorkerError, match=r"grew to \d+ MB in vendor\.compile; the limit is 315 MB"):
            chip.build(tmp_path / "m.onnx", tmp_path / "m.engine", SPEC)

        assert not chip.alive


def test_what_an_earlier_worker_printed_is_not_the_cause(tmp_path):
    """The log of a case is that of all its workers, one after the other."""
    (tmp_path / "log").write_text("acl.rt.malloc failed: 207001\n")
    with worker("crashes_in_execute", log=tmp_path / "log") as chip:
        assert chip.version()
        assert chip.pipe.tail().startswith("it printed nothing")


@pytest.mark.parametrize("verb", ["run", "measure"])
@pytest.mark.parametrize(
    ("behaviour", "says", "hint"),
    [
        ("crashes_in_execute", r"died of SIGSEGV in vendor\.mdl\.execute", "last printed"),
        ("is_killed_in_execute", r"died of SIGKILL in doubles\.execute", "dmesg"),
        ("hangs_in_execute", r"hung in vendor\.synchronize \d+ for more than", "raise the limit"),
        ("grows_in_execute", r"grew to \d+ MB in vendor\.malloc", "smaller batch"),
    ],
)
def test_a_worker_that_falls_is_one_typed_error(behaviour, says, hint, verb):
    limits = Limits(run=1.0, measure=1.0, memory=400 << 20) if "hangs" in behaviour else Limits(memory=400 << 20)
    plan = Plan(warmup_s=0.0, window_s=0.01, windows=1, latencies=0, limit_s=0.0)
    with worker(behaviour, limits=limits) as chip, chip.load(Path("e"), DEVICE, SPEC) as session:
        pid = chip.pipe._process.pid
        if "hangs" in behaviour:
            patient(chip, in_call(chip, "vendor.synchronize"))
        with pytest.raises(WorkerError, match=says) as caught:
            session.run({"x": X}) if verb == "run" else session.measure({"x": X}, plan)

        assert hint in caught.value.hint
        assert not is_running(pid)
        assert not chip.alive
        with pytest.raises(WorkerError, match="start a new one"):
            session.run({"x": X})
        with pytest.raises(WorkerError, match="ended in"):
            chip.version()
    if behaviour == "hangs_in_execute":
        assert ends(int(caught.value.fact.split("synchronize ")[1].split()[0])), "what it started lives on"


def test_temporary_folders_of_a_worker_that_falls_go_with_it():
    with worker("doubles") as chip:
        folder = Path(tempfile.mkdtemp(prefix=scratch(chip.pipe._process.pid)))
        (folder / "profile.json").touch()
        os.kill(chip.pipe._process.pid, signal.SIGKILL)
        with pytest.raises(WorkerError):
            chip.version()

    assert not folder.exists()


def test_after_a_fall_the_next_worker_is_clean():
    with (
        pytest.raises(WorkerError),
        worker("crashes_in_execute") as chip,
        chip.load(Path("e"), DEVICE, SPEC) as session,
    ):
        session.run({"x": X})

    with worker("doubles") as chip, chip.load(Path("e"), DEVICE, SPEC) as session:
        assert session.run({"x": X})["y"].shape == (2, 3)


def test_a_driver_that_does_not_answer_is_a_typed_error():
    with (
        worker("hangs_in_devices", limits=Limits(look=0.5)) as chip,
        pytest.raises(WorkerError, match="hung in devices"),
    ):
        chip.devices(".*")


def test_an_answer_that_came_while_the_whole_machine_paused_counts():
    with worker("doubles", limits=Limits(look=0.2)) as chip:
        assert chip.python_version
        waiting, paused = chip.pipe._waiting, []

        class Paused:
            def poll(self, milliseconds):
                if paused:
                    return waiting.poll(milliseconds)
                paused.append(time.sleep(0.3))
                assert waiting.poll(60_000)
                return []

        chip.pipe._waiting = Paused()
        assert chip.version() == "doubles 1.0"


def test_an_sdk_that_hangs_in_its_own_clean_up_is_ended(monkeypatch):
    waited = []
    wait = subprocess.Popen.wait

    def short_at_first(self, timeout=None):
        waited.append(timeout)
        return wait(self, 0.3 if len(waited) == 1 else timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", short_at_first)
    with worker("hangs_at_exit") as chip:
        chip.version()
        pid = chip.pipe._process.pid

    assert not is_running(pid)
    assert waited == [chip.limits.close] * 2, "asked to go, then made to"


def test_the_log_and_its_last_line_are_in_the_error(tmp_path):
    log = tmp_path / "case.log"
    with worker("crashes_in_execute", log=log) as chip, chip.load(Path("e"), DEVICE, SPEC) as session:
        with pytest.raises(WorkerError) as caught:
            session.run({"x": X})

        assert not chip.alive
    assert str(log) in caught.value.hint
    assert "about to fall" in log.read_text()


@pytest.mark.parametrize(
    ("behaviour", "says"), [("talks_nonsense", "not a valid reply"), ("closes_the_pipe", "closed its pipe")]
)
def test_a_broken_pipe_is_a_typed_error(behaviour, says, monkeypatch):
    wait = subprocess.Popen.wait
    monkeypatch.setattr(
        subprocess.Popen, "wait", lambda self, timeout=None: wait(self, 0.5 if timeout == 5 else timeout)
    )
    with worker(behaviour) as chip, pytest.raises(WorkerError, match=says):
        chip.version()


def test_a_worker_starts_while_others_work(tmp_path, monkeypatch):
    monkeypatch.setenv("CHIPPROOF_FAKE_GO", str(tmp_path / "go"))

    with worker("waits_for_a_file") as chip:
        (tmp_path / "go").touch()  # a start that is waited for would never end

        assert chip.version() == "went on"


def test_a_worker_that_hangs_as_it_starts_is_ended_by_its_limit(monkeypatch):
    monkeypatch.setenv("CHIPPROOF_FAKE_GO", "/nowhere")

    with worker("waits_for_a_file", limits=Limits(start=0.3)) as chip:
        with pytest.raises(WorkerError, match=r"hung in start for more than 0\.3 s"):
            chip.version()
        assert not chip.alive


def test_a_worker_that_nobody_asked_anything_is_gone_after_all():
    with worker("doubles") as chip:
        pid = chip.pipe._process.pid

    assert not is_running(pid)


@pytest.mark.parametrize("python", ["/nowhere/python", "/etc/hostname", "/"])
def test_a_python_that_cannot_be_started_is_a_typed_error(python):
    with pytest.raises(WorkerError, match="cannot be started") as caught, worker("doubles", python=python):
        pass

    assert "--sdk-python" in caught.value.hint


def test_a_program_that_is_no_python_is_a_typed_error():
    with pytest.raises(WorkerError, match="exited with"), worker("doubles", python=shutil.which("false")) as chip:
        chip.version()


def test_a_worker_outside_a_with_is_refused():
    with pytest.raises(WorkerError, match="was not started"):
        worker("doubles").version()


WAITS_FOR_EVER = """
    import signal, sys
    from pathlib import Path
    import numpy as np
    sys.path.insert(0, {root!r})
    from harness.backends.base import BuildSpec, Device, TensorSpec
    from harness.worker.process import Worker

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    spec = BuildSpec("fp32", 2, (TensorSpec("x", "float32", (-1, 3)),), ("y",))
    with Worker("fakes.hangs_in_execute", env={{"PYTHONPATH": {sdk!r}}}) as chip:
        with chip.load(Path("e"), Device(0, "fake"), spec) as session:
            print(chip.pipe._process.pid, flush=True)
            session.run({{"x": np.zeros((2, 3), np.float32)}})
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_the_worker_does_not_outlive_the_suite(name):
    script = textwrap.dedent(WAITS_FOR_EVER).format(root=str(ROOT), sdk=str(SDK))
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as suite:
        pid = int(suite.stdout.readline())
        assert is_running(pid)
        members = group(pid, 2)  # it waits, and so does what it started
        suite.send_signal(getattr(signal, name))
        try:
            said = suite.communicate(timeout=30)[1]
        finally:
            suite.kill()

    assert ends(pid)
    assert all(map(ends, members)), "what the worker started lives on"
    if name == "SIGINT":
        assert "KeyboardInterrupt" in said


def test_a_worker_whose_vendor_call_holds_the_interpreter_does_not_outlive_the_suite():
    script = textwrap.dedent(WAITS_FOR_EVER).format(root=str(ROOT), sdk=str(SDK))
    script = script.replace("hangs_in_execute", "holds_the_interpreter")
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as suite:
        pid = int(suite.stdout.readline())
        time.sleep(1.0)  # into the call
        suite.kill()

    assert ends(pid)


def test_a_compiler_over_its_limit_is_no_device_that_hangs(tmp_path):
    spec = BuildSpec("fp32", 2, (TensorSpec("x", "float32", (-1, 3)),), ("y",))
    limits = Limits(build=0.5, run=0.5)
    fake = {"env": {"PYTHONPATH": str(SDK)}, "limits": limits}
    with (
        Worker("fakes.hangs_in_build", **fake) as chip,
        pytest.raises(WorkerError, match=r"hung in build for more than 0\.5 s") as slow,
    ):
        chip.build(tmp_path / "m.onnx", tmp_path / "engine", spec)
    with (
        Worker("fakes.hangs_in_execute", **fake) as chip,
        chip.load(Path("e"), Device(0, "fake"), spec) as session,
        pytest.raises(WorkerError) as stuck,
    ):
        session.run({"x": np.zeros((2, 3), np.float32)})

    assert (slow.value.hung, stuck.value.hung) == (False, True)
