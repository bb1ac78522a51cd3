"""Simulated TensorRT; the switch `trt_version` chooses which of its surfaces there is: 8.6, 10 or 11."""

from __future__ import annotations

from tensorrt import _build, _kinds, _run
from tensorrt._build import Builder, IProgressMonitor, OnnxParser
from tensorrt._build import BuilderConfig as IBuilderConfig
from tensorrt._build import HostMemory as IHostMemory
from tensorrt._build import Layer as ILayer
from tensorrt._build import Network as INetworkDefinition
from tensorrt._build import NetworkTensor as ITensor
from tensorrt._build import Profile as IOptimizationProfile
from tensorrt._build import TimingCache as ITimingCache
from tensorrt._kinds import (
    DataType,
    Dims,
    HardwareCompatibilityLevel,
    ILogger,
    LayerType,
    Logger,
    MemoryPoolType,
    ProfilingVerbosity,
    TensorFormat,
    TensorIOMode,
    TensorLocation,
    nptype,
    volume,
)
from tensorrt._run import ICudaEngine, IExecutionContext, Runtime

float32, float16, int8, int32 = DataType.FLOAT, DataType.HALF, DataType.INT8, DataType.INT32
bool, uint8, fp8 = DataType.BOOL, DataType.UINT8, DataType.FP8
Dims2 = Dims3 = Dims4 = Dims


def init_libnvinfer_plugins(logger, namespace):
    """Registers the plugins that come with TensorRT; a plain graph needs none of them."""
    _kinds.loggable(logger)
    return True


_VARYING = {
    "__version__": lambda: _kinds.version_text(),
    "NetworkDefinitionCreationFlag": lambda: _kinds.network_flags(),
    "BuilderFlag": lambda: _kinds.builder_flags(),
    "IInt8Calibrator": _build.until_11(_build.IInt8Calibrator),
    "IInt8EntropyCalibrator": _build.until_11(_build.IInt8EntropyCalibrator),
    "IInt8EntropyCalibrator2": _build.until_11(_build.IInt8EntropyCalibrator2),
    "IInt8MinMaxCalibrator": _build.until_11(_build.IInt8MinMaxCalibrator),
    "IInt8LegacyCalibrator": _build.until_11(_build.IInt8LegacyCalibrator),
    "int64": lambda: DataType.INT64 if _kinds.major() >= 10 else None,
    "bfloat16": lambda: DataType.BF16 if _kinds.major() >= 10 else None,
}


def __getattr__(name):
    if name in _VARYING:
        found = _VARYING[name]()
        if found is not None:
            return found
    raise AttributeError(f"module 'tensorrt' has no attribute {name!r}")
