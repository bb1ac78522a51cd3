"""Enumerations and loggers, and how they changed between releases."""

from __future__ import annotations

import sys
import warnings
from enum import IntEnum
from typing import ClassVar

import numpy as np
from simulated_gpu import trt_version


class Enumeration(IntEnum):
    """Says its name with its class's wherever it is printed, as bound enumerations do."""

    def __str__(self):
        return f"{type(self).__name__}.{self.name}"

    def __format__(self, how):
        return format(str(self), how)


def version_text():
    return trt_version()


def major():
    return int(trt_version().split(".")[0])


def network_flags():
    names = {
        8: {"EXPLICIT_BATCH": 0, "EXPLICIT_PRECISION": 1},
        10: {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1, "PREFER_JIT_PYTHON_PLUGINS": 2, "PREFER_AOT_PYTHON_PLUGINS": 3},
        11: {"STRONGLY_TYPED": 0, "PREFER_JIT_PYTHON_PLUGINS": 1, "PREFER_AOT_PYTHON_PLUGINS": 2},
    }
    return _enumeration("NetworkDefinitionCreationFlag", names[major()])


BUILDER_FLAGS = {
    8: "FP16=0 INT8=1 DEBUG=2 GPU_FALLBACK=3 STRICT_TYPES=4 REFIT=5 DISABLE_TIMING_CACHE=6 TF32=7 SPARSE_WEIGHTS=8 "
    "SAFETY_SCOPE=9 OBEY_PRECISION_CONSTRAINTS=10 PREFER_PRECISION_CONSTRAINTS=11 DIRECT_IO=12 "
    "REJECT_EMPTY_ALGORITHMS=13 VERSION_COMPATIBLE=15 EXCLUDE_LEAN_RUNTIME=16 FP8=17",
    10: "FP16=0 INT8=1 DEBUG=2 GPU_FALLBACK=3 REFIT=4 DISABLE_TIMING_CACHE=5 TF32=6 SPARSE_WEIGHTS=7 SAFETY_SCOPE=8 "
    "OBEY_PRECISION_CONSTRAINTS=9 PREFER_PRECISION_CONSTRAINTS=10 DIRECT_IO=11 REJECT_EMPTY_ALGORITHMS=12 "
    "VERSION_COMPATIBLE=13 EXCLUDE_LEAN_RUNTIME=14 FP8=15 ERROR_ON_TIMING_CACHE_MISS=16 BF16=17 "
    "DISABLE_COMPILATION_CACHE=18 STRIP_PLAN=19 REFIT_IDENTICAL=20 WEIGHT_STREAMING=21 INT4=22 REFIT_INDIVIDUAL=23 "
    "STRICT_NANS=24 MONITOR_MEMORY=25 FP4=26 EDITABLE_TIMING_CACHE=27",
    11: "DEBUG=2 GPU_FALLBACK=3 REFIT=4 DISABLE_TIMING_CACHE=5 TF32=6 SPARSE_WEIGHTS=7 SAFETY_SCOPE=8 DIRECT_IO=11 "
    "VERSION_COMPATIBLE=12 EXCLUDE_LEAN_RUNTIME=13 ERROR_ON_TIMING_CACHE_MISS=15 DISABLE_COMPILATION_CACHE=17 "
    "STRIP_PLAN=18 REFIT_IDENTICAL=19 WEIGHT_STREAMING=20 REFIT_INDIVIDUAL=22 STRICT_NANS=23 MONITOR_MEMORY=24 "
    "EDITABLE_TIMING_CACHE=26 DISTRIBUTIVE_INDEPENDENCE=27",
}
"""Values of NvInfer.h; the numbers moved between releases, and 11 removed what rounds."""


def builder_flags():
    pairs = (word.split("=") for word in BUILDER_FLAGS[major()].split())
    return _enumeration("BuilderFlag", {word: int(number) for word, number in pairs})


def flag(name):
    """The number of a builder flag in this release; -1 where it has none."""
    return int(getattr(builder_flags(), name, -1))


class Kept:
    """Settings that are kept, without effect: `KEPT` has name: (value, first release, last release). Another name is an
    AttributeError, as of bound classes."""

    KEPT: ClassVar = {}

    def __getattr__(self, name):
        row = type(self).KEPT.get(name)
        if row is None or not row[1] <= major() <= row[2]:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self.__dict__.get("_kept", {}).get(name, row[0])

    def __setattr__(self, name, value):
        if name in type(self).KEPT:
            getattr(self, name)
            self.__dict__.setdefault("_kept", {})[name] = value
        elif name.startswith("_") or hasattr(type(self), name):
            object.__setattr__(self, name, value)
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


