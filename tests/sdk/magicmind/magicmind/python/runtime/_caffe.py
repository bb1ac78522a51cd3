"""A Caffe network, its prototxt and its caffemodel, as an ONNX graph: the layers that the vendor's samples are made of.

Rests on caffe.proto and the layers' definitions of BVLC/caffe, and on the forks whose networks the samples convert:
`Axpy`, `Upsample`, `Mish` and `BN` of SENet, YOLOv3, YOLOv4 and GoogLeNet-BN; `Normalize`, `Permute`, `PriorBox` and
`DetectionOutput` of weiliu89/caffe (branch ssd); the second top of `Pooling`, `Upsample` by it and `BN` of two arrays
of alexgkendall/caffe-segnet; `Convolution3D` and `Pooling3D` of facebook/C3D (v1.1).
"""

from __future__ import annotations

import inspect
import re
import struct

import numpy as np

WORD = re.compile(r"""#[^\n]*|"[^"]*"|'[^']*'|[{}]|[^\s{}:;,"'#]+""")
FLOAT, INT64 = 1, 7  # element types of onnx.proto
NOTHING = np.float32(-np.inf)  # a score that is none
SEVERAL = ("split", "pooling")  # kinds of layers that may have several tops


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
        self.weights, self.nodes, self.constants, self.inputs, self.ranks = weights, [], [], {}, {}
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
            if kind not in LAYERS or unknown or (len(tops) > 1 and kind not in SEVERAL):
                raise CaffeError(
                    f"layer {name} of type {layer['type'][0]}" + (f": no blob {unknown[0]}" if unknown else "")
                )
            read = (read | set(bottoms)) - set(tops)
            for self.place, top in enumerate(tops):
                self.name = name
                self._takes(kind, layer, bottoms)
                LAYERS[kind](self, layer, *(now[bottom] for bottom in bottoms))
                self.nodes[-1].output[0] = top if writers[top] is layer else f"{top}/{name}"
            now.update({top: top if writers[top] is layer else f"{top}/{name}" for top in tops})
        self.outputs = [name for name in now if name not in read and name not in self.inputs]

    def _takes(self, kind, layer, bottoms):
        """Raises CaffeError for another number of bottoms than the layer takes."""
        taken = list(inspect.signature(LAYERS[kind]).parameters.values())[2:]
        named = [each for each in taken if each.kind == each.POSITIONAL_OR_KEYWORD]
        least = sum(each.default is each.empty for each in named)
        most = np.inf if any(each.kind == each.VAR_POSITIONAL for each in taken) else len(named)
        if not least <= len(bottoms) <= most:
            text = (
                f"{least} or more are"
                if most == np.inf
                else f"{least} or {most} are"
                if least < most
                else f"{least} is"
            )
            raise CaffeError(
                f"layer {layer['name'][0]} of type {layer['type'][0]} with {len(bottoms)} bottoms: {text} read"
            )

    def rank(self, tensor):
        """How many axes a tensor has that the nodes so far make."""
        if tensor in self.inputs:
            return len(self.inputs[tensor])
        found = [value for value in self.model([tensor]).graph.output if value.type.tensor_type.HasField("shape")]
        if not found:
            raise CaffeError(f"layer {self.name}: how many axes {tensor} has is not known before it is computed")
        return len(found[0].type.tensor_type.shape.dim)

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

    def model(self, outputs):
        """The nodes as an ONNX model whose inputs are free in every axis."""
        from onnx import helper, shape_inference

        def free(name, rank):
            return helper.make_tensor_value_info(name, FLOAT, [f"{name}_{axis}" for axis in range(rank)])

        rows = [free(name, len(shape)) for name, shape in self.inputs.items()]
        ends = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
        known = [helper.make_tensor_value_info(name, FLOAT, [None] * rank) for name, rank in self.ranks.items()]
        graph = helper.make_graph(self.nodes, "caffe", rows, ends, self.constants, value_info=known)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        return shape_inference.infer_shapes(model, data_prop=True)  # a layout can be turned where the rank is known


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


