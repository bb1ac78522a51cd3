"""Imports of Intel's packages without telemetry and PyTorch."""

from __future__ import annotations

import contextlib
import importlib.abc
import sys
from typing import Any, Iterator

SENDER = "openvino_telemetry"


def without_telemetry() -> contextlib.AbstractContextManager[None]:
    """Keep `openvino_telemetry` from being imported meanwhile. Where it can be imported, OpenVINO 2026.4 and NNCF 3.4
    write a number of the client to ~/intel when they are imported, and NNCF then sends usage figures to its makers
    without asking; else they do neither (openvino/tools/ovc/telemetry_utils.py, nncf/telemetry/wrapper.py)."""
    return without(SENDER)


@contextlib.contextmanager
def without(module: str) -> Iterator[None]:
    """Keep that module from being imported meanwhile: importing it raises ImportError, and importlib finds none."""
    before = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
        if before is not None:
            sys.modules[module] = before


@contextlib.contextmanager
def without_torch() -> Iterator[None]:
    """Keep PyTorch from being imported meanwhile, unless it was before. Unlike `without` it leaves no trace in
    sys.modules, where other packages look for tensors of its kind."""
    sys.meta_path.insert(0, _NoTorch)
    try:
        yield
    finally:
        sys.meta_path.remove(_NoTorch)


class _NoTorch(importlib.abc.MetaPathFinder):
    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        """Nothing, for every other module. Raises ModuleNotFoundError for torch."""
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name=name)
