"""What the tests of the Ascend backend share: a small network with batch norm and named nodes, and its cases."""

from __future__ import annotations

import atexit
import subprocess
import sys

import numpy as np
from vendor_sweep import SDK, simulated

from harness.backends.ascend import _pyacl, acl
from harness.backends.base import BuildSpec, Device, Normalize, TensorSpec

DEVICE = Device(0, "310P3", target="Ascend310P3")
NODES = {"features": "BatchNormalization_1:0", "class": "Flatten_3:0"}
NORMALIZE = Normalize((104.0, 117.0, 123.675), (57.375, 58.395, 57.12), "BGR")


def network(path, batch="batch", seed=0, opset=11, domain=None, names=True):
    """Conv with batch norm (output `features`, N x 4 x 8 x 8), pooled (`class`, N x 4); input `image` N x 3 x 8 x 8."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.RandomState(seed)
    arrays = {
        "weight": random.randn(4, 3, 3, 3), "scale": random.rand(4) + 0.5, "shift": random.randn(4),
        "mean": random.randn(4), "var": random.rand(4) + 0.5,
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["convolved"], name="Conv_0", pads=[1] * 4),
        helper.make_node(
            "BatchNormalization", ["convolved", "scale", "shift", "mean", "var"], ["features"],
            name="BatchNormalization_1",
        ),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"], name="GlobalAveragePool_2"),
        helper.make_node("Flatten", ["pooled"], ["class"], name="Flatten_3"),
    ]  # fmt: skip
    if not names:
        for node in nodes:
            node.name = ""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "tiny", [value("image", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [value("features", TensorProto.FLOAT, [batch, 4, 8, 8]), value("class", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )  # fmt: skip
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(graph, opset_imports=imports)
    model.ir_version = 7
    onnx.save(model, str(path))
    return path


def spec(batch=4, outputs=("features", "class"), **more):
    options = {"out_nodes": [NODES[name] for name in outputs], **more.pop("options", {})}
    inputs = (TensorSpec("image", "float32", (-1, 3, 8, 8)),)
    return BuildSpec(
        more.pop("precision", "fp16"), batch, inputs, outputs, target=more.pop("target", "Ascend310P3"),
        options=options, **more,
    )  # fmt: skip


def images(batch=4, seed=1):
    return np.random.RandomState(seed).randn(batch, 3, 8, 8).astype(np.float32)


def pixels(batch=4, seed=1):
    return np.random.RandomState(seed).randint(0, 256, (batch, 8, 8, 3)).astype(np.uint8)


def expected(path, tensors):
    """What ONNX Runtime computes in FP32 for float images, or for pixels after the normalisation."""
    import onnxruntime as ort

    if tensors.dtype == np.uint8:
        scaled = (tensors.astype(np.float64) - NORMALIZE.mean) / NORMALIZE.std
        tensors = scaled.astype(np.float32).transpose(0, 3, 1, 2)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip(("features", "class"), session.run(["features", "class"], {"image": tensors}), strict=True))


def apart(outputs, wanted):
    """Largest difference of any output, relative to that output's largest value; NaN counts as infinite."""
    worst = [float(np.abs(outputs[name] - value).max() / np.abs(value).max()) for name, value in wanted.items()]
    return max(np.inf if np.isnan(each) else each for each in worst)


def begin_anew(chip):
    """As a new process would find things: nothing exists, pyACL is not initialised."""
    chip.state.reset()
    _pyacl.initialized.cache_clear()
    atexit.unregister(_pyacl.finalize)


def compiled(folder, name, case, environment=None):
    """An engine of `case`, built once by the simulated compiler in a process of its own; returns (onnx, engine)."""
    onnx, engine = folder / "tiny.onnx", folder / name
    if not onnx.exists():
        network(onnx)
    if not engine.exists():
        acl.build(onnx, engine, case)
    return onnx, engine


def outputs_of(engine, case, tensors, times=1):
    """What the pyACL backend reads after executing one batch."""
    with acl.load(engine, DEVICE, case) as session:
        session.write({"image": tensors})
        session.execute(times)
        return session.read()


def python(code, *arguments, **environment):
    """Run code in a new interpreter with the simulated SDK in the vendor's place, and this folder to import from."""
    import os

    place = str(SDK / "ascend")
    env = {
        **os.environ, "PYTHONPATH": os.pathsep.join([place, str(SDK.parents[1]), str(SDK.parent / "support")]),
        "PATH": os.pathsep.join([place, os.path.dirname(sys.executable), os.environ["PATH"]]), **environment,  # noqa: PTH120
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True, check=False
    )


def cann(monkeypatch, tmp_path):
    """The simulated CANN in this process, as vendor_sweep.Simulated, with nothing initialised."""
    monkeypatch.setenv("CHIPPROOF_SIM_PYTHON", sys.executable)  # what runs the simulated atc
    return simulated(monkeypatch, tmp_path, "ascend", ("acl", "simulated_cann", "simulate"), "acl.chip")


def convert(sdk, tmp_path, *flags):
    """(status, what atc said, the engine) of the small network with other flags; its height and width are free."""
    import onnx

    path = network(tmp_path / "tiny.onnx")
    model = onnx.load(str(path))
    for value in model.graph.input:
        for axis in (2, 3):
            value.type.tensor_type.shape.dim[axis].dim_param = f"d{axis}"
    onnx.save(model, str(path))
    return run_atc(path, tmp_path, *flags)


def run_atc(path, tmp_path, *flags):
    """(status, what atc said, the engine)"""
    words = [str(SDK / "ascend" / "atc"), "--framework=5", f"--model={path}", f"--output={tmp_path / 'made'}",
             "--soc_version=Ascend310P3", *flags]  # fmt: skip
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, tmp_path / "made.om"
