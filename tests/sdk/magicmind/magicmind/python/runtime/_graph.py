"""The build side: configuration, calibration, builder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from magicmind.python.common.types import DataType, get_datatype_by_numpy
from magicmind.python.runtime import _base as base
from magicmind.python.runtime._base import Code, compiled, injected, refused, shout, status
from magicmind.python.runtime._kinds import LAYOUTS
from magicmind.python.runtime._network import Dims, Network, NetworkTensor, inferred
from magicmind.python.runtime._nodes import OPSET, Graph
from magicmind.python.runtime.model import Model


class BuilderConfig:
    """Strings and files add up: objects are merged key by key at every depth, anything else is replaced. The vendor's
    helpers rely on it: they give precision_config in three strings and opt_config in two."""

    KEYS = frozenset(
        [
            "archs",
            "precision_config",
            "graph_shape_mutable",
            "dim_range",
            "convert_input_layout",
            "convert_output_layout",
            "insert_bn_before_firstnode",
            "opt_config",
            "computation_preference",
            "compute_determinism",
            "debug_config",
            "cross_compile_toolchain_path",
            "custom_ranges",
        ]
    )

    def __init__(self):
        if refused("mm.BuilderConfig"):
            raise RuntimeError("mm.BuilderConfig: out of host memory")
        self.values = {}

    def parse_from_string(self, text):
        call = "mm.BuilderConfig.parse_from_string"
        return injected(call) or self._take(call, text)

    def parse_from_file(self, path):
        call = "mm.BuilderConfig.parse_from_file"
        failed = injected(call)
        if failed:
            return failed
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            return status(call, Code.NOT_FOUND, str(error))
        return self._take(call, text)

    def _take(self, call, text):
        try:
            values = json.loads(text)
        except ValueError as error:
            return status(call, Code.INVALID_ARGUMENT, f"not JSON: {error}")
        if not isinstance(values, dict):
            return status(call, Code.INVALID_ARGUMENT, "not a JSON object")
        unknown = sorted(set(values) - self.KEYS)
        if unknown:
            return status(call, Code.INVALID_ARGUMENT, f"unknown key {unknown[0]}")
        self.values = _merged(self.values, values)
        return status(call)


def _merged(base_values, over):
    merged = dict(base_values)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


PRECISIONS = {
    "force_float32": "fp32",
    "force_float16": "fp16",
    "qint8_mixed_float16": "int8",
    "qint8_mixed_float32": "int8",
    "qint16_mixed_float16": "fp16",  # rounded no further: 16 bits in one scale are about as good as half
    "qint16_mixed_float32": "fp32",
}


class CalibDataInterface:
    def __init__(self):
        self._constructed = True


class QuantizationAlgorithm:
    LINEAR_ALGORITHM = 0
    EQNM_ALGORITHM = 1


class RemoteConfig:
    address = ""


class Calibrator(base.Alive):
    def __init__(self, data):
        if refused("mm.Calibrator"):
            raise RuntimeError("mm.Calibrator: internal error")
        base.Alive.__init__(self)
        for item in data:
            if not getattr(item, "_constructed", False):
                raise TypeError("CalibDataInterface.__init__() must be called when overriding __init__")
        self._data = data
        self._remote = ""

    def set_quantization_algorithm(self, algorithm):
        call = "mm.Calibrator.set_quantization_algorithm"
        return injected(call) or status(call)

    def set_remote(self, remote):
        """Calibrate on the machine at `remote.address` ("ip:8008"), which needs no card here."""
        call = "mm.Calibrator.set_remote"
        failed = injected(call)
        if failed:
            return failed
        if not remote.address:
            return status(call, Code.INVALID_ARGUMENT, "the address is empty")
        self._remote = remote.address
        return status(call)

    def calibrate(self, network, config):
        call = "mm.Calibrator.calibrate"
        failed = injected(call)
        if failed:
            return failed
        if not self._remote:
            base.driver.device(call)
        if len(self._data) != len(network.inputs):
            return status(call, Code.INVALID_ARGUMENT, "one CalibDataInterface an input")
        try:
            samples = self._samples(network)
        except ValueError as error:
            return status(call, Code.INVALID_ARGUMENT, str(error))
        if not samples:
            return status(call, Code.INVALID_ARGUMENT, "no calibration data")
        network.calibration = samples
        return status(call)

    def _samples(self, network):
        """Samples of all inputs, one `next` of each after the other until one ends: arrays, of several inputs dicts.

        Shape and type are asked after `next`: some programs know them only then."""
        for data in self._data:
            if not data.reset().ok():
                raise ValueError("reset failed")
        found = []
        while True:
            sample = {}
            for data, tensor in zip(self._data, network.inputs):
                answer = data.next()
                if not answer.ok():
                    if answer._code != Code.OUT_OF_RANGE:
                        raise ValueError(f"next: {answer}")
                    return found
                sample[tensor.name] = self._sample(data, tensor)
            found.append(sample if len(sample) > 1 else next(iter(sample.values())))

    @staticmethod
    def _sample(data, tensor):
        shape, sample = data.get_shape().GetDims(), data.get_sample()
        if len(shape) != len(tensor.shape) or any(own not in (-1, fed) for own, fed in zip(tensor.shape, shape)):
            raise ValueError(f"calibration data {shape} for input {tensor.shape}")
        count = int(np.prod(shape))
        if sample.size < count or data.get_data_type() != get_datatype_by_numpy(sample.dtype):
            raise ValueError(f"a sample is {sample.dtype} {sample.shape}")
        if not sample.flags.c_contiguous:
            base.violation("a calibration sample is not contiguous: its bytes would be read in the wrong order")
        if list(sample.shape) != shape:
            base.house(f"a calibration sample of {list(sample.shape)} is read as {shape}")
        return np.ascontiguousarray(sample).reshape(-1)[:count].reshape(shape)


class Builder:
    def __init__(self):
        if refused("mm.Builder"):
            raise RuntimeError("mm.Builder: out of host memory")

    def build_model(self, name, network, config=None):
        call = "mm.Builder.build_model"
        if refused(call):
            return None
        values = config.values if config is not None else {}
        try:
            return _built(name, network, values)
        except ValueError as error:
            return shout(call, str(error), Code.INVALID_ARGUMENT)


def _built(name, network, values):
    mutable = values.get("graph_shape_mutable", True)
    limits = _limits(network, values)
    shapes = {tensor.key: _told(tensor, limits.get(i), mutable) for i, tensor in enumerate(network.inputs)}
    model = _whole_graph(network, shapes)
    if not mutable and any(-1 in tensor.shape for tensor in network.inputs):
        raise ValueError("graph_shape_mutable is false and an input has no fixed shape")
    if network.wide and not values.get("opt_config", {}).get("type64to32_conversion"):
        raise ValueError("data type INT64 is not supported; type64to32_conversion is off")
    if not mutable:
        model = _fixed(model, shapes)
    precision = _precision(network, values)
    clusters = _clusters(values.get("archs") or ["mtp_372"])
    model = _rounded(model, network, precision, values)
    dtypes = {tensor.key: tensor.dtype for tensor in network.inputs}
    sizes_move = any(-1 in shape[1:] for shape in shapes.values())
    model = _with_fronts(model, network, values, shapes, dtypes)
    model = _with_backs(compiled.narrow_outputs(model), network, values)
    if limits and not mutable:
        raise ValueError("dim_range needs graph_shape_mutable")
    first = network.inputs[0]
    baked = first.fixed[0] if first.fixed else -1  # what a graph of one batch cannot leave, mutable or not
    batch = baked if mutable or not first.shape else first.shape[0]

    def row(key, dtype, shape):
        """Axis 0 of a tensor: its own where nothing is mutable and it is known, else the batch."""
        own = shape[:1] if not mutable and shape and shape[0] > 0 else [batch] if shape else []
        return [key, dtype, [*own, *shape[1:]]]

    graph_outputs = [
        row(key, get_datatype_by_numpy(dtype).name, [-1] * len(shape) if sizes_move else list(shape))
        for key, dtype, shape in compiled.described(model, "outputs")
    ]
    outputs, detections = _with_boxes(network, graph_outputs)
    header = {
        "detections": detections,
        "graph_outputs": graph_outputs,
        "name": name,
        "clusters": clusters,
        "precision": precision,
        "batch": batch,
        "range": [limits[0][end][0] for end in (0, 1)] if 0 in limits else [1, 1 << 20],
        "limits": {network.inputs[i].key: rule for i, rule in _turned(network, values, limits).items()},
        "inputs": [row(key, dtypes[key].name, list(shape)) for key, shape in shapes.items()],
        "outputs": outputs,
    }
    if batch != -1:
        header["range"], header["limits"] = [batch, batch], {}
    return Model(header, model.SerializeToString())


def _limits(network, values):
    """{index of an input: (least sizes, largest sizes)} of dim_range, in the network's layout."""
    found = {}
    for i, rule in values.get("dim_range", {}).items():
        if int(i) >= len(network.inputs):
            raise ValueError(f"dim_range of input {i}: the network has {len(network.inputs)}")
        rank = len(network.inputs[int(i)].shape)
        if len(rule["min"]) != len(rule["max"]) or (rank and len(rule["min"]) != rank):
            raise ValueError(f"dim_range {rule} for an input of {rank} dimensions")
        found[int(i)] = (list(rule["min"]), list(rule["max"]))
    return found


