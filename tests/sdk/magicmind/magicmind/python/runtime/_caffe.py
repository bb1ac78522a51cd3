"""A Caffe network, its prototxt and its caffemodel, as an ONNX graph: the layers that the vendor's samples are made of.

Rests on caffe.proto and the layers' definitions of BVLC/caffe; `Axpy`, `Upsample`, `Mish` and `BN` on the forks whose
networks Cambricon/magicmind_cloud converts (SENet, YOLOv3, YOLOv4, GoogLeNet-BN).
"""

from __future__ import annotations

import re
import struct

import numpy as np

WORD = re.compile(r"""#[^\n]*|"[^"]*"|'[^']*'|[{}]|[^\s{}:;,"'#]+""")


class CaffeError(Exception):
    """What the two files say cannot be made a graph."""


def read_text(text):
    """A message in protobuf's text form: {key: [values]}, a value is a str or such a message."""
    words = [word for word in WORD.findall(text) if word[0] != "#"]

    def block(at):
        held = {}
        while at < len(words) and words[at] != "}":
            key, at = words[at], at + 1
            if at >= len(words):
                raise CaffeError(f"nothing stands behind {key}")
            value, at = block(at + 1) if words[at] == "{" else (words[at].strip("\"'"), at + 1)
            held.setdefault(key, []).append(value)
        return held, at + 1

    return block(0)[0]


