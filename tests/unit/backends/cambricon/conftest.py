"""The simulated MagicMind in this process, and the tiny model."""

from __future__ import annotations

import pytest
from vendor_sweep import simulated, tiny_model


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    with simulated(monkeypatch, tmp_path, "magicmind", ("magicmind",), "magicmind.python.runtime._base") as sdk:
        yield sdk
        assert sdk.wrongs() == []


@pytest.fixture
def onnx(tmp_path):
    return tiny_model(tmp_path / "tiny.onnx")


@pytest.fixture
def engine(tmp_path):
    return tmp_path / "tiny.magicmind"