def _turned(network, values, limits):
    """The limits in the engine's layout."""
    layouts = _layouts(values, "convert_input_layout")
    return {
        i: [[end[layouts[i][0].index(letter)] for letter in layouts[i][1]] for end in ends] if i in layouts else ends
        for i, ends in limits.items()
    }


def _told(tensor, limits, mutable):
    """The sizes that an engine tells of an input. A mutable one leaves every axis free that the graph leaves, but for
    those that dim_range holds; axis 0 is that of the batch."""
    shape = list(tensor.shape)
    for axis in range(1, len(shape) if mutable else 0):
        baked = tensor.fixed is not None and tensor.fixed[axis] != -1
        held = limits is not None and limits[0][axis] == limits[1][axis]
        shape[axis] = limits[0][axis] if held and shape[axis] == -1 else shape[axis] if held or baked else -1
    return shape


def _with_boxes(network, rows):
    """(rows of the engine's outputs, how boxes are decoded from those of the graph)"""
    if not network.detections:
        return rows, []
    places = {row[0]: i for i, row in enumerate(rows)}
    detections, made = [], {}
    for node in network.detections:
        *heads, anchors = node._inputs
        held = next(other for other in network.made if other._outputs[0] is anchors)
        rule = {key: value for key, value in node.settings.items() if key != "layout"}
        rule["anchors"] = [float(each) for each in held.settings["value"].reshape(-1)]
        batch = rows[places[heads[0].key]][2][0]
        boxes, counts = (tensor.key for tensor in node._outputs)
        made[boxes] = [boxes, "FLOAT32", [batch, int(rule["num_box_limit"]), 7]]
        made[counts] = [counts, "INT32", [batch]]
        detections.append({"rule": rule, "heads": [places[tensor.key] for tensor in heads], "makes": [boxes, counts]})
    outputs = [made.get(tensor.key) or rows[places[tensor.key]] for tensor in network.outputs]
    return outputs, detections


