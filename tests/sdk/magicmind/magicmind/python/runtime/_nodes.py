"""Networks that a program makes node by node: what each `add_i_*_node` becomes in the ONNX graph that is compiled.

Names and arguments are those of the vendor's Python samples (C: adapter_model of yolov5 and yolov7, decoder of
tacotron2); for nodes that no Python sample has, those of the C++ calls that ODLA's MagicMind platform makes (O, see
README.md), in the spelling of Python. Underscores inside a name do not count, because the Python spelling of
`AddIMaxPool2DNode` is not known."""

from __future__ import annotations

import numpy as np

from magicmind.python.common.types import DataType, get_numpy_dtype_by_datatype
from magicmind.python.runtime._base import injected, refused, status
from magicmind.python.runtime._kinds import (
    IActivation,
    IDetectionOutputAlgo,
    IElementwise,
    ILogic,
    IPaddingMode,
    IReduce,
    Layout,
)

OPSET = 13  # of a network that no parser filled


class Described:
    """What every node tells of itself: its name, type, inputs and outputs."""

    def get_node_name(self):
        return self._name

    def get_node_type(self):
        return self._type

    def get_input_count(self):
        return len(self._inputs)

    def get_output_count(self):
        return len(self._outputs)

    def get_input(self, i):
        return self._inputs[i]

    def get_output(self, i):
        return self._outputs[i]


class MadeNode(Described):
    """A node that a program added. Its setters are those of its kind; each answers a Status."""

    def __init__(self, network, kind, inputs, emit, count, settings):
        number = len(network.made)
        self._network, self._type, self._emit = network, kind, emit
        self.settings = dict(settings)
        self._name = f"main/{kind}_{number}"
        self._inputs = list(inputs)
        self._outputs = [network.node_tensor(f"{self._name}:{i}") for i in range(count)]

    def __getattr__(self, name):
        settings = self.__dict__.get("settings", {})
        if not name.startswith("set_") or name[4:] not in settings:
            raise AttributeError(f"I{self._type.title()}Node has no {name}")

        def put(*values):
            call = f"mm.INode.{name}"
            failed = injected(call)
            if failed:
                return failed
            settings[name[4:]] = values[0] if len(values) == 1 else values
            return status(call)

        return put

    def set_node_name(self, name):
        self._name = name
        return status("mm.INode.set_node_name")

    def set_precision(self, i, dtype):
        held = self._network.exact
        (held.add if dtype == DataType.FLOAT32 else held.discard)(self._inputs[i].key)
        return status("mm.INode.set_precision")

    def set_output_type(self, i, dtype):
        self._outputs[i].set_data_type(dtype).ok()
        return status("mm.INode.set_output_type")


class Graph:
    """Nodes and constants under way."""

    def __init__(self, network, model, opset):
        self.network, self.model, self.opset, self._count = network, model, opset, 0

    def _fresh(self, what):
        self._count += 1
        return f"{self.node_made._name}.{what}{self._count}"

    def value(self, values, dtype=np.int64):
        from onnx import numpy_helper

        name = self._fresh("value")
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def node(self, kind, inputs, outputs=None, **attributes):
        from onnx import helper

        outputs = outputs or [self._fresh(kind)]
        self.model.graph.node.append(helper.make_node(kind, inputs, outputs, name=self._fresh("node"), **attributes))
        return outputs[0]

    def out(self, kind, inputs, **attributes):
        return self.node(kind, inputs, [tensor.key for tensor in self.node_made._outputs], **attributes)

    def constant(self, tensor):
        """The values of a constant. Raises ValueError for another tensor: the compiler wants to know them."""
        for node in self.network.made:
            if node._type == "const" and node._outputs[0] is tensor:
                return node.settings["value"]
        raise ValueError(f"{tensor.name} is no constant")

    def wide(self, tensor):
        return self.node("Cast", [tensor.key], to=7)

    def axes(self, kind, source, axes, outputs=None, **more):
        """A node whose axes are an attribute in older opsets and an input in newer ones."""
        if self.opset >= 13:
            return self.node(kind, [source, self.value(axes)], outputs, **more)
        return self.node(kind, [source], outputs, axes=[int(axis) for axis in axes], **more)


def _const(node, g):
    from onnx import numpy_helper

    g.model.graph.initializer.append(numpy_helper.from_array(node.settings["value"], node._outputs[0].key))


def _permute(node, g):
    source, perm = node._inputs
    return g.out("Transpose", [source.key], perm=[int(axis) for axis in g.constant(perm).reshape(-1)])


