"""Networks that a program builds layer by layer: what each `add_*` makes of the ONNX graph that is compiled.

Names and order of arguments: python/src/infer/pyGraph.cpp. Settings of a layer (`stride_nd`, `axes`, ...) may change
until the network is built, so that a layer becomes ONNX nodes only then."""

from __future__ import annotations

import ctypes

import numpy as np
from simulated_gpu import compiled, gpu

from tensorrt import _loops, _plugins
from tensorrt._kinds import (
    LAYERS,
    NUMPY,
    DataType,
    Dims,
    LayerType,
    Severity,
    TensorLocation,
    enumerated,
    kind_of,
    removed_in,
    until,
)

OPSET = 17  # of a network that no parser filled


ActivationType = enumerated(
    "ActivationType",
    "RELU SIGMOID TANH LEAKY_RELU ELU SELU SOFTSIGN SOFTPLUS CLIP HARD_SIGMOID SCALED_TANH THRESHOLDED_RELU GELU_ERF "
    "GELU_TANH",
)
ElementWiseOperation = enumerated(
    "ElementWiseOperation", "SUM PROD MAX MIN SUB DIV POW FLOOR_DIV AND OR XOR EQUAL GREATER LESS"
)
UnaryOperation = enumerated(
    "UnaryOperation",
    "EXP LOG SQRT RECIP ABS NEG SIN COS TAN SINH COSH ASIN ACOS ATAN ASINH ACOSH ATANH CEIL FLOOR ERF NOT SIGN ROUND "
    "ISINF ISNAN",
)
ReduceOperation = enumerated("ReduceOperation", "SUM PROD MAX MIN AVG NONE")
PoolingType = enumerated("PoolingType", "MAX AVERAGE MAX_AVERAGE_BLEND")
MatrixOperation = enumerated("MatrixOperation", "NONE TRANSPOSE VECTOR")
TopKOperation = enumerated("TopKOperation", "MAX MIN")
ScaleMode = enumerated("ScaleMode", "UNIFORM CHANNEL ELEMENTWISE")
PaddingMode = enumerated("PaddingMode", "EXPLICIT_ROUND_DOWN EXPLICIT_ROUND_UP SAME_UPPER SAME_LOWER")
InterpolationMode = enumerated("InterpolationMode", "NEAREST LINEAR CUBIC")
WeightsRole = enumerated("WeightsRole", "KERNEL BIAS SHIFT SCALE CONSTANT ANY")


class Weights:
    """Values of a layer: an array, a data type alone (none), or a data type, an address and a count."""

    def __init__(self, a=None, ptr=None, count=0):
        self._array = np.zeros(0, np.float32) if a is None else None
        self.dtype, self._address, self.size = DataType.FLOAT, ptr, count
        if isinstance(a, DataType):
            self.dtype = a
            self._array = np.zeros(0, NUMPY[a]) if not count else None
        elif a is not None:
            self._array = np.ascontiguousarray(a)
            self.dtype, self.size = kind_of(self._array.dtype), self._array.size

    nbytes = property(lambda self: self.size * self.dtype.itemsize)

    def __len__(self):
        return self.size

    def numpy(self):
        """The values, flat: of an address, those of the GPU or of this process."""
        if self._array is not None:
            return self._array.reshape(-1)
        found = gpu.find(int(self._address), self.nbytes, "weights")
        if found is not None:
            item, offset = found
            data = item.data[offset : offset + self.nbytes].tobytes()
        else:
            data = ctypes.string_at(int(self._address), self.nbytes)
        return np.frombuffer(data, NUMPY[self.dtype])


def values_of(weights):
    """A flat array, or None for weights that are not there."""
    if weights is None:
        return None
    held = weights.numpy() if isinstance(weights, Weights) else np.asarray(weights).reshape(-1)
    return held if held.size else None