LAYER_TYPES = (
    "CONVOLUTION CAST ACTIVATION POOLING LRN SCALE SOFTMAX DECONVOLUTION CONCATENATION ELEMENTWISE PLUGIN UNARY "
    "PADDING SHUFFLE REDUCE TOPK GATHER MATRIX_MULTIPLY RAGGED_SOFTMAX CONSTANT IDENTITY PLUGIN_V2 SLICE SHAPE "
    "PARAMETRIC_RELU RESIZE TRIP_LIMIT RECURRENCE ITERATOR LOOP_OUTPUT SELECT FILL QUANTIZE DEQUANTIZE CONDITION "
    "CONDITIONAL_INPUT CONDITIONAL_OUTPUT SCATTER EINSUM ASSERTION ONE_HOT NON_ZERO GRID_SAMPLE NMS "
    "REVERSE_SEQUENCE NORMALIZATION PLUGIN_V3 SQUEEZE UNSQUEEZE CUMULATIVE DYNAMIC_QUANTIZE ATTENTION_INPUT "
    "ATTENTION_OUTPUT ROTARY_EMBEDDING KV_CACHE_UPDATE MOE DIST_COLLECTIVE FULLY_CONNECTED OTHER"
)
LayerType = Enumeration("LayerType", {word: i for i, word in enumerate(LAYER_TYPES.split(" "))})
"""In the order of release 10; 8.6 has FULLY_CONNECTED in place of CAST, and other numbers from 20 on. The last two are
the simulator's: a layer of 8.6, and one that a parser made of another operator."""


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
        _made[key] = Enumeration(name, values)
    return _made[key]


class Severity(Enumeration):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


def called_back(method, *given, otherwise=None):
    """What a program's own method answers. What it raises goes to stderr and no further, and `otherwise` counts: the
    callbacks are noexcept (pyCore.cpp, pyInt8.cpp)."""
    try:
        return method(*given)
    except Exception as error:
        print(f"[ERROR] Exception caught in {method.__name__}(): {type(error).__name__}: {error}", file=sys.stderr)
        return otherwise


def removed_in(release):
    """A property or method that a release no longer has raises as bound classes do."""
    if major() >= release:
        raise AttributeError(f"removed in TensorRT {release}")


class Listed:
    """What dir() tells of TensorRT objects."""

    __slots__ = ()

    def __dir__(self):
        """Without the names that this release does not have: programs list an object and ask each."""
        kept = [name for name, row in getattr(type(self), "KEPT", {}).items() if row[1] <= major() <= row[2]]
        return [*kept, *(name for name in object.__dir__(self) if name[:1] == "_" or hasattr(self, name))]


class _Of:
    """A method that some releases have: hasattr is False in the others, as programs ask before they call."""

    def __init__(self, method, first=8, end=99):
        self._method, self._releases, self.__doc__ = method, range(first, end), method.__doc__

    def __get__(self, made, owner=None):
        if major() not in self._releases:
            raise AttributeError(f"{owner.__name__!r} object has no attribute {self._method.__name__!r}")
        return self._method.__get__(made, owner)


def since(release):
    return lambda method: _Of(method, first=release)


def until(release):
    """Of a method that this release no longer has."""
    return lambda method: _Of(method, end=release)


class Scoped(Listed):
    """`with` around TensorRT objects: deprecated, no effect (bindings_wheel/tensorrt/__init__.py, 8.6 to 11)."""

    __slots__ = ()

    def __enter__(self):
        text = "Context managers for TensorRT types are deprecated. Memory will be freed automatically when the "
        warnings.warn(text + "reference count reaches 0.", DeprecationWarning, stacklevel=2)
        return self

    def __exit__(self, *error):
        return None


class ILogger(Scoped):
    Severity = Severity
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def __init__(self):
        self._constructed = True

    def log(self, severity, message):
        raise RuntimeError('Tried to call pure virtual function "ILogger::log"')  # in pybind11's words


