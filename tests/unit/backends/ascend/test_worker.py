"""The Ascend backend where it lives: in a worker process, that hangs, dies, or has a Python of its own."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import warm
from ascend_tiny import DEVICE, apart, compiled, expected, images, spec
from patience import in_call, patient
from vendor_sweep import SDK, python37

from harness.errors import BuildError, DeviceError, WorkerError
from harness.judge.timing import Plan
from harness.worker.limits import Limits
from harness.worker.process import Worker

BACKENDS = Path(__file__).parents[4] / "harness" / "backends" / "ascend"
OURS = ("acl", "_devices", "_command_line", "_codes", "ais_bench", "_atc", "msame", "_npu_smi", "_pyacl")


def environment(**switches):
    place = str(SDK / "ascend")
    return {
        "PYTHONPATH": place,
        "PATH": os.pathsep.join([place, os.environ["PATH"]]),
        "CHIPPROOF_SIM_PYTHON": sys.executable,
        "CHIPPROOF_SIM": json.dumps(switches),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


@pytest.fixture
def engine(folder, monkeypatch):
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    return compiled(folder, "worker.om", spec())


def ended(pid, within_s=20):
    """Whether a process is gone, or dead and not yet collected."""
    state = Path(f"/proc/{pid}/stat")
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            if state.read_text().rsplit(")", 1)[1].split()[0] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def run(worker, engine, known):
    with worker.load(engine, DEVICE, known) as session:
        return session.run({"image": images()})


def test_a_case_in_a_worker_leaves_nothing_and_breaks_no_rule(engine, folder, tmp_path):
    onnx, _ = engine
    ledger = tmp_path / "ledger"
    with Worker("acl", env={**environment(slow=0.1), "CHIPPROOF_SIM_LEDGER": str(ledger)}) as worker:
        found = worker.devices(r"(Ascend)?(310P\d?|710)")
        worker.build(onnx, folder / "built.om", spec())
        outputs = run(worker, folder / "built.om", spec())
        before = worker.health(found.devices[0])
        with worker.load(folder / "built.om", found.devices[0], spec()) as session:
            timing = session.measure({"image": images()}, Plan(warmup_s=0.01, window_s=0.01, windows=3, latencies=2))

    assert apart(outputs, expected(onnx, images())) < 0.002
    assert before.healthy
    assert len(timing.windows) == 3
    assert not ledger.exists(), ledger.read_text()


@pytest.mark.parametrize("call", ["acl.mdl.load_from_file", "acl.mdl.execute_async", "acl.rt.memcpy", "acl.rt.free"])
def test_a_call_that_kills_the_process_is_named_and_costs_one_case(engine, call):
    onnx, om = engine
    with Worker("acl", env=environment(die=[call, "SIGSEGV"])) as worker:
        with pytest.raises(WorkerError, match="SIGSEGV") as caught:
            run(worker, om, spec())
        assert not worker.alive
    with Worker("acl", env=environment()) as worker:
        outputs = run(worker, om, spec())

    assert call in caught.value.fact
    assert apart(outputs, expected(onnx, images())) < 0.002


def test_a_call_that_hangs_is_named(engine):
    _, om = engine
    limits = Limits(run=1.0)

    hanging = Worker("acl", env=environment(hang="acl.rt.synchronize_stream"), limits=limits)
    with hanging as worker, worker.load(om, DEVICE, spec()) as session:
        patient(worker, in_call(worker, "acl.rt.synchronize_stream"))
        with pytest.raises(WorkerError, match=r"hung in acl\.rt\.synchronize_stream for more than 1 s"):
            session.run({"image": images()})


def test_a_compiler_that_hangs_is_ended_with_its_worker(engine, folder, tmp_path):
    onnx, _ = engine
    env = environment(hang="atc")
    marker = tmp_path / "atc.pid"
    env["CHIPPROOF_SIM_PYTHON"] = str(tmp_path / "python")
    (tmp_path / "python").write_text(f'#!/bin/sh\necho $$ > {marker}\nexec {sys.executable} "$@"\n')
    (tmp_path / "python").chmod(0o755)

    with Worker("acl", env=env, limits=Limits(build=1.0)) as worker:
        assert worker.python_version
        patient(worker, lambda: marker.exists() and marker.read_text().endswith("\n"))
        with pytest.raises(WorkerError, match="hung in atc"):
            worker.build(onnx, tmp_path / "e.om", spec())

    assert ended(int(marker.read_text())), "the compiler goes on"
    assert not (tmp_path / "e.om").exists()


def test_errors_arrive_as_they_were_raised(engine, tmp_path):
    onnx, om = engine
    with Worker("acl", env=environment(fail=[["acl.rt.create_stream", 1, 207008]])) as worker:
        with pytest.raises(DeviceError, match=r"acl.rt.create_stream failed: 207008 RT_NO_STREAM_RESOURCE") as caught:
            run(worker, om, spec())
        with pytest.raises(BuildError, match="E10001"):
            worker.build(onnx, tmp_path / "e.om", spec(target="Ascend1"))
        outputs = run(worker, om, spec())

    assert type(caught.value) is DeviceError
    assert apart(outputs, expected(onnx, images())) < 0.002


def test_workers_of_the_suite_do_not_count_as_others_and_strangers_do(engine, tmp_path):
    _, om = engine
    env = environment(machine=str(tmp_path / "machine"))
    code = "import acl, os, time; acl.init(); acl.rt.set_device(0); print(os.getpid(), flush=True); time.sleep(600)"
    with Worker("acl", env=env) as first, Worker("acl", env=env) as second, first.load(om, DEVICE, spec()):
        alone = second.health(DEVICE)
        with second.load(om, DEVICE, spec()):
            both = second.health(DEVICE)
        shell = f'{sys.executable} -c "{code}" &'  # an orphan: no worker of this suite, and no tool of one
        stranger = subprocess.Popen(["sh", "-c", shell], env={**os.environ, **env}, stdout=subprocess.PIPE, text=True)
        try:
            pid = stranger.stdout.readline().strip()
            three = second.health(DEVICE)
        finally:
            os.kill(int(pid), signal.SIGKILL)
            stranger.communicate()
        after = second.health(DEVICE)

    assert len(list((tmp_path / "machine").iterdir())) == 1, "what the stranger left; the workers gave back"
    assert alone.processes == both.processes == after.processes == ()
    assert three.processes == (f"{pid} python",)


def test_a_tool_in_a_worker_tells_its_own_times(engine):
    _, om = engine
    rows = [["features", "float32", [-1, 4, 8, 8]], ["class", "float32", [-1, 4]]]
    known = replace(spec(), options={**spec().options, "out_specs": rows})
    with Worker("msame", env=environment(slow=2.5)) as worker, worker.load(om, DEVICE, known) as session:
        timing = session.measure({"image": images()}, Plan(warmup_s=0.0, window_s=0.02, windows=3, latencies=1))

    seconds = [(window.stop - window.start) / window.executes for window in timing.windows]
    assert 0.01 - 1e-9 <= min(seconds) < 0.1, "10 ms and more; the clock's own digits end at 1e-12 s"


@pytest.mark.parametrize("name", OURS)
def test_the_backend_is_written_in_python_37(name):
    source = (BACKENDS / f"{name}.py").read_text(encoding="utf-8")

    tree = ast.parse(source, feature_version=(3, 7))

    assert "from __future__ import annotations" in source
    imported = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0]
        for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names
    }  # fmt: skip
    assert imported <= {"__future__", "harness", "numpy", "acl", *sys.stdlib_module_names}


def test_the_whole_case_runs_under_python_37(engine, tmp_path):
    onnx, om = engine
    ledger = tmp_path / "ledger"
    env = {**environment(), "CHIPPROOF_SIM_LEDGER": str(ledger)}
    with Worker("acl", python=python37(), env=env) as worker:
        found = worker.devices(r"(Ascend)?(310P\d?|710)")
        assert worker.version().startswith("CANN 8")
        assert worker.health(found.devices[0]).healthy
        worker.build(onnx, tmp_path / "built.om", spec())
        outputs = run(worker, om, spec())
        version = worker.python_version

    assert version.startswith("3.7.")
    assert apart(outputs, expected(onnx, images())) < 0.002
    assert not ledger.exists(), ledger.read_text()


def test_no_vendor_module_is_imported_before_it_is_used(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", warm.REAL)
    code = f"import sys; sys.path.insert(0, {str(BACKENDS.parents[2])!r})\n" + "".join(
        f"import harness.backends.ascend.{name}\n" for name in OURS
    )
    done = subprocess.run(
        [sys.executable, "-c", code + "print('acl' in sys.modules, 'onnx' in sys.modules, 'torch' in sys.modules)"],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip

    assert done.stdout.split() == ["False", "False", "False"]