class NetworkTensor:
    """ITensor. `key` is its name in the graph, `name` what a program may have renamed it to."""

    def __init__(self, key, dtype, shape, network=None):
        self.key = self.name = key
        self._dtype = None if dtype is None else kind_of(dtype)
        self._shape = None if shape is None else tuple(shape)
        self._network = network
        self.dynamic_range = None
        self.allowed_formats = 1
        self._axes = {}

    def _learn(self):
        if self._shape is None or self._dtype is None:
            dtype, shape = self._network.inferred(self.key)
            self._dtype = self._dtype or kind_of(dtype)
            return shape if self._shape is None else self._shape
        return self._shape

    @property
    def shape(self):
        return Dims(self._learn())

    @shape.setter
    def shape(self, shape):
        self._shape = tuple(shape)
        self._network.resized(self)

    @property
    def dtype(self):
        self._learn()
        return self._dtype

    @dtype.setter
    def dtype(self, dtype):
        self._dtype = dtype

    def set_dynamic_range(self, min, max):
        self.dynamic_range = (min, max)
        return True

    def reset_dynamic_range(self):
        self.dynamic_range = None

    location = TensorLocation.DEVICE
    broadcast_across_batch = is_shape_tensor = False
    is_execution_tensor = True

    def get_dimension_name(self, index):
        return self._axes.get(index)

    def set_dimension_name(self, index, name):
        self._axes[index] = name

    is_network_input = property(lambda self: any(self is tensor for tensor in self._network.inputs))
    is_network_output = property(lambda self: any(self is tensor for tensor in self._network.outputs))


class Layer:
    """ILayer: a node that a parser made. `precision` HALF keeps it out of INT8, and FLOAT, where the builder is told to
    heed it, in FP32."""

    def __init__(self, network, node):
        self._network = network
        self.name = node.name or node.output[0]
        self.type = LayerType[LAYERS.get(node.op_type, "OTHER")]
        self.makes = node.output[0]
        self._inputs, self._outputs = [name for name in node.input if name], list(node.output)
        self.forced, self.metadata, self._types = None, "", {}

    def _rename(self, name):
        self._name = name

    name = property(lambda self: self._name, _rename)
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))

    def get_input(self, index):
        """None where there is none, such as before one that a program set."""
        key = self._inputs[index] if index < len(self._inputs) else None
        return None if key is None else self._network.tensor(key)

    def get_output(self, index):
        return self._network.tensor(self._outputs[index]) if index < len(self._outputs) else None

    num_ranks = 1

    def set_output_type(self, index, dtype):
        """Kept; outputs are rounded where the precision says so."""
        self._types[index] = dtype

    def get_output_type(self, index):
        return self._types.get(index, self.get_output(index).dtype)

    def output_type_is_set(self, index):
        return index in self._types

    def reset_output_type(self, index):
        self._types.pop(index, None)

    def set_input(self, index, tensor):
        raise RuntimeError("layers of a parser keep their inputs in this simulator")

    def _force(self, dtype):
        self.forced = dtype

    precision = property(lambda self: DataType.FLOAT if self.forced is None else self.forced, _force)
    precision_is_set = property(lambda self: self.forced is not None)

    def reset_precision(self):
        self.forced = None


class _OfType(type):
    """A class of one type of layer, such as IConvolutionLayer."""

    def __instancecheck__(cls, layer):
        return type(layer) is cls or getattr(layer, "type", None) == cls.TYPE

    def __subclasscheck__(cls, other):
        return other is cls


_classes = {}


def layer_class(name):
    """IConvolutionLayer and its like; None for a name of no layer. Programs ask isinstance, or assign __class__."""
    word = name[1:-5].lower().removeprefix("if") if name[:1] == "I" and name[-5:] == "Layer" else ""
    kinds = {kind.name.replace("_", "").lower(): kind for kind in LayerType}
    if word not in kinds:
        return None
    if name not in _classes:
        _classes[name] = _OfType(name, (MadeLayer,), {"TYPE": kinds[word]})
    return _classes[name]


