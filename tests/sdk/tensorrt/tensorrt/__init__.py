"""Simulated TensorRT; the switch `trt_version` chooses which of its surfaces there is: 8.6, 10 or 11."""

from __future__ import annotations

from tensorrt import _build, _kinds, _plugins, _refit, _run
from tensorrt._build import Builder, IProgressMonitor, OnnxParser, ParserError
from tensorrt._build import BuilderConfig as IBuilderConfig
from tensorrt._build import HostMemory as IHostMemory
from tensorrt._build import Network as INetworkDefinition
from tensorrt._build import Profile as IOptimizationProfile
from tensorrt._build import TimingCache as ITimingCache
from tensorrt._kinds import (
    CalibrationAlgoType,
    DataType,
    DeviceType,
    Dims,
    DimsHW,
    EngineCapability,
    HardwareCompatibilityLevel,
    ILogger,
    LayerInformationFormat,
    LayerType,
    Logger,
    MemoryPoolType,
    OnnxParserFlag,
    Permutation,
    ProfilingVerbosity,
    QuantizationFlag,
    RuntimePlatform,
    SerializationFlag,
    TempfileControlFlag,
    TensorFormat,
    TensorIOMode,
    TensorLocation,
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


def get_nv_onnx_parser_version():
    return _kinds.version_text()


class IErrorRecorder:
    """Base of a program's own; nothing is recorded."""

    def __init__(self):
        self._constructed = True


class IGpuAllocator:
    """Base of a program's own; memory comes from the simulated GPU all the same."""

    def __init__(self):
        self._constructed = True


IGpuAsyncAllocator = IDebugListener = IStreamReader = IStreamWriter = IGpuAllocator


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
    "IPluginCreatorV3One": lambda: _plugins.IPluginCreatorV3One if _kinds.major() >= 10 else None,
    "TensorRTPhase": lambda: _plugins.TensorRTPhase if _kinds.major() >= 10 else None,
    "int64": lambda: DataType.INT64 if _kinds.major() >= 10 else None,
    "bfloat16": lambda: DataType.BF16 if _kinds.major() >= 10 else None,
}


def __getattr__(name):
    if name in _VARYING:
        found = _VARYING[name]()
        if found is not None:
            return found
    raise AttributeError(f"module 'tensorrt' has no attribute {name!r}")
