"""What NNCF is asked for, and what its errors become; a stand-in takes its place, for it is an optional package."""

import importlib
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

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
        OverflowFix={"ENABLE": "in all"}, AdvancedQuantizationParameters=dict,
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
    assert quantised(None, model(), spec) == "quantised"

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
        quantised(None, model(), spec)


def test_in_which_layers_weights_take_7_bits_is_nncfs_choice_unless_it_is_set(nncf, spec):
    quantised(None, model(), spec)
    assert "advanced_parameters" not in nncf.given

    quantised(None, model(), replace(spec, options={"overflow_fix": "ENABLE"}))
    assert nncf.given["advanced_parameters"] == {"overflow_fix": "in all"}


def test_what_nncf_says_is_the_build_error(nncf, spec):
    nncf.error = RuntimeError("no  such\nlayer")

    with pytest.raises(BuildError, match=r"nncf\.quantize failed: no such layer"):
        quantised(None, model(), spec)


def test_without_nncf_the_error_says_how_to_install_it(monkeypatch, spec):
    monkeypatch.setitem(sys.modules, "nncf", None)

    with pytest.raises(BuildError, match="INT8 needs NNCF") as raised:
        quantised(None, model(), spec)
    assert raised.value.hint == 'pip install "chipproof[openvino]"'