class MadeLayer(Layer):
    """A layer that a program added: `emit(layer, g)` adds its nodes to graph `g` when the network is built. Settings
    are those given to `add_*` and those of its class (python/src/infer/pyGraph.cpp); another one is an error."""

    def __init__(self, network, kind, inputs, emit, count=1, **settings):
        number = len(network.made)
        word = "ElementWise" if kind == "ELEMENTWISE" else kind.title().replace("_", "")
        object.__setattr__(self, "_settings", settings)
        self._network, self._emit = network, emit
        self.name = f"(Unnamed Layer* {number}) [{word}]"
        if "type" not in settings:  # of an activation or pooling it says which
            self.type = LayerType[kind] if kind in LayerType.__members__ else LayerType.OTHER
        self._inputs = [tensor.key for tensor in inputs]
        self._outputs = [f"{self.name}_output" + (f"_{i}" if i else "") for i in range(count)]
        self.makes = self._outputs[0]
        self.forced, self.metadata, self._types = None, "", {}

    def __getattr__(self, name):
        settings = object.__getattribute__(self, "_settings")
        if name not in settings:
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        return settings[name]

    def __setattr__(self, name, value):
        settings = self._settings
        if isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, name, value)
        elif name in settings:
            settings[name] = value
        elif name.startswith("_") or name in (
            "name",
            "type",
            "makes",
            "forced",
            "metadata",
            "num_ranks",
        ):
            object.__setattr__(self, name, value)
        else:
            raise AttributeError(f"a layer of type {self.type} has no setting {name}")

    def set_input(self, index, tensor):
        self._inputs += [None] * (index + 1 - len(self._inputs))
        self._inputs[index] = tensor.key


class Graph:
    """Nodes and constants under way; `value` adds a constant, `node` an operator."""

    def __init__(self, model, layer, opset):
        self._model, self._layer, self.opset, self._count = model, layer, opset, 0

    def _named(self, what):
        self._count += 1
        return f"{self._layer.name}.{what}{self._count}"

    def value(self, values, what="value", dtype=None):
        """The name of a constant; kernels and biases bear the layer's name and a role, which refitting knows."""
        from onnx import numpy_helper

        name = f"{self._layer.name} {what.upper()}" if what in ("kernel", "bias", "constant") else self._named(what)
        name = next((given for weights, given in self._layer._network.named if _same_memory(weights, values)), name)
        array = np.asarray(values, dtype, order="C")  # which leaves a single number one
        self._model.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def node(self, kind, inputs, outputs=None, **attributes):
        """The name of the (first) output of a node; its own when it makes the layer's output."""
        from onnx import helper

        outputs = outputs or [self._named(kind)]
        made = helper.make_node(kind, inputs, outputs, name=self._named("node"), **attributes)
        self._model.graph.node.append(made)
        return outputs[0]

    def out(self, kind, inputs, **attributes):
        return self.node(kind, inputs, self._layer._outputs, **attributes)

    def rank(self, key):
        return len(self._layer._network.tensor(key).shape)

    def axes(self, mask):
        return [axis for axis in range(32) if int(mask) >> axis & 1]

    def over(self, kind, source, axes, outputs=None):
        """Squeeze or Unsqueeze."""
        if self.opset < 13:
            return self.node(kind, [source], outputs, axes=axes)
        return self.node(kind, [source, self.value(axes, "axes", np.int64)], outputs)

    def reduce(self, kind, source, axes, keep, outputs):
        inputs, more = [source], {"axes": axes}
        if self.opset >= (13 if kind == "ReduceSum" else 18):
            inputs, more = [source, self.value(axes, "axes", np.int64)], {}
        return self.node(kind, inputs, outputs, keepdims=int(keep), **more)


def _same_memory(weights, values):
    held = weights._array if isinstance(weights, Weights) else weights
    return isinstance(values, np.ndarray) and isinstance(held, np.ndarray) and np.shares_memory(held, values)


ACTIVATIONS = {
    "RELU": ("Relu", ()), "SIGMOID": ("Sigmoid", ()), "TANH": ("Tanh", ()), "LEAKY_RELU": ("LeakyRelu", ("alpha",)),
    "ELU": ("Elu", ("alpha",)), "SELU": ("Selu", ("alpha", "gamma")), "SOFTSIGN": ("Softsign", ()),
    "HARD_SIGMOID": ("HardSigmoid", ("alpha", "beta")), "THRESHOLDED_RELU": ("ThresholdedRelu", ("alpha",)),
}  # fmt: skip
ELEMENTWISE = {
    "SUM": "Add", "PROD": "Mul", "MAX": "Max", "MIN": "Min", "SUB": "Sub", "DIV": "Div", "POW": "Pow", "AND": "And",
    "OR": "Or", "XOR": "Xor", "EQUAL": "Equal", "GREATER": "Greater", "LESS": "Less",
}  # fmt: skip
UNARY = {"RECIP": "Reciprocal", "ISINF": "IsInf", "ISNAN": "IsNaN"}  # the others in title case
REDUCE = {"SUM": "ReduceSum", "PROD": "ReduceProd", "MAX": "ReduceMax", "MIN": "ReduceMin", "AVG": "ReduceMean"}