def _turned(g, key, layout, back=False):
    """NHWC to NCHW or back."""
    if Layout(layout) != Layout.NHWC:
        return key
    return g.node("Transpose", [key], perm=[0, 2, 3, 1] if back else [0, 3, 1, 2])


def _placed(g, node, made, layout):
    return g.out("Identity", [_turned(g, made, layout, back=True)])


def _window(node):
    settings = node.settings
    found = {"strides": list(settings["stride"])}
    if IPaddingMode(settings["padding_mode"]) == IPaddingMode.SAME:
        found["auto_pad"] = "SAME_UPPER"
    elif IPaddingMode(settings["padding_mode"]) == IPaddingMode.EXPLICIT:
        top, bottom, left, right = settings["pad"]
        found["pads"] = [top, left, bottom, right]
    return found


def _conv(node, g):
    """Layouts of input, filter and output; NHWC unless said, so that a filter is (out, height, width, in)."""
    source, kernel, *bias = node._inputs
    given, of_kernel, made = node.settings["layout"]
    inputs = [_turned(g, source.key, given), _turned(g, kernel.key, of_kernel), *(tensor.key for tensor in bias)]
    window = dict(_window(node), dilations=list(node.settings["dilation"]), group=int(node.settings["group"]))
    return _placed(g, node, g.node("Conv", inputs, **window), made)


def _max_pool(node, g):
    given, made = node.settings["layout"]
    kernel = list(node.settings["kernel"])
    more = {"kernel_shape": kernel, "ceil_mode": int(node.settings["ceil_mode"])}
    return _placed(g, node, g.node("MaxPool", [_turned(g, node._inputs[0].key, given)], **_window(node), **more), made)


def _activation(node, g):
    return g.out(IActivation(node.settings["mode"]).name.title(), [node._inputs[0].key])


def _elementwise(node, g):
    kind = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul"}[IElementwise(node.settings["mode"]).name]
    return g.out(kind, [tensor.key for tensor in node._inputs])


def _logic(node, g):
    """Whole numbers may stand for truth, as in tacotron2; what comes out is BOOL."""
    word = ILogic(node.settings["mode"]).name
    keys = [tensor.key for tensor in node._inputs]
    if word in ("AND", "OR", "XOR", "NOT"):
        return g.out(word.title(), [g.node("Cast", [key], to=9) for key in keys])
    kind = {"EQ": "Equal", "NE": "Equal", "GT": "Greater", "GE": "GreaterOrEqual", "LT": "Less", "LE": "LessOrEqual"}[
        word
    ]
    if word == "NE":
        return g.out("Not", [g.node("Equal", keys)])
    return g.out(kind, keys)


def _cast(node, g):
    from magicmind.python.runtime._base import compiled

    name = np.dtype(get_numpy_dtype_by_datatype(node.settings["dtype"])).name
    return g.out("Cast", [node._inputs[0].key], to=compiled.element_type(name))


def _range(node, g):
    """Start, limit and step are tensors of one element."""
    scalars = [g.node("Reshape", [tensor.key, g.value(np.zeros(0))]) for tensor in node._inputs]
    return g.out("Range", scalars)


def _fill(node, g):
    shape, value = node._inputs
    whole = g.node("Reshape", [value.key, g.value(np.zeros(0))])
    return g.out("Expand", [whole, g.wide(shape)])


def _reduce(node, g):
    """MAX and MIN give indices as a second output, where there is one axis."""
    source, axis = node._inputs
    axes, keep = g.constant(axis).reshape(-1), int(bool(node.settings["keep_dims"]))
    word = IReduce(node.settings["mode"]).name
    first = node._outputs[0].key
    if word == "ADD":
        g.axes("ReduceSum", source.key, axes, [first], keepdims=keep)
    else:
        kind = {"MEAN": "ReduceMean", "MAX": "ReduceMax", "MIN": "ReduceMin", "MUL": "ReduceProd"}[word]
        g.node(kind, [source.key], [first], axes=[int(each) for each in axes], keepdims=keep)
    if len(node._outputs) > 1:
        places = g.node("ArgMax" if word == "MAX" else "ArgMin", [source.key], axis=int(axes[0]), keepdims=keep)
        g.node("Cast", [places], [node._outputs[1].key], to=6)


def _slice(node, g):
    """Begin and size along `axes`, or all of them; a size of -1 goes to the end."""
    source, begin, size, *axes = node._inputs
    flat = g.value([-1])
    first = g.node("Reshape", [g.wide(begin), flat])
    length = g.node("Reshape", [g.wide(size), flat])
    least = g.node("Less", [length, g.value([0])])
    end = g.node("Where", [least, g.value([np.iinfo(np.int64).max]), g.node("Add", [first, length])])
    return g.out("Slice", [source.key, first, end, *(g.node("Reshape", [g.wide(each), flat]) for each in axes)])


