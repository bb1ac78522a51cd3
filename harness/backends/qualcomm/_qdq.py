"""Graphs as QNN's HTP compiler takes them: batch fixed, batch norm folded, INT8 as QDQ nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from harness.backends._calibration import calibration_batches, calibration_samples
from harness.backends.base import trail
from harness.backends.cpu import _graph

if TYPE_CHECKING:
    from pathlib import Path

    from harness.backends.base import BuildSpec


def prepared(source: Path, folder: Path, spec: BuildSpec) -> Path:
    """Path of the graph for `spec` in `folder`. FP16 is FP32's graph: the compiler computes floats in FP16."""
    model = onnx.load(str(source))
    _graph.set_batch(model, spec.batch)
    model = _graph.optimised(model, folder / "basic.onnx")
    if {opset.domain: opset.version for opset in model.opset_import}[""] < _graph.OPSET:
        model = onnx.version_converter.convert_version(model, _graph.OPSET)
    onnx.save(model, str(folder / "float.onnx"))
    return quantised(folder, spec) if spec.precision == "int8" else folder / "float.onnx"


def quantised(folder: Path, spec: BuildSpec) -> Path:
    """The graph with every operator in INT8: activations unsigned per tensor, weights signed, per channel in
    convolutions. Ranges are MinMax over the whole calibration set. The settings of single operators (softmax, sigmoid,
    layer norm) are those of ONNX Runtime for QNN, `get_qnn_qdq_config`."""
    from onnxruntime import quantization
    from onnxruntime.quantization.execution_providers import qnn

    samples = calibration_samples(spec)

    class Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = calibration_batches(samples, spec, spec.batch)

        def get_next(self) -> Any:
            return next(self._batches, None)

    source, made = folder / "float.onnx", folder / "int8.onnx"
    trail("onnxruntime.quantize")
    config = qnn.get_qnn_qdq_config(
        str(source),
        Samples(),
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
    )
    quantization.quantize(str(source), str(made), config)
    return made