class Logger(ILogger):
    """The one that comes with TensorRT: `min_severity` and what is more severe goes to stdout (pyCore.cpp)."""

    def __init__(self, min_severity=Severity.WARNING):
        ILogger.__init__(self)
        self.min_severity = min_severity

    def log(self, severity, msg):
        if severity <= self.min_severity:
            print(f"[11/20/2026-10:00:00] [TRT] [{'FEWIV'[severity]}] {msg}", flush=True)


class Dims(list):
    """A shape: equal to tuples and lists, its items may be set, and a slice is a tuple (pyFoundationalTypes.cpp)."""

    MAX_DIMS = 8

    def __init__(self, *values):
        list.__init__(self, values[0] if len(values) == 1 and not isinstance(values[0], int) else values)

    def __getitem__(self, at):
        found = list.__getitem__(self, at)
        return tuple(found) if isinstance(at, slice) else found

    def __eq__(self, other):
        return isinstance(other, (list, tuple)) and list(self) == list(other)

    __hash__ = None

    def __str__(self):
        return str(tuple(self))

    __repr__ = __str__


class NoDims(Dims):
    """Dims of rank -1, as calls return that have none: nothing to iterate over, and no length."""

    def __len__(self):
        raise ValueError("__len__() should return >= 0")


class DimsHW(Dims):
    h = property(lambda self: self[0])
    w = property(lambda self: self[1])


class Permutation(Dims):
    """An order of axes."""


def enumerated(name, words):
    """An enumeration that counts from 0."""
    return Enumeration(name, {word: i for i, word in enumerate(words.split())})


EngineCapability = enumerated("EngineCapability", "STANDARD SAFETY DLA_STANDALONE")
DeviceType = enumerated("DeviceType", "GPU DLA")
QuantizationFlag = enumerated("QuantizationFlag", "CALIBRATE_BEFORE_FUSION")
LayerInformationFormat = enumerated("LayerInformationFormat", "ONELINE JSON")
TempfileControlFlag = enumerated("TempfileControlFlag", "ALLOW_IN_MEMORY_FILES ALLOW_TEMPORARY_FILES")
RuntimePlatform = enumerated("RuntimePlatform", "SAME_AS_BUILD WINDOWS_AMD64")
CalibrationAlgoType = enumerated(
    "CalibrationAlgoType", "LEGACY_CALIBRATION ENTROPY_CALIBRATION ENTROPY_CALIBRATION_2 MINMAX_CALIBRATION"
)
SerializationFlag = enumerated("SerializationFlag", "EXCLUDE_WEIGHTS EXCLUDE_LEAN_RUNTIME INCLUDE_REFIT")
AllocationStrategy = enumerated("ExecutionContextAllocationStrategy", "STATIC ON_PROFILE_CHANGE USER_MANAGED")
OnnxParserFlag = enumerated(
    "OnnxParserFlag",
    "NATIVE_INSTANCENORM ENABLE_UINT8_AND_ASYMMETRIC_QUANTIZATION_DLA REPORT_CAPABILITY_DLA ENABLE_PLUGIN_OVERRIDE "
    "ADJUST_FOR_DLA",
)
GatherMode = enumerated("GatherMode", "DEFAULT ELEMENT ND")
FillOperation = enumerated("FillOperation", "LINSPACE RANDOM_UNIFORM RANDOM_NORMAL")
ScatterMode = enumerated("ScatterMode", "ELEMENT ND")
SampleMode = enumerated("SampleMode", "STRICT_BOUNDS WRAP CLAMP FILL REFLECT")
ResizeCoordinateTransformation = enumerated("ResizeCoordinateTransformation", "ALIGN_CORNERS ASYMMETRIC HALF_PIXEL")
ResizeRoundMode = enumerated("ResizeRoundMode", "HALF_UP HALF_DOWN FLOOR CEIL")
ResizeSelector = enumerated("ResizeSelector", "FORMULA UPPER")
TripLimit = enumerated("TripLimit", "COUNT WHILE")
LoopOutput = enumerated("LoopOutput", "LAST_VALUE CONCATENATE REVERSE")
BoundingBoxFormat = enumerated("BoundingBoxFormat", "CORNER_PAIRS CENTER_SIZES")
CumulativeOperation = enumerated("CumulativeOperation", "SUM")
DimensionOperation = enumerated("DimensionOperation", "SUM PROD MAX MIN SUB EQUAL LESS FLOOR_DIV CEIL_DIV")
TilingOptimizationLevel = enumerated("TilingOptimizationLevel", "NONE FAST MODERATE FULL")
SeekPosition = enumerated("SeekPosition", "SET CUR END")
AllocatorFlag = enumerated("AllocatorFlag", "RESIZABLE")
PluginCapabilityType = enumerated("PluginCapabilityType", "CORE BUILD RUNTIME")
PluginCreatorVersion = Enumeration("PluginCreatorVersion", {"V1": 0, "V1_PYTHON": 64})
PluginArgType = enumerated("PluginArgType", "INT")
TACTIC_SOURCES = {
    8: "CUBLAS CUBLAS_LT CUDNN EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS",
    10: "CUBLAS CUBLAS_LT CUDNN EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS",
    11: "EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS",
}
PREVIEWS = {
    8: "FASTER_DYNAMIC_SHAPES_0805 DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805 PROFILE_SHARING_0806",
    10: "PROFILE_SHARING_0806 ALIASED_PLUGIN_IO_10_03",
    11: "ALIASED_PLUGIN_IO_10_03 RUNTIME_ACTIVATION_RESIZE_10_10",
}