def _activation(layer, g):
    (source,), word = layer._inputs, ActivationType(layer.type).name
    if word in ACTIVATIONS:
        kind, used = ACTIVATIONS[word]
        given = dict(zip(("alpha", "gamma" if word == "SELU" else "beta"), (layer.alpha, layer.beta)))
        return g.out(kind, [source], **{key: float(given[key]) for key in used})
    if word == "CLIP":
        return g.out("Clip", [source, *(g.value(v, "bound", np.float32) for v in (layer.alpha, layer.beta))])
    if word == "SCALED_TANH":
        inner = g.node("Tanh", [g.node("Mul", [source, g.value(layer.beta, "beta", np.float32)])])
        return g.out("Mul", [inner, g.value(layer.alpha, "alpha", np.float32)])
    if word == "SOFTPLUS":
        inner = g.node("Softplus", [g.node("Mul", [source, g.value(layer.beta, "beta", np.float32)])])
        return g.out("Mul", [inner, g.value(layer.alpha, "alpha", np.float32)])
    half, one = g.value(0.5, "half", np.float32), g.value(1.0, "one", np.float32)
    if word == "GELU_ERF":
        inner = g.node("Erf", [g.node("Mul", [source, g.value(2**-0.5, "root", np.float32)])])
    else:
        cube = g.node("Mul", [g.node("Mul", [source, source]), source])
        bent = g.node("Add", [source, g.node("Mul", [cube, g.value(0.044715, "bend", np.float32)])])
        inner = g.node("Tanh", [g.node("Mul", [bent, g.value((2 / np.pi) ** 0.5, "root", np.float32)])])
    return g.out("Mul", [g.node("Mul", [source, half]), g.node("Add", [inner, one])])


def _window(layer, count):
    """Attributes of a convolution or pooling."""
    pads = layer.padding_nd if tuple(layer.padding_nd) != (0,) * count else ()
    before, after = (pads, pads) if pads else (layer.pre_padding, layer.post_padding)
    found = {"strides": list(layer.stride_nd)}
    mode = PaddingMode(layer.padding_mode).name
    if mode.startswith("SAME"):
        found["auto_pad"] = mode
    else:
        found["pads"] = [*before, *after]
    return found


def _convolution(kind):
    def emit(layer, g):
        kernel, bias = values_of(layer.kernel), values_of(layer.bias)
        maps, groups, size = int(layer.num_output_maps), int(layer.num_groups), list(layer.kernel_size_nd)
        if kernel is None:  # given as an input
            weights = layer._inputs[1]
        else:
            ours = maps // groups if kind == "ConvTranspose" else maps
            rest = kernel.size // (ours * int(np.prod(size)))
            shape = [rest, ours, *size] if kind == "ConvTranspose" else [ours, rest, *size]
            weights = g.value(kernel.reshape(shape), "kernel")
        inputs = [layer._inputs[0], weights]
        if bias is not None:
            inputs.append(g.value(bias, "bias"))
        window = dict(_window(layer, len(size)), dilations=list(layer.dilation_nd), kernel_shape=size, group=groups)
        return g.out(kind, inputs, **window)

    return emit


def _pooling(layer, g):
    kind = {"MAX": "MaxPool", "AVERAGE": "AveragePool"}[PoolingType(layer.type).name]
    size = list(layer.window_size_nd)
    more = {} if kind == "MaxPool" else {"count_include_pad": int(not layer.average_count_excludes_padding)}
    ceil = PaddingMode(layer.padding_mode).name == "EXPLICIT_ROUND_UP"
    return g.out(
        kind, layer._inputs, kernel_shape=size, ceil_mode=int(ceil), **_window(layer, len(size)), **more
    )  # fmt: skip


def _elementwise(layer, g):
    word = ElementWiseOperation(layer.op).name
    if word == "FLOOR_DIV":
        return g.out("Floor", [g.node("Div", layer._inputs)])
    return g.out(ELEMENTWISE[word], layer._inputs)


