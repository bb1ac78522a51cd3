"""The first layer that differs: intermediate tensors are made outputs and compared until one layer is left."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.case import Precision, Tensors
from harness.errors import BuildError, DeviceError, RunError
from harness.export import graph
from harness.judge.numerics import judge_numerics
from harness.judge.verdict import Verdict
from harness.reference.exact import SIZES, reads
from harness.vocabulary import Outcome

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

MOST = 48  # tensors made outputs at once: each prevents a fusion by the compiler, and nobody reads a longer list
ROOM = 2**30  # bytes of outputs that one run may return
UNKNOWN = 0
READABLE = (
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid",
    "Softmax", "Add", "MaxPool", "AveragePool", "GlobalAveragePool", "Resize", "Upsample", "Concat",
)  # compared first: the operators that people call layers  # fmt: skip

FLOATS = (1, 10, 11)  # FLOAT, FLOAT16 and DOUBLE of onnx.TensorProto
STOPPED = "stopped for time"

Measure = Callable[[Sequence[str]], Mapping[str, Verdict]]
"""Tensors to make outputs -> the verdict of each that has a row for each image, and of the graph's own outputs. Raises
BuildError, DeviceError or RunError when the compiler or the chip does not take so many outputs."""


@dataclass(frozen=True)
class Layer:
    """A floating-point tensor that depends on the network's input, and the node that computes it."""

    tensor: str
    node: str
    op: str
    inputs: tuple[str, ...]  # the nearest such tensors before it, or the network's input
    shape: tuple[int, ...]  # at the requested batch

    @property
    def bytes(self) -> int:
        """Size of the tensor in FP32, in bytes."""
        return 4 * math.prod(size or 1 for size in self.shape)

    def __str__(self) -> str:
        return f"{self.tensor} ({self.op} {self.node})"


@dataclass(frozen=True)
class Located:
    """Verdicts of the tensors that were compared, in the order of the graph, and the first layer that fails."""

    seen: tuple[tuple[Layer, Verdict], ...]
    first: Layer | None
    before: tuple[tuple[str, Verdict | None], ...]  # inputs of the first layer that fails; None: the network's input
    notes: tuple[str, ...]  # steps that failed


def layers(model: ModelProto, batch: int) -> tuple[Layer, ...]:
    """Every tensor of the graph that can be compared image by image at that batch, in the order of the graph."""
    fixed = graph.set_batch(model, batch).graph
    known = {value.name: value for value in [*fixed.value_info, *fixed.output]}
    outputs = {value.name for value in fixed.output}
    constants = {tensor.name for tensor in fixed.initializer}
    nearest: dict[str, tuple[str, ...]] = {v.name: (v.name,) for v in fixed.input if v.name not in constants}
    found = []
    for node in fixed.node:
        taken = () if node.op_type in SIZES else reads(node)
        before = tuple(dict.fromkeys(source for name in taken for source in nearest.get(name, ())))
        for name in node.output:
            value = known.get(name)
            if not before:
                continue
            shape = () if value is None else _shape(value)
            floats = value is None or value.type.tensor_type.elem_type in FLOATS
            if floats and (name in outputs or shape[:1] in ((batch,), (UNKNOWN,))):
                found.append(Layer(name, node.name, node.op_type, before, shape))
                nearest[name] = (name,)
            else:
                nearest[name] = before
    return tuple(found)


def tapped(model: ModelProto, every: Sequence[Layer], tensors: Sequence[str]) -> ModelProto:
    """The graph with `tensors` as further outputs (graph.tap), each with the rank that compilers need."""
    shapes = {layer.tensor: layer.shape for layer in every}
    bare = graph.tap(model, tensors)
    for value in bare.graph.output:
        axes = value.type.tensor_type.shape.dim
        if not axes:
            axes.add().dim_param = "batch"
            for place, size in enumerate(shapes[value.name][1:], 1):
                axes.add(**({"dim_value": size} if size else {"dim_param": f"{value.name}_{place}"}))
    return bare


def _shape(value: ValueInfoProto) -> tuple[int, ...]:
    """Sizes of the axes, UNKNOWN for a size that ONNX cannot infer, such as after a resize to a computed size."""
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def locate(
    every: Sequence[Layer], measure: Measure, most: int = MOST, more: Callable[[], bool] = lambda: True
) -> Located:
    """The first layer whose tensor fails, found in few runs.

    The first run compares layers spread over the graph, each further run those between the last layers that pass and
    the first that fails, while there is `more` time. When the compiler or chip refuses so many outputs, half as many
    are tried. Raises the error of the last try when not even one tensor can be made an output."""
    seen: dict[str, Verdict] = {}
    asked: set[str] = set()
    notes: list[str] = []
    suspects = list(every)
    while suspects:
        if asked and not more():
            notes.append(f"{STOPPED}, {len(suspects)} layers before it were not compared")
            break
        chosen = pick(suspects, most)
        try:
            seen.update(measure([layer.tensor for layer in chosen]))
        except (BuildError, DeviceError, RunError) as error:
            if len(chosen) == 1:
                if not seen:
                    raise
                notes.append(f"{chosen[0]} cannot be made an output: {error.fact}")
                break
            most = len(chosen) // 2
            notes.append(f"{len(chosen)} tensors at once were refused ({error.fact}); tried {most}")
            continue
        asked |= seen.keys() | {layer.tensor for layer in chosen}
        suspects = _narrowed(every, seen, asked)
    table = {layer.tensor: layer for layer in every}
    first = next((layer for layer in every if _fails(seen, layer.tensor)), None)
    before = () if first is None else tuple((n, seen.get(n)) for n in first.inputs if n in seen or n not in table)
    return Located(tuple((layer, seen[layer.tensor]) for layer in every if layer.tensor in seen), first, before,
                   tuple(notes))  # fmt: skip


