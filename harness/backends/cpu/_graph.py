"""ONNX graphs as ONNX Runtime is to run them: batch fixed, optimised, FP16 or INT8, fed pixels.

Batch norm is folded into the convolutions in FP32 before anything else: converted as it stands, its small variances do
not survive FP16, which costs RetinaFace-mobilenet0.25 six to twenty-one points of AP.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING, Any, Collection, Iterable, Iterator

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from harness.backends._calibration import Samples, calibration_batches, calibration_samples
from harness.backends.base import trail
from harness.errors import BuildError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.backends.base import BuildSpec

OPSET = 13  # the first in which a scale per channel can be written
IN_FP32 = ("BatchNormalization",)  # what is left of it after folding
IN_INT8 = ("Conv", "Gemm", "MatMul")  # where the time goes; the rest gains little and loses accuracy
LIKE = 0.99  # least cosine of an output with the FP32 graph's at which an INT8 graph is good enough
NEAR = 0.35  # largest error of an output, relative to its largest value, at which it is
WITNESSES = 2  # calibration samples on which that is looked at
PARTS = 8  # runs of layers that go to INT8 or stay in FP32 together


def make(source: Path, engine: Path, spec: BuildSpec, symmetric: bool, reduced: bool) -> None:
    """Write the graph for `spec`; equal arguments give equal bytes. INT8 activations are signed and `symmetric`, and
    FP16 is left to the kernels, as other providers take it; else they are unsigned, and FP16 is what a CPU can show of
    it. Weights are `reduced` to 7 bits where a processor adds two products in 16 bits. Raises BuildError."""
    if spec.precision not in ("fp32", "fp16", "int8"):
        raise BuildError(f"ONNX Runtime has no precision {spec.precision!r}", hint="fp32, fp16 or int8")
    model = onnx.load(str(source))
    if not spec.tiers:
        set_batch(model, spec.batch)
    source, model = model, optimised(model, engine.with_name("basic.onnx"))
    exact = nodes_of(model, source, spec.options.get("in_fp32", ()))
    if spec.precision == "fp16":
        model = in_fp16(model, exact) if symmetric else rounded_to_fp16(model, exact)
    elif spec.precision == "int8":
        model = in_int8(model, spec, engine.parent, symmetric, reduced, exact)
    if spec.normalize is not None:
        feed_pixels(model, spec)
    written = model.SerializeToString()  # once: for a model of 100 MB it takes a fifth of a second
    onnx.checker.check_model(written)
    engine.write_bytes(written)


def set_batch(model: Any, batch: int) -> None:
    """Fix axis 0 of inputs, and of the outputs that have it by the same name, where it is free; sizes that followed
    from it are forgotten, and inferred again: an output may have as many rows as its data says. An output of unknown
    rank stays so, until it is inferred. Raises BuildError for an input of unknown rank."""
    constants = {value.name for value in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    names = {value.type.tensor_type.shape.dim[0].dim_param for value in inputs if value.type.tensor_type.shape.dim}
    for value in [*inputs, *model.graph.output]:
        kind = value.type.tensor_type
        if len(kind.shape.dim) and not kind.shape.dim[0].HasField("dim_value"):
            if value in inputs or kind.shape.dim[0].dim_param in names:
                kind.shape.dim[0].dim_value = batch
        elif value in inputs and not kind.HasField("shape"):
            raise BuildError(f"input {value.name} has no batch: its rank is unknown", hint="export it with its shape")
    del model.graph.value_info[:]


def optimised(model: Any, path: Path) -> Any:
    """The graph at ONNX Runtime's BASIC level: constants and batch norm folded, standard operators only."""
    options = _options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    trail("onnxruntime.InferenceSession")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return _own_domains(onnx.load(str(path)))


def nodes_of(model: Any, source: Any, names: Iterable[str]) -> set[str]:
    """Names of the nodes of `model`, an optimised `source`, that do the work of the source's nodes of those names: a
    node that is gone was fused into the one that makes its output, or what follows it."""
    there, made = {node.name for node in model.graph.node}, {name: node.name for node in model.graph.node
                                                             for name in node.output}  # fmt: skip
    readers: dict[str, Any] = {}
    for node in source.graph.node:
        for name in node.input:
            readers.setdefault(name, node)
    by_name, found = {node.name: node for node in source.graph.node}, set()
    for name in names:
        node = by_name.get(name)
        while node is not None and node.name not in there and node.output[0] not in made:
            node = readers.get(node.output[0])
        if node is not None:
            found.add(node.name if node.name in there else made[node.output[0]])
    return found