def read_wire(data):
    """(field, value) of a message in protobuf's binary form; a value is an int or bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            value |= (data[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 0x80:
                return value

    while at < len(data):
        field, kind = divmod(varint(), 8)
        if kind == 0:
            yield field, varint()
            continue
        size = {1: 8, 5: 4}.get(kind) or varint()
        yield field, data[at : at + size]
        at += size


def weights_of(data):
    """{layer: its arrays} of a caffemodel, of either generation of layers."""
    found = {}
    for field, layer in read_wire(data):
        name, blob = {100: (1, 7), 2: (4, 6)}.get(field, (0, 0))  # LayerParameter, V1LayerParameter
        rows = list(read_wire(layer)) if name else []
        arrays = [array_of(value) for number, value in rows if number == blob]
        found.update({bytes(value).decode("utf-8"): arrays for number, value in rows if number == name and arrays})
    return found


def array_of(blob):
    old, dims, values = [], [], []
    for field, value in read_wire(blob):
        if field <= 4:
            old.append(value)  # num, channels, height, width
        elif field == 5:
            values.append(np.frombuffer(value, "<f4"))
        elif field == 7:
            for _, packed in read_wire(value):
                dims += [packed] if isinstance(packed, int) else _varints(packed)
    return np.concatenate(values).reshape(dims or old)


def _varints(data):
    # as fields without numbers: each is read as the value of a field 0 of kind 0
    return [
        value
        for _, value in read_wire(b"".join(b"\0" + word for word in re.findall(rb"[\x80-\xff]*[\x00-\x7f]", data)))
    ]


class Graph:
    """Nodes in the order of the layers; a blob that several layers write in place is a tensor for each of them."""

    def __init__(self, network, weights):
        self.weights, self.nodes, self.constants, self.inputs = weights, [], [], {}
        self.layers = [
            layer
            for layer in network.get("layer", network.get("layers", []))
            if all(rule.get("phase", ["TEST"])[0] != "TRAIN" for rule in layer.get("include", []))
        ]
        self._inputs_of(network)
        writers = {top: layer for layer in self.layers for top in layer.get("top", [])}  # the last of each blob
        now = {name: name for name in self.inputs}
        read = set()
        for layer in self.layers:
            name, kind = layer["name"][0], layer["type"][0].replace("_", "").lower()
            if kind == "input":
                continue
            bottoms, tops = layer.get("bottom", []), layer.get("top", [])
            unknown = [bottom for bottom in bottoms if bottom not in now]
            if kind not in LAYERS or unknown or (len(tops) > 1 and kind != "split"):
                raise CaffeError(
                    f"layer {name} of type {layer['type'][0]}" + (f": no blob {unknown[0]}" if unknown else "")
                )
            read = (read | set(bottoms)) - set(tops)
            for top in tops:
                self.name = name
                LAYERS[kind](self, layer, *(now[bottom] for bottom in bottoms))
                self.nodes[-1].output[0] = top if writers[top] is layer else f"{top}/{name}"
            now.update({top: top if writers[top] is layer else f"{top}/{name}" for top in tops})
        self.outputs = [name for name in now if name not in read and name not in self.inputs]

    def _inputs_of(self, network):
        names = network.get("input", [])
        dims = [int(word) for word in network.get("input_dim", [])]
        shapes = [_ints(shape, "dim") for shape in network.get("input_shape", [])]
        shapes = shapes or [dims[4 * i : 4 * i + 4] for i in range(len(names))]
        self.inputs.update(zip(names, shapes))
        for layer in self.layers:
            if layer["type"][0] == "Input":
                self.inputs[layer["top"][0]] = _ints(layer["input_param"][0]["shape"][0], "dim")

    def add(self, kind, *inputs, **attributes):
        """A node, the last of its layer being renamed after the layer's blob; returns its output."""
        from onnx import helper

        made = f"{self.name}/{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [made], name=made, **attributes))
        return made

    def constant(self, array):
        from onnx import numpy_helper

        name = f"{self.name}/constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def blobs(self, least):
        held = self.weights.get(self.name, [])
        if len(held) < least:
            raise CaffeError(f"layer {self.name} has {len(held)} arrays in the caffemodel, {least} are needed")
        return held

    def model(self):
        """The whole as an ONNX model whose inputs are free in every axis."""
        from onnx import TensorProto, helper

        def free(name, rank):
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}_{axis}" for axis in range(rank)])

        rows = [free(name, len(shape)) for name, shape in self.inputs.items()]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self.outputs]
        graph = helper.make_graph(self.nodes, "caffe", rows, ends, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


# --- layers: each adds its nodes, of which the last is its top ------------------------------------------------------


def _one(held, key, default):
    return held.get(key, [default])[0]


def _ints(held, key):
    return [int(word) for word in held.get(key, [])]


def _said(layer, name):
    return layer.get(name + "_param", [{}])[0]


def _window(said, what, rank, default):
    """Sizes of a window, axis by axis: one for all, one each, or `what_h` and `what_w`."""
    sizes = _ints(said, "kernel_size" if what == "kernel" else what)
    if not sizes and rank == 2:
        sizes = [int(_one(said, f"{what}_{axis}", default)) for axis in "hw"]
    sizes = sizes or [default]
    return sizes * rank if len(sizes) == 1 else sizes


def convolution(graph, layer, fed, kind="Conv"):
    said = _said(layer, "convolution")
    filters, *bias = graph.blobs(1)
    rank = filters.ndim - 2
    pads = _window(said, "pad", rank, 0)
    graph.add(
        kind, fed, graph.constant(filters), *(graph.constant(array.reshape(-1)) for array in bias[:1]),
        kernel_shape=filters.shape[2:], strides=_window(said, "stride", rank, 1), pads=pads * 2,
        dilations=_window(said, "dilation", rank, 1), group=int(_one(said, "group", 1)),
    )  # fmt: skip


def pooling(graph, layer, fed):
    said = _said(layer, "pooling")
    most = _one(said, "pool", "MAX") == "MAX"
    if _one(said, "global_pooling", "false") == "true":
        graph.add("GlobalMaxPool" if most else "GlobalAveragePool", fed)
        return
    sizes = _window(said, "kernel", 2, 1)
    more = {} if most else {"count_include_pad": 1}
    more["ceil_mode"] = int(_one(said, "round_mode", "CEIL") == "CEIL")
    graph.add(
        "MaxPool" if most else "AveragePool", fed, kernel_shape=sizes, strides=_window(said, "stride", len(sizes), 1),
        pads=_window(said, "pad", len(sizes), 0) * 2, **more,
    )  # fmt: skip


def batch_norm(graph, layer, fed):
    mean, variance, factor = graph.blobs(3)[:3]
    part = 1 / factor.reshape(-1)[0] if factor.reshape(-1)[0] else 0.0
    rows = [np.ones_like(mean), np.zeros_like(mean), mean * part, variance * part]
    _normal(graph, fed, rows, float(_one(_said(layer, "batch_norm"), "eps", 1e-5)))


def bn(graph, layer, fed):
    _normal(graph, fed, graph.blobs(4)[:4], float(_one(_said(layer, "bn"), "eps", 1e-5)))


def _normal(graph, fed, rows, eps):
    constants = [graph.constant(row.reshape(-1).astype(np.float32)) for row in rows]
    return graph.add("BatchNormalization", fed, *constants, epsilon=eps)


def scale(graph, layer, fed):
    factor, *bias = graph.blobs(1)
    if int(_one(_said(layer, "scale"), "axis", 1)) != 1:
        raise CaffeError(f"layer {graph.name} of type Scale along another axis than 1")
    _scaled(graph, fed, factor, *bias[:1])


def _scaled(graph, fed, factor, shift=0.0):
    """x * factor + shift for each channel, whatever the rank; returns the output."""
    rows = [factor, np.zeros_like(factor) + shift, np.zeros_like(factor), np.ones_like(factor)]
    return _normal(graph, fed, rows, 0.0)


def inner_product(graph, layer, fed):
    said = _said(layer, "inner_product")
    rows, *bias = graph.blobs(1)
    width = int(said["num_output"][0])
    turned = _one(said, "transpose", "false") == "true"
    rows = rows.reshape(-1, width) if turned else rows.reshape(width, -1)
    flat = graph.add("Flatten", fed, axis=int(_one(said, "axis", 1)))
    constants = [graph.constant(rows), *(graph.constant(array.reshape(-1)) for array in bias[:1])]
    graph.add("Gemm", flat, *constants, transB=int(not turned))


def relu(graph, layer, fed):
    slope = float(_one(_said(layer, "relu"), "negative_slope", 0))
    graph.add("LeakyRelu", fed, alpha=slope) if slope else graph.add("Relu", fed)


def prelu(graph, layer, fed):
    (slope,) = graph.blobs(1)[:1]
    if slope.size == 1:  # one for all channels
        graph.add("PRelu", fed, graph.constant(slope.reshape(())))
        return
    below = _scaled(graph, graph.add("Relu", graph.add("Neg", fed)), slope)
    graph.add("Sub", graph.add("Relu", fed), below)


def mish(graph, layer, fed):
    graph.add("Mul", fed, graph.add("Tanh", graph.add("Softplus", fed)))


def eltwise(graph, layer, *fed):
    said = _said(layer, "eltwise")
    kind = {"PROD": "Mul", "SUM": "Add", "MAX": "Max"}[_one(said, "operation", "SUM")]
    factors = [np.float32(word) for word in said.get("coeff", [])]
    terms = [graph.add("Mul", term, graph.constant(factor)) for term, factor in zip(fed, factors)] or fed
    made = terms[0]
    for term in terms[1:]:
        made = graph.add(kind, made, term)


def axpy(graph, layer, factor, fed, other):
    graph.add("Add", graph.add("Mul", factor, fed), other)


def concat(graph, layer, *fed):
    said = _said(layer, "concat")
    graph.add("Concat", *fed, axis=int(_one(said, "axis", _one(said, "concat_dim", 1))))


def lrn(graph, layer, fed):
    said = _said(layer, "lrn")
    if _one(said, "norm_region", "ACROSS_CHANNELS") != "ACROSS_CHANNELS":
        raise CaffeError(f"layer {graph.name} of type LRN within channels")
    values = {
        "alpha": float(_one(said, "alpha", 1)),
        "beta": float(_one(said, "beta", 0.75)),
        "bias": float(_one(said, "k", 1)),
    }
    graph.add("LRN", fed, size=int(_one(said, "local_size", 5)), **values)


def normalize(graph, layer, fed):
    said = _said(layer, "norm")
    axes = [1, 2, 3] if _one(said, "across_spatial", "true") == "true" else [1]
    square = graph.add("Mul", fed, fed)
    total = graph.add("ReduceSum", square, graph.constant(np.int64(axes)), keepdims=1)
    length = graph.add("Sqrt", graph.add("Add", total, graph.constant(np.float32(_one(said, "eps", 1e-10)))))
    (factor,) = graph.blobs(1)[:1]
    unit = graph.add("Div", fed, length)
    graph.add("Mul", unit, graph.constant(factor.reshape(()))) if factor.size == 1 else _scaled(graph, unit, factor)


def reshape(graph, layer, fed):
    graph.add("Reshape", fed, graph.constant(np.int64(_ints(_said(layer, "reshape")["shape"][0], "dim"))))


def upsample(graph, layer, fed):
    factor = float(_one(_said(layer, "upsample"), "scale", 2))
    graph.add("Resize", fed, "", graph.constant(np.float32([1, 1, factor, factor])), mode="nearest",
              nearest_mode="floor", coordinate_transformation_mode="asymmetric")  # fmt: skip


LAYERS = {
    "convolution": convolution,
    "deconvolution": lambda graph, layer, fed: convolution(graph, layer, fed, "ConvTranspose"),
    "pooling": pooling, "batchnorm": batch_norm, "bn": bn, "scale": scale, "innerproduct": inner_product,
    "relu": relu, "prelu": prelu, "mish": mish, "eltwise": eltwise, "axpy": axpy, "concat": concat, "lrn": lrn,
    "normalize": normalize, "reshape": reshape, "upsample": upsample,
    "sigmoid": lambda graph, layer, fed: graph.add("Sigmoid", fed),
    "tanh": lambda graph, layer, fed: graph.add("Tanh", fed),
    "softmax": lambda graph, layer, fed: graph.add("Softmax", fed, axis=int(_one(_said(layer, "softmax"), "axis", 1))),
    "flatten": lambda graph, layer, fed: graph.add("Flatten", fed, axis=int(_one(_said(layer, "flatten"), "axis", 1))),
    "permute": lambda graph, layer, fed: graph.add("Transpose", fed, perm=_ints(_said(layer, "permute"), "order")),
    "dropout": lambda graph, layer, fed: graph.add("Identity", fed),
    "split": lambda graph, layer, fed: graph.add("Identity", fed),
}  # fmt: skip


def parsed(model, prototxt):
    """(ONNX model, {input: shape of the prototxt}, names of its outputs). Raises CaffeError."""
    try:
        graph = Graph(read_text(prototxt), weights_of(model))
        return graph.model(), graph.inputs, graph.outputs
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise CaffeError(f"{type(error).__name__}: {error}") from error