def _precision(network, values):
    mode = values.get("precision_config", {}).get("precision_mode", "force_float32")
    if mode not in PRECISIONS:
        raise ValueError(f"unknown precision_mode {mode!r}")
    if mode.startswith("qint") and network.calibration is None and "custom_ranges" not in values:
        raise ValueError("the network has no quantisation ranges: calibrate it first")
    return PRECISIONS[mode]


def _clusters(archs):
    clusters = []
    for arch in archs:
        named = arch if isinstance(arch, dict) else {arch: [2, 6, 8]}
        if list(named) != ["mtp_372"]:
            raise ValueError(f"arch {sorted(named)} is not built for here")
        clusters += named["mtp_372"]
    return clusters


def _rounded(model, network, precision, values):
    """As the precision mode computes; nodes whose inputs were all forced to FLOAT32 do, and constants so forced stay
    whole."""
    wholes = [node.output[0] for node in model.graph.node if node.input and network.exact.issuperset(node.input)]
    exact = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in network.exact}
    kept = {name: tensor.SerializeToString() for name, tensor in exact.items()}
    per_axis = values.get("precision_config", {}).get("weight_quant_granularity", "per_tensor") == "per_axis"
    model = compiled.rounded(model, precision, network.calibration, per_axis, wholes=wholes)
    for tensor in model.graph.initializer:
        if tensor.name in kept:
            tensor.ParseFromString(kept[tensor.name])
    return model