def convolution(graph, layer, fed, *, kind="Conv"):
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
    whole = _one(said, "global_pooling", "false") == "true"
    if graph.place and (whole or not most):
        raise CaffeError(f"layer {graph.name} of type Pooling: a second top of another than the largest of windows")
    if whole:
        graph.add("GlobalMaxPool" if most else "GlobalAveragePool", fed)
        return
    sizes = _window(said, "kernel", 2, 1)
    more = {} if most else {"count_include_pad": 1}
    more["ceil_mode"] = int(_one(said, "round_mode", "CEIL") == "CEIL")
    pads = _window(said, "pad", len(sizes), 0)
    if len(sizes) == 3 and any(pads):  # C3D keeps windows that lie in the padding alone
        raise CaffeError(f"layer {graph.name} of type {layer['type'][0]} of three axes with padding")
    made = graph.add(
        "MaxPool" if most else "AveragePool", fed, kernel_shape=sizes, strides=_window(said, "stride", len(sizes), 1),
        pads=pads * 2, **more,
    )  # fmt: skip
    if graph.place:  # where in its plane each value was found, as a float
        graph.nodes[-1].output.append(f"{made}/mask")
        plane = graph.add("ReduceProd", _part(graph, graph.add("Shape", fed), 2, 4), keepdims=0)
        graph.add("Cast", graph.add("Mod", f"{made}/mask", plane), to=FLOAT)


def _part(graph, tensor, start, end, axis=0):
    return graph.add("Slice", tensor, *(graph.constant(np.int64([at])) for at in (start, end, axis)))


def _deep(layer, kind):
    """A layer of C3D as one of three axes: what it says of depth stands apart there, and it has no groups."""
    said = layer.get(f"{kind}3d_param", [{}])[0]
    rows = {"kernel_size": ("kernel_depth", 1), "stride": ("temporal_stride", 1), "pad": ("temporal_pad", 0)}
    sizes = {key: [_one(said, deep, least), *[_one(said, key, least)] * 2] for key, (deep, least) in rows.items()}
    return dict(layer, **{f"{kind}_param": [dict(said, group=[1], **sizes)]})


def batch_norm(graph, layer, fed):
    mean, variance, factor = graph.blobs(3)[:3]
    part = 1 / factor.reshape(-1)[0] if factor.reshape(-1)[0] else 0.0
    rows = [np.ones_like(mean), np.zeros_like(mean), mean * part, variance * part]
    _normal(graph, fed, rows, float(_one(_said(layer, "batch_norm"), "eps", 1e-5)))


def bn(graph, layer, fed):
    said = _said(layer, "bn")
    if _one(said, "bn_mode", "LEARN") == "INFERENCE":  # SegNet's: the statistics are in factor and shift
        _scaled(graph, fed, *graph.blobs(2)[:2])
        return
    _normal(graph, fed, graph.blobs(4)[:4], float(_one(said, "eps", 1e-5)))


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


def eltwise(graph, layer, first, second, *more):
    said, fed = _said(layer, "eltwise"), (first, second, *more)
    kind = {"PROD": "Mul", "SUM": "Add", "MAX": "Max"}[_one(said, "operation", "SUM")]
    factors = [np.float32(word) for word in said.get("coeff", [])]
    terms = [graph.add("Mul", term, graph.constant(factor)) for term, factor in zip(fed, factors)] or fed
    made = terms[0]
    for term in terms[1:]:
        made = graph.add(kind, made, term)


def axpy(graph, layer, factor, fed, other):
    graph.add("Add", graph.add("Mul", factor, fed), other)


def concat(graph, layer, first, *more):
    said = _said(layer, "concat")
    graph.add("Concat", first, *more, axis=int(_one(said, "axis", _one(said, "concat_dim", 1))))


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


def flatten(graph, layer, fed):
    said = _said(layer, "flatten")
    axis = int(_one(said, "axis", 1))
    if axis < 0 or int(_one(said, "end_axis", -1)) != -1:
        raise CaffeError(f"layer {graph.name} of type Flatten with an axis from the end, or an end")
    graph.add("Reshape", fed, graph.constant(np.int64([0] * axis + [-1])))


