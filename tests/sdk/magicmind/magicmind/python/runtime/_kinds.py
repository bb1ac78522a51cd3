"""Enumerations."""
from __future__ import annotations

from enum import IntEnum


class ModelKind(IntEnum):
    kPytorch = 0  # noqa: N815 - the vendor's names
    kOnnx = 1  # noqa: N815
    kCaffe = 2  # noqa: N815
    kTensorflow = 3  # noqa: N815


class Layout(IntEnum):
    NONE = 0
    NCHW = 1
    NHWC = 2
