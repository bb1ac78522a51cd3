"""What a case's chip computes of tensors inside of its graph: the engine is built with them as outputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.backends.base import BuildSpec, TensorSpec, scratch
from harness.case import Tensors
from harness.diagnose import layers
from harness.diagnose.layers import Layer, Measure
from harness.errors import ExportError, HarnessError
from harness.judge.timing import Plan
from harness.judge.verdict import Verdict
from harness.run.engine import graph_outputs

if TYPE_CHECKING:
    from onnx import ModelProto

    from harness.run.case_run import CaseRun

SWEEP_PLAN = Plan(warmup_s=0.02, window_s=0.02, windows=5, latencies=1)  # of hundreds of parts: order, not figures
MOST_SECONDS = 120.0  # after which no further engine is built to find the first layer


def first_layer(case_run: CaseRun, seconds: float = MOST_SECONDS) -> tuple[str, dict[str, Any]]:
    """(the first layer that differs on the chip, in words; the same as facts). The device is given back meanwhile.

    Each round builds one engine, mostly two or three; none is begun after `seconds`, and what was not compared is said
    then. An error here is reported and changes no verdict."""
    until = time.monotonic() + seconds
    try:
        case_run.leave_device()
        if not (every := comparable(case_run)):
            raise ExportError(
                "no floating-point tensor has a row for each of the batch", hint="chipproof diagnose --sweep"
            )
        located = layers.locate(every, tapping(case_run, every), more=lambda: time.monotonic() < until)
    except Exception as error:  # of ONNX's shape inference too, whose classes have nothing in common
        why = error.fact if isinstance(error, HarnessError) else f"{type(error).__name__} {error}"
        return f"the first layer that differs was not found: {' '.join(why.split())[:300]}", {}
    first, notes = located.first, [note for note in located.notes if note.startswith(layers.STOPPED)]
    facts = {} if first is None else {"tensor": first.tensor, "op": first.op, "node": first.node}
    return "; ".join([layers.sentence(located, outputs_fail=True), *notes]), {**facts, "compared": len(located.seen)}


def comparable(case_run: CaseRun) -> tuple[Layer, ...]:
    """Every tensor of the case's graph that can be compared row by row (layers.layers)."""
    model = exported(case_run)
    return layers.layers(model, _rows(case_run, model))


def _rows(case_run: CaseRun, model: ModelProto) -> int:
    """Size of axis 0: the batch of the case, or in a file of fixed shapes what all its inputs have there."""
    constants = {tensor.name for tensor in model.graph.initializer}
    sizes = {
        axis.dim_value
        for value in model.graph.input if value.name not in constants
        for axis in value.type.tensor_type.shape.dim[:1]
    }  # fmt: skip
    return sizes.pop() if len(sizes) == 1 and 0 not in sizes else case_run.case.batch


def exported(case_run: CaseRun) -> ModelProto:
    """The graph that the case's engine is compiled from."""
    import onnx

    return onnx.load(case_run.onnx())


def tapping(case_run: CaseRun, every: Sequence[Layer]) -> Measure:
    """A function that builds the case's engine with given tensors as outputs and compares them with ONNX Runtime's in
    FP32."""
    model, wanted_of = exported(case_run), reference(case_run)

    def measure(tensors: Sequence[str]) -> Mapping[str, Verdict]:
        tapped = layers.tapped(model, every, tensors)
        return layers.compare(on_chip(case_run, tapped), wanted_of(tapped), case_run.case.precision)

    return measure


def on_chip(
    case_run: CaseRun,
    graph: ModelProto,
    feeds: Tensors | None = None,
    times: list[float] | None = None,
    in_fp32: Sequence[str] | None = None,
) -> Tensors:
    """What the chip computes of a graph, by default with the case's inputs, for one batch; `feeds` are the inputs of a
    part of the model, on which an INT8 part is calibrated. Seconds of one execute are put into `times`, where it is
    given. Nodes named in `in_fp32`, by default those of --backend-option, stay in FP32. Raises BuildError, DeviceError
    and RunError."""
    spec = replace(
        case_run.engine.spec(case_run.variant.static), outputs=tuple(value.name for value in graph.graph.output)
    )
    if feeds is not None:  # no pixels are fed, so nothing is normalised
        fed = tuple(TensorSpec(name, value.dtype.name, (-1, *value.shape[1:])) for name, value in feeds.items())
        spec = replace(spec, inputs=fed, normalize=None)
    there = {node.name for node in graph.graph.node}
    asked = spec.options.get("in_fp32", ()) if in_fp32 is None else in_fp32
    spec = replace(spec, options={**spec.options, "in_fp32": [name for name in asked if name in there]})
    # a separate worker, so that a compiler that crashes on many outputs does not affect the next try
    with (
        TemporaryDirectory(prefix=scratch()) as folder,
        case_run.context.worker(case_run.chip, case_run.present.backend) as worker,
    ):
        source, engine = Path(folder) / "tapped.onnx", Path(folder) / "tapped.engine"
        source.write_bytes(graph.SerializeToString())
        if feeds is not None and spec.calibration is not None and len(feeds) == 1:
            np.save(Path(folder) / "activations.npy", next(iter(feeds.values())))
            spec = replace(spec, calibration=str(Path(folder) / "activations.npy"))
        spec = replace(spec, options={**spec.options, **_told(spec, source)})
        worker.build(source, engine, spec)
        with (
            case_run.context.lease(case_run.chip, case_run.device, f"diagnose {case_run.case}", exclusive=False),
            worker.load(engine, case_run.device, spec, case_run.rows) as session,
        ):
            outputs = session.run(case_run.inputs(case_run.variant.raw) if feeds is None else feeds, finite=False)
            if times is not None:
                windows = session.measure(None, SWEEP_PLAN).windows
                times += [(window.stop - window.start) / window.executes for window in windows]
            return outputs


def _told(spec: BuildSpec, source: Path) -> dict[str, Any]:
    """The options of `spec` that describe the case's own file, made anew of `source`: its outputs, and the same graph
    in the case's precision, which is put beside it."""
    nodes, specs = graph_outputs(source)
    told: dict[str, Any] = {"out_nodes": [*nodes.values()], "out_specs": [*specs.values()]}
    rounded = f"onnx_{spec.precision}"
    if rounded in spec.options:
        from harness.backends.cpu import ort

        told[rounded] = str(source.with_name("rounded.onnx"))
        kept = {name: value for name, value in spec.options.items() if name == "in_fp32"}
        ort.build(source, Path(told[rounded]), replace(spec, tiers=(spec.batch,), options=kept), symmetric=True)
    return {name: value for name, value in told.items() if name in spec.options}


def reference(case_run: CaseRun) -> Callable[[ModelProto], Tensors]:
    """A function that gives the outputs of a graph in FP32, for one batch of the case's inputs."""
    feeds, batch = case_run.inputs(raw=False), _rows(case_run, exported(case_run))
    return lambda graph: layers.of_batch(graph, feeds, batch)