def permute(graph, layer, fed):
    order, axes = _ints(_said(layer, "permute"), "order"), range(graph.rank(fed))
    if len(set(order)) != len(order) or not set(order).issubset(axes):
        raise CaffeError(f"layer {graph.name} of type Permute: order {order} for {len(axes)} axes")
    graph.add("Transpose", fed, perm=[*order, *(axis for axis in axes if axis not in order)])


def upsample(graph, layer, fed, mask=None):
    if mask is not None:
        unpooling(graph, _said(layer, "upsample"), fed, mask)
        return
    factor = float(_one(_said(layer, "upsample"), "scale", 2))
    graph.add("Resize", fed, "", graph.constant(np.float32([1, 1, factor, factor])), mode="nearest",
              nearest_mode="floor", coordinate_transformation_mode="asymmetric")  # fmt: skip


def unpooling(graph, said, fed, mask):
    """Each value at the place of its plane that the mask says, 0 elsewhere."""
    factors = [int(_one(said, f"scale_{axis}", _one(said, "scale", 2))) for axis in "hw"]
    less = [int(_one(said, f"pad_out_{axis}", "false") == "true") for axis in "hw"]
    sizes = graph.add("Shape", fed)
    if "upsample_h" in said:
        plane = graph.constant(np.int64([int(said[f"upsample_{axis}"][0]) for axis in "hw"]))
    else:
        plane = graph.add("Mul", _part(graph, sizes, 2, 4), graph.constant(np.int64(factors)))
        plane = graph.add("Sub", plane, graph.constant(np.int64(less)))
    rows, whole = _part(graph, sizes, 0, 2), graph.constant(np.int64([0, 0, -1]))
    flat = graph.add("Concat", rows, graph.add("ReduceProd", plane, keepdims=1), axis=0)
    where = graph.add("Cast", graph.add("Reshape", mask, whole), to=INT64)
    empty = graph.add("Expand", graph.constant(np.float32(0)), flat)
    filled = graph.add("ScatterElements", empty, where, graph.add("Reshape", fed, whole), axis=2)
    planes = graph.add("Reshape", filled, graph.add("Concat", rows, plane, axis=0))
    graph.ranks[planes] = 4  # which no inference finds
    graph.add("Identity", planes)


def _prior_sizes(said):
    """(P, 2) widths and heights in pixels of the boxes of one cell, in their order."""
    ratios = [1.0]
    for ratio in map(float, said.get("aspect_ratio", [])):
        if all(abs(ratio - other) >= 1e-6 for other in ratios):
            ratios += [ratio, 1 / ratio] if _one(said, "flip", "true") == "true" else [ratio]
    least, most = ([int(float(word)) for word in said.get(key, [])] for key in ("min_size", "max_size"))
    sizes = []
    for i, low in enumerate(least):  # whole numbers: a fraction is cut off
        sizes += [(low, low)] + [((low * most[i]) ** 0.5,) * 2 for _ in most[:1]]
        sizes += [(low * ratio**0.5, low / ratio**0.5) for ratio in ratios[1:]]
    return np.float32(sizes)


def prior_box(graph, layer, fed, picture):
    """(1, 2, 4 H W P): the corners of P boxes for each cell of `fed`, as parts of the picture; then their variances."""
    said, sizes = _said(layer, "prior_box"), _prior_sizes(_said(layer, "prior_box"))
    cells, pixels = (graph.add("Cast", graph.add("Shape", tensor), to=FLOAT) for tensor in (fed, picture))
    made = []
    for axis, letter, shape in ((3, "w", [1, -1, 1, 1]), (2, "h", [-1, 1, 1, 1])):
        count, whole = (graph.add("Squeeze", _part(graph, each, axis, axis + 1)) for each in (cells, pixels))
        whole = _told(graph, said, (f"img_{letter}", "img_size"), whole)
        step = _told(graph, said, (f"step_{letter}", "step"), graph.add("Div", whole, count))
        at = graph.add("Range", *(graph.constant(np.float32(0)), count, graph.constant(np.float32(1))))
        centre = graph.add("Mul", graph.add("Add", at, graph.constant(np.float32(_one(said, "offset", 0.5)))), step)
        half = np.outer(sizes[:, "wh".index(letter)], [-0.5, 0.5]).astype(np.float32)
        corners = graph.add("Add", graph.add("Reshape", centre, graph.constant(np.int64(shape))), graph.constant(half))
        made.append(graph.add("Div", corners, whole))  # (1, W, P, 2) or (H, 1, P, 2)
    zero = graph.add("Mul", graph.add("Add", *made), graph.constant(np.float32(0)))
    last = graph.constant(np.int64([4]))
    boxes = graph.add("Concat", *(graph.add("Unsqueeze", graph.add("Add", each, zero), last) for each in made), axis=4)
    if _one(said, "clip", "false") == "true":
        boxes = graph.add("Clip", boxes, graph.constant(np.float32(0)), graph.constant(np.float32(1)))
    variance = np.float32(said.get("variance", [0.1])) * np.ones(4, np.float32)
    spread = graph.add("Add", graph.add("Unsqueeze", zero, last), graph.constant(variance.reshape(2, 2)))
    flat = graph.constant(np.int64([1, 1, -1]))
    graph.add("Concat", *(graph.add("Reshape", each, flat) for each in (boxes, spread)), axis=1)


