"""Enumerations and loggers, and how they changed between releases."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from simulated_gpu import trt_version


def version_text():
    return trt_version()


def major():
    return int(trt_version().split(".")[0])


def network_flags():
    names = {
        8: {"EXPLICIT_BATCH": 0, "EXPLICIT_PRECISION": 1},
        10: {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1},
        11: {"STRONGLY_TYPED": 0, "PREFER_JIT_PYTHON_PLUGINS": 1, "PREFER_AOT_PYTHON_PLUGINS": 2},
    }
    return _enumeration("NetworkDefinitionCreationFlag", names[major()])


def builder_flags():
    names = {"TF32": 7}
    if major() < 11:
        names.update(FP16=0, INT8=1)
    return _enumeration("BuilderFlag", names)


_made = {}


def _enumeration(name, values):
    key = name, tuple(values.items())
    if key not in _made:
        _made[key] = IntEnum(name, values)
    return _made[key]


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = Severity
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def __init__(self):
        self._constructed = True

    def log(self, severity, message):
        raise RuntimeError('Tried to call pure virtual function "ILogger::log"')  # in pybind11's words


class Logger(ILogger):
    def __init__(self, severity=Severity.WARNING):
        ILogger.__init__(self)

    def log(self, severity, message):
        pass


def loggable(logger):
    if not isinstance(logger, ILogger) or not getattr(logger, "_constructed", False):
        raise TypeError("ILogger.__init__() must be called when overriding __init__")
    return logger


class MemoryPoolType(IntEnum):
    WORKSPACE = 0


class TensorIOMode(IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class DataType(IntEnum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    FP8 = 6
    BF16 = 7
    INT64 = 8


NUMPY = {
    DataType.FLOAT: np.float32,
    DataType.HALF: np.float16,
    DataType.INT8: np.int8,
    DataType.INT32: np.int32,
    DataType.BOOL: np.bool_,
    DataType.UINT8: np.uint8,
    DataType.INT64: np.int64,
}


def nptype(kind):
    if kind not in NUMPY:
        raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
    return NUMPY[kind]


def kind_of(dtype):
    return next(kind for kind, numpy in NUMPY.items() if np.dtype(numpy) == np.dtype(dtype))


def volume(shape):
    return int(np.prod(shape))
