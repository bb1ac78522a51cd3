"""A user's file in FP64, node by node: ONNX Runtime where it has a kernel, else the formula of the operator.

Every floating-point constant, type and target of a Cast becomes double, so the result is that of exact arithmetic but
for 2^-53 an operation, 2^29 times less than FP32 loses. ONNX Runtime's CPU has no double kernel of Conv, for example;
those of `FORMULAS` are computed by PyTorch or NumPy in double. Definitions: github.com/onnx/onnx/docs/Operators.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.case import Precision, Tensors
from harness.reference import arithmetic, recurrent

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

Array: TypeAlias = NDArray[Any]
Attributes: TypeAlias = Mapping[str, Any]
MOST_SECONDS = 60.0  # of one batch; FP64 takes 5 to 30 times as long as FP32

PRODUCTS = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1, "Gemm": 1}  # operator: axis of the weight's output channels
NARROW = (Precision.FP16, Precision.BF16)
SIZES = ("Shape", "Size")  # no value of a tensor passes them


class NotExact(Exception):  # noqa: N818 - no fault of the file: it is compared with FP32 then
    """Why a file has no outputs in FP64."""


def outputs(
    model: ModelProto,
    inputs: Tensors,
    seconds: float = MOST_SECONDS,
    precision: Precision = Precision.FP32,
    products_only: bool = False,
) -> Tensors:
    """Outputs of a graph by name in FP64; whole numbers and booleans keep their types. `inputs` are those of the file.
    Below FP32 each node rounds as that arithmetic does (reference.arithmetic): what the precision itself costs.
    Excepted are nodes inside of branches and loops, and those that the inputs' values do not reach, which compilers
    compute beforehand. With `products_only` the others are not rounded either: the least that an engine of that
    precision loses, for compilers keep sums, norms and the like in FP32 where that is more exact.

    Raises NotExact: where the file has no floating-point number of less than 64 bits, an operator has no FP64 kernel or
    computes in another type by definition (FP32, FP8, INT4), or FP64 takes longer than `seconds`."""
    from onnx import inliner, numpy_helper

    wide = inliner.inline_local_functions(model) if model.functions else _copy(model)
    if not _widen(wide.graph) and not any(_narrow(value.dtype) for value in inputs.values()):
        raise NotExact("the file has no floating-point numbers below FP64")
    graph, until = wide.graph, time.monotonic() + seconds
    values = {tensor.name: np.asarray(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    values |= {name: _double(np.asarray(value)) for name, value in inputs.items()}
    wanted = [value.name for value in graph.output]
    last = {name: place for place, node in enumerate(graph.node) for name in reads(node)}
    reached = set(inputs)
    for place, node in enumerate(graph.node):
        there = node.op_type not in SIZES and not reached.isdisjoint(reads(node))
        reached |= set(node.output) if there else set()
        given = {name: values[name] for name in reads(node)}
        rounds = there and (_is_product(node) or _is_recurrent(node) or not products_only)
        values |= _rounded(wide, node, given, precision if rounds else Precision.FP32)
        for name in reads(node):
            if last[name] == place and name not in wanted:
                values.pop(name, None)
        if time.monotonic() > until:
            raise NotExact(f"FP64 takes longer than {seconds:g} s at this batch")
    return {name: values[name] for name in wanted}


def _rounded(model: ModelProto, node: NodeProto, given: Tensors, precision: Precision) -> Tensors:
    """Outputs of one node in the arithmetic of `precision`. Raises NotExact."""
    product = _is_product(node)
    if precision is Precision.INT8 and product:
        first, second = node.input[:2]
        channels = PRODUCTS[node.op_type]
        if node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute):
            channels = 0
        given = {**given, first: _to_eight_bits(given[first]), second: _to_eight_bits(given[second], channels)}
    elif precision in NARROW and (product or _is_recurrent(node)):
        # with what follows a product its result is fused
        return _computed(model, node, {name: _narrowed(value, precision) for name, value in given.items()})
    made = _computed(model, node, given)
    return {name: _narrowed(value, precision) for name, value in made.items()} if precision in NARROW else made


def _is_product(node: NodeProto) -> bool:
    return node.op_type in PRODUCTS and node.domain in ("", "ai.onnx")


def _is_recurrent(node: NodeProto) -> bool:
    """Whether products are inside of a node. Its inputs and weights are rounded where `NARROW`, and not at INT8."""
    return node.op_type in recurrent.GATES and node.domain in ("", "ai.onnx")


def _narrowed(value: Array, precision: Precision) -> Array:
    from onnx import TensorProto, helper

    if value.dtype != np.float64:
        return value
    kind = TensorProto.FLOAT16 if precision is Precision.FP16 else TensorProto.BFLOAT16
    with np.errstate(over="ignore"):  # what overflows is told
        return value.astype(helper.tensor_dtype_to_np_dtype(kind)).astype(np.float64)


def _to_eight_bits(value: Array, channels: int | None = None) -> Array:
    if value.dtype != np.float64 or not np.isfinite(value).all() or not value.size:
        return value
    axis = channels if value.ndim > 1 else None
    return np.asarray(arithmetic.to_eight_bits(_torch(value.astype(np.float32)), axis), np.float64)


def _computed(model: ModelProto, node: NodeProto, given: Tensors) -> Tensors:
    """Outputs of one node by name. Raises NotExact."""
    from onnx import helper

    standard = node.domain in ("", "ai.onnx")
    if strange := [kind for kind in _types(node, given) if kind.isbuiltin != 1]:  # float8, int4 and their like
        raise NotExact(f"an operator computes in {strange[0].name} by definition: {node.op_type}")
    if standard and _selects(node):
        name = node.input[0]
        places = np.arange(given[name].size, dtype=np.int32).reshape(given[name].shape)
        (picked,) = _by_onnx_runtime(model, node, {**given, name: places}).values()
        return {node.output[0]: given[name].ravel()[picked]}
    if standard and node.op_type in FORMULAS and any(value.dtype == np.float64 for value in given.values()):
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        with np.errstate(all="ignore"):  # what is not finite is judged, not warned of
            made = FORMULAS[node.op_type](attributes, *(given.get(name) for name in node.input))
        every = made if isinstance(made, tuple) else (made,)
        return {name: np.asarray(value) for name, value in zip(node.output, every, strict=False) if name}
    return _by_onnx_runtime(model, node, given)


def _types(node: NodeProto, given: Tensors) -> list[np.dtype[Any]]:
    """The types that a node takes, and the one that it casts to."""
    from onnx import helper

    casts = [a.i for a in node.attribute if a.name in ("to", "output_dtype") and a.i]
    return [value.dtype for value in given.values()] + [helper.tensor_dtype_to_np_dtype(kind) for kind in casts]


def _selects(node: NodeProto) -> bool:
    """Whether a node takes the nearest elements: which those are, ONNX Runtime tells of a tensor of places."""
    modes = [attribute.s for attribute in node.attribute if attribute.name == "mode"]
    return node.op_type in ("Resize", "Upsample") and modes in ([], [b"nearest"])


def _by_onnx_runtime(model: ModelProto, node: NodeProto, given: Tensors) -> Tensors:
    import onnx
    import onnxruntime
    from onnx import helper

    fed = _as_defined(model, node, given)
    kinds = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in fed.items()}
    takes = [helper.make_tensor_value_info(name, kinds[name], value.shape) for name, value in fed.items()]
    gives = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    alone = helper.make_model(helper.make_graph([node], "node", takes, gives), opset_imports=model.opset_import)
    alone.ir_version = model.ir_version
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(alone.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no class in common
        raise NotExact(f"ONNX Runtime has no FP64 kernel of {node.op_type}") from error
    try:
        made = session.run([value.name for value in gives], fed)
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise NotExact(f"an operator does not run in FP64: {node.op_type} {node.name}, {said}") from error
    if not all(isinstance(value, np.ndarray) for value in made):
        raise NotExact(f"an operator gives no tensor: {node.op_type}")
    if any(_narrow(value.dtype) for value in made):
        raise NotExact(f"an operator computes in FP32 by definition: {node.op_type}")
    return dict(zip((value.name for value in gives), made, strict=True))


def _as_defined(model: ModelProto, node: NodeProto, given: Tensors) -> Tensors:
    """What a node is fed: double, but FP32 where its definition takes no other and that loses nothing, such as the
    scales of Resize. Raises NotExact where it would lose something."""
    import onnx

    version = next((o.version for o in model.opset_import if o.domain == node.domain), 1)
    try:
        formal = onnx.defs.get_schema(node.op_type, version, node.domain).inputs
    except onnx.defs.SchemaError:
        return given
    fed = dict(given)
    for name, told in zip(node.input, formal, strict=False):
        if name and fed[name].dtype == np.float64 and "tensor(double)" not in told.types and told.types:
            single = fed[name].astype(np.float32)
            if not np.array_equal(single, fed[name], equal_nan=True):
                raise NotExact(f"an operator takes FP32 by definition: {node.op_type}")
            fed[name] = single
    return fed


# ---------------------------------------------------------------- the graph in double


def _copy(model: ModelProto) -> ModelProto:
    twin = type(model)()
    twin.CopyFrom(model)
    return twin


def _narrow(kind: np.dtype[Any]) -> bool:
    """Whether a type is a floating-point type of less than 64 bits; bfloat16 is not one of NumPy's own."""
    return kind != np.float64 and (kind.kind == "f" or kind.name == "bfloat16")