def _told(graph, said, keys, found):
    words = [word for key in keys for word in said.get(key, [])]
    return graph.constant(np.float32(words[0])) if words else found


def detection_output(graph, layer, moves, scores, priors):
    """(boxes, 7): image, class, score and corners as parts of the picture, image by image and class by class, the best
    first; where no image has any, a row of -1 for each of them behind its number."""
    said = _said(layer, "detection_output")
    nms = _one(said, "nms_param", {})
    rows = (("share_location", "true", "true"), ("code_type", "CORNER", "CENTER_SIZE"),
            ("variance_encoded_in_target", "false", "false"))  # fmt: skip
    other = [key for key, default, taken in rows if _one(said, key, default) != taken]
    if other or float(_one(nms, "eta", 1)) != 1:
        raise CaffeError(f"layer {graph.name} of type DetectionOutput with another {(*other, 'eta')[0]}")
    boxes, classes = _decoded(graph, moves, priors), int(said["num_classes"][0])
    scores = graph.add("Reshape", scores, graph.constant(np.int64([0, -1, classes])))
    scores = graph.add("Transpose", scores, perm=[0, 2, 1])  # (N, classes, P)
    real = np.arange(classes).reshape(-1, 1) != int(_one(said, "background_label_id", 0))
    looked = graph.add("Where", graph.constant(real), scores, graph.constant(NOTHING))
    looked = _best(graph, looked, int(_one(nms, "top_k", -1)))
    limits = (np.int64([2**31 - 1]), np.float32([_one(nms, "nms_threshold", 0.3)]),
              np.float32([_one(said, "confidence_threshold", np.finfo(np.float32).min)]))  # fmt: skip
    kept = graph.add("NonMaxSuppression", boxes, looked, *(graph.constant(limit) for limit in limits))
    most = int(_one(said, "keep_top_k", -1))
    if most >= 0:
        sizes = graph.add("Shape", looked)
        empty = graph.add("Expand", graph.constant(NOTHING), sizes)
        grid = graph.add("ScatterND", empty, kept, graph.add("GatherND", looked, kept))
        grid = _best(graph, graph.add("Reshape", grid, graph.constant(np.int64([0, -1]))), most)
        found = graph.add("GatherND", graph.add("Reshape", grid, sizes), kept)
        kept = graph.add("Compress", kept, graph.add("Greater", found, graph.constant(NOTHING)), axis=0)
    owner = graph.add("Cast", _part(graph, kept, 0, 2, 1), to=FLOAT)  # image and class
    score = graph.add("Unsqueeze", graph.add("GatherND", looked, kept), graph.constant(np.int64([1])))
    corners = graph.add("GatherND", boxes, graph.add("Gather", kept, graph.constant(np.int64([0, 2])), axis=1))
    _rows_or_none(graph, graph.add("Concat", owner, score, corners, axis=1), looked)


