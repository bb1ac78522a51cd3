"""Simulated TensorRT; the switch `trt_version` chooses which of its surfaces there is: 8.6, 10 or 11."""

from __future__ import annotations

from tensorrt import _build, _kinds, _run
from tensorrt._build import Builder, OnnxParser
from tensorrt._kinds import DataType, ILogger, Logger, MemoryPoolType, TensorIOMode, nptype, volume
from tensorrt._run import ICudaEngine, IExecutionContext, Runtime

_VARYING = {
    "__version__": lambda: _kinds.version_text(),
    "NetworkDefinitionCreationFlag": lambda: _kinds.network_flags(),
    "BuilderFlag": lambda: _kinds.builder_flags(),
    "IInt8EntropyCalibrator2": lambda: _build.calibrator_class(),
}


def __getattr__(name):
    if name in _VARYING:
        found = _VARYING[name]()
        if found is not None:
            return found
    raise AttributeError(f"module 'tensorrt' has no attribute {name!r}")


__all__ = [
    "Builder",
    "DataType",
    "ICudaEngine",
    "IExecutionContext",
    "ILogger",
    "Logger",
    "MemoryPoolType",
    "OnnxParser",
    "Runtime",
    "TensorIOMode",
    "nptype",
    "volume",
]