def pick(suspects: Sequence[Layer], most: int) -> list[Layer]:
    """At most `most` of the suspects, no more than fit into ROOM bytes, spread evenly; READABLE ones are preferred."""
    mean = sum(layer.bytes for layer in suspects) / len(suspects)
    most = max(1, min(most, int(ROOM / max(mean, 1))))
    if len(suspects) <= most:
        return list(suspects)
    among = [layer for layer in suspects if layer.op in READABLE] or suspects
    if len(among) <= most:
        return list(among)
    return [among[(place + 1) * len(among) // (most + 1)] for place in range(most)]


def _narrowed(every: Sequence[Layer], seen: Mapping[str, Verdict], asked: set[str]) -> list[Layer]:
    """Layers not yet compared that may be the first to fail: those before the first known failure that do not lead to a
    layer that passes.

    A layer after or beside the failure that passes is no evidence, because for example a softmax hides errors. When no
    suspect is left, the inputs of the first failing layer, so that they are compared too."""
    first = next((layer for layer in every if _fails(seen, layer.tensor)), None)
    if first is None:
        return []
    table = {layer.tensor: layer for layer in every}
    leading = _leading_to(table, [first.tensor])
    cleared = _leading_to(table, [name for name in leading if name in seen and not _fails(seen, name)])
    suspects = leading - cleared - asked
    return [layer for layer in every if layer.tensor in (suspects or set(first.inputs) - asked)]


def _leading_to(table: Mapping[str, Layer], ends: Sequence[str]) -> set[str]:
    reached: set[str] = set()
    waiting = [name for name in ends if name in table]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [other for other in table[name].inputs if other in table]
    return reached


def _fails(seen: Mapping[str, Verdict], name: str) -> bool:
    return name in seen and seen[name].outcome is not Outcome.PASS


def reference(model: ModelProto, images: NDArray[np.float32], batch: int) -> Tensors:
    """Outputs of the graph in FP32 on ONNX Runtime without optimisation, by name, for a batch that repeats the images.

    Outputs without a row for each image are left out. `images` is float32 (N, 3, H, W), N at most `batch`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in session.get_inputs())
    parts = [session.run(None, {name: images[i : i + 1]}) for i in range(len(images))]
    rows = [i % len(images) for i in range(batch)]
    names = [value.name for value in session.get_outputs()]
    columns = dict(zip(names, zip(*parts, strict=True), strict=True))
    return {
        name: np.concatenate(column)[rows] for name, column in columns.items() if all(len(row) == 1 for row in column)
    }


def of_batch(model: ModelProto, feeds: Tensors, batch: int) -> Tensors:
    """Outputs of the graph on ONNX Runtime without optimisation, by name, for one batch of all its inputs. Those whose
    axis 0 is not the batch are left out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = zip([value.name for value in session.get_outputs()], session.run(None, dict(feeds)), strict=True)
    return {name: np.asarray(value) for name, value in found if np.shape(value)[:1] == (batch,)}


def compare(chip: Tensors, wanted: Tensors, precision: Precision) -> dict[str, Verdict]:
    """The verdict of judge_numerics for each tensor by itself, by name."""
    return {
        name: judge_numerics({k: v for k, v in chip.items() if k == name}, {name: value}, precision)
        for name, value in wanted.items()
    }


def sentence(located: Located, outputs_fail: bool) -> str:
    """The result as a sentence; `outputs_fail` says whether the engine without added outputs differs."""
    if located.first is None and outputs_fail:
        return (
            f"no layer differs with {len(located.seen)} layers as outputs, but the engine without them does: the "
            "mistake is in what the compiler fuses or reorders; turn its optimisations off one by one"
        )
    if located.first is None:
        return f"nothing differs in {len(located.seen)} layers"
    verdict = next(verdict for layer, verdict in located.seen if layer is located.first)
    head = f"first to differ: {located.first}, {_short(verdict)}"
    inputs = ", ".join(f"{name} ({_short(v)})" for name, v in located.before if v is not None)
    if not located.before:
        return f"{head}; its inputs were not compared"
    if not inputs:
        return f"{head}; it reads {located.before[0][0]}, the network's input: check what is fed and normalised too"
    if _grown(verdict, [v for _, v in located.before if v is not None]):
        return f"{head}; its inputs are only just within the tolerance: {inputs}. The error begins before it and grows"
    return f"{head}; its inputs are still fine: {inputs}"


def _grown(verdict: Verdict, inputs: Sequence[Verdict]) -> bool:
    """Whether an input has more than half of the layer's rms error: then the error begins before this layer."""
    rms = verdict.details.get("rms")
    return rms is not None and any((v.details.get("rms") or 0.0) > rms / 2 for v in inputs)


def _short(verdict: Verdict) -> str:
    rms = verdict.details.get("rms")
    return verdict.text if rms is None else f"rms error {rms:.2g}"
