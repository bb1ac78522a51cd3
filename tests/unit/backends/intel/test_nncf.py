"""What NNCF is asked for, and what its errors become; a stand-in takes its place, for it is an optional package."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.backends.base import BuildSpec, TensorSpec
from harness.backends.intel import _nncf
from harness.backends.intel._nncf import quantised
from harness.errors import BuildError


@pytest.fixture
def spec(tmp_path):
    np.save(tmp_path / "calibration.npy", np.arange(5 * 3 * 4 * 4, dtype=np.float32).reshape(5, 3, 4, 4))
    inputs = (TensorSpec("image", "float32", (-1, 3, 4, 4)),)
    return BuildSpec("int8", 2, inputs, ("y",), calibration=str(tmp_path / "calibration.npy"), target="CPU.0")


@pytest.fixture
def nncf(monkeypatch):
    """Notes what quantize was given; `error` is what it raises."""
    refused = type("ValidationError", (Exception,), {})
    stand_in = SimpleNamespace(
        given={}, error=None, Dataset=list, errors=SimpleNamespace(ValidationError=refused),
        OverflowFix={"ENABLE": "in all"}, IgnoredScope=dict, AdvancedQuantizationParameters=dict,
        QuantizationPreset={"MIXED": "mixed", "PERFORMANCE": "performance"}, TargetDevice={"CPU": "cpu"},
    )  # fmt: skip

    def quantize(model, data, **options):
        if stand_in.error:
            raise stand_in.error
        stand_in.given = {"data": data, **options}
        return "quantised"

    stand_in.quantize = quantize
    monkeypatch.setitem(sys.modules, "nncf", stand_in)
    return stand_in


def model():
    return SimpleNamespace(reshape=lambda shapes: shapes)


def test_every_calibration_image_is_given_one_by_one_with_the_mixed_preset(nncf, spec):
    assert quantised(None, model(), spec, Path("model.onnx")) == "quantised"

    assert [batch["image"].shape for batch in nncf.given["data"]] == [(1, 3, 4, 4)] * 5
    assert (nncf.given["preset"], nncf.given["target_device"], nncf.given["subset_size"]) == ("mixed", "cpu", 5)


def test_nncf_has_no_pytorch_when_it_is_imported_and_when_it_quantises(nncf, spec, monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.delitem(sys.modules, "nncf")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "torch.py").touch()
    (tmp_path / "nncf.py").write_text("import importlib.util\nfound = importlib.util.find_spec('torch')\n")
    assert _nncf._imported().found is None

    def quantize(model, data, **options):
        assert "torch" not in sys.modules, "where others look for it"
        importlib.import_module("torch")

    monkeypatch.setitem(sys.modules, "nncf", nncf)
    monkeypatch.setattr(nncf, "quantize", quantize)
    with pytest.raises(ModuleNotFoundError, match="torch"):
        quantised(None, model(), spec, Path("model.onnx"))


def test_in_which_layers_weights_take_7_bits_is_nncfs_choice_unless_it_is_set(nncf, spec):
    quantised(None, model(), spec, Path("model.onnx"))
    assert "advanced_parameters" not in nncf.given

    quantised(None, model(), replace(spec, options={"overflow_fix": "ENABLE"}), Path("model.onnx"))
    assert nncf.given["advanced_parameters"] == {"overflow_fix": "in all"}


def test_what_nncf_says_is_the_build_error(nncf, spec):
    nncf.error = RuntimeError("no  such\nlayer")

    with pytest.raises(BuildError, match=r"nncf\.quantize failed: no such layer"):
        quantised(None, model(), spec, Path("model.onnx"))


def test_without_nncf_the_error_says_how_to_install_it(monkeypatch, spec):
    monkeypatch.setitem(sys.modules, "nncf", None)

    with pytest.raises(BuildError, match="INT8 needs NNCF") as raised:
        quantised(None, model(), spec, Path("model.onnx"))
    assert raised.value.hint == 'pip install "chipproof[openvino]"'


def operation(name, *tensors, kind="Convolution"):
    return SimpleNamespace(
        friendly_name=name, get_type_name=lambda: kind, outputs=lambda: [SimpleNamespace(names=set(tensors))]
    )


def test_nodes_are_found_among_the_operations_that_openvino_made_of_them(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "/a/Conv"), helper.make_node("Relu", ["c"], ["r"], "/a/Conv/act"),
        helper.make_node("Gemm", ["r", "v"], ["y"], "/b/Gemm"),
    ]  # fmt: skip
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [])), str(tmp_path / "m.onnx"))
    made = SimpleNamespace(get_ops=lambda: [
        operation("x", "x", kind="Parameter"), operation("/a/Conv", "c"), operation("/a/Conv/act", "r", kind="Relu"),
        operation("/b/Gemm/WithoutBiases", kind="MatMul"), operation("y", "y", kind="Add"),
        operation("y/sink", "y", kind="Result"),
    ])  # fmt: skip

    def of(*names):
        return _nncf.operations(made, tmp_path / "m.onnx", names)

    assert of() == []
    assert of("/a/Conv") == ["/a/Conv"]
    assert of("/b/Gemm", "/a/Conv/act") == ["/a/Conv/act", "/b/Gemm/WithoutBiases", "y"]
    with pytest.raises(BuildError, match="OpenVINO made no operation of /c/Conv"):
        of("/a/Conv", "/c/Conv")
