"""A model of the user's own: any ONNX file whose inputs have fixed shapes, or a free batch at axis 0."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.backends.base import TensorSpec, shape_at
from harness.case import Tensors
from harness.errors import UsageError
from harness.vendor.operators import told

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

FIX = "python -m onnxruntime.tools.make_dynamic_shape_fixed --dim_param {axis} --dim_value N {file} fixed.onnx"
LARGEST = 2**31 - 1  # bytes of a serialised graph: protobuf's limit
ROWS_FOR_INT8 = 8  # of which half calibrate: fewer say little of the ranges of real inputs
FEW = 2  # an integer input whose range nothing in the graph tells is drawn from 0 and 1, which any table has
STANDARD = ("", "ai.onnx")  # how a file names ONNX's own operators
DRAWS = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")


@dataclass(frozen=True)
class OwnModel:
    """An ONNX file as it is tested. `ranges` has low and high (exclusive) of what integer inputs may be; `given` what
    the user gave of inputs: axis 0 is the batch where that is free; else it counts whole tensors where the array has an
    axis more than the input."""

    name: str
    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    free_batch: bool
    digest: str  # SHA-256 of graph and weights
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    given: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def inputs_digest(self) -> str:
        """SHA-256 of what decides the inputs that are drawn."""
        total = hashlib.sha256(repr(sorted(self.ranges.items())).encode())
        for name, rows in sorted(self.given.items()):
            total.update(f"{name} {rows.dtype} {rows.shape}".encode() + np.ascontiguousarray(rows).tobytes())
        return total.hexdigest()

    @property
    def lacks_for_int8(self) -> str:
        """Why no INT8 engine can be calibrated, or "": each input needs rows of its own, for ranges of drawn inputs
        would not be those of real ones, and all as many."""
        lacking = [tensor.name for tensor in self.inputs if not self._several(tensor)]
        counts = {name: len(rows) for name, rows in self.given.items() if name not in lacking}
        if lacking:
            return f"no rows are given for {', '.join(lacking)}"
        if min(counts.values()) < ROWS_FOR_INT8:
            return f"{min(counts.values())} rows are given, {ROWS_FOR_INT8} are needed"
        wide = [tensor.name for tensor in self.inputs if tensor.dtype in ("float16", "float64")]
        if wide:
            return f"{', '.join(wide)} is not float32, in which compilers are calibrated"
        told = ", ".join(f"{count} for {name}" for name, count in counts.items())
        return f"inputs have different numbers of rows: {told}" if len({*counts.values()}) > 1 else ""

    def _several(self, tensor: TensorSpec) -> bool:
        """Whether axis 0 of what was given for the input counts samples."""
        return tensor.name in self.given and (
            tensor.shape[:1] == (-1,) or self.given[tensor.name].ndim > len(tensor.shape)
        )

    def parted(self) -> tuple[list[NDArray[Any]], OwnModel]:
        """(every second of the rows that were given, input by input, the model fed with the others): what an INT8
        engine is calibrated on, and what it is judged by."""
        rows = [self.given[tensor.name][1::2] for tensor in self.inputs]
        return rows, replace(self, given={name: kept[::2] for name, kept in self.given.items()})

    def draw(self, batch: int, seed: int = 0) -> Tensors:
        """Inputs at that batch: floats standard normal, bytes over their whole range, integers within what the graph
        allows; where the user gave rows, those, repeated in turn (for another seed, from another row on)."""
        random = np.random.default_rng(seed)
        return {tensor.name: self._draw(tensor, shape_at(tensor, batch), random, seed) for tensor in self.inputs}

    def _draw(
        self, tensor: TensorSpec, shape: tuple[int, ...], random: np.random.Generator, seed: int
    ) -> NDArray[np.generic]:
        if tensor.name in self.given:
            rows = self.given[tensor.name]
            if tensor.shape[:1] == (-1,):
                return rows[(np.arange(shape[0]) + seed) % len(rows)]
            return rows[seed % len(rows)] if self._several(tensor) else rows
        kind = np.dtype(tensor.dtype)
        if tensor.name in self.ranges:
            low, high = self.ranges[tensor.name]
            drawn = (
                random.uniform(low, high, shape) if kind.kind == "f" else random.integers(int(low), int(high), shape)
            )
        elif kind.kind == "f":
            drawn = random.standard_normal(shape)
        else:
            drawn = random.integers(0, 2 if kind.kind == "b" else FEW, shape)
        return np.asarray(drawn, kind)


def several(paths: Iterable[Path], options: Mapping[str, str]) -> list[OwnModel]:
    """The models in ONNX files, each with the `options` of its own inputs. Raises UsageError as read does, and for an
    option that is of no file."""
    models = [read(path, options, others=True) for path in paths]
    known = [tensor.name for model in models for tensor in model.inputs]
    if strange := [name for name in options if name not in known]:
        raise UsageError(f"no file has an input {strange[0]}", hint=f"their inputs: {', '.join(known)}")
    return models


def read(path: Path, options: Mapping[str, str] | None = None, others: bool = False) -> OwnModel:
    """The model in an ONNX file. `options` maps an input's name to LOW:HIGH or to an .npy file; with `others`, also
    inputs of other files.

    Raises UsageError for what cannot be tested: a damaged file, weights outside its folder, an empty graph, inputs or
    outputs that are no numeric tensors, axes other than the batch that are free, more than 2 GB, operators that draw at
    random."""
    graph = _loaded(path)
    taken = list(graph.graph.input)
    if not taken or not graph.graph.output or not graph.graph.node:
        raise UsageError(f"{path} computes nothing: {len(taken)} inputs, {len(graph.graph.node)} nodes",
                         hint="give a graph with inputs, nodes and outputs")  # fmt: skip
    inputs = tuple(_tensor(value, path, "input") for value in taken)
    for value in graph.graph.output:
        _tensor(value, path, "output", shaped=False)
    there = {value.name for value in (*taken, *graph.graph.initializer)}
    if passed := [value.name for value in graph.graph.output if value.name in there]:
        raise UsageError(f"{path}: output {passed[0]} is an input or a weight: nothing computes it",
                         hint="take it out of the graph's outputs")  # fmt: skip
    if drawing := _drawing(graph):
        raise UsageError(
            f"{path}: it draws at random, so no output is the right one: {told(drawing)}",
            hint="export it for inference, after model.eval(), or make the drawn numbers an input of the graph",
        )
    free = [tensor for tensor in inputs if tensor.shape[:1] == (-1,)]
    names = {tensor.name for tensor in inputs}
    asked = {name: text for name, text in (options or {}).items() if name in names or not others}
    given, ranges = _given(asked, inputs, path)
    ranges = {**_whole_bytes(inputs), **_rows_of_tables(graph.graph, inputs), **ranges}
    name = "own_" + re.sub(r"\W", "_", path.stem).strip("_").lower()
    digest = hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest()
    return OwnModel(name, path, inputs, tuple(value.name for value in graph.graph.output), bool(free), digest,
                    ranges, given)  # fmt: skip


def inputs(given: Iterable[str], files: int) -> dict[str, str]:
    """Name -> value of each --onnx-input NAME=VALUE. Raises UsageError for another form, and where no file is given."""
    found: dict[str, str] = {}
    for text in given:
        if not files:
            raise UsageError(f"--onnx-input {text} needs --onnx FILE", hint="give the file, or leave --onnx-input out")
        name, sign, value = text.partition("=")
        if not (sign and name and value):
            raise UsageError(f"--onnx-input {text} is not NAME=VALUE", hint="write NAME=LOW:HIGH or NAME=FILE.npy")
        found[name] = value
    return found


def whole(path: Path) -> ModelProto:
    """The graph with its weights, which may lie in files beside it. Raises UsageError."""
    return _loaded(path)


def operators(model: ModelProto) -> dict[str, list[str]]:
    """The operators that a file uses, with the names of their nodes: "Conv", or "domain:Name" of other domains than
    ONNX's own; also inside of branches, loops and functions. A call of one of the file's own functions is none."""
    own = {(function.domain, function.name) for function in model.functions}
    found: dict[str, list[str]] = {}
    for node in _nodes(model):
        if (node.domain, node.op_type) not in own:
            name = node.op_type if node.domain in STANDARD else f"{node.domain}:{node.op_type}"
            found.setdefault(name, []).append(node.name or ", ".join(node.output))
    return found


def batch_axis(model: OwnModel) -> str:
    """The name of the free batch, "batch" where it has none."""
    names = (value.type.tensor_type.shape.dim[:1] for value in whole(model.path).graph.input)
    return next((axis[0].dim_param for axis in names if axis and axis[0].dim_param), "batch")


def _nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Every node, also inside of branches, loops and functions."""
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while waiting:
        node = waiting.pop(0)
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                waiting += graph.node


