"""ONNX Runtime computes the graph at every precision, says where it runs, and its failures are typed."""

import os
import sys
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from ort_small import CPU, expected, images, nearly, outputs, spec

from harness.backends.ascend import ort_cann
from harness.backends.base import Device, TensorSpec
from harness.backends.cpu import ort
from harness.backends.nvidia import ort_cuda, ort_tensorrt
from harness.errors import DeviceError, InvalidMeasurement, RunError
from harness.judge.timing import Plan
from harness.worker.process import Worker


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_fp32_is_the_graph(source, tmp_path, batch):
    ort.build(source, tmp_path / "e", spec(batch=batch))
    x = images(batch)

    with ort.load(tmp_path / "e", CPU, spec(batch=batch)) as session:
        assert session.inputs == (TensorSpec("image", "float32", (batch, 3, 12, 12)),)
        assert session.outputs[0] == TensorSpec("share", "float32", (batch, 5))
    nearly(outputs(tmp_path / "e", spec(batch=batch), x), expected(x), 1e-5)


def test_batch_tiers_stay_dynamic(source, tmp_path):
    tiers = spec(batch=4, tiers=(1, 4))
    ort.build(source, tmp_path / "e", tiers)

    for batch in (1, 4):
        nearly(outputs(tmp_path / "e", tiers, images(batch)), expected(images(batch)), 1e-5)


@pytest.mark.parametrize("content", [b"", b"garbage" * 50, None], ids=["empty", "garbage", "absent"])
def test_an_engine_that_cannot_be_loaded_is_a_device_error(tmp_path, content):
    if content is not None:
        (tmp_path / "e").write_bytes(content)

    with pytest.raises(DeviceError, match="InferenceSession"), ort.load(tmp_path / "e", CPU, spec()):
        pass


def test_a_kernel_that_fails_is_a_device_error_with_its_words(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "image"], ["row"], "look")],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("row", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(np.zeros((3, 2), np.float32), "table")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), tmp_path / "e")

    with ort.load(tmp_path / "e", CPU, spec()) as session:
        session.write({"image": np.array([7], np.int64)})
        with pytest.raises(DeviceError, match=r"onnxruntime run: .*Gather"):
            session.execute()


def test_inputs_that_are_not_the_engines_are_refused(source, tmp_path):
    ort.build(source, tmp_path / "e", spec())

    with ort.load(tmp_path / "e", CPU, spec()) as session:
        for wrong in ({"x": images(2)}, {"image": images(3)}, {"image": images(2).astype(np.float64)}):
            with pytest.raises(RunError):
                session.write(wrong)


def test_what_was_written_and_what_was_read_are_copies(source, tmp_path):
    ort.build(source, tmp_path / "e", spec())
    x = images(2)

    with ort.load(tmp_path / "e", CPU, spec()) as session:
        session.write({"image": x})
        x[:] = 0
        session.execute(3)
        first = session.read()["logits"]
        session.write({"image": x})
        session.execute()
        second = session.read()["logits"]
    assert np.allclose(first, expected(images(2))["logits"], atol=1e-4)
    assert not np.allclose(first, second)


def test_its_threads_leave_the_cores_alone_after_a_run(source, tmp_path):
    """Waiting for more, they would take them from whoever is timed next."""
    ort.build(source, tmp_path / "engine", spec(batch=256))
    after = []
    with ort.load(tmp_path / "engine", CPU, spec(batch=256, options={"threads": 3})) as session:
        session.write({"image": np.zeros((256, 3, 12, 12), np.float32)})
        for _ in range(5):
            session.execute(5)
            used = time.process_time()
            time.sleep(0.05)
            after.append(time.process_time() - used)
    assert median(after) < 0.01, after


def test_every_execute_is_a_run(source, tmp_path, monkeypatch):
    ort.build(source, tmp_path / "e", spec())
    runs = []
    run = onnxruntime.InferenceSession.run_with_iobinding
    monkeypatch.setattr(
        onnxruntime.InferenceSession, "run_with_iobinding", lambda self, io: runs.append(io) or run(self, io)
    )

    with ort.load(tmp_path / "e", CPU, spec()) as session:
        session.write({"image": images(2)})
        session.execute(300)
    assert len(runs) == 300


def test_an_execute_on_a_device_has_ended_when_it_returns():
    """A provider may return from a run when it has queued it."""
    told = []

    class Binding:
        def synchronize_outputs(self):
            told.append("waited")

    session = SimpleNamespace(
        get_inputs=list, get_outputs=list, io_binding=Binding, run_with_iobinding=lambda binding: told.append("run")
    )

    ort._Session(None, session, ort_cuda.PROVIDER, 0).execute(2)

    assert told == ["run", "run", "waited"]


@pytest.mark.parametrize(("quota", "count"), [("max 100000", 4), ("200000 100000", 2), ("50000 100000", 1)])
def test_a_container_has_the_cores_of_its_quota(quota, count, monkeypatch):
    read = Path.read_text
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    siblings = lambda path: str(path) if "topology" in path.parts else quota if path.name == "cpu.max" else read(path)  # noqa: E731
    monkeypatch.setattr(Path, "read_text", siblings)

    assert ort.cores() == count


