"""What the tests of vendor backends share: a tiny model, a simulated SDK in this process, and the injection sweep."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from harness.backends.base import BuildSpec, Normalize, TensorSpec
from harness.errors import HarnessError

SDK = Path(__file__).resolve().parents[1] / "sdk"
NORMALIZE = Normalize((104.0, 117.0, 123.0), (2.0, 4.0, 8.0), "BGR")


def python37():
    """The oldest Python that vendors ship, named by $CHIPPROOF_PYTHON37; skips without one."""
    python = os.environ.get("CHIPPROOF_PYTHON37")
    needs = "import numpy, onnx, onnxruntime"  # the last two for the simulated chip, not for the backend
    if not python or subprocess.run([python, "-c", needs], capture_output=True, check=False).returncode:
        pytest.skip("CHIPPROOF_PYTHON37 names no Python 3.7 with NumPy, ONNX and ONNX Runtime")
    return python


def tiny_model(path, *, opset=11, half=False):
    """Conv, ReLU, reshape, two heads of the same shape; dynamic batch, input (N, 3, 8, 8); weights in FP32 or FP16."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.RandomState(7)
    dtype = np.float16 if half else np.float32
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    weights = {
        "w": random.uniform(-1, 1, (4, 3, 3, 3)),
        "b": random.uniform(-1, 1, 4),
        "fw": random.uniform(-1, 1, (4, 5)),
        "gw": random.uniform(-1, 1, (4, 5)),
    }
    edge_in = [helper.make_node("Cast", ["image"], ["x"], to=kind)]
    nodes = [
        *edge_in,
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Reshape", ["p", "rows"], ["f"]),  # an int64 constant, as every exported graph has
        helper.make_node("Gemm", ["f", "fw"], ["first_raw"]),
        helper.make_node("Gemm", ["f", "gw"], ["second_raw"]),
        helper.make_node("Cast", ["first_raw"], ["first"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["second_raw"], ["second"], to=TensorProto.FLOAT),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tiny",
        [value("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [value("first", TensorProto.FLOAT, ["batch", 5]), value("second", TensorProto.FLOAT, ["batch", 5])],
        [
            *(numpy_helper.from_array(array.astype(dtype), name) for name, array in weights.items()),
            numpy_helper.from_array(np.array([0, -1], np.int64), "rows"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def tiny_spec(precision="fp32", batch=2, **more):
    inputs = (TensorSpec("image", "float32", (-1, 3, 8, 8)),)
    return BuildSpec(precision, batch, inputs, ("first", "second"), **more)


def tiny_batch(batch=2, seed=0):
    return np.random.RandomState(seed).uniform(-1, 1, (batch, 3, 8, 8)).astype(np.float32)


def tiny_pixels(batch=2, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (batch, 8, 8, 3)).astype(np.uint8)


def tiny_answer(path, images):
    """What ONNX Runtime computes: {first, second}."""
    import onnxruntime as ort

    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip(("first", "second"), session.run(["first", "second"], {"image": images}), strict=False))


class Simulated:
    """A simulated SDK imported into this process: its switches, its ledger, its call counts."""

    def __init__(self, monkeypatch, tmp_path, name, packages, calls_of):
        self._monkeypatch = monkeypatch
        self._ledger = tmp_path / "ledger.jsonl"
        self.path = SDK / name
        for package in packages:  # another SDK of that name must not stay imported
            for module in [known for known in sys.modules if known == package or known.startswith(package + ".")]:
                monkeypatch.delitem(sys.modules, module)
        monkeypatch.syspath_prepend(str(self.path))
        monkeypatch.setenv("PATH", str(self.path), prepend=":")
        monkeypatch.setenv("CHIPPROOF_SIM_LEDGER", str(self._ledger))
        monkeypatch.delenv("CHIPPROOF_SIM", raising=False)
        self.calls = importlib.import_module(calls_of).calls
        self._packages = packages

    def switch(self, **switches):
        self._monkeypatch.setenv("CHIPPROOF_SIM", json.dumps(switches))

    def wrongs(self):
        """Violations, leaks and broken house rules so far."""
        if not self._ledger.exists():
            return []
        lines = [json.loads(line) for line in self._ledger.read_text().splitlines()]
        return [line["what"] for line in lines if line["kind"] in ("violation", "leak", "house")]

    def forget(self):
        """Take the simulated packages out of this process again."""
        for package in self._packages:
            for module in [known for known in sys.modules if known == package or known.startswith(package + ".")]:
                del sys.modules[module]


class VirtualTime:
    """Stands in for the module `time`: sleeping passes time at once, looking at the clock takes a microsecond."""

    def __init__(self, monkeypatch, *modules):
        self.now = 1000.0
        for module in modules:
            monkeypatch.setattr(importlib.import_module(module), "time", self)

    def perf_counter(self):
        self.now += 1e-6
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def of(self, session, times):
        """Seconds of one execute among `times`."""
        start = self.now
        session.execute(times)
        return (self.now - start) / times


@contextmanager
def simulated(monkeypatch, tmp_path, name, packages, calls_of):
    sdk = Simulated(monkeypatch, tmp_path, name, packages, calls_of)
    try:
        yield sdk
    finally:
        sdk.forget()


def occurrences(counts):
    """(call, n) for the first, the middle and the last time of every call."""
    return [(call, n) for call, last in sorted(counts.items()) for n in sorted({1, (last + 1) // 2, last})]


def _error_of(case):
    try:
        case()
    except HarnessError as error:
        return error
    return None


def sweep(sdk, case, held, base_switches, code, tolerated=()):
    """Fail every vendor call at its first, middle and last time; after each, the same case must run clean.

    `case()` runs one whole case; `held()` counts what the runtime still holds. Returns the number of injections."""
    sdk.switch(**base_switches)
    case()
    sdk.calls.reset()
    case()
    counts = dict(sdk.calls.counts)
    clean = held()
    assert sdk.wrongs() == []
    points = occurrences(counts)
    for call, n in points:
        sdk.calls.reset()
        sdk.switch(fail=[[call, n, code]], **base_switches)
        where = f"{call}, time {n} of {counts[call]}"
        error = _error_of(case)
        if error is None:
            assert call in tolerated, f"{where}: the failure went unnoticed"
        else:
            assert call in error.fact, f"{where}: the error does not name the call: {error}"
            assert str(code) in error.fact, f"{where}: the error does not give the code: {error}"
            assert error.hint.strip(), f"{where}: no next step"
        del error
        assert held() == clean, f"{where}: something is still held"
        assert sdk.wrongs() == [], f"{where}: {sdk.wrongs()}"
        sdk.calls.reset()
        sdk.switch(**base_switches)
        case()
        assert sdk.wrongs() == [], f"{where}: the next case is not clean: {sdk.wrongs()}"
    return len(points)


def with_names(path):
    """The tiny model at `path` with each node named after its operator and tensor; the names."""
    import onnx

    model = onnx.load(str(path))
    for node in model.graph.node:
        node.name = f"{node.op_type}_{node.output[0]}"
    onnx.save(model, str(path))
    return [node.name for node in model.graph.node]
