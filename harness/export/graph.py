"""Edits of an ONNX graph that do not change what it computes: cut it, add outputs, fix the batch, remove nodes.

Every function returns a new ModelProto and does not change its argument."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.errors import ExportError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto


def cut(model: ModelProto, outputs: Sequence[str], inputs: Sequence[str] | None = None) -> ModelProto:
    """The part of the graph that computes the tensors `outputs`, from `inputs` (default: the graph's own).

    The tensors become its outputs, in the order given. Raises ExportError for a tensor the graph does not have."""
    from onnx.utils import Extractor

    initial = {tensor.name for tensor in model.graph.initializer}
    own = [value.name for value in model.graph.input if value.name not in initial]
    names = own if inputs is None else list(inputs)
    typed = _copy(model)
    typed.graph.value_info.extend(_described(model, [*outputs, *names]))
    part: ModelProto = Extractor(typed).extract_model(names, list(outputs))
    part.ir_version = model.ir_version
    del part.graph.value_info[:]
    return part


def tap(model: ModelProto, tensors: Sequence[str]) -> ModelProto:
    """The graph with `tensors` as further outputs, after its own. Raises ExportError for a tensor it does not have."""
    tapped = _copy(model)
    returned = {value.name for value in model.graph.output}
    tapped.graph.output.extend(
        value for value in _described(model, list(dict.fromkeys(tensors))) if value.name not in returned
    )
    return tapped


def outputs_of(model: ModelProto) -> dict[str, str]:
    """Where each graph output comes from: tensor name -> "NodeName:index", the form that ATC's --out_nodes takes.
    Raises ExportError for an output that no node computes and for a node without a name."""
    source = {out: (node, i) for node in model.graph.node for i, out in enumerate(node.output)}
    where = {}
    for value in model.graph.output:
        if value.name not in source:
            raise ExportError(
                f"no node computes the output {value.name!r}", hint="cut the graph at a tensor that a node computes"
            )
        node, index = source[value.name]
        if not node.name:
            raise ExportError(
                f"the {node.op_type} that computes {value.name!r} has no name",
                hint="export again with chipproof export",
            )
        where[value.name] = f"{node.name}:{index}"
    return where


def set_batch(model: ModelProto, batch: int) -> ModelProto:
    """The graph with axis 0 of every input and output fixed at `batch`, and its shapes inferred anew. Where one is
    free, tensors without a free one are left as they are: they have no batch.

    Raises ExportError when the graph is already fixed at another batch: constants inside may depend on it."""
    from onnx import shape_inference

    if batch < 1:
        raise ExportError(f"batch {batch} is not a batch", hint="ask for 1 or more")
    fixed = _copy(model)
    initial = {tensor.name for tensor in model.graph.initializer}
    ends = [value for value in [*fixed.graph.input, *fixed.graph.output] if value.name not in initial]
    firsts = [(value, axis) for value in ends for axis in value.type.tensor_type.shape.dim[:1]]
    free = any(not axis.HasField("dim_value") for _, axis in firsts)
    for value, axis in firsts:
        if axis.HasField("dim_value") and free:
            continue
        if axis.HasField("dim_value") and axis.dim_value != batch:
            raise ExportError(
                f"{value.name!r} is fixed at batch {axis.dim_value}, not {batch}",
                hint="start from the export, whose batch is dynamic",
            )
        axis.dim_value = batch
    del fixed.graph.value_info[:]
    return shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True)


def drop_noop_pads(model: ModelProto) -> tuple[ModelProto, tuple[str, ...]]:
    """(the graph without Pad nodes that pad nothing, the names of the removed nodes).

    A Pad is removed only when its amounts are constants and all zero. Older exporters write such a Pad before an
    average pool with count_include_pad and no padding."""
    slim = _copy(model)
    constants = _constants(slim.graph)
    removed = []
    for node in list(slim.graph.node):
        if node.op_type == "Pad" and _pads_nothing(node, constants) and _bypass(slim.graph, node):
            removed.append(node.name)
    return _prune(slim), tuple(removed)


def drop_identities(model: ModelProto) -> ModelProto:
    """The graph without Identity nodes, which the exporter writes where two layers have equal weights."""
    slim = _copy(model)
    for node in list(slim.graph.node):
        if node.op_type == "Identity":
            _bypass(slim.graph, node)
    return _prune(slim)


def fold_batch_norm(model: ModelProto) -> tuple[ModelProto, tuple[str, ...]]:
    """(the graph with each batch norm folded into the convolution before it, the names of the folded nodes).

    The fold is computed in float64 and rounded once, before precision is lowered: a converter that folds after the
    weights are FP16 costs RetinaFace-mobilenet0.25 up to 21 points of AP. A batch norm stays when its input is not a
    convolution, or when another node reads that input too."""
    from onnx import numpy_helper

    folded = _copy(model)
    graph = folded.graph
    constants = _constants(graph)
    uses = Counter(name for node in _nodes(graph) for name in node.input)
    uses.update(value.name for value in graph.output)
    source = {out: node for node in graph.node for out in node.output}
    done = []
    for norm in list(graph.node):
        conv = source.get(norm.input[0]) if norm.op_type == "BatchNormalization" else None
        if conv is None or conv.op_type != "Conv" or uses[norm.input[0]] != 1:
            continue
        if any(name not in constants for name in [*conv.input[1:], *norm.input[1:5]]):
            continue
        epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
        scale, shift, mean, variance = (constants[name].astype(np.float64) for name in norm.input[1:5])
        weight = constants[conv.input[1]].astype(np.float64)
        bias = constants[conv.input[2]].astype(np.float64) if len(conv.input) > 2 else 0.0
        factor = scale / np.sqrt(variance + epsilon)
        arrays = {
            f"{norm.output[0]}.weight": weight * factor.reshape(-1, *[1] * (weight.ndim - 1)),
            f"{norm.output[0]}.bias": (bias - mean) * factor + shift,
        }
        for name, array in arrays.items():
            graph.initializer.append(numpy_helper.from_array(array.astype(constants[conv.input[1]].dtype), name))
        conv.input[1:] = list(arrays)
        conv.output[0] = norm.output[0]
        graph.node.remove(norm)
        done.append(norm.name)
    return _prune(folded), tuple(done)


def _copy(model: ModelProto) -> ModelProto:
    twin = type(model)()
    twin.CopyFrom(model)
    return twin


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """All nodes, also those inside branches and loops."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def _used(graph: GraphProto) -> set[str]:
    """Names that a node reads or the graph returns."""
    return {name for node in _nodes(graph) for name in node.input} | {value.name for value in graph.output}


def _described(model: ModelProto, tensors: Sequence[str]) -> list[ValueInfoProto]:
    """Name, type and shape of each tensor, as far as ONNX can infer them. Other tensors are taken as float, because
    these graphs compute only floats after a node without inference. Raises ExportError for an unknown tensor."""
    from onnx import TensorProto, helper, shape_inference

    graph = shape_inference.infer_shapes(model).graph
    known = {value.name: value for value in [*graph.value_info, *graph.input, *graph.output]}
    for name in {out for node in graph.node for out in node.output} - set(known):
        known[name] = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    for tensor in tensors:
        if tensor not in known:
            near = get_close_matches(tensor, known) or sorted(value.name for value in graph.output)
            raise ExportError(f"the graph has no tensor {tensor!r}", hint=f"did you mean {' or '.join(near)}?")
    return [known[tensor] for tensor in tensors]


def _constants(graph: GraphProto) -> dict[str, NDArray[np.generic]]:
    """Every tensor with a constant value, by name: initializers, Constant nodes, and Identity nodes of these."""
    from onnx import numpy_helper

    known = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            known[node.output[0]] = node.attribute[0].t
        elif node.op_type == "Identity" and node.input[0] in known:
            known[node.output[0]] = known[node.input[0]]
    return {name: numpy_helper.to_array(tensor) for name, tensor in known.items()}


def _pads_nothing(node: NodeProto, constants: dict[str, NDArray[np.generic]]) -> bool:
    if len(node.input) > 1:  # opset 11 and later: the amounts are an input
        return node.input[1] in constants and not constants[node.input[1]].any()
    return any(a.name == "pads" and a.ints and not any(a.ints) for a in node.attribute)


def _bypass(graph: GraphProto, node: NodeProto) -> bool:
    """Remove the node and connect its first input to the readers of its output. False, without a change, when both
    names must stay: the graph returns the output, and it takes or returns the input too."""
    old, new = node.output[0], node.input[0]
    if any(value.name == old for value in graph.output):
        old, new = new, old
        fixed = {value.name for value in [*graph.input, *graph.output]}
        if old in fixed or all(old not in other.output for other in graph.node):
            return False
    graph.node.remove(node)
    for other in _nodes(graph):
        other.input[:] = [new if name == old else name for name in other.input]
        other.output[:] = [new if name == old else name for name in other.output]
    return True


def _prune(model: ModelProto) -> ModelProto:
    """Remove, in place, constants that no node reads and shapes of tensors that are gone; returns the model."""
    graph = model.graph
    for kind in ("Identity", "Constant"):
        used = _used(graph)
        for node in [node for node in graph.node if node.op_type == kind and node.output[0] not in used]:
            graph.node.remove(node)
    gone = {tensor.name for tensor in graph.initializer} - _used(graph)
    alive = {out for node in graph.node for out in node.output}
    for i in reversed(range(len(graph.initializer))):
        if graph.initializer[i].name in gone:
            del graph.initializer[i]
    for i in reversed(range(len(graph.input))):
        if graph.input[i].name in gone:
            del graph.input[i]
    for i in reversed(range(len(graph.value_info))):
        if graph.value_info[i].name not in alive:
            del graph.value_info[i]
    return model