def _double(value: Array) -> Array:
    return value.astype(np.float64) if _narrow(value.dtype) else value


def _widen(graph: GraphProto) -> bool:
    """Make every floating-point constant and type of a graph double, also in branches and loops; whether there was
    one."""
    from onnx import TensorProto, helper

    narrow = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
    found = False
    for tensor in graph.initializer:
        found |= _widen_tensor(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        for kind in (value.type.tensor_type, value.type.sequence_type.elem_type.tensor_type):
            if kind.elem_type in narrow:
                kind.elem_type, found = TensorProto.DOUBLE, True
    for node in graph.node:
        for attribute in list(node.attribute):
            if attribute.name in ("to", "dtype") and attribute.i in narrow:
                attribute.i, found = TensorProto.DOUBLE, True
            elif attribute.name in ("value_float", "value_floats"):
                numbers = np.array(helper.get_attribute_value(attribute), np.float64)
                tensor = helper.make_tensor("", TensorProto.DOUBLE, numbers.shape, numbers.ravel())
                node.attribute.remove(attribute)
                node.attribute.append(helper.make_attribute("value", tensor))
                found = True
            elif attribute.HasField("t"):
                found |= _widen_tensor(attribute.t)
            for inner in (attribute.g, *attribute.graphs):
                found |= _widen(inner)
        if node.op_type == "ConstantOfShape" and not node.attribute:  # float32 zeros where it has no value
            node.attribute.append(helper.make_attribute("value", helper.make_tensor("", TensorProto.DOUBLE, [1], [0])))
            found = True
    return found


def _widen_tensor(tensor: TensorProto) -> bool:
    from onnx import numpy_helper

    value = numpy_helper.to_array(tensor)
    if not _narrow(value.dtype):
        return False
    tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float64), tensor.name))
    return True


