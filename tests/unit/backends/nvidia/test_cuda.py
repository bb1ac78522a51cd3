"""CUDA's runtime: its bindings, its addresses, its errors, and what is given back."""

from __future__ import annotations

import sys

from harness.backends.nvidia._cuda import plain_bus


def test_addresses_are_the_same_in_every_spelling():
    assert plain_bus(b"0000:65:00.0\0") == plain_bus("00000000:65:00.0") == "0:65:00.0"


def test_the_old_import_of_cuda_python_works(sdk, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    monkeypatch.delattr("cuda.bindings.runtime", raising=False)
    shim = type(sys)("cuda.cudart")
    shim.cudaGetDeviceCount = lambda: (0, 7)
    monkeypatch.setitem(sys.modules, "cuda.cudart", shim)
    import cuda

    from harness.backends.nvidia._cuda import Cuda

    monkeypatch.setattr(cuda, "cudart", shim, raising=False)

    assert Cuda().count() == (7, "")
