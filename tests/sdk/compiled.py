"""What the simulated compilers for MLU and NVIDIA write: a graph that computes as the chip would, in a file of its own.

Rounds an ONNX model to FP16 or INT8, puts the normalisation a compiler takes over in front of it, and packs it with
a header and a digest, so that a truncated or foreign engine is refused. Runs under Python 3.7.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path


def beside(name):
    """The module tests/sdk/NAME.py, without putting that directory on the path, where it would offer packages."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, str(Path(__file__).resolve().with_name(name + ".py")))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


simulate = beside("simulate")
rowwise = beside("rowwise")


# --- engine files --------------------------------------------------------------------------------------------------


def pack(magic, header, graph):
    """Bytes of an engine: magic line, header line (JSON, with the digest of the graph), ONNX bytes."""
    text = json.dumps(dict(header, digest=hashlib.sha256(graph).hexdigest(), size=len(graph)), sort_keys=True)
    return magic + b"\n" + text.encode("utf-8") + b"\n" + graph


def unpack(magic, data):
    """(header, ONNX bytes) of `pack`. Raises ValueError with the reason when it is not whole or another's."""
    head, _, rest = bytes(data).partition(b"\n")
    if head != magic:
        raise ValueError("magic tag does not match")
    text, _, graph = rest.partition(b"\n")
    try:
        header = json.loads(text.decode("utf-8"))
    except ValueError:
        raise ValueError("header is damaged") from None
    if len(graph) != header["size"] or hashlib.sha256(graph).hexdigest() != header["digest"]:
        raise ValueError("engine is truncated or damaged: {} of {} bytes".format(len(graph), header["size"]))
    return header, graph


def network(header, graph):
    """What runs the ONNX bytes of an engine, a row at a time: arrays by input name to outputs in the header's order."""
    import numpy as np
    import onnx

    model = rowwise.freed(onnx.load_from_string(graph))
    names = [row[0] for row in header["outputs"]]
    exact = header["precision"] == "fp32"
    session = simulate.Lazy(model)

    def compute(feeds):
        outputs = [np.asarray(output) for output in session().run(names, feeds)]
        return outputs if exact else [simulate.half(output) for output in outputs]

    return rowwise.Rows(rowwise.name_of(model, names, exact), compute, rowwise.decides(model))


# --- shapes and types ----------------------------------------------------------------------------------------------


