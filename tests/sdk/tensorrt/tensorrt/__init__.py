"""Simulated TensorRT; the switch `trt_version` chooses which of its surfaces there is: 8.6, 10 or 11."""

from __future__ import annotations

import sys

from tensorrt import _build, _kinds, _layers, _plugins, _refit, _run
from tensorrt._build import Builder, IProgressMonitor, OnnxParser, ParserError
from tensorrt._build import BuilderConfig as IBuilderConfig
from tensorrt._build import HostMemory as IHostMemory
from tensorrt._build import Network as INetworkDefinition
from tensorrt._build import Profile as IOptimizationProfile
from tensorrt._build import TimingCache as ITimingCache
from tensorrt._kinds import (
    AllocatorFlag,
    BoundingBoxFormat,
    CalibrationAlgoType,
    CumulativeOperation,
    DataType,
    DeviceType,
    DimensionOperation,
    Dims,
    DimsHW,
    EngineCapability,
    ErrorCode,
    FillOperation,
    GatherMode,
    HardwareCompatibilityLevel,
    ILogger,
    LayerInformationFormat,
    LayerType,
    Logger,
    LoopOutput,
    MemoryPoolType,
    OnnxParserFlag,
    Permutation,
    PluginArgType,
    PluginCapabilityType,
    PluginCreatorVersion,
    ProfilingVerbosity,
    QuantizationFlag,
    ResizeCoordinateTransformation,
    ResizeRoundMode,
    ResizeSelector,
    RuntimePlatform,
    SampleMode,
    ScatterMode,
    SeekPosition,
    SerializationFlag,
    Severity,
    TempfileControlFlag,
    TensorFormat,
    TensorIOMode,
    TensorLocation,
    TilingOptimizationLevel,
    TripLimit,
    nptype,
    volume,
)
from tensorrt._layers import (
    ActivationType,
    ElementWiseOperation,
    InterpolationMode,
    MatrixOperation,
    PaddingMode,
    PoolingType,
    ReduceOperation,
    ScaleMode,
    TopKOperation,
    UnaryOperation,
    Weights,
    WeightsRole,
)
from tensorrt._layers import Layer as ILayer
from tensorrt._layers import NetworkTensor as ITensor
from tensorrt._loops import IIfConditional, ILoop
from tensorrt._plugins import (
    IPluginCreator,
    IPluginRegistry,
    PluginField,
    PluginFieldCollection,
    PluginFieldType,
    get_plugin_registry,
)
from tensorrt._refit import Refitter
from tensorrt._run import (
    EngineInspector,
    ICudaEngine,
    IDebugListener,
    IExecutionContext,
    IOutputAllocator,
    IProfiler,
    Profiler,
    Runtime,
)
from tensorrt._run import SerializationConfig as ISerializationConfig

float32, float16, int8, int32 = DataType.FLOAT, DataType.HALF, DataType.INT8, DataType.INT32
bool, uint8, fp8 = DataType.BOOL, DataType.UINT8, DataType.FP8
Dims2 = Dims3 = Dims4 = Dims
tensorrt = sys.modules[__name__]  # the vendor's binary module, whose names the package has too


def _itemsize(trt_type):
    """As bindings_wheel/tensorrt/__init__.py has it, and programs use it."""
    return trt_type.itemsize


def get_nv_onnx_parser_version():
    return _kinds.version_text()


class IErrorRecorder:
    """Base of a program's own; nothing is recorded."""

    MAX_DESC_LENGTH = 127

    def __init__(self):
        self._constructed = True


class IGpuAllocator:
    """Base of a program's own; memory comes from the simulated GPU all the same."""

    def __init__(self):
        self._constructed = True


class IGpuAsyncAllocator(IGpuAllocator):
    """The one with streams (from 10)."""


class IStreamReader(IGpuAllocator):
    """Base of a program's own: read(size) gives the next bytes of a plan."""


class IStreamReaderV2(IStreamReader):
    """The one that can seek (from 10.7)."""