def _drawing(model: ModelProto) -> dict[str, list[str]]:
    """The operators that draw at random, with the names of their nodes; Dropout does where its third input may be
    true."""
    from onnx import numpy_helper

    made = [(node.output[0], a.t) for node in _nodes(model) if node.op_type == "Constant" for a in node.attribute]
    constants = [*((tensor.name, tensor) for tensor in model.graph.initializer), *made]
    off = {
        name
        for name, tensor in constants
        if tensor.data_type == tensor.BOOL and not numpy_helper.to_array(tensor).any()
    }
    found: dict[str, list[str]] = {}
    for node in _nodes(model):
        trains = node.op_type == "Dropout" and any(name and name not in off for name in node.input[2:3])
        if node.domain in STANDARD and (node.op_type in DRAWS or trains):
            found.setdefault(node.op_type, []).append(node.name or ", ".join(node.output))
    return found


def _loaded(path: Path) -> ModelProto:
    import onnx
    from onnx import external_data_helper

    if not path.is_file():
        raise UsageError(f"{path}: no such file", hint="pytest -m CHIP --onnx FILE.onnx")
    if path.stat().st_size > LARGEST:
        raise UsageError(f"{path} is larger than 2 GB", hint="keep its weights in a file beside it (external data)")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises classes of its own
        raise UsageError(
            f"{path} is not an ONNX file: {type(error).__name__}: {error}",
            hint="give a file that torch.onnx.export or onnx.save wrote, then: chipproof check FILE.onnx --chip CHIP",
        ) from error
    outside = [place for place in _places(model) if not (path.parent / place).resolve().is_relative_to(
        path.parent.resolve())]  # fmt: skip
    if outside:
        raise UsageError(f"{path} reads weights from {outside[0]!r}, outside its folder",
                         hint="put the weights beside the file")  # fmt: skip
    if missing := [place for place in _places(model) if not (path.parent / place).is_file()]:
        raise UsageError(f"{path} keeps its weights in {missing[0]!r}, which is not beside it",
                         hint=f"copy it to {shlex.quote(str(path.parent))}")  # fmt: skip
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
        if model.ByteSize() > LARGEST:
            raise UsageError(
                f"{path} with its weights is larger than 2 GB", hint="test a part of it: onnx.utils.Extractor"
            )
        onnx.checker.check_model(model)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{path} is not valid: {' '.join(str(error).split())[:300]}",
                         hint=f"see: check-model {shlex.quote(str(path))}") from error  # fmt: skip
    _weights_are_no_inputs(model)
    model = _without_functions(model)
    _name_nodes(model)
    return model


