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
    HWCN = 3


def _numbered(name, words):
    """The names are the vendor's; the numbers are a guess."""
    return IntEnum(name, {word: i for i, word in enumerate(words.split())})


IActivation = _numbered("IActivation", "RELU SIGMOID TANH")
IElementwise = _numbered("IElementwise", "ADD SUB MUL")
ILogic = _numbered("ILogic", "EQ NE GT GE LT LE AND OR XOR NOT")
IReduce = _numbered("IReduce", "ADD MEAN MAX MIN MUL")
IPaddingMode = _numbered("IPaddingMode", "EXPLICIT SAME VALID")
IDetectionOutputAlgo = _numbered("IDetectionOutputAlgo", "YOLOV2 YOLOV3 YOLOV4 YOLOV5 FASTERRCNN SSD")
TensorLocation = _numbered("TensorLocation", "kHost kMLU kRemoteHost kRemoteMLU")
INmsType = _numbered("INmsType", "HARD_NMS DIOU_NMS")


LAYOUTS = ("NCHW", "NHWC", "NCT", "NTC", "NCDHW", "NDHWC")
"""What convert_input_layout and convert_output_layout take as src and dst."""