def _matrix_multiply(layer, g):
    turned, gone = [], []
    for key, how, axis in zip(layer._inputs, (layer.op0, layer.op1), (-2, -1)):
        if MatrixOperation(how).name == "TRANSPOSE":
            rank = g.rank(key)
            order = [*range(rank - 2), rank - 1, rank - 2]
            key = g.node("Transpose", [key], perm=order)
        elif MatrixOperation(how).name == "VECTOR":  # a row on the left, a column on the right, of each batch
            gone.append(axis)
            key = g.over("Unsqueeze", key, [axis])
        turned.append(key)
    if not gone:
        return g.out("MatMul", turned)
    return g.over("Squeeze", g.node("MatMul", turned), gone, layer._outputs)


def _constant(layer, g):
    return g.out("Identity", [g.value(values_of(layer.weights).reshape(tuple(layer.shape)), "constant")])


def _shuffle(layer, g):
    (key, *rest), first, second = layer._inputs, layer.first_transpose, layer.second_transpose
    if first is not None:
        key = g.node("Transpose", [key], perm=list(first))
    if rest or layer.reshape_dims is not None:
        dims = rest[0] if rest else g.value(list(layer.reshape_dims), "dims", np.int64)
        if rest:
            dims = g.node("Cast", [dims], to=7)
        key = g.node("Reshape", [key, dims])
    if second is not None:
        key = g.node("Transpose", [key], perm=list(second))
    return g.out("Identity", [key])


def _softmax(layer, g):
    return g.out("Softmax", layer._inputs, axis=g.axes(layer.axes)[0])


def _reduce(layer, g):
    kind = REDUCE[ReduceOperation(layer.op).name]
    return g.reduce(kind, layer._inputs[0], g.axes(layer.axes), layer.keep_dims, layer._outputs)


def _unary(layer, g):
    word = UnaryOperation(layer.op).name
    return g.out(UNARY.get(word, word.title()), layer._inputs)


def _scale(layer, g):
    (key,), rank = layer._inputs, g.rank(layer._inputs[0])
    shape = {"UNIFORM": [], "CHANNEL": [1] * rank, "ELEMENTWISE": list(layer._network.tensor(layer._inputs[0]).shape)}[
        ScaleMode(layer.mode).name
    ]
    if ScaleMode(layer.mode).name == "CHANNEL":
        shape[layer.channel_axis] = -1
    for kind, weights in (("Mul", layer.scale), ("Add", layer.shift), ("Pow", layer.power)):
        values = values_of(weights)
        if values is not None:
            key = g.node(kind, [key, g.value(values.reshape(shape), kind.lower())])
    return g.out("Identity", [key])


def _slice(layer, g):
    start, shape, stride = (np.array(list(each), np.int64) for each in (layer.start, layer.shape, layer.stride))
    if any(layer._inputs[1:]):
        raise ValueError("a slice that takes its sizes from tensors is not simulated")
    end = start + (shape - 1) * stride + np.sign(stride)
    end = np.where((stride < 0) & (end < 0), np.iinfo(np.int64).min, end)
    axes = range(len(start))
    return g.out(
        "Slice", [layer._inputs[0], *(g.value(v, "slice", np.int64) for v in (start, end, axes, stride))]
    )  # fmt: skip


def _topk(layer, g):
    largest = int(TopKOperation(layer.op).name == "MAX")
    made = g.node("TopK", [layer._inputs[0], g.value([layer.k], "k", np.int64)],
                  [layer._outputs[0], g._named("wide")], axis=g.axes(layer.axes)[0], largest=largest)  # fmt: skip
    wide = g._model.graph.node[-1].output[1]
    g.node("Cast", [wide], [layer._outputs[1]], to=6)
    return made


def _resize(layer, g):
    mode = {"NEAREST": "nearest", "LINEAR": "linear", "CUBIC": "cubic"}[InterpolationMode(layer.resize_mode).name]
    if layer.scales:
        sizes = ["", g.value(layer.scales, "scales", np.float32)]
    else:
        sizes = ["", "", g.value(list(layer.shape), "sizes", np.int64)]
    more = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return g.out("Resize", [layer._inputs[0], *sizes], mode=mode, **more)