def _strided_slice(node, g):
    source, begin, end, stride, *axes = node._inputs
    chosen = [g.wide(axes[0])] if axes else [g.value(np.arange(len(g.constant(begin).reshape(-1))))]
    return g.out("Slice", [source.key, g.wide(begin), g.wide(end), *chosen, g.wide(stride)])


def _matmul(node, g):
    keys = []
    for tensor, word in zip(node._inputs, ("trans_a", "trans_b")):
        key = tensor.key
        if node.settings[word]:
            rank = len(tensor.get_dimension().GetDims())
            key = g.node("Transpose", [key], perm=[*range(rank - 2), rank - 1, rank - 2])
        keys.append(key)
    made = g.node("MatMul", keys)
    if len(node._inputs) > 2:
        made = g.node("Add", [made, node._inputs[2].key])
    return g.out("Identity", [made])


def _inner_product(node, g):
    source, weights, *bias = node._inputs
    flat = g.node("Flatten", [source.key], axis=int(node.settings["axis"]))
    return g.out("Gemm", [flat, weights.key, *(tensor.key for tensor in bias)])


def _batch_norm(node, g):
    source, mean, var, scale, offset = (tensor.key for tensor in node._inputs)
    return g.out("BatchNormalization", [source, scale, offset, mean, var], epsilon=float(node.settings["epsilon"]))


def _top_k(node, g):
    source, k = node._inputs
    wide = g._fresh("wide")
    more = {name: int(node.settings[name]) for name in ("axis", "largest", "sorted")}
    g.node("TopK", [source.key, g.node("Reshape", [g.wide(k), g.value([1])])], [node._outputs[0].key, wide], **more)
    g.node("Cast", [wide], [node._outputs[1].key], to=6)


def _with_axes(kind):
    def emit(node, g):
        source, axes = node._inputs
        return g.axes(kind, source.key, g.constant(axes).reshape(-1), [node._outputs[0].key])

    return emit


def _along(kind):
    """An axis that ONNX has as an attribute."""

    def emit(node, g):
        source, axis = node._inputs
        return g.out(kind, [source.key], axis=int(g.constant(axis).reshape(-1)[0]))

    return emit


def _concat(kind):
    def emit(node, g):
        axis, *tensors = node._inputs
        at, keys = int(g.constant(axis).reshape(-1)[0]), [tensor.key for tensor in tensors]
        if kind == "pack":
            keys = [g.axes("Unsqueeze", key, [at]) for key in keys]
        return g.out("Concat", keys, axis=at)

    return emit


def _gather(node, g):
    source, indices, axis = node._inputs
    return g.out("Gather", [source.key, indices.key], axis=int(g.constant(axis).reshape(-1)[0]))


def _pad(node, g):
    source, pads, *value = node._inputs
    before_after = g.constant(pads).reshape(-1, 2).T.reshape(-1)
    return g.out("Pad", [source.key, g.value(before_after), *(tensor.key for tensor in value)])


def _plain(kind, *wide, **attributes):
    """One ONNX operator; inputs at the places of `wide` become 64 bit, settings attributes."""

    def emit(node, g):
        keys = [g.wide(tensor) if i in wide else tensor.key for i, tensor in enumerate(node._inputs)]
        return g.out(kind, keys, **{key: node.settings[of] for key, of in attributes.items()})

    return emit


def _select(node, g):
    yes, no, condition = node._inputs
    return g.out("Where", [g.node("Cast", [condition.key], to=9), yes.key, no.key])


def _shape(node, g):
    return g.out("Cast", [g.node("Shape", [node._inputs[0].key])], to=6)


def _detection_output(node, g):
    """Computed behind the graph: see _detect.py."""
    g.network.detections.append(node)