def _with_fronts(model, network, values, shapes, dtypes):
    """Inputs as the engine is fed: layout, inserted normalisation (then UINT8), another element type. `shapes` and
    `dtypes`, by name, become those of the engine."""
    layouts = _layouts(values, "convert_input_layout")
    norms = {int(i): rule for i, rule in values.get("insert_bn_before_firstnode", {}).items()}
    for i, tensor in enumerate(network.inputs):
        key, norm, order = tensor.key, norms.get(i), layouts.get(i)
        if norm is not None and not len(norm["mean"]) == len(norm["var"]) == tensor.shape[1]:
            raise ValueError("insert_bn_before_firstnode: mean and var are not of the channels")
        if order is not None:
            if len(order[0]) != len(tensor.shape):
                raise ValueError(f"convert_input_layout of {order[0]} for an input of {len(tensor.shape)} dimensions")
            shapes[key] = [shapes[key][order[0].index(letter)] for letter in order[1]]
        if norm is not None:
            dtypes[key] = DataType.UINT8
        kind = None if dtypes[key] == tensor.own_dtype else dtypes[key].name.lower()
        if norm is not None or order is not None or kind is not None:
            model = compiled.with_front(
                model, key, norm and norm["mean"], norm and norm["var"], layouts=order, dtype=kind
            )
    return model


def _with_backs(model, network, values):
    layouts = _layouts(values, "convert_output_layout")
    for i, tensor in enumerate(() if network.detections else network.outputs):
        kind = None if tensor.dtype == tensor.own_dtype else tensor.dtype.name.lower()
        if i in layouts or kind is not None:
            model = compiled.with_back(model, model.graph.output[i].name, layouts=layouts.get(i), dtype=kind)
    return model


def _layouts(values, key):
    """{index: (layout of the network, layout of the engine)}"""
    found = {}
    for i, rule in values.get(key, {}).items():
        src, dst = rule["src"], rule["dst"]
        if src not in LAYOUTS or dst not in LAYOUTS or src == dst or sorted(src) != sorted(dst):
            raise ValueError(f"{key} {rule} is not possible")
        found[int(i)] = (src, dst)
    return found


def _whole_graph(network, shapes):
    """A ModelProto of the network with exactly the marked outputs; where boxes are decoded behind the graph, with the
    heads that they are decoded from. `shapes`: of the inputs, by key, -1 where the engine leaves an axis free."""
    import onnx

    source = network.model if network.traced is None else _exported(network, shapes)
    if source is None and not network.made:
        return _handed_through(network)
    model = onnx.ModelProto()
    if source is None:
        model = _empty(network)
    else:
        model.CopyFrom(source)
    if network.traced is not None:
        network.wide = compiled.has_int64(source)
    graph = Graph(network, model, compiled.opset(model))
    del network.detections[:]
    for node in network.made:
        graph.node_made = node
        node._emit(node, graph)
    wanted = _graph_outputs(network)
    if not wanted:
        raise ValueError("the network has no output")
    values = {value.name: value for value in (*model.graph.output, *model.graph.input)}
    if source is not None and not network.made and wanted == [value.name for value in source.graph.output]:
        return model
    types = inferred(model)
    made = {name for node in model.graph.node for name in node.output}
    made.update(tensor.name for tensor in model.graph.initializer)
    for name in wanted:
        if name not in values and name not in made:
            raise ValueError(f"{name} is made by no node")
        if name not in values:
            values[name] = compiled.value_info(name, types.get(name, ("float32", None))[0], None)
    del model.graph.output[:]
    model.graph.output.extend(values[name] for name in wanted)
    return onnx.shape_inference.infer_shapes(model)