def _without_functions(model: ModelProto) -> ModelProto:
    """The model with its own functions written out, and without domains that no node uses: compilers take neither."""
    from onnx import inliner

    plain = inliner.inline_local_functions(model) if model.functions else model
    used = {"" if node.domain in STANDARD else node.domain for node in _nodes(plain)}
    kept = [row for row in plain.opset_import if row.domain in used or row.domain in STANDARD]
    del plain.opset_import[:]
    plain.opset_import.extend(kept)
    return plain


def _weights_are_no_inputs(model: ModelProto) -> None:
    """Take weights out of the inputs, where files of IR version 3 list them too: no compiler folds an input."""
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, 4)


def _name_nodes(model: ModelProto) -> None:
    """Name nodes that have no name after operator and place: diagnosis and some compilers go by names."""
    taken = {node.name for node in model.graph.node}
    for number, node in enumerate(model.graph.node):
        if not node.name:
            names = (f"{node.op_type}_{number}{'_' * more}" for more in itertools.count())
            node.name = next(name for name in names if name not in taken)
            taken.add(node.name)


def _places(model: ModelProto) -> Iterator[str]:
    """Where the file says that its weights lie."""
    from onnx import external_data_helper

    for tensor in external_data_helper._get_all_tensors(model):
        for entry in tensor.external_data:
            if entry.key == "location":
                yield entry.value


def _tensor(value: ValueInfoProto, path: Path, what: str, shaped: bool = True) -> TensorSpec:
    from onnx import helper

    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        found = "value that may be absent" if kind == "optional_type" else str(kind).removesuffix("_type")
        raise UsageError(f"{path}: {what} {value.name} is a {found}, not a tensor",
                         hint="give a graph whose inputs and outputs are tensors")  # fmt: skip
    row = value.type.tensor_type
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(row.elem_type))
    if dtype.kind not in "fiub":
        raise UsageError(
            f"{path}: {what} {value.name} is of {dtype if dtype.kind != 'O' else 'strings'}",
            hint="cast it inside the graph: float32, float16, float64, integers and bool are fed",
        )
    if not shaped:
        return TensorSpec(value.name, dtype.name, ())
    if not row.HasField("shape"):
        raise UsageError(f"{path}: {what} {value.name} has no shape", hint="export it with the shapes of its inputs")
    sizes = tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in row.shape.dim)
    for place, (axis, size) in enumerate(zip(row.shape.dim, sizes, strict=True)):
        if place and size == -1:
            name = axis.dim_param or f"axis{place}"
            raise UsageError(
                f"{path}: axis {place} of {what} {value.name} is free ({name}); chips compile fixed shapes, only the "
                "batch (axis 0) may be free",
                hint=FIX.format(axis=name, file=path) if axis.dim_param else "export it with a fixed size there",
            )
        if size == 0:
            raise UsageError(
                f"{path}: axis {place} of {what} {value.name} has size 0", hint="export it with a real size"
            )
    return TensorSpec(value.name, dtype.name, sizes)