def in_fp16(model: Any, exact: Collection[str] = ()) -> Any:
    """Weights and arithmetic in FP16, inputs and outputs in FP32; nodes named in `exact` stay in FP32."""
    from onnxruntime.transformers import float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    trail("onnxruntime.convert_float_to_float16")
    blocked = [*float16.DEFAULT_OP_BLOCK_LIST, *IN_FP32]
    model = float16.convert_float_to_float16(
        model, keep_io_types=True, op_block_list=blocked, node_block_list=sorted(exact)
    )
    OnnxModel.graph_topological_sort(model.graph)  # the casts were put at the end
    return model


def rounded_to_fp16(model: Any, exact: Collection[str] = ()) -> Any:
    """Weights in FP16, and every result rounded to FP16 by a pair of casts, which ONNX Runtime leaves in place: what
    overflows or loses digits in FP16 does so here, although a CPU without FP16 kernels computes in FP32. Sums within
    an operator are FP32, as in the matrix units of the chips. Nodes named in `exact` are not rounded."""
    from onnxruntime.transformers import float16

    inferred = onnx.shape_inference.infer_shapes(model).graph
    known = [*inferred.value_info, *inferred.output, *inferred.input]
    floats = {value.name for value in known if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    weights = {
        name
        for node in model.graph.node
        if node.op_type not in float16.DEFAULT_OP_BLOCK_LIST and node.name not in exact
        for name in node.input
    }
    nodes, fed = [], {}
    for value in model.graph.initializer:
        if value.data_type == TensorProto.FLOAT and value.name in weights:
            with np.errstate(over="ignore"):
                half = numpy_helper.to_array(value).astype(np.float16)
            nodes.append(_cast(f"{value.name}/fp16", value.name, TensorProto.FLOAT))
            value.CopyFrom(numpy_helper.from_array(half, f"{value.name}/fp16"))
    constants = {value.name for value in model.graph.initializer}
    for value in model.graph.input:
        if value.name in floats and value.name not in constants:
            fed[value.name] = f"{value.name}/rounded"
            nodes += _rounding(value.name, fed[value.name])
    for node in model.graph.node:
        if node.name in exact:
            nodes.append(node)
            continue
        node.input[:] = [fed.get(name, name) for name in node.input]
        made = [name for name in node.output if name in floats]
        node.output[:] = [f"{name}/exact" if name in floats else name for name in node.output]
        nodes.append(node)
        for name in made:
            nodes += _rounding(f"{name}/exact", name)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    del model.graph.value_info[:]
    return model


def _rounding(source: str, target: str) -> list[Any]:
    half = f"{target}/fp16"
    return [_cast(source, half, TensorProto.FLOAT16), _cast(half, target, TensorProto.FLOAT)]


def _cast(source: str, target: str, dtype: int) -> Any:
    return helper.make_node("Cast", [source], [target], f"{target}/Cast", to=dtype)


def in_int8(
    model: Any, spec: BuildSpec, folder: Path, symmetric: bool, reduced: bool, exact: Collection[str] = ()
) -> Any:
    """Convolutions and products in INT8: weights per channel, activations per tensor, ranges from the calibration set.

    All layers but those named in `exact` go to INT8 when every output then is `LIKE` and `NEAR` the FP32 graph's on the
    calibration set. Else as few parts as will do stay in FP32, those first that do most harm when they alone are in
    INT8: partial quantisation by sensitivity, after Wu et al., "Integer Quantization for Deep Learning Inference"
    (arXiv 2004.09602). How many layers are in INT8 stands in the graph's metadata. Options: `method`, "MinMax"
    (default), "Entropy" or "Percentile". Raises BuildError when no part will do in INT8."""
    samples = calibration_samples(spec)
    if {opset.domain: opset.version for opset in model.opset_import}[""] < OPSET:
        model = onnx.version_converter.convert_version(model, OPSET)
    onnx.save(model, str(folder / "fp32.onnx"))
    every = [node.name for node in model.graph.node if node.op_type in IN_INT8]
    layers = [name for name in every if name not in exact]
    if not layers:
        what = ", ".join(IN_INT8)
        said = f"every {what} of the graph is to stay in FP32" if every else f"no {what} in the graph"
        raise BuildError(said, hint="there is nothing to compute in INT8")
    told = repr((symmetric, reduced, spec.options.get("method"), layers)).encode() + b"".join(
        kept.tobytes() for kept in samples.values()
    )
    key = hashlib.sha256(model.SerializeToString() + told).hexdigest()
    if key not in _CHOSEN:
        _CHOSEN[key] = _harmless(folder, spec, samples, layers, symmetric, reduced)
    _quantize(folder, spec, samples, _CHOSEN[key], symmetric, reduced)
    made = _own_domains(onnx.load(str(folder / "int8.onnx")))
    helper.set_model_props(made, {"layers_in_int8": f"{len(_CHOSEN[key])} of {len(every)}"})
    return made


_CHOSEN: dict[str, list[str]] = {}  # by digest: the same graph is built with and without normalisation


def _harmless(
    folder: Path, spec: BuildSpec, samples: Samples, layers: list[str], symmetric: bool, reduced: bool
) -> list[str]:
    """Layers that will do in INT8: all, or as many of the least harmful parts as stay within `LIKE` and `NEAR`."""
    batches = list(_batches({name: kept[:WITNESSES] for name, kept in samples.items()}, spec))
    wanted = _outputs(folder / "fp32.onnx", batches)

    def harm(chosen: list[str], looks: int = WITNESSES) -> float:
        _quantize(folder, spec, samples, chosen, symmetric, reduced)
        found = _outputs(folder / "int8.onnx", batches[:looks])
        worst = max(_distance(one[: len(other)], other) for one, other in zip(wanted, found))
        print(f"int8: {len(chosen)} of {len(layers)} layers from {chosen[0]}: {worst:.2f} of what is allowed")
        return worst

    if harm(layers) <= 1:
        return layers
    parts = [list(map(str, part)) for part in np.array_split(layers, min(PARTS, len(layers)))]
    parts.sort(key=lambda part: harm(part, 1))
    enough, many = 0, len(parts)  # so many parts will do in INT8, and will not
    while many - enough > 1:
        middle = (enough + many) // 2
        fine = harm(list(itertools.chain(*parts[:middle]))) <= 1
        enough, many = (middle, many) if fine else (enough, middle)
    if not enough:
        raise BuildError("no part of the graph is accurate enough in INT8", hint="use other calibration data, or FP16")
    return list(itertools.chain(*parts[:enough]))


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


def _quantize(
    folder: Path, spec: BuildSpec, samples: Samples, chosen: list[str], symmetric: bool, reduced: bool
) -> None:
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
        nodes_to_quantize=chosen,
        # TensorRT and the CUDA provider dequantise int8 only: a bias in int32 is refused, or moves to the CPU
        extra_options={"ActivationSymmetric": symmetric, "QuantizeBias": not symmetric},
        **once,
    )


def _batches(samples: Samples, spec: BuildSpec) -> Iterator[Samples]:
    return calibration_batches(samples, spec, 1 if spec.tiers else spec.batch)


def _outputs(path: Path, batches: list[dict[str, Any]]) -> list[Any]:
    session = onnxruntime.InferenceSession(str(path), _options(), providers=["CPUExecutionProvider"])
    trail("onnxruntime.run")
    found = [session.run(None, batch) for batch in batches]
    return [np.concatenate(parts) for parts in zip(*found)]


def _distance(wanted: Any, found: Any) -> float:
    """How far an output is from the FP32 graph's, in units of what `LIKE` and `NEAR` allow: the worst sample's."""
    one, other = (array.astype(np.float64).reshape(len(array), -1) for array in (wanted, found))
    size = np.maximum(np.abs(one).max(axis=1), np.finfo(np.float32).tiny)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosine = np.where(norms > 0, (one * other).sum(axis=1) / np.where(norms > 0, norms, 1), (one == other).all(axis=1))
    largest = np.abs(one - other).max(axis=1) / size
    return float(np.maximum((1 - cosine) / (1 - LIKE), largest / NEAR).max())


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