def _decoded(graph, moves, priors):
    """(N, P, 4) corners: centres moved by parts of a prior box, sizes by an exponent, both times its variance."""
    priors = graph.add("Reshape", priors, graph.constant(np.int64([2, -1, 4])))
    box, variance = (graph.add("Gather", priors, graph.constant(np.int64(i)), axis=0) for i in (0, 1))
    low, high = _part(graph, box, 0, 2, 1), _part(graph, box, 2, 4, 1)
    size, middle = graph.add("Sub", high, low), graph.add("Mean", low, high)
    moves = graph.add("Mul", graph.add("Reshape", moves, graph.constant(np.int64([0, -1, 4]))), variance)
    centre = graph.add("Add", graph.add("Mul", _part(graph, moves, 0, 2, 2), size), middle)
    half = graph.add("Mul", graph.add("Mul", graph.add("Exp", _part(graph, moves, 2, 4, 2)), size),
                     graph.constant(np.float32(0.5)))  # fmt: skip
    return graph.add("Concat", graph.add("Sub", centre, half), graph.add("Add", centre, half), axis=2)


def _best(graph, scores, most):
    """`scores` with `NOTHING` in place of all but the `most` best of the last axis, the first of equals; -1: none."""
    if most < 0:
        return scores
    sizes = graph.add("Shape", scores)
    count = graph.add("Min", graph.constant(np.int64([most])), _part(graph, sizes, -1, 1 << 31))
    values = graph.add("TopK", scores, count)
    graph.nodes[-1].output.append(f"{values}/where")
    empty = graph.add("Expand", graph.constant(NOTHING), sizes)
    return graph.add("ScatterElements", empty, f"{values}/where", values, axis=-1)


def _rows_or_none(graph, rows, looked):
    """The rows of boxes, or where there is none one for each image."""
    images, count = _part(graph, graph.add("Shape", looked), 0, 1), _part(graph, graph.add("Shape", rows), 0, 1)
    stop = graph.add("Squeeze", graph.add("Cast", images, to=FLOAT))
    numbers = graph.add("Range", graph.constant(np.float32(0)), stop, graph.constant(np.float32(1)))
    numbers = graph.add("Unsqueeze", numbers, graph.constant(np.int64([1])))
    shape = graph.add("Concat", images, graph.constant(np.int64([6])), axis=0)
    none = graph.add("Concat", numbers, graph.add("Expand", graph.constant(np.float32(-1)), shape), axis=1)
    end = graph.add("Where", graph.add("Equal", count, graph.constant(np.int64([0]))), images, count)
    start = graph.constant(np.int64([0]))
    held = graph.add("Slice", graph.add("Concat", rows, none, axis=0), start, end, start)
    graph.add("Reshape", held, graph.constant(np.int64([-1, 7])))


LAYERS = {
    "convolution": convolution,
    "convolution3d": lambda graph, layer, fed: convolution(graph, _deep(layer, "convolution"), fed),
    "pooling3d": lambda graph, layer, fed: pooling(graph, _deep(layer, "pooling"), fed),
    "priorbox": prior_box, "detectionoutput": detection_output, "flatten": flatten,
    "deconvolution": lambda graph, layer, fed: convolution(graph, layer, fed, kind="ConvTranspose"),
    "pooling": pooling, "batchnorm": batch_norm, "bn": bn, "scale": scale, "innerproduct": inner_product,
    "relu": relu, "prelu": prelu, "mish": mish, "eltwise": eltwise, "axpy": axpy, "concat": concat, "lrn": lrn,
    "normalize": normalize, "reshape": reshape, "upsample": upsample,
    "sigmoid": lambda graph, layer, fed: graph.add("Sigmoid", fed),
    "tanh": lambda graph, layer, fed: graph.add("Tanh", fed),
    "softmax": lambda graph, layer, fed: graph.add("Softmax", fed, axis=int(_one(_said(layer, "softmax"), "axis", 1))),
    "permute": permute,
    "dropout": lambda graph, layer, fed: graph.add("Identity", fed),
    "split": lambda graph, layer, fed: graph.add("Identity", fed),
}  # fmt: skip


def parsed(model, prototxt):
    """(ONNX model, {input: shape of the prototxt}, names of its outputs). Raises CaffeError."""
    try:
        graph = Graph(read_text(prototxt), weights_of(model))
        return graph.model(graph.outputs), graph.inputs, graph.outputs
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise CaffeError(f"{type(error).__name__}: {error}") from error
