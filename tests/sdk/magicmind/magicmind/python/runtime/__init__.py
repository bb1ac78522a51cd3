"""import magicmind.python.runtime as mm"""

from magicmind.python.common.types import DataType
from magicmind.python.runtime import _kinds as enums
from magicmind.python.runtime import parser
from magicmind.python.runtime._base import Code, Status
from magicmind.python.runtime._graph import (
    Builder,
    BuilderConfig,
    CalibDataInterface,
    Calibrator,
    Dims,
    Network,
    QuantizationAlgorithm,
    RemoteConfig,
)
from magicmind.python.runtime._kinds import (
    IActivation,
    IDetectionOutputAlgo,
    IElementwise,
    ILogic,
    INmsType,
    IPaddingMode,
    IReduce,
    Layout,
    ModelKind,
    TensorLocation,
)
from magicmind.python.runtime._run import Device, System, Tensor
from magicmind.python.runtime.model import Model

__all__ = [
    "Builder",
    "BuilderConfig",
    "CalibDataInterface",
    "Calibrator",
    "Code",
    "DataType",
    "Device",
    "Dims",
    "IActivation",
    "IDetectionOutputAlgo",
    "IElementwise",
    "ILogic",
    "INmsType",
    "IPaddingMode",
    "IReduce",
    "Layout",
    "Model",
    "ModelKind",
    "Network",
    "QuantizationAlgorithm",
    "RemoteConfig",
    "Status",
    "System",
    "Tensor",
    "TensorLocation",
    "enums",
    "parser",
]
