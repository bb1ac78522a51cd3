"""Enumerations and loggers, and how they changed between releases."""

from __future__ import annotations

import sys
import warnings
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
    """Values of NvInfer.h 8.6; later ones have names alone here. 11 removed what rounds (reference of its bindings)."""
    names = {
        "DEBUG": 2,
        "GPU_FALLBACK": 3,
        "REFIT": 5,
        "DISABLE_TIMING_CACHE": 6,
        "TF32": 7,
        "SPARSE_WEIGHTS": 8,
        "SAFETY_SCOPE": 9,
        "DIRECT_IO": 12,
        "VERSION_COMPATIBLE": 15,
        "EXCLUDE_LEAN_RUNTIME": 16,
    }
    if major() < 11:
        names.update(FP16=0, INT8=1, OBEY_PRECISION_CONSTRAINTS=10, PREFER_PRECISION_CONSTRAINTS=11, FP8=17)
        names.update(REJECT_EMPTY_ALGORITHMS=13)
    if major() >= 10:
        names.update(ERROR_ON_TIMING_CACHE_MISS=18, DISABLE_COMPILATION_CACHE=20, STRIP_PLAN=21)
    return _enumeration("BuilderFlag", names)


class LayerType(IntEnum):
    CONVOLUTION = 0
    CAST = 1
    ACTIVATION = 2
    POOLING = 3
    SCALE = 5
    SOFTMAX = 6
    DECONVOLUTION = 7
    CONCATENATION = 8
    ELEMENTWISE = 9
    UNARY = 11
    SHUFFLE = 13
    REDUCE = 14
    MATRIX_MULTIPLY = 17
    CONSTANT = 19
    IDENTITY = 21
    QUANTIZE = 41
    DEQUANTIZE = 42
    OTHER = 99


LAYERS = {
    "Conv": "CONVOLUTION",
    "ConvTranspose": "DECONVOLUTION",
    "Relu": "ACTIVATION",
    "LeakyRelu": "ACTIVATION",
    "Sigmoid": "ACTIVATION",
    "MaxPool": "POOLING",
    "AveragePool": "POOLING",
    "GlobalAveragePool": "REDUCE",
    "BatchNormalization": "SCALE",
    "Softmax": "SOFTMAX",
    "Concat": "CONCATENATION",
    "Gemm": "MATRIX_MULTIPLY",
    "MatMul": "MATRIX_MULTIPLY",
    "Reshape": "SHUFFLE",
    "Transpose": "SHUFFLE",
    "Flatten": "SHUFFLE",
    "Cast": "CAST",
    "Constant": "CONSTANT",
    "Identity": "IDENTITY",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), "ELEMENTWISE"),
    **dict.fromkeys(("Exp", "Sqrt", "Neg", "Abs"), "UNARY"),
}
"""Layer type of an ONNX operator, for those of this project's models; real parsers make several layers of some."""


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
    """The one that comes with TensorRT: prints what is as severe as `min_severity` or more so."""

    def __init__(self, min_severity=Severity.WARNING):
        ILogger.__init__(self)
        self.min_severity = min_severity

    def log(self, severity, message):
        if severity <= self.min_severity:
            print(f"[11/20/2026-10:00:00] [TRT] [{'FEWIV'[severity]}] {message}", file=sys.stderr)


def removed_in(release):
    """A property or method that a release no longer has raises as bound classes do."""
    if major() >= release:
        raise AttributeError(f"removed in TensorRT {release}")


class Scoped:
    """`with` around TensorRT objects: deprecated, no effect (bindings_wheel/tensorrt/__init__.py, 8.6 to 11)."""

    __slots__ = ()

    def __enter__(self):
        text = "Context managers for TensorRT types are deprecated. Memory will be freed automatically when the "
        warnings.warn(text + "reference count reaches 0.", DeprecationWarning, stacklevel=2)
        return self

    def __exit__(self, *error):
        return None


class Dims(tuple):
    """A shape; `len`, indexing and slices as of a tuple."""

    __slots__ = ()

    def __new__(cls, *values):
        return tuple.__new__(cls, values[0] if len(values) == 1 and not isinstance(values[0], int) else values)


class TensorFormat(IntEnum):
    LINEAR = 0
    CHW2 = 1
    HWC8 = 2
    CHW4 = 3
    CHW16 = 4
    CHW32 = 5


class TensorLocation(IntEnum):
    DEVICE = 0
    HOST = 1


class ProfilingVerbosity(IntEnum):
    LAYER_NAMES_ONLY = 0
    NONE = 1
    DETAILED = 2


class HardwareCompatibilityLevel(IntEnum):
    NONE = 0
    AMPERE_PLUS = 1


def loggable(logger):
    if not isinstance(logger, ILogger) or not getattr(logger, "_constructed", False):
        raise TypeError("ILogger.__init__() must be called when overriding __init__")
    return logger


class MemoryPoolType(IntEnum):
    WORKSPACE = 0
    DLA_MANAGED_SRAM = 1
    DLA_LOCAL_DRAM = 2
    DLA_GLOBAL_DRAM = 3
    TACTIC_DRAM = 4
    TACTIC_SHARED_MEMORY = 5


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

    def __str__(self):
        return f"DataType.{self.name}"

    __format__ = lambda self, how: format(str(self), how)  # noqa: E731

    @property
    def itemsize(self):
        return {0: 4, 1: 2, 2: 1, 3: 4, 4: 1, 5: 1, 6: 1, 7: 2, 8: 8}[self]


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
