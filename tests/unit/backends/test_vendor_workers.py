"""MagicMind and TensorRT where they live: in a worker, which ends clean, or dies of the SDK and says in which call."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from patience import in_call, patient
from vendor_sweep import SDK, python37, tiny_answer, tiny_batch, tiny_model, tiny_spec

from harness.errors import BuildError, WorkerError
from harness.worker.limits import Limits
from harness.worker.process import Worker

BACKENDS = {"magicmind": "magicmind", "trt": "tensorrt"}
ENQUEUE = {"magicmind": "mm.IContext.enqueue", "trt": "trt.IExecutionContext.execute_async_v3"}


@pytest.fixture(params=BACKENDS)
def machine(request, tmp_path):
    """(backend, environment with these switches, what the ledger holds)."""
    place = SDK / BACKENDS[request.param]
    ledger = tmp_path / "ledger.jsonl"

    def environment(**switches):
        return {
            "PYTHONPATH": str(place),
            "PATH": f"{place}{os.pathsep}{os.environ['PATH']}",
            "CHIPPROOF_SIM": json.dumps({"slow": 0.01, **switches}),
            "CHIPPROOF_SIM_LEDGER": str(ledger),
        }

    def wrongs():
        return [json.loads(line)["what"] for line in ledger.read_text().splitlines()] if ledger.exists() else []

    return request.param, environment, wrongs


def test_a_whole_case_leaves_a_clean_process(machine, tmp_path):
    backend, environment, wrongs = machine
    onnx, engine, spec = tiny_model(tmp_path / "tiny.onnx"), tmp_path / "engine", tiny_spec()
    with Worker(backend, env=environment()) as worker:
        (device,) = worker.devices(".*").devices
        assert worker.health(device).healthy
        worker.build(onnx, engine, spec)
        with worker.load(engine, device, spec) as session, worker.load(engine, device, spec) as other:
            outputs = session.run({"image": tiny_batch()})
            other.run({"image": tiny_batch(seed=1)})

    expected = tiny_answer(onnx, tiny_batch())
    assert all(np.array_equal(outputs[name], expected[name]) for name in expected)
    assert wrongs() == []


def test_a_whole_case_runs_under_python_37(machine, tmp_path):
    backend, environment, wrongs = machine
    onnx, engine, spec = tiny_model(tmp_path / "tiny.onnx"), tmp_path / "engine", tiny_spec()
    with Worker(backend, python=python37(), env=environment()) as worker:
        (device,) = worker.devices(".*").devices
        assert worker.version()
        assert worker.health(device).healthy
        worker.build(onnx, engine, spec)
        with worker.load(engine, device, spec) as session:
            outputs = session.run({"image": tiny_batch()})
        version = worker.python_version

    expected = tiny_answer(onnx, tiny_batch())
    assert version.startswith("3.7.")
    assert all(np.allclose(outputs[name], expected[name], atol=1e-6) for name in expected)
    assert wrongs() == []


def test_a_crash_costs_the_worker_and_names_the_call(machine, tmp_path):
    backend, environment, _ = machine
    onnx, engine, spec = tiny_model(tmp_path / "tiny.onnx"), tmp_path / "engine", tiny_spec()
    with Worker(backend, env=environment(die=[ENQUEUE[backend], "SIGSEGV"])) as worker:
        (device,) = worker.devices(".*").devices
        worker.build(onnx, engine, spec)
        session = worker.load(engine, device, spec)

        with pytest.raises(WorkerError, match=f"died of SIGSEGV in {ENQUEUE[backend]}"):
            session.run({"image": tiny_batch()})


def test_a_hang_ends_with_its_limit_and_names_the_call(machine, tmp_path):
    backend, environment, _ = machine
    call = {"magicmind": "mm.Builder.build_model", "trt": "trt.Builder.build_serialized_network"}[backend]
    onnx = tiny_model(tmp_path / "tiny.onnx")
    with Worker(backend, env=environment(hang=call), limits=Limits(build=1.0)) as worker:
        assert worker.python_version
        patient(worker, in_call(worker, call))

        with pytest.raises(WorkerError, match=f"hung in {call} for more than 1 s"):
            worker.build(onnx, tmp_path / "engine", tiny_spec())


def test_what_the_compiler_says_arrives_with_the_error(machine, tmp_path):
    backend, environment, wrongs = machine
    call = {"magicmind": "mm.Builder.build_model", "trt": "trt.Builder.build_serialized_network"}[backend]
    onnx = tiny_model(tmp_path / "tiny.onnx")
    with Worker(backend, env=environment(fail=[[call, 1, 13]])) as worker, pytest.raises(BuildError) as caught:
        worker.build(onnx, tmp_path / "engine", tiny_spec())

    assert f"{call} failed: returned None" in caught.value.fact
    assert "13" in caught.value.fact.split("\n", 1)[1], "the words of the SDK's own log"
    assert wrongs() == []