def described(model, which):
    """[(name, NumPy dtype name, shape with -1 for what is dynamic)] of the graph's inputs or outputs."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    rows = []
    for value in graph.input if which == "inputs" else graph.output:
        if value.name in weights:
            continue
        kind = value.type.tensor_type
        shape = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim]
        rows.append((value.name, numpy_name(kind.elem_type), shape))
    return rows


def numpy_name(kind):
    """NumPy dtype name of an ONNX element type."""
    from onnx import helper

    if hasattr(helper, "tensor_dtype_to_np_dtype"):
        return str(helper.tensor_dtype_to_np_dtype(kind))
    from onnx.mapping import TENSOR_TYPE_TO_NP_TYPE

    return str(TENSOR_TYPE_TO_NP_TYPE[kind])


def element_type(dtype):
    """ONNX element type of a NumPy dtype name. Raises ValueError for one that NumPy or ONNX lacks."""
    from onnx import TensorProto

    known = {"float32": "FLOAT", "float64": "DOUBLE"}
    name = known.get(str(dtype), str(dtype).upper())
    if name not in TensorProto.DataType.keys():  # noqa: SIM118 - a descriptor, not a dict
        raise ValueError(f"{dtype} is no element type")
    return TensorProto.DataType.Value(name)


def value_info(name, dtype, shape):
    """An ONNX input or output; shape None: unknown, -1 in it: free."""
    from onnx import helper

    dims = None if shape is None else ["batch" if i == 0 else None for i, _ in enumerate(shape)]
    if shape is not None:
        dims = [size if size >= 0 else free for size, free in zip(shape, dims)]
    return helper.make_tensor_value_info(name, element_type(dtype), dims)


def opset(model):
    return max([item.version for item in model.opset_import if item.domain in ("", "ai.onnx")] or [1])


def has_int64(model):
    from onnx import TensorProto

    return any(tensor.data_type == TensorProto.INT64 for tensor in model.graph.initializer) or any(
        attribute.t.data_type == TensorProto.INT64
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    )


def has_qdq(model):
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node)


# --- arithmetic ----------------------------------------------------------------------------------------------------


WEIGHTY = ("Conv", "Gemm", "MatMul")
LIKE = 0.998  # cosine of every output with the FP32 graph's at which a mixed graph is kept


def rounded(model, precision, batches=None, per_axis=True, halves=(), wholes=()):
    """The model as `precision` computes it: "fp32", "fp16" or "int8". int8 is a mixture, as the vendors' is: inputs and
    weights of Conv, Gemm and MatMul in symmetric 8 bit (weights of Conv with a range for each output channel when
    `per_axis`), ranges being the largest magnitudes seen in `batches` (arrays, or of several inputs {name: array}), the
    rest in FP16; and of the layers the first 0, 1, 2, 4 ... stay in FP16 too, until every output is `LIKE` the FP32
    graph's on the first image; layers that make a tensor of `halves` always do, and those that make one of `wholes`
    stay in FP32. With explicit Q/DQ in the graph that alone counts."""
    if simulate.switches().get("stale_engine"):
        model = simulate.another_checkpoint(model)
    if precision == "fp32":
        return model
    model = simulate.fold_batch_norm(model)
    exact = {node.name for node in model.graph.node if node.output[0] in wholes}
    if precision == "fp16" or has_qdq(model) or not batches:
        return simulate.half_weights(model, exact=exact)
    halves = {*halves, *wholes}
    if isinstance(batches[0], dict):
        return _eight_bit_mixture(model, batches, per_axis, halves, exact)
    first = described(model, "inputs")[0][0]
    sets = [{first: batch} for batch in _whole_batches(model, different(batches))]
    return _eight_bit_mixture(model, sets, per_axis, halves, exact)


def different(batches):
    """The different images of calibration batches, each as a batch of one, in the order of their first appearance."""
    found = {}
    for batch in batches:
        for i in range(len(batch)):
            found.setdefault(hashlib.sha256(batch[i].tobytes()).digest(), batch[i : i + 1])
    return list(found.values())


def _whole_batches(model, images):
    """The images as the graph takes them: one by one, or in whole batches where it is made for one batch size (the
    last one filled up from the start)."""
    import numpy as np

    batch = described(model, "inputs")[0][2][0]
    if batch in (-1, 1):
        return images
    starts = range(0, len(images), batch)
    return [np.concatenate([images[i % len(images)] for i in range(at, at + batch)]) for at in starts]


def _eight_bit_mixture(model, sets, per_axis, halves, exact):
    """As `rounded` says, with `sets` of arrays by input. Kept in the simulators' memory: the batch changes nothing."""
    import numpy as np
    import onnx

    digests = [hashlib.sha256(each[name].tobytes()).hexdigest() for each in sets for name in sorted(each)]
    key = rowwise.name_of(model, "eight bits", bool(per_axis), LIKE, digests, sorted(halves), sorted(exact))
    known = rowwise.memory.get(key)
    if known is not None:
        return onnx.load_from_string(known[0].tobytes())
    peaks = _peaks(model, sets)
    makes = [node.output[0] for node in model.graph.node if node.op_type in WEIGHTY]
    layers = [name for name in makes if name not in halves]
    fed = sets[0]
    wanted = simulate.runner(model).run(None, fed)
    for first in [0] + [2**power for power in range(20) if 2**power < len(layers)] + [len(layers)]:
        mixed = _mixed(model, frozenset(layers[first:]), peaks, per_axis, exact)
        if all(_cosine(*pair) >= LIKE for pair in zip(wanted, simulate.runner(mixed).run(None, fed))):
            break
    rowwise.memory.put(key, [np.frombuffer(mixed.SerializeToString(), np.uint8)])
    return mixed


