"""Intel's packages are imported without the package that sends usage figures, and without PyTorch."""

import importlib
import sys
from types import ModuleType

import pytest

from harness.backends.intel._quiet import SENDER, without_telemetry, without_torch


def test_the_sender_cannot_be_imported_meanwhile_and_can_be_again(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"{SENDER}.py").write_text("SENT = True\n")

    with without_telemetry(), pytest.raises(ImportError):
        importlib.import_module(SENDER)
    assert importlib.import_module(SENDER).SENT
    sys.modules.pop(SENDER)


@pytest.mark.parametrize("fails", [False, True])
def test_a_sender_that_was_imported_before_stays_what_it_was(monkeypatch, fails):
    before = ModuleType(SENDER)
    monkeypatch.setitem(sys.modules, SENDER, before)

    try:
        with without_telemetry():
            assert sys.modules[SENDER] is None
            if fails:
                raise RuntimeError
    except RuntimeError:
        pass

    assert sys.modules[SENDER] is before


def test_pytorch_is_not_there_meanwhile_and_is_again(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "torch.py").write_text("HERE = True\n")
    (tmp_path / "torchlike.py").write_text("HERE = True\n")
    for name in ("torch", "torchlike"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    with without_torch():
        assert importlib.import_module("torchlike").HERE
        with pytest.raises(ImportError, match="torch"):
            importlib.import_module("torch")
        assert "torch" not in sys.modules, "whoever looks there sees that it was not imported"
    assert importlib.import_module("torch").HERE
    for name in ("torch", "torchlike"):
        monkeypatch.delitem(sys.modules, name)


def test_pytorch_that_was_imported_before_stays(monkeypatch):
    before = ModuleType("torch")
    monkeypatch.setitem(sys.modules, "torch", before)

    with without_torch():
        assert importlib.import_module("torch") is before
