"""What the TensorRT backend does to build stands before NVIDIA's own compiler: TensorRT for RTX, which needs no GPU.

Parse, settings, profiles and build are real; the calibrator is not, because this compiler takes quantised networks
only. The environment is that of `make test-vendor`."""

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from ort_small import images, network, spec
from vendor_pythons import ROOT, interpreter

from harness.backends.cpu import _graph

SCRIPT = Path(__file__).with_name("rtx_build.py")


def built(source, engine, capability="SM80", precision="fp32"):
    return subprocess.run(
        [interpreter("trt"), str(SCRIPT), str(source), str(engine), capability, precision],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def graph(tmp_path, precision):
    """The network in that precision, as the suite makes it for TensorRT 11."""
    onnx.save(network(), str(tmp_path / "small.onnx"))
    np.save(tmp_path / "calibration.npy", images(8))
    wanted = spec(precision, batch=4, calibration=str(tmp_path / "calibration.npy"))
    _graph.make(tmp_path / "small.onnx", tmp_path / "made.onnx", wanted, symmetric=True, reduced=False)
    return tmp_path / ("small.onnx" if precision == "fp32" else "made.onnx")


@pytest.mark.parametrize("capability", ["SM80", "SM89", "SM121"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_nvidias_compiler_builds_the_network(tmp_path, precision, capability):
    interpreter("trt")
    done = built(graph(tmp_path, precision), tmp_path / "plan", capability, precision)

    assert done.returncode == 0, done.stderr[-1500:]
    assert (tmp_path / "plan").stat().st_size > 1000


def test_nvidias_compiler_says_why_it_cannot_build(tmp_path):
    """TensorRT for RTX 1.7 has no FP32 matrix product for Turing: its own words reach the reader."""
    interpreter("trt")
    done = built(graph(tmp_path, "fp32"), tmp_path / "plan", "SM75")

    assert "BuildError: trt.Builder.build_serialized_network failed" in done.stderr
    assert "FP32 GEMM is not supported" in done.stderr


def test_nvidias_compiler_refuses_an_operator_by_its_name(tmp_path):
    interpreter("trt")
    model = network()
    model.graph.node[2].op_type = "Rellu"
    onnx.save(model, str(tmp_path / "odd.onnx"))
    done = built(tmp_path / "odd.onnx", tmp_path / "plan")

    assert "BuildError" in done.stderr
    assert "Rellu" in done.stderr
    assert not (tmp_path / "plan").exists()


def test_nvidias_compiler_refuses_a_graph_of_another_input(tmp_path):
    interpreter("trt")
    model = network()
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 14, 14]))
    onnx.save(model, str(tmp_path / "wide.onnx"))
    done = built(tmp_path / "wide.onnx", tmp_path / "plan")

    assert "image of the network is (-1, 3, 14, 14)" in done.stderr
