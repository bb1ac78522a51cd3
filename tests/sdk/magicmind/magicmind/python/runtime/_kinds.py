"""Enumerations."""

from __future__ import annotations

from enum import IntEnum


class ModelKind(IntEnum):
    kPytorch = 0
    kOnnx = 1
    kCaffe = 2
    kTensorflow = 3


class Layout(IntEnum):
    NONE = 0
    NCHW = 1
    NHWC = 2


LAYOUTS = ("NCHW", "NHWC", "NCT", "NTC", "NCDHW", "NDHWC")
"""What convert_input_layout and convert_output_layout take as src and dst."""