WINDOW = {"stride": (1, 1), "pad": (0, 0, 0, 0), "padding_mode": IPaddingMode.EXPLICIT}
NHWC = Layout.NHWC
KINDS = {
    # name without underscores: (what it becomes, how many outputs, settings)
    "permute": (_permute, 1, {}),
    "conv": (_conv, 1, dict(WINDOW, dilation=(1, 1), group=1, layout=(NHWC, NHWC, NHWC))),
    "maxpool2d": (_max_pool, 1, dict(WINDOW, kernel=(1, 1), ceil_mode=False, layout=(NHWC, NHWC))),
    "range": (_range, 1, {}),
    "unsqueeze": (_with_axes("Unsqueeze"), 1, {}),
    "squeeze": (_with_axes("Squeeze"), 1, {}),
    "fill": (_fill, 1, {}),
    "slice": (_slice, 1, {}),
    "stridedslice": (_strided_slice, 1, {}),
    "matmul": (_matmul, 1, {"trans_a": False, "trans_b": False}),
    "innerproduct": (_inner_product, 1, {"axis": 1}),
    "fusedbatchnorm": (_batch_norm, 1, {"epsilon": 1e-5, "axis": 1}),
    "topk": (_top_k, 2, {"axis": -1, "largest": True, "sorted": True}),
    "softmax": (_along("Softmax"), 1, {}),
    "logsoftmax": (_along("LogSoftmax"), 1, {}),
    "gather": (_gather, 1, {}),
    "pad": (_pad, 1, {}),
    "select": (_select, 1, {}),
    "shape": (_shape, 1, {}),
    "reshape": (_plain("Reshape", 1), 1, {}),
    "tile": (_plain("Tile", 1), 1, {}),
    "clip": (_plain("Clip"), 1, {}),
    "leakyrelu": (_plain("LeakyRelu", alpha="negative_slope"), 1, {"negative_slope": 0.01}),
    **{
        word.lower(): (_plain(kind), 1, {})
        for word, kind in {
            "Div": "Div", "Pow": "Pow", "Maximum": "Max", "Minimum": "Min", "Reciprocal": "Reciprocal", "Sqrt": "Sqrt",
            "Floor": "Floor", "Exp": "Exp", "Abs": "Abs", "Identity": "Identity",
        }.items()
    },
}  # fmt: skip
DETECTION = {
    "algo": IDetectionOutputAlgo.YOLOV3, "confidence_thresh": 0.0, "nms_thresh": 0.45, "scale": 1.0, "num_coord": 4,
    "num_class": 80, "num_entry": 5, "num_anchor": 3, "num_box_limit": 256, "image_shape": (416, 416),
    "layout": (Layout.NONE, Layout.NONE), "nms_type": 0,
}  # fmt: skip


class Adding:
    """The `add_i_*_node` of a Network."""

    def __getattr__(self, name):
        kind = name[6:-5].replace("_", "") if name.startswith("add_i_") and name.endswith("_node") else ""
        if kind not in KINDS:
            raise AttributeError(f"'Network' object has no attribute {name!r}")
        emit, count, settings = KINDS[kind]
        return lambda *tensors: self._add(kind, [each for each in tensors if each is not None], emit, count, settings)

    def _add(self, kind, inputs, emit, count=1, settings=None):
        if refused(f"mm.Network.add_i_{kind}_node"):
            return None
        made = MadeNode(self, kind, inputs, emit, count, settings or {})
        self.made.append(made)
        return made

    def add_i_const_node(self, dtype, dimensions, value):
        """Values of another type are cast: a sample gives float64 for FLOAT32."""
        held = np.ascontiguousarray(np.asarray(value).astype(get_numpy_dtype_by_datatype(dtype)))
        held = held.reshape(dimensions.GetDims())
        made = self._add("const", [], _const, settings={"value": held})
        made.settings, made.value = {"value": held}, held
        made._outputs[0].set_dimension(dimensions).ok()
        made._outputs[0].set_data_type(dtype).ok()
        made._outputs[0].own_dtype = dtype
        return made

    def add_i_activation_node(self, input, mode):
        return self._add("activation", [input], _activation, settings={"mode": mode})

    def add_i_elementwise_node(self, one, other, mode):
        return self._add("elementwise", [one, other], _elementwise, settings={"mode": mode})

    def add_i_logic_node(self, one, *rest):
        *others, mode = rest
        return self._add("logic", [one, *others], _logic, settings={"mode": mode})

    def add_i_cast_node(self, input, dtype):
        return self._add("cast", [input], _cast, settings={"dtype": dtype})

    def add_i_reduce_node(self, input, axis, mode, keep_dims):
        count = 2 if IReduce(mode).name in ("MAX", "MIN") else 1
        return self._add("reduce", [input, axis], _reduce, count, {"mode": mode, "keep_dims": keep_dims})

    def add_i_concat_node(self, axis, tensors):
        return self._add("concat", [axis, *tensors], _concat("concat"))

    def add_i_pack_node(self, axis, tensors):
        return self._add("pack", [axis, *tensors], _concat("pack"))

    def add_i_detection_output_node(self, tensors, anchors):
        """Boxes of YOLO heads in NHWC; two outputs, the boxes and how many there are."""
        return self._add("detection_output", [*tensors, anchors], _detection_output, 2, DETECTION)


__all__ = ["OPSET", "Adding", "Graph", "MadeNode"]