def _whole_bytes(inputs: tuple[TensorSpec, ...]) -> dict[str, tuple[float, float]]:
    wide = {"uint8": (0.0, 256.0), "int8": (-128.0, 128.0)}
    return {tensor.name: wide[tensor.dtype] for tensor in inputs if tensor.dtype in wide}


def _rows_of_tables(graph: GraphProto, inputs: tuple[TensorSpec, ...]) -> dict[str, tuple[float, float]]:
    """For integer inputs that look rows of a constant table up (Gather): 0 to the number of rows."""
    names = {tensor.name: tensor.name for tensor in inputs if np.dtype(tensor.dtype).kind in "iu"}
    tables = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    found: dict[str, tuple[float, float]] = {}
    for node in graph.node:
        if node.op_type in ("Cast", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose", "Identity"):
            names.update({out: names[node.input[0]] for out in node.output if node.input[0] in names})
        if node.op_type == "Gather" and node.input[0] in tables and node.input[1] in names:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            rows = float(tables[node.input[0]][axis])
            source = names[node.input[1]]
            found[source] = (0.0, min(rows, found.get(source, (0.0, math.inf))[1]))
    return found


def _given(
    options: Mapping[str, str], inputs: tuple[TensorSpec, ...], path: Path
) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[float, float]]]:
    """(rows by input, bounds by input) of --onnx-input."""
    table = {tensor.name: tensor for tensor in inputs}
    rows: dict[str, NDArray[Any]] = {}
    bounds: dict[str, tuple[float, float]] = {}
    for name, text in options.items():
        if name not in table:
            raise UsageError(f"{path} has no input {name}", hint=f"its inputs: {', '.join(table)}")
        match = re.fullmatch(r"(-?[\d.e+-]+):(-?[\d.e+-]+)", text)
        if match:
            bounds[name] = _bounds(name, match[1], match[2])
        else:
            rows[name] = _rows(table[name], Path(text))
    return rows, bounds


def _bounds(name: str, low: str, high: str) -> tuple[float, float]:
    try:
        found = float(low), float(high)
    except ValueError:
        raise UsageError(
            f"--onnx-input {name}={low}:{high} is not a range", hint="write LOW:HIGH, for example 0:1"
        ) from None
    if not -math.inf < found[0] < found[1] < math.inf:
        raise UsageError(f"--onnx-input {name}={low}:{high} is empty", hint="write LOW:HIGH with LOW below HIGH")
    return found


def _rows(tensor: TensorSpec, file: Path) -> NDArray[Any]:
    try:
        rows = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"--onnx-input {tensor.name}={file} cannot be read: {error}",
                         hint="give LOW:HIGH or a file written by numpy.save") from error  # fmt: skip
    if not isinstance(rows, np.ndarray):  # numpy.load reads archives too
        raise UsageError(f"--onnx-input {tensor.name}={file} is an archive of arrays",
                         hint="save each array by itself with numpy.save, as an .npy file")  # fmt: skip
    free, fixed = tensor.shape[:1] == (-1,), tensor.shape
    fits = rows.shape[1:] == fixed[1:] and len(rows) if free else rows.shape == fixed
    if not free and rows.shape[1:] == fixed[1:] and fixed[:1] == (1,) and len(rows) > 1:
        rows = rows[:, np.newaxis]
    if rows.dtype.name != tensor.dtype or not (fits or (not free and rows.shape[1:] == fixed and len(rows))):
        shape = ["N", *fixed[1:]] if free else list(fixed)
        several = "" if free else f", or {['N', *fixed]} for several"
        wanted = f"{tensor.dtype} {shape}{several}"
        raise UsageError(f"{file} is {rows.dtype} {list(rows.shape)}, input {tensor.name} {wanted}",
                         hint="save it with that dtype and shape")  # fmt: skip
    if len(bad := np.argwhere(~np.isfinite(rows))):
        raise UsageError(
            f"{file} has {len(bad)} of {rows.size} values that are NaN or infinite, first at {bad[0].tolist()}",
            hint="save it with finite ones; in a mask write -65504 instead of minus infinity",
        )
    return np.asarray(rows)