def reads(node: NodeProto) -> list[str]:
    """Names of the tensors that a node needs, those that its branches and loops take from around it too."""
    names = dict.fromkeys(name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            inside = {value.name for value in (*graph.input, *graph.initializer)}
            for inner in graph.node:
                names |= dict.fromkeys(name for name in reads(inner) if name not in inside)
                inside |= set(inner.output)
            names |= dict.fromkeys(value.name for value in graph.output if value.name not in inside)
    return [name for name in names if name]


# ---------------------------------------------------------------- operators without a double kernel


def _spatial(attributes: Attributes, x: Array, sizes: Sequence[int]) -> tuple[list[int], list[int], list[Any]]:
    """(strides, dilations, (begin, end) of the padding) for each spatial axis of a window of `sizes`."""
    axes = len(sizes)
    strides = list(attributes.get("strides") or [1] * axes)
    dilations = list(attributes.get("dilations") or [1] * axes)
    pads = list(attributes.get("pads") or [0] * 2 * axes)
    kind = bytes(attributes.get("auto_pad", b"NOTSET")).decode()
    if kind == "VALID":
        pads = [0] * 2 * axes
    elif kind.startswith("SAME"):
        for axis, (size, stride, dilation) in enumerate(zip(sizes, strides, dilations, strict=True)):
            long = x.shape[2 + axis]
            total = max((-(-long // stride) - 1) * stride + (size - 1) * dilation + 1 - long, 0)
            small, large = total // 2, total - total // 2
            pads[axis], pads[axes + axis] = (small, large) if kind == "SAME_UPPER" else (large, small)
    return strides, dilations, list(zip(pads[:axes], pads[axes:], strict=True))


def _conv(attributes: Attributes, x: Array, w: Array, bias: Array | None = None) -> Array:
    from torch.nn import functional

    strides, dilations, pads = _spatial(attributes, x, w.shape[2:])
    padded = np.pad(x, [(0, 0), (0, 0), *pads])
    if attributes.get("group", 1) > 1:
        made = _in_groups(padded, w, strides, dilations, attributes["group"])
        return made if bias is None else made + bias.reshape(-1, *[1] * len(strides))
    convolve = _by_axes(w.ndim - 2, functional.conv1d, functional.conv2d, functional.conv3d)
    return np.asarray(convolve(_torch(padded), _torch(w), _torch(bias), strides, 0, dilations))


def _in_groups(x: Array, w: Array, strides: Sequence[int], dilations: Sequence[int], groups: int) -> Array:
    """One product of all groups for each place of the kernel; PyTorch takes group after group, 8 to 13 times slower."""
    windows = zip(x.shape[2:], w.shape[2:], strides, dilations, strict=True)
    sizes = [(long - (size - 1) * dilation - 1) // stride + 1 for long, size, stride, dilation in windows]
    parts = w.reshape(groups, -1, *w.shape[1:])
    total = np.zeros((len(x), groups, parts.shape[1], int(np.prod(sizes))))
    for place in np.ndindex(*w.shape[2:]):
        cut = [
            slice(at * dilation, at * dilation + (size - 1) * stride + 1, stride)
            for at, dilation, size, stride in zip(place, dilations, sizes, strides, strict=True)
        ]
        seen = _over_space(x, cut).reshape(len(x), groups, w.shape[1], -1)
        total += parts.reshape(*parts.shape[:3], -1)[..., np.ravel_multi_index(place, w.shape[2:])] @ seen
    return total.reshape(len(x), len(w), *sizes)


def _conv_transpose(attributes: Attributes, x: Array, w: Array, bias: Array | None = None) -> Array:
    from torch.nn import functional

    if "output_shape" in attributes or bytes(attributes.get("auto_pad", b"NOTSET")) not in (b"NOTSET", b"VALID"):
        raise NotExact("ConvTranspose with output_shape or auto_pad is not computed in FP64")
    strides, dilations, pads = _spatial(attributes, x, w.shape[2:])
    more = list(attributes.get("output_padding") or [0] * len(strides))
    convolve = _by_axes(w.ndim - 2, functional.conv_transpose1d, functional.conv_transpose2d,
                        functional.conv_transpose3d)  # fmt: skip
    whole = np.asarray(convolve(_torch(x), _torch(w), None, strides, 0, 0,
                                attributes.get("group", 1), dilations))  # fmt: skip
    whole = np.pad(whole, [(0, 0), (0, 0), *((0, size) for size in more)])
    cut = [slice(begin, size - end) for (begin, end), size in zip(pads, whole.shape[2:], strict=True)]
    return _over_space(whole, cut) + (0 if bias is None else bias.reshape(-1, *[1] * len(strides)))


def _by_axes(axes: int, *functions: Callable[..., Any]) -> Callable[..., Any]:
    if axes > len(functions):
        raise NotExact("a convolution over more than three axes is not computed in FP64")
    return functions[axes - 1]


def _torch(value: Array | None) -> Any:
    import torch

    return None if value is None else torch.from_numpy(np.require(value, requirements=["C", "W"]))


def _average_pool(attributes: Attributes, x: Array) -> Array:
    sizes = list(attributes["kernel_shape"])
    strides, dilations, pads = _spatial(attributes, x, sizes)
    counts = np.pad(np.ones(x.shape[2:]), pads, constant_values=float(attributes.get("count_include_pad", 0)))
    padded = np.pad(x, [(0, 0), (0, 0), *pads])
    if attributes.get("ceil_mode", 0):  # windows may begin inside the padded tensor and end outside of it
        beyond = [(0, stride - 1) for stride in strides]
        counts, padded = np.pad(counts, beyond), np.pad(padded, [(0, 0), (0, 0), *beyond])
    return _sums(padded, sizes, strides, dilations) / _sums(counts[None, None], sizes, strides, dilations)


def _sums(x: Array, sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Array:
    axes = _space(x)
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(sizes, dilations, strict=True)]
    windows: Array = np.lib.stride_tricks.sliding_window_view(x, spans, axis=axes)
    steps = [*strides, *dilations]  # the windows' places, then the places in a window
    windows = _over_space(windows, [slice(None, None, step) for step in steps])
    total: Array = windows.sum(axis=tuple(range(-len(sizes), 0)))
    return total


def _instance_normalization(attributes: Attributes, x: Array, scale: Array, bias: Array) -> Array:
    axes, shape = _space(x), (-1, *[1] * (x.ndim - 2))
    centred = x - x.mean(axes, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axes, keepdims=True) + attributes.get("epsilon", _single(1e-5)))
    return np.asarray(scale.reshape(shape) * centred / deviation + bias.reshape(shape))


def _resize(attributes: Attributes, x: Array, *given: Array | None) -> Array:
    """Linear interpolation, axis by axis. `given`: roi, scales, sizes; before opset 11 scales alone."""
    kind = {name: value.decode() for name, value in attributes.items() if isinstance(value, bytes)}
    scales, sizes = (given[0], None) if len(given) == 1 else (given[1], given[2] if len(given) > 2 else None)
    place = kind.get("coordinate_transformation_mode", "asymmetric" if len(given) == 1 else "half_pixel")
    known = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
    mode = kind.get("mode", "nearest")
    if mode != "linear" or place not in known or attributes.get("antialias") or "axes" in attributes or (
        kind.get("keep_aspect_ratio_policy", "stretch") != "stretch"
    ):  # fmt: skip
        raise NotExact(f"Resize of mode {mode}, {place} is not computed in FP64")
    for axis in range(x.ndim):
        before = x.shape[axis]
        if sizes is not None and sizes.size:
            after = int(sizes[axis])
            scale = after / before
        else:
            assert scales is not None
            scale = float(scales[axis])
            after = int(np.floor(before * scale))
        if (before, scale) == (after, 1.0):
            continue
        at = np.arange(after, dtype=np.float64)
        if place == "align_corners":
            at = at * (before - 1) / max(after - 1, 1)
        elif place == "asymmetric" or (place == "pytorch_half_pixel" and after == 1):
            at = at / scale if place == "asymmetric" else at * 0
        else:
            at = (at + 0.5) / scale - 0.5
        at = np.clip(at, 0, before - 1)
        low = np.floor(at).astype(np.int64)
        share = (at - low).reshape(-1, *[1] * (x.ndim - 1 - axis))
        x = np.take(x, low, axis) * (1 - share) + np.take(x, np.minimum(low + 1, before - 1), axis) * share
    return x


def _erf(x: Array) -> Array:
    import torch

    return np.asarray(torch.erf(_torch(x)))


def _gelu(attributes: Attributes, x: Array) -> Array:
    if bytes(attributes.get("approximate", b"none")) == b"tanh":
        return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))
    return np.asarray(0.5 * x * (1 + _erf(x / np.sqrt(2))))


def _elu(attributes: Attributes, x: Array) -> Array:
    return np.where(x < 0, attributes.get("alpha", 1.0) * np.expm1(x), x)


def _selu(attributes: Attributes, x: Array) -> Array:
    alpha, gamma = attributes.get("alpha", _single(1.6732632423543772)), attributes.get("gamma", _single(1.05070098735))
    return np.asarray(gamma * np.where(x < 0, alpha * np.expm1(x), x))


def _hard_sigmoid(attributes: Attributes, x: Array) -> Array:
    return np.asarray(np.clip(attributes.get("alpha", _single(0.2)) * x + attributes.get("beta", 0.5), 0, 1))


def _leaky(attributes: Attributes, x: Array) -> Array:
    return np.where(x < 0, attributes.get("alpha", _single(0.01)) * x, x)


def _recurrent(kind: str) -> Callable[..., tuple[Array, ...]]:
    def formula(attributes: Attributes, *given: Array | None) -> tuple[Array, ...]:
        x, *more = given
        assert x is not None
        if why := recurrent.lacks(kind, attributes):
            raise NotExact(f"an operator is not computed in FP64: {why}")
        return recurrent.outputs(kind, attributes, x, *more)

    return formula


def _over_space(x: Array, cut: Sequence[slice]) -> Array:
    """A part of the axes after batch and channels."""
    index: tuple[slice, ...] = (slice(None), slice(None), *cut)
    return x[index]


def _space(x: Array) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


def _single(number: float) -> float:
    """A default as the definition gives it: in FP32."""
    return float(np.float32(number))


FORMULAS: dict[str, Callable[..., Array | tuple[Array, ...]]] = {
    "Conv": _conv, "ConvTranspose": _conv_transpose, "AveragePool": _average_pool,
    "GlobalAveragePool": lambda attributes, x: x.mean(_space(x), keepdims=True),
    "GlobalMaxPool": lambda attributes, x: x.max(_space(x), keepdims=True),
    "InstanceNormalization": _instance_normalization, "Resize": _resize, "Upsample": _resize,
    "Erf": lambda attributes, x: _erf(x), "Gelu": _gelu, "Elu": _elu, "Selu": _selu, "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda attributes, x: x * np.clip(x / 6 + 0.5, 0, 1),
    "LeakyRelu": _leaky, "PRelu": lambda attributes, x, slope: np.where(x < 0, slope * x, x),
    "Softplus": lambda attributes, x: np.logaddexp(0, x), "Softsign": lambda attributes, x: x / (1 + np.abs(x)),
    "Mean": lambda attributes, *given: sum(given) / len(given),
    "NonZero": lambda attributes, x: np.stack(np.nonzero(x)).astype(np.int64),
    **{kind: _recurrent(kind) for kind in recurrent.GATES},
}  # fmt: skip
"""Operator -> its output, or all of them, from (attributes, inputs); an optional input that is left out is None."""