PREVIEWS_ON = {
    8: ("FASTER_DYNAMIC_SHAPES_0805", "DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805"),
    10: ("PROFILE_SHARING_0806",),
    11: (),
}
"""Those that are on unless a program clears them."""


def tactic_sources():
    return _enumeration("TacticSource", {word: i for i, word in enumerate(TACTIC_SOURCES[major()].split())})


def usual_tactic_sources():
    """Bits of those in use unless a program sets others: from 10 on none of another library."""
    return sum(1 << one for one in tactic_sources() if major() < 10 or "CU" not in one.name)


def previews():
    return _enumeration("PreviewFeature", {word: i for i, word in enumerate(PREVIEWS[major()].split())})


class ErrorCode(Enumeration):
    """Of the parser (NvOnnxParser.h); a code's text is its name (pyOnnx.cpp, errorCodeStr)."""

    SUCCESS = 0
    INTERNAL_ERROR = 1
    MEM_ALLOC_FAILED = 2
    MODEL_DESERIALIZE_FAILED = 3
    INVALID_VALUE = 4
    INVALID_GRAPH = 5
    INVALID_NODE = 6
    UNSUPPORTED_GRAPH = 7
    UNSUPPORTED_NODE = 8
    UNSUPPORTED_NODE_ATTR = 9
    UNSUPPORTED_NODE_INPUT = 10
    UNSUPPORTED_NODE_DATATYPE = 11
    UNSUPPORTED_NODE_DYNAMIC = 12
    UNSUPPORTED_NODE_SHAPE = 13
    REFIT_FAILED = 14

    def __str__(self):
        return self.name


class TensorFormat(Enumeration):
    LINEAR = 0
    CHW2 = 1
    HWC8 = 2
    CHW4 = 3
    CHW16 = 4
    CHW32 = 5
    DHWC8 = 6
    CDHW32 = 7
    HWC = 8
    DLA_LINEAR = 9
    DLA_HWC4 = 10
    HWC16 = 11
    DHWC = 12


class TensorLocation(Enumeration):
    DEVICE = 0
    HOST = 1


class ProfilingVerbosity(Enumeration):
    LAYER_NAMES_ONLY = 0
    NONE = 1
    DETAILED = 2


class HardwareCompatibilityLevel(Enumeration):
    NONE = 0
    AMPERE_PLUS = 1
    SAME_COMPUTE_CAPABILITY = 2


def loggable(logger):
    if not isinstance(logger, ILogger) or not getattr(logger, "_constructed", False):
        raise TypeError("ILogger.__init__() must be called when overriding __init__")
    return logger


class MemoryPoolType(Enumeration):
    WORKSPACE = 0
    DLA_MANAGED_SRAM = 1
    DLA_LOCAL_DRAM = 2
    DLA_GLOBAL_DRAM = 3
    TACTIC_DRAM = 4
    TACTIC_SHARED_MEMORY = 5


class TensorIOMode(Enumeration):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class DataType(Enumeration):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    FP8 = 6
    BF16 = 7
    INT64 = 8
    INT4 = 9
    FP4 = 10
    E8M0 = 11

    @property
    def itemsize(self):
        return {0: 4, 1: 2, 3: 4, 7: 2, 8: 8, 9: 0.5, 10: 0.5}.get(int(self), 1)


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


def volume(iterable):
    """1 for a scalar, and for Dims of rank -1."""
    product = 1
    for size in iterable:
        product *= size
    return product