def _fixed(model, shapes):
    """The graph with inputs of these sizes, and all that follows from them: an engine that is not mutable tells it."""
    import onnx

    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        sizes = shapes.get(value.name) or [-1] * len(value.type.tensor_type.shape.dim)
        for dim, size in zip(value.type.tensor_type.shape.dim, sizes):
            dim.Clear()  # a rank stays known, which inference may not find
            if size >= 0:
                dim.dim_value = size
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def _graph_outputs(network):
    """Names of the graph's outputs: those that are marked, and in place of decoded boxes their heads."""
    heads = {}
    for node in network.detections:
        heads.update((tensor.key, [each.key for each in node._inputs[:-1]]) for tensor in node._outputs)
    keys = [key for tensor in network.outputs for key in heads.get(tensor.key, [tensor.key])]
    return list(dict.fromkeys(keys))


def _empty(network):
    """A graph of the inputs alone. A tensor without dims may have any rank."""
    from onnx import helper

    rows = [(tensor.key, tensor.dtype.name.lower(), tensor.shape or None) for tensor in network.inputs]
    graph = helper.make_graph([], "by_hand", [compiled.value_info(*row) for row in rows], [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 8
    return model


def _handed_through(network):
    """A network without nodes: inputs that are handed through."""
    from onnx import helper

    taken = {tensor.key: tensor for tensor in network.inputs}
    if not network.outputs or any(tensor.key not in taken for tensor in network.outputs):
        raise ValueError("the network is empty")
    model = _empty(network)
    for i, tensor in enumerate(network.outputs):
        model.graph.node.append(helper.make_node("Identity", [tensor.key], [f"output{i}"]))
        model.graph.output.append(compiled.value_info(f"output{i}", tensor.dtype.name.lower(), tensor.shape or None))
    return model


def _exported(network, free):
    """ONNX of a traced PyTorch file, now that shapes are known. Lists and tuples of outputs are laid out flat."""
    import io

    import onnx
    import torch

    if any(not tensor.shape for tensor in network.inputs):
        raise ValueError("an input of the traced graph has no shape: call set_dimension")
    given = tuple(
        torch.zeros([max(size, 1) for size in tensor.shape], dtype=getattr(torch, tensor.own_dtype.name.lower()))
        for tensor in network.inputs
    )
    file = io.BytesIO()
    torch.onnx.export(
        _flat(network),
        given,
        file,
        opset_version=11,
        dynamo=False,
        input_names=[tensor.name for tensor in network.inputs],
        output_names=list(network.traced_outputs),
        dynamic_axes={
            tensor.name: {
                0: "batch",
                **{i: f"{tensor.name}_{i}" for i, size in enumerate(free[tensor.key]) if i and size < 0},
            }
            for tensor in network.inputs
        },
    )
    return onnx.load_from_string(file.getvalue())


def _flat(network):
    """The traced module; where it returns lists, one that returns their tensors as a tuple."""
    import torch

    if all(len(path) < 2 for path in network.traced_outputs.values()) and not network.traced_list:
        return network.traced
    given = ", ".join(f"x{i}" for i, _ in enumerate(network.inputs))
    parts = ", ".join("made" + "".join(f"[{i}]" for i in path) for path in network.traced_outputs.values())

    class Flat(torch.jit.ScriptModule):
        def __init__(self):
            super().__init__()
            self.traced = network.traced

    flat = Flat().eval()
    flat.define(f"def forward(self, {given}):\n    made = self.traced({given})\n    return ({parts},)\n")
    return flat


__all__ = ["Builder", "BuilderConfig", "CalibDataInterface", "Calibrator", "Dims", "Network", "NetworkTensor",
           "QuantizationAlgorithm", "RemoteConfig"]  # fmt: skip
