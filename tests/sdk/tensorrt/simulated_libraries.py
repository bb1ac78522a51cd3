"""libcudart and libnvinfer_plugin for programs that load them by ctypes, upon the simulated runtime.

`ctypes.CDLL` is replaced when one of the simulated modules is imported. Other libraries load as ever, and so does what
a Python package brings along, which PyTorch needs. A toolkit's own file is not loaded: it would find no driver. A C
function returns its error alone and writes what it makes through its first pointers."""

from __future__ import annotations

import ctypes
import re

_real = ctypes.CDLL
SERVED = re.compile(r"^(.*/)?lib(cudart|nvinfer_plugin)\.so[.\d]*$")
TEXTS = ("cudaGetErrorName", "cudaGetErrorString")  # these return a text


class Function:
    """One function of libcudart: C's arguments to those of the simulated runtime."""

    argtypes = restype = errcheck = None

    def __init__(self, name, call):
        self.__name__, self._call = name, call

    def __call__(self, *given):
        if self.argtypes is not None and len(given) < len(self.argtypes):
            raise TypeError(f"this function takes at least {len(self.argtypes)} arguments ({len(given)} given)")
        outs = []
        for value in given:
            made = getattr(value, "_obj", None)  # byref
            made = getattr(value, "contents", None) if made is None and hasattr(value, "_type_") else made
            if made is None:
                break
            outs.append(made)
        error, *values = self._call(*[_plain(value) for value in given[len(outs) :]])
        if self.__name__ in TEXTS:
            return values[0]
        for out, value in zip(outs, values):
            if value is not None:
                out.value = value
        answer = int(error) if self.restype in (None, ctypes.c_int) else self.restype(int(error))
        return answer if self.errcheck is None else self.errcheck(answer, self, given)


def _plain(value):
    """A number: an address, a size, a handle."""
    if isinstance(value, ctypes.Array):
        return ctypes.addressof(value)
    if value is None:
        return 0
    return int(getattr(value, "value", value) or 0)


class Library:
    def __init__(self, name):
        self._name, self._functions = name, {}

    def __getattr__(self, name):
        if name not in self._functions:
            self._functions[name] = self._found(name)
        return self._functions[name]

    __getitem__ = __getattr__

    def _found(self, name):
        if "nvinfer_plugin" in self._name:
            if name == "initLibNvInferPlugins":
                return lambda logger, namespace: 1
        else:
            from cuda.bindings import runtime

            call = getattr(runtime, name, None)
            if name.startswith("cuda") and callable(call) and not isinstance(call, type):
                return Function(name, call)
        raise AttributeError(f"{self._name}: undefined symbol: {name} (not simulated)")


def serve():
    """Give ctypes these libraries. Again: no effect."""
    if issubclass(ctypes.CDLL, Served):
        return
    ctypes.CDLL = Served
    ctypes.cdll = ctypes.LibraryLoader(Served)


class Served(_real):
    def __new__(cls, name=None, *rest, **options):
        if name and SERVED.match(str(name)) and "site-packages" not in str(name):
            return Library(str(name))
        return _real(name, *rest, **options)