def _mixed(model, chosen, peaks, per_axis, exact):
    """A copy with the layers that make `chosen` tensors in 8 bit and the others in FP16, but those named in `exact`."""
    import onnx
    from onnx import numpy_helper

    mixed = onnx.ModelProto()
    mixed.CopyFrom(model)
    simulate.half_weights(mixed, exact=exact)
    whole = {tensor.name: tensor for tensor in model.graph.initializer}
    kept = {tensor.name: tensor for tensor in mixed.graph.initializer}
    for node in mixed.graph.node:
        if node.output[0] in chosen and node.input[1] in whole:
            values = _eight_bits(numpy_helper.to_array(whole[node.input[1]]), per_axis)
            kept[node.input[1]].CopyFrom(numpy_helper.from_array(values, node.input[1]))
    _quantise_activations(mixed, chosen, peaks)
    return mixed


def _cosine(one, other):
    import numpy as np

    if one.shape != other.shape:  # as many boxes as the values say
        return 0.0
    one, other = one.astype("f8").ravel(), other.astype("f8").ravel()
    return float(one @ other / max(np.linalg.norm(one) * np.linalg.norm(other), 1e-300))


def _eight_bits(values, per_axis):
    import numpy as np

    if values.dtype != np.float32 or values.ndim < 2:
        return simulate.half(values)
    axes = tuple(range(1, values.ndim)) if per_axis and values.ndim == 4 else None
    step = np.abs(values).max(axis=axes, keepdims=axes is not None) / 127.0
    step = np.where(step > 0, step, 1.0)
    return (np.clip(np.round(values / step), -127, 127) * step).astype(np.float32)


def _quantised_inputs(model):
    weights = {tensor.name for tensor in model.graph.initializer}
    names = [node.input[0] for node in model.graph.node if node.op_type in WEIGHTY]
    return [name for name in dict.fromkeys(names) if name not in weights]


def _peaks(model, sets):
    """Largest magnitude of every tensor that will be quantised."""
    import numpy as np
    import onnx

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    names = _quantised_inputs(model)
    own = {row[0] for row in described(model, "inputs")}
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in own)
    session = simulate.runner(probe) if probe.graph.output else None
    peaks = {}
    for fed in sets:
        tensors = dict(fed)
        if session is not None:
            made = [output.name for output in session.get_outputs()]
            tensors.update(zip(made, session.run(made, fed)))
        for name in names:
            peaks[name] = max(peaks.get(name, 0.0), float(np.abs(tensors[name]).max()))
    return peaks


def _quantise_activations(model, chosen, peaks):
    """Put QuantizeLinear and DequantizeLinear between tensors that have a peak and the layers that make `chosen`."""
    import numpy as np
    from onnx import helper, numpy_helper

    graph = model.graph
    used = {node.input[0] for node in graph.node if node.output[0] in chosen}
    for i, (name, peak) in enumerate((name, peak) for name, peak in peaks.items() if name in used):
        step, zero, q, dq = (f"{name}.{i}.{part}" for part in ("step", "zero", "q", "dq"))
        graph.initializer.append(numpy_helper.from_array(np.array((peak or 1.0) / 127.0, "f4"), step))
        graph.initializer.append(numpy_helper.from_array(np.array(0, "i1"), zero))
        for node in graph.node:
            if node.output[0] in chosen and node.input[0] == name:
                node.input[0] = dq
        pair = [
            helper.make_node("QuantizeLinear", [name, step, zero], [q]),
            helper.make_node("DequantizeLinear", [q, step, zero], [dq]),
        ]
        made = [at for at, node in enumerate(graph.node) if name in node.output]
        at = made[0] + 1 if made else 0
        rest = list(graph.node)
        del graph.node[:]
        graph.node.extend(rest[:at] + pair + rest[at:])