class IStreamWriter(IGpuAllocator):
    """Base of a program's own: write(bytes) gives how many it took."""


def init_libnvinfer_plugins(logger, namespace):
    """Registers the plugins that come with TensorRT; a plain graph needs none of them."""
    _kinds.loggable(logger)
    return True


_VARYING = {
    "__version__": lambda: _kinds.version_text(),
    "NetworkDefinitionCreationFlag": lambda: _kinds.network_flags(),
    "BuilderFlag": lambda: _kinds.builder_flags(),
    "TacticSource": lambda: _kinds.tactic_sources(),
    "PreviewFeature": lambda: _kinds.previews(),
    "IInt8Calibrator": _build.until_11(_build.IInt8Calibrator),
    "IInt8EntropyCalibrator": _build.until_11(_build.IInt8EntropyCalibrator),
    "IInt8EntropyCalibrator2": _build.until_11(_build.IInt8EntropyCalibrator2),
    "IInt8MinMaxCalibrator": _build.until_11(_build.IInt8MinMaxCalibrator),
    "IInt8LegacyCalibrator": _build.until_11(_build.IInt8LegacyCalibrator),
    "OnnxParserRefitter": _refit.parser_refitter,
    "IPluginCreatorV3Quick": lambda: _plugins.IPluginCreatorV3Quick if _kinds.major() >= 10 else None,
    "IPluginCreatorV3One": lambda: _plugins.IPluginCreatorV3One if _kinds.major() >= 10 else None,
    "TensorRTPhase": lambda: _plugins.TensorRTPhase if _kinds.major() >= 10 else None,
    "int64": lambda: DataType.INT64 if _kinds.major() >= 10 else None,
    "int4": lambda: DataType.INT4 if _kinds.major() >= 10 else None,
    "fp4": lambda: DataType.FP4 if _kinds.major() >= 10 else None,
    "e8m0": lambda: DataType.E8M0 if _kinds.major() >= 10 else None,
    "ExecutionContextAllocationStrategy": lambda: _kinds.AllocationStrategy if _kinds.major() >= 10 else None,
    "bfloat16": lambda: DataType.BF16 if _kinds.major() >= 10 else None,
}


BASES = (
    "DimsExprs DynamicPluginTensorDesc IDimensionExpr IExprBuilder IPluginCapability "
    "IPluginCreatorInterface IPluginResource IPluginResourceContext IPluginV2 IPluginV2DynamicExt IPluginV2Ext "
    "IPluginV3 IPluginV3OneBuild IPluginV3OneBuildV2 IPluginV3OneCore IPluginV3OneRuntime IPluginV3QuickAOTBuild "
    "IAttention "
    "IPluginV3QuickBuild IPluginV3QuickCore IPluginV3QuickRuntime IRuntimeConfig ISymExpr "
    "ISymExprs IVersionedInterface InterfaceInfo KernelLaunchParams PluginTensorDesc QuickPluginCreationRequest "
    "TimingCacheKey TimingCacheValue"
)
"""Classes that a program may name or derive from. Nothing here makes or calls one: plug-ins are not run."""

BASES_UNTIL_11 = "IAlgorithm IAlgorithmContext IAlgorithmIOInfo IAlgorithmSelector IAlgorithmVariant"

ABSENT = ("CaffeParser", "UffParser")  # and their layers: not simulated
_bases = {}


def __getattr__(name):
    if name in _VARYING:
        found = _VARYING[name]()
        if found is not None:
            return found
    found = _layers.layer_class(name)
    if found is not None:
        return found
    if name in (BASES if _kinds.major() >= 11 else f"{BASES} {BASES_UNTIL_11}").split():
        return _bases.setdefault(name, type(name, (IGpuAllocator,), {"__doc__": "A base that nothing here calls."}))
    if name in ABSENT:
        raise AttributeError(f"tensorrt.{name} is not simulated: see tests/sdk/tensorrt/README.md")
    raise AttributeError(f"module 'tensorrt' has no attribute {name!r}")