def _padding(layer, g):
    before, after = (
        [0] * (g.rank(layer._inputs[0]) - 2) + list(each) for each in (layer.pre_padding_nd, layer.post_padding_nd)
    )
    return g.out("Pad", [layer._inputs[0], g.value([*before, *after], "pads", np.int64)])


def _shape(layer, g):
    return g.out("Shape", layer._inputs)


def _fully_connected(layer, g):
    """Until 8: the last three dims become one; the output ends in two dims of 1."""
    kernel, bias = values_of(layer.kernel), values_of(layer.bias)
    maps = int(layer.num_output_channels)
    flat = g.node("Reshape", [layer._inputs[0], g.value([0, -1], "dims", np.int64)])
    inputs = [flat, g.value(kernel.reshape(maps, -1), "kernel")]
    if bias is not None:
        inputs.append(g.value(bias, "bias"))
    made = g.node("Gemm", inputs, transB=1)
    return g.out("Reshape", [made, g.value([0, maps, 1, 1], "dims", np.int64)])


def _plain(kind, **settings):
    """A layer that is one ONNX operator, with these of its settings as attributes."""

    def emit(layer, g):
        return g.out(kind, layer._inputs, **{key: getattr(layer, of) for key, of in settings.items()})

    return emit


def _quantised(kind):
    def emit(layer, g):
        source, scale = layer._inputs
        zero = g.value(np.zeros(tuple(layer._network.tensor(scale).shape), np.int8), "zero")
        return g.out(kind, [source, scale, zero], axis=max(0, layer.axis))

    return emit


def _normalization(layer, g):
    source, scale, bias = layer._inputs
    axes = g.axes(layer.axes)
    mean = g.reduce("ReduceMean", source, axes, True, None)
    centred = g.node("Sub", [source, mean])
    spread = g.reduce("ReduceMean", g.node("Mul", [centred, centred]), axes, True, None)
    root = g.node("Sqrt", [g.node("Add", [spread, g.value(layer.epsilon, "epsilon", np.float32)])])
    return g.out("Add", [g.node("Mul", [g.node("Div", [centred, root]), scale]), bias])


def _cast(layer, g):
    return g.out("Cast", layer._inputs, to=compiled.element_type(np.dtype(NUMPY[layer.to_type]).name))


def _non_zero(layer, g):
    kind = compiled.element_type(np.dtype(NUMPY[layer.indices_type]).name)
    return g.out("Cast", [g.node("NonZero", layer._inputs)], to=kind)


def _with_wide_axes(kind):
    """Axes as an input, which ONNX wants in 64 bit."""

    def emit(layer, g):
        source, axes = layer._inputs
        return g.out(kind, [source, g.node("Cast", [axes], to=7)])

    return emit


WINDOW = {"stride_nd": None, "padding_nd": None, "pre_padding": None, "post_padding": None,
          "padding_mode": PaddingMode.EXPLICIT_ROUND_DOWN}  # fmt: skip


def _windowed(size):
    ones, zeros = (1,) * len(size), (0,) * len(size)
    return dict(WINDOW, stride_nd=ones, padding_nd=zeros, pre_padding=zeros, post_padding=zeros)


