"""ONNX graphs as ONNX Runtime is to run them: batch fixed, optimised, FP16 or INT8, fed pixels.

Batch norm is folded into the convolutions in FP32 before anything else: converted as it stands, its small variances do
not survive FP16, which costs RetinaFace-mobilenet0.25 six to twenty-one points of AP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from harness.backends.base import trail
from harness.backends.calibration import calibration_batches, calibration_samples
from harness.errors import BuildError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.backends.base import BuildSpec

OPSET = 13  # the first in which a scale per channel can be written
IN_FP32 = ("BatchNormalization",)  # what is left of it after folding
IN_INT8 = ("Conv", "Gemm", "MatMul")  # where the time goes; the rest gains little and loses accuracy
LIKE = 0.99  # cosine of every output with the FP32 graph's at which an INT8 graph is good enough
WITNESSES = 4  # calibration samples on which that is looked at


def make(source: Path, engine: Path, spec: BuildSpec, symmetric: bool, reduced: bool) -> None:
    """Write the graph for `spec`; equal arguments give equal bytes. INT8 activations are signed and `symmetric`, or
    unsigned; weights are `reduced` to 7 bits where a processor adds two products in 16 bits. Raises BuildError."""
    if spec.precision not in ("fp32", "fp16", "int8"):
        raise BuildError(f"ONNX Runtime has no precision {spec.precision!r}", hint="fp32, fp16 or int8")
    model = onnx.load(str(source))
    if not spec.tiers:
        set_batch(model, spec.batch)
    model = optimised(model, engine.with_name("basic.onnx"))
    if spec.precision == "fp16":
        model = in_fp16(model)
    elif spec.precision == "int8":
        model = in_int8(model, spec, engine.parent, symmetric, reduced)
    if spec.normalize is not None:
        feed_pixels(model, spec)
    onnx.checker.check_model(model)
    onnx.save(model, str(engine))


def set_batch(model: Any, batch: int) -> None:
    """Fix axis 0 of inputs and outputs; sizes that followed from it are forgotten, and inferred again."""
    constants = {value.name for value in model.graph.initializer}
    for value in [value for value in model.graph.input if value.name not in constants] + list(model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    del model.graph.value_info[:]


def optimised(model: Any, path: Path) -> Any:
    """The graph at ONNX Runtime's BASIC level: constants and batch norm folded, standard operators only."""
    options = _options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    trail("onnxruntime.InferenceSession")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return _own_domains(onnx.load(str(path)))


def in_fp16(model: Any) -> Any:
    """Weights and arithmetic in FP16, inputs and outputs in FP32."""
    from onnxruntime.transformers import float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    trail("onnxruntime.convert_float_to_float16")
    blocked = [*float16.DEFAULT_OP_BLOCK_LIST, *IN_FP32]
    model = float16.convert_float_to_float16(model, keep_io_types=True, op_block_list=blocked)
    OnnxModel.graph_topological_sort(model.graph)  # the casts were put at the end
    return model


def in_int8(model: Any, spec: BuildSpec, folder: Path, symmetric: bool, reduced: bool) -> Any:
    """Convolutions and products in INT8: weights per channel, activations per tensor, ranges from the calibration set.

    The first layers see the widest ranges. As few of them as will do stay in FP32: none, 1, 2, 4 ... up to a third,
    until every output is `LIKE` the FP32 graph's on the calibration set. Options: `first`, that number; `method`,
    "MinMax" (default), "Entropy" or "Percentile"."""
    samples = calibration_samples(spec)
    if {opset.domain: opset.version for opset in model.opset_import}[""] < OPSET:
        model = onnx.version_converter.convert_version(model, OPSET)
    onnx.save(model, str(folder / "fp32.onnx"))
    layers = [node.name for node in model.graph.node if node.op_type in IN_INT8]
    steps = [0] + [2**power for power in range(20) if 2**power <= len(layers) / 3]
    batches = list(_batches(samples[:WITNESSES], spec))
    wanted = _outputs(folder / "fp32.onnx", batches)
    for first in [int(spec.options["first"])] if "first" in spec.options else steps:
        _quantize(folder, spec, samples, layers[:first], symmetric, reduced)
        like = min(map(_cosine, wanted, _outputs(folder / "int8.onnx", batches)))
        print(f"int8: first {first} of {len(layers)} layers in FP32, least cosine of an output {like:.5f}")
        if like >= LIKE:
            break
    return _own_domains(onnx.load(str(folder / "int8.onnx")))