def test_the_worker_drives_it(source, tmp_path):
    x = images(2)
    with Worker("ort", log=tmp_path / "log") as chip:
        (device,) = chip.devices(".*").devices
        chip.build(source, tmp_path / "e", spec())
        with chip.load(tmp_path / "e", device, spec()) as session:
            found = session.run({"image": x})
            timing = session.measure({"image": x}, Plan(warmup_s=0.01, window_s=0.01, windows=3, latencies=1))
            again = session.read()

        assert "load average" in chip.health(device).note
        assert chip.version() == ort.version()
    assert list(found) == ["logits", "share"], "in the order in which the suite wants them"
    nearly(found, expected(x), 1e-5)
    assert len(timing.windows) == 3
    assert all((found[name] == again[name]).all() for name in found)


def test_the_cpu_is_one_device_with_evidence():
    found = ort.devices(".*")

    assert len(found.devices) == 1
    assert onnxruntime.__version__ in found.evidence
    assert ort.cores() >= 1


def test_int8_engines_of_processors_with_and_without_vnni_are_kept_apart(monkeypatch):
    versions = set()
    for vnni in (True, False):
        monkeypatch.setattr(ort, "has_vnni", lambda vnni=vnni: vnni)
        versions.add(ort.version())

    assert len(versions) == 2, "the version is part of the engine's key"


def test_a_cpu_of_another_name_is_not_found():
    assert ort.devices("Ascend310").devices == ()
    assert "does not match" in ort.devices("Ascend310").evidence


def test_without_onnx_runtime_there_is_no_device_and_the_reason_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    assert ort.devices(".*").devices == ()
    assert "ONNX Runtime is not here" in ort.devices(".*").evidence
    with pytest.raises(DeviceError, match="not here") as caught:
        ort.version()
    assert "pip install" in caught.value.hint


# other providers


@pytest.mark.parametrize("backend", [ort_cuda, ort_tensorrt, ort_cann], ids=lambda backend: backend.PROVIDER)
def test_a_provider_that_was_not_built_in_is_absent_and_says_so(source, tmp_path, backend, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    ort.build(source, tmp_path / "e", spec())

    found = backend.devices(".*")
    assert found.devices == ()
    assert f"has no {backend.PROVIDER}: it has CPUExecutionProvider" in found.evidence
    with pytest.raises(DeviceError, match=f"no {backend.PROVIDER}"), backend.load(tmp_path / "e", CPU, spec()):
        pass


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize("backend", [ort_cuda, ort_tensorrt, ort_cann], ids=lambda backend: backend.PROVIDER)
def test_a_silent_fallback_to_the_cpu_is_invalid(source, tmp_path, backend, monkeypatch):
    ort.build(source, tmp_path / "e", spec())
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [backend.PROVIDER])

    loading = backend.load(tmp_path / "e", CPU, spec())
    with pytest.raises(InvalidMeasurement, match=f"asked for {backend.PROVIDER}, .*took CPUExecutionProvider"), loading:
        pass


@pytest.mark.parametrize("backend", [ort_cuda, ort_tensorrt, ort_cann], ids=lambda backend: backend.PROVIDER)
def test_a_provider_is_given_the_device_that_was_asked_for(tmp_path, backend, monkeypatch):
    asked = []
    monkeypatch.setattr(ort, "load", lambda engine, device, spec, provider, settings: asked.append(settings))

    backend.load(tmp_path / "e", Device(3, "the fourth"), spec())

    (settings,) = asked
    assert settings["device_id"] == "3"


def test_nodes_that_a_provider_left_to_the_cpu_are_invalid_and_named(source, tmp_path):
    ort.build(source, tmp_path / "e", spec())

    with pytest.raises(InvalidMeasurement, match=r"nodes ran on the CPU .*Conv"):
        ort._refuse_fallback(onnxruntime, tmp_path / "e", ("CPUExecutionProvider", {}), spec())


def test_the_share_of_nodes_on_the_provider_counts_shape_arithmetic_too():
    def node(provider):
        return {"cat": "Node", "args": {"provider": provider}}

    events = [*[node("CUDAExecutionProvider")] * 3, node(ort.CPU), {"cat": "Session", "args": {}},
              {"cat": "Node", "args": {}}]  # fmt: skip

    assert ort.on_provider(events, "CUDAExecutionProvider") == 0.75
    assert ort.on_provider([], "CUDAExecutionProvider") == 1.0


def test_shape_arithmetic_on_the_cpu_is_no_fallback():
    def event(name, provider, dtype):
        told = {"provider": provider, "op_name": name, "output_type_shape": [{dtype: [4]}]}
        return {"cat": "Node", "name": name + "_kernel_time", "args": told}

    events = [
        event("Conv", "CUDAExecutionProvider", "float"),
        event("Shape", "CPUExecutionProvider", "int64"),
        event("Resize", "CPUExecutionProvider", "float"),
        {"cat": "Session", "name": "model_run", "args": {}},
    ]

    assert ort.on_the_cpu(events) == ["Resize (Resize)"]