class Adding:
    """The `add_*` of INetworkDefinition."""

    def _add(self, kind, inputs, emit, count=1, **settings):
        layer = MadeLayer(self, kind, inputs, emit, count, **settings)
        self.made.append(layer)
        for name in layer._outputs:
            self.tensors[name] = NetworkTensor(name, None, None, self)
        return layer

    def add_input(self, name, dtype, shape):
        made = NetworkTensor(name, NUMPY[dtype], tuple(shape), self)
        self.tensors[name] = made
        self.inputs.append(made)
        return made

    def add_convolution_nd(self, input, num_output_maps, kernel_shape, kernel, bias=None):
        return self._convolved("CONVOLUTION", "Conv", input, num_output_maps, kernel_shape, kernel, bias)

    def add_deconvolution_nd(self, input, num_output_maps, kernel_shape, kernel, bias=None):
        return self._convolved("DECONVOLUTION", "ConvTranspose", input, num_output_maps, kernel_shape, kernel, bias)

    def _convolved(self, kind, operator, source, maps, size, kernel, bias):
        return self._add(
            kind, [source], _convolution(operator), num_output_maps=maps, kernel_size_nd=tuple(size), kernel=kernel,
            bias=bias, num_groups=1, dilation_nd=(1,) * len(size), **_windowed(size),
        )  # fmt: skip

    @property
    def add_convolution(self):
        removed_in(10)
        return self._named_as_before("add_convolution_nd", "kernel_size", "stride", "padding")

    @property
    def add_deconvolution(self):
        removed_in(10)
        return self._named_as_before("add_deconvolution_nd", "kernel_size", "stride", "padding")

    @property
    def add_pooling(self):
        removed_in(10)
        return self._named_as_before("add_pooling_nd", "window_size", "stride", "padding")

    def _named_as_before(self, call, *words):
        """The layer of `call`, whose settings also go by the names without _nd."""

        def add(*args, **more):
            layer = getattr(self, call)(*args, **more)
            kind = type("Before", (MadeLayer,), {word: _same(word) for word in words})
            object.__setattr__(layer, "__class__", kind)
            return layer

        return add

    @property
    def add_fully_connected(self):
        removed_in(10)
        return lambda input, num_outputs, kernel, bias=None: self._add(
            "OTHER", [input], _fully_connected, num_output_channels=num_outputs, kernel=kernel, bias=bias
        )

    def add_pooling_nd(self, input, type, window_size):
        size = tuple(window_size)
        return self._add(
            "POOLING", [input], _pooling, type=type, window_size_nd=size, average_count_excludes_padding=True,
            blend_factor=0.0, **_windowed(size),
        )  # fmt: skip

    def add_activation(self, input, type):
        return self._add("ACTIVATION", [input], _activation, type=type, alpha=0.0, beta=0.0)

    def add_elementwise(self, input1, input2, op):
        return self._add("ELEMENTWISE", [input1, input2], _elementwise, op=op)

    def add_matrix_multiply(self, input0, op0, input1, op1):
        return self._add("MATRIX_MULTIPLY", [input0, input1], _matrix_multiply, op0=op0, op1=op1)

    def add_constant(self, shape, weights):
        return self._add("CONSTANT", [], _constant, shape=tuple(shape), weights=weights)

    def add_shuffle(self, input):
        return self._add(
            "SHUFFLE", [input], _shuffle, reshape_dims=None, first_transpose=None, second_transpose=None,
            zero_is_placeholder=True,
        )  # fmt: skip

    def add_concatenation(self, inputs):
        axis = max(0, len(inputs[0].shape) - 3)
        return self._add("CONCATENATION", inputs, _plain("Concat", axis="axis"), axis=axis)

    def add_softmax(self, input):
        axis = max(0, len(input.shape) - 3) if len(input.shape) != 2 else 1
        return self._add("SOFTMAX", [input], _softmax, axes=1 << axis)

    def add_reduce(self, input, op, axes, keep_dims):
        return self._add("REDUCE", [input], _reduce, op=op, axes=axes, keep_dims=keep_dims)

    def add_unary(self, input, op):
        return self._add("UNARY", [input], _unary, op=op)

    def add_scale(self, input, mode, shift=None, scale=None, power=None):
        return self.add_scale_nd(input, mode, shift, scale, power, max(0, len(input.shape) - 3))

    def add_scale_nd(self, input, mode, shift=None, scale=None, power=None, channel_axis=1):
        return self._add(
            "SCALE", [input], _scale, mode=mode, shift=shift, scale=scale, power=power, channel_axis=channel_axis
        )

    def add_identity(self, input):
        return self._add("IDENTITY", [input], _plain("Identity"))

    def add_cast(self, input, to_type):
        return self._add("CAST", [input], _cast, to_type=to_type)

    def add_slice(self, input, start, shape, stride):
        return self._add("OTHER", [input], _slice, start=start, shape=shape, stride=stride)

    def add_gather(self, input, indices, axis):
        return self._add("OTHER", [input, indices], _plain("Gather", axis="axis"), axis=axis)

    def add_topk(self, input, op, k, axes):
        return self._add("OTHER", [input], _topk, count=2, op=op, k=k, axes=axes)

    def add_resize(self, input):
        return self._add(
            "OTHER", [input], _resize, shape=None, scales=None, resize_mode=InterpolationMode.NEAREST
        )  # fmt: skip

    def add_padding_nd(self, input, pre_padding, post_padding):
        return self._add("OTHER", [input], _padding, pre_padding_nd=pre_padding, post_padding_nd=post_padding)

    def add_shape(self, input):
        return self._add("OTHER", [input], _shape)

    def add_select(self, condition, then_input, else_input):
        return self._add("OTHER", [condition, then_input, else_input], _plain("Where"))

    def add_einsum(self, inputs, equation):
        return self._add("OTHER", inputs, _plain("Einsum", equation="equation"), equation=equation)

    def add_quantize(self, input, scale, output_type=None):
        return self._add("QUANTIZE", [input, scale], _quantised("QuantizeLinear"), axis=-1)

    def add_dequantize(self, input, scale, output_type=None):
        return self._add("DEQUANTIZE", [input, scale], _quantised("DequantizeLinear"), axis=-1)

    def add_normalization(self, input, scale, bias, axesMask):
        return self._add(
            "OTHER", [input, scale, bias], _normalization, axes=axesMask, epsilon=1e-5, num_groups=1,
            compute_precision=DataType.FLOAT,
        )  # fmt: skip

    def add_lrn(self, input, window, alpha, beta, k):
        used = {"size": "window_size", "alpha": "alpha", "beta": "beta", "bias": "k"}
        return self._add("OTHER", [input], _plain("LRN", **used), window_size=window, alpha=alpha, beta=beta, k=k)

    def add_non_zero(self, input, indices_type=DataType.INT32):
        """The type of the indices can be chosen from 10.16 on."""
        return self._add("OTHER", [input], _non_zero, indices_type=indices_type)

    def add_one_hot(self, indices, values, depth, axis):
        return self._add("OTHER", [indices, depth, values], _plain("OneHot", axis="axis"), axis=axis)

    def add_gather_v2(self, input, indices, mode):
        kind = ("Gather", "GatherElements", "GatherND")[int(mode)]
        used = {} if kind == "GatherND" else {"axis": "axis"}
        return self._add("OTHER", [input, indices], _plain(kind, **used), axis=0, mode=mode)

    def add_scatter(self, data, indices, updates, mode):
        kind = ("ScatterElements", "ScatterND")[int(mode)]
        used = {"axis": "axis"} if kind == "ScatterElements" else {}
        return self._add("OTHER", [data, indices, updates], _plain(kind, **used), axis=0, mode=mode)

    def add_squeeze(self, input, axes):
        """From 10.12 on."""
        return self._add("OTHER", [input, axes], _with_wide_axes("Squeeze"))

    def add_unsqueeze(self, input, axes):
        return self._add("OTHER", [input, axes], _with_wide_axes("Unsqueeze"))

    def add_plugin_v2(self, inputs, plugin):
        """None, and the reason in the log, for another plug-in than those that are run here."""
        runs = _plugins.RUNS.get(getattr(plugin, "plugin_type", None))
        if runs is None:
            return self._refused_plugin()

        def emit(layer, g):
            fixed = {tensor.name for tensor in g._model.graph.initializer}
            g._model.graph.node.extend(runs.nodes(layer.name, layer._inputs, layer._outputs, plugin.fields, fixed))

        return self._add("PLUGIN_V2", inputs, emit, runs.outputs, plugin=plugin)

    def add_plugin_v3(self, inputs, shape_inputs, plugin):
        return self._refused_plugin()

    def _refused_plugin(self):
        if self.builder is not None:
            self.builder.logger.log(Severity.ERROR, "INetworkDefinition::addPlugin: plug-ins are not simulated")

    def add_loop(self):
        return _loops.ILoop(self)

    def add_if_conditional(self):
        return _loops.IIfConditional(self)

    def add_parametric_relu(self, input, slopes):
        return self._add("OTHER", [input, slopes], _plain("PRelu"))


def _same(word):
    """A property that is the setting of the same name with _nd."""

    def get(self):
        return self._settings[word + "_nd"]

    def put(self, value):
        self._settings[word + "_nd"] = tuple(value)

    return property(get, put)