def feed_pixels(model: Any, spec: BuildSpec) -> None:
    """Put (x - mean) / std of uint8 N x H x W x C before the graph, under the name of its input."""
    assert spec.normalize is not None
    name = spec.inputs[0].name
    (fed,) = (value for value in model.graph.input if value.name == name)
    dims = [dim.dim_value or dim.dim_param or None for dim in fed.type.tensor_type.shape.dim]
    for node in model.graph.node:
        node.input[:] = [name + "/normalized" if value == name else value for value in node.input]
    for word, values in (("mean", spec.normalize.mean), ("std", spec.normalize.std)):
        array = np.array(values, np.float32).reshape(1, -1, 1, 1)
        model.graph.initializer.append(numpy_helper.from_array(array, f"{name}/{word}"))
    nodes = [
        helper.make_node("Transpose", [name], [name + "/planes"], name + "/Transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", [name + "/planes"], [name + "/float"], name + "/Cast", to=TensorProto.FLOAT),
        helper.make_node("Sub", [name + "/float", name + "/mean"], [name + "/centred"], name + "/Sub"),
        helper.make_node("Div", [name + "/centred", name + "/std"], [name + "/normalized"], name + "/Div"),
    ]
    for place, node in enumerate(nodes):
        model.graph.node.insert(place, node)
    fed.CopyFrom(helper.make_tensor_value_info(name, TensorProto.UINT8, [dims[0], dims[2], dims[3], dims[1]]))


def _quantize(folder: Path, spec: BuildSpec, samples: Any, in_fp32: list[str], symmetric: bool, reduced: bool) -> None:
    import inspect

    from onnxruntime import quantization

    class Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = _batches(samples, spec)

        def get_next(self) -> Any:
            return next(self._batches, None)

    trail("onnxruntime.quantize_static")
    known = inspect.signature(quantization.quantize_static).parameters
    once = {"calibration_cache_path": folder / "ranges.json"} if "calibration_cache_path" in known else {}
    quantization.quantize_static(
        str(folder / "fp32.onnx"),
        str(folder / "int8.onnx"),
        Samples(),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QInt8 if symmetric else quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
        reduce_range=reduced,
        calibrate_method=quantization.CalibrationMethod[spec.options.get("method", "MinMax")],
        op_types_to_quantize=list(IN_INT8),
        nodes_to_exclude=in_fp32,
        extra_options={"ActivationSymmetric": symmetric},
        **once,
    )


def _batches(samples: Any, spec: BuildSpec) -> Iterator[dict[str, Any]]:
    size = 1 if spec.tiers else spec.batch
    return ({spec.inputs[0].name: batch} for batch in calibration_batches(samples, size))


def _outputs(path: Path, batches: list[dict[str, Any]]) -> list[Any]:
    session = onnxruntime.InferenceSession(str(path), _options(), providers=["CPUExecutionProvider"])
    trail("onnxruntime.run")
    found = [session.run(None, batch) for batch in batches]
    return [np.concatenate(parts) for parts in zip(*found)]


def _cosine(one: Any, other: Any) -> float:
    one, other = one.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    return float(one @ other / max(np.linalg.norm(one) * np.linalg.norm(other), np.finfo(np.float64).tiny))


def _options() -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return options


def _own_domains(model: Any) -> Any:
    """Without the operator sets that ONNX Runtime adds and the graph does not use."""
    used = {node.domain for node in model.graph.node} | {""}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return model