def with_front(model, name, mean=None, var=None, layouts=None, dtype=None):
    """Give input `name` of the model another face: uint8 when `mean` and `var` are inserted, else `dtype`;
    `layouts` ("NCHW", "NHWC"): that of the model and that of the face. Applies the switches `wrong_mean` and
    `swap_channels`."""
    from onnx import TensorProto, helper

    graph = model.graph
    value = next(item for item in graph.input if item.name == name)
    dims = [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or (f"{name} axis {i}" if i else "batch")
        for i, dim in enumerate(value.type.tensor_type.shape.dim)
    ]
    inner = name + ".inner"
    for node in graph.node:
        for i, used in enumerate(node.input):
            if used == name:
                node.input[i] = inner
    steps, current = [], name
    if layouts:
        own, face = layouts
        dims = [dims[own.index(letter)] for letter in face]
        order = [face.index(letter) for letter in own]
        steps.append(helper.make_node("Transpose", [current], [name + ".turned"], perm=order))
        current = name + ".turned"
    own_kind = kind = value.type.tensor_type.elem_type
    if dtype is not None and mean is None:
        kind = element_type(dtype)
        steps.append(helper.make_node("Cast", [current], [name + ".cast"], to=own_kind))
        current = name + ".cast"
    if mean is not None:
        kind = TensorProto.UINT8
        current = _normalise(graph, name, len(dims), mean, var, steps, current)
    steps.append(helper.make_node("Identity", [current], [inner]))
    value.CopyFrom(helper.make_tensor_value_info(name, kind, dims))
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend(steps + rest)
    return model


def _normalise(graph, name, rank, mean, var, steps, current):
    """Append nodes that take `mean` off pixels and divide them by the root of `var`; returns the tensor they make."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    active = simulate.switches()
    mean = [m + float(active.get("wrong_mean", 0)) for m in mean]
    if active.get("swap_channels"):
        mean, var = mean[::-1], var[::-1]
    for suffix, values in (("mean", mean), ("std", np.sqrt(var))):
        tensor = numpy_helper.from_array(
            np.array(values, "f4").reshape((1, -1) + (1,) * (rank - 2)), name + "." + suffix
        )
        graph.initializer.append(tensor)
    steps.append(helper.make_node("Cast", [current], [name + ".float"], to=TensorProto.FLOAT))
    steps.append(helper.make_node("Sub", [name + ".float", name + ".mean"], [name + ".centred"]))
    steps.append(helper.make_node("Div", [name + ".centred", name + ".std"], [name + ".scaled"]))
    return name + ".scaled"


def with_back(model, name, layouts=None, dtype=None):
    """Give output `name` another face: layout ("NCHW", "NHWC": the model's, the face's) and element type. In place."""
    from onnx import helper

    graph = model.graph
    value = next(item for item in graph.output if item.name == name)
    kind = value.type.tensor_type
    inner = name + ".inner"
    for node in graph.node:
        for i, made in enumerate(node.output):
            if made == name:
                node.output[i] = inner
        for i, used in enumerate(node.input):
            if used == name:
                node.input[i] = inner
    current = inner
    if layouts:
        own, face = layouts
        if len(kind.shape.dim) != len(own):
            raise ValueError(f"the layout {own} for an output of {len(kind.shape.dim)} dimensions")
        dims = [type(dim).FromString(dim.SerializeToString()) for dim in kind.shape.dim]
        for dim, letter in zip(kind.shape.dim, face):
            dim.CopyFrom(dims[own.index(letter)])
        order = [own.index(letter) for letter in face]
        graph.node.append(helper.make_node("Transpose", [current], [inner + ".turned"], perm=order))
        current = inner + ".turned"
    if dtype is not None:
        kind.elem_type = element_type(dtype)
    graph.node.append(helper.make_node("Cast", [current], [name], to=kind.elem_type))
    return model


def narrow_outputs(model):
    """int64 outputs become int32, as compilers without 64-bit types deliver them."""
    from onnx import TensorProto, helper

    graph = model.graph
    for value in graph.output:
        if value.type.tensor_type.elem_type != TensorProto.INT64:
            continue
        for node in graph.node:
            for i, made in enumerate(node.output):
                if made == value.name:
                    node.output[i] = value.name + ".wide"
        graph.node.append(helper.make_node("Cast", [value.name + ".wide"], [value.name], to=TensorProto.INT32))
        value.type.tensor_type.elem_type = TensorProto.INT32
    return model
