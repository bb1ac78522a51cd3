"""chipproof diagnose: after a failed comparison, the first layer that differs and the mistake that explains it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.errors import InvalidMeasurement
from harness.vocabulary import Outcome
from tools.suite import CacheOption, DataOption, PythonOption, SimulateOption, suite

if TYPE_CHECKING:
    from harness.case import Tensors
    from harness.diagnose.layers import Layer, Located, Measure
    from harness.judge.verdict import Verdict
    from harness.run.case_run import CaseRun

if TYPE_CHECKING:
    from onnx import ModelProto


def command(
    case: Annotated[str, typer.Argument(help="model-chip-precision-bsN, e.g. regnety_016-ascend310p-fp16-bs16")],
    data: DataOption = None,
    cache: CacheOption = None,
    sdk_python: PythonOption = sys.executable,
    simulate: SimulateOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False,
) -> None:
    """Find the first layer of CASE that differs from the reference, and the mistake that explains the gap.

    Exit status: 0 nothing differs, 1 something does, 2 could not run."""
    from harness.case import Case
    from harness.diagnose import layers
    from harness.judge.verdict import judge_numerics
    from harness.run.case_run import CaseRun

    with closing(CaseRun(suite(data, cache, sdk_python, simulate=simulate), Case.parse(case))) as bench:
        chip, wanted = bench.outputs()
        verdict = judge_numerics(chip, wanted, bench.case.precision)
        every = layers.layers(_exported(bench), bench.case.batch)
        located = layers.locate(every, tapping(bench, every))
        found = {"case": case, **bench.facts, **findings(verdict, located, len(every))}
        if verdict.outcome is not Outcome.PASS:
            found |= explanations(bench, chip, wanted)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        _show(found)
    if found["differs"]:
        raise typer.Exit(1)


def tapping(bench: CaseRun, every: Sequence[Layer]) -> Measure:
    """A function that builds the case's engine with given tensors as outputs and compares them with ONNX Runtime's in
    FP32."""
    import numpy as np

    from harness.diagnose import layers
    from harness.run.context import WITNESS_IMAGES
    from harness.run.engine import graph_outputs

    model, variant = _exported(bench), bench.variant
    samples = bench.context.dataset(bench.model).head(min(WITNESS_IMAGES, bench.case.batch)).samples
    pictures = [sample.read() for sample in samples]
    fed = [bench.protocol.preprocess(picture, variant.raw).tensor for picture in pictures]
    images = np.stack([bench.protocol.preprocess(picture, False).tensor for picture in pictures]).astype(np.float32)
    batch = np.stack([fed[i % len(fed)] for i in range(bench.case.batch)])

    def measure(tensors: Sequence[str]) -> Mapping[str, Verdict]:
        tapped = layers.tapped(model, every, tensors)
        spec = replace(bench.engine.spec(variant), outputs=tuple(value.name for value in tapped.graph.output))
        # a separate worker, so that a compiler that crashes on many outputs does not affect the next try
        with TemporaryDirectory() as folder, bench.context.worker(bench.chip, bench.present.backend) as worker:
            source, engine = Path(folder) / "tapped.onnx", Path(folder) / "tapped.engine"
            source.write_bytes(tapped.SerializeToString())
            nodes, specs = graph_outputs(source)
            told = {"out_nodes": [*nodes.values()], "out_specs": [*specs.values()]}
            spec = replace(spec, options={name: told.get(name, value) for name, value in spec.options.items()})
            worker.build(source, engine, spec)
            with (
                bench.context.lease(bench.chip, bench.device, f"diagnose {bench.case}", exclusive=False),
                worker.load(engine, bench.device, spec) as session,
            ):
                chip = session.run({bench.model.input: batch}, finite=False)
        wanted = layers.reference(tapped, images, bench.case.batch)
        return layers.compare(chip, wanted, bench.case.precision)

    return measure


def explanations(bench: CaseRun, chip: Tensors, wanted: Tensors) -> dict[str, Any]:
    """The mistakes that may explain the gap between the chip's outputs and the reference's."""
    from rich.console import Console
    from rich.progress import Progress

    from harness.diagnose import layers, mistakes
    from harness.diagnose.picture import picture

    first = bench.context.dataset(bench.model).samples[0].read()
    bare = mistakes.without_softmax(_exported(bench))
    gap = mistakes.Gap(
        chip,
        wanted,
        picture(bench.protocol, first),
        run=lambda images: bench.context.eager(bench.model, images),
        bare=None if bare is None else lambda images: layers.reference(bare, images, len(images)),
    )
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("mistakes", total=len(mistakes.MISTAKES))
            found = mistakes.explain(gap, lambda done: progress.advance(task, done))
    except InvalidMeasurement as error:  # for example NaN: the layers still show where it begins
        return {"mistakes": [], "explanation": error.fact}
    return {"mistakes": mistakes.as_json(found), "explanation": mistakes.conclusion(found)}


def _exported(bench: CaseRun) -> ModelProto:
    import onnx

    return onnx.load(bench.onnx())


def findings(verdict: Verdict, located: Located, total: int) -> dict[str, Any]:
    """The findings as JSON values; `differs` decides the exit status."""
    from harness.diagnose import layers

    first = located.first
    failed = verdict.outcome is not Outcome.PASS
    return {
        "differs": failed or first is not None,
        "outputs": {"outcome": verdict.outcome.value, "text": verdict.text},
        "layers": [
            {"tensor": layer.tensor, "op": layer.op, "node": layer.node, **_figures(seen)}
            for layer, seen in located.seen
        ],
        "of_layers": total,
        "first": None if first is None else {
            "tensor": first.tensor, "op": first.op, "node": first.node,
            "inputs": [{"tensor": name, **({} if seen is None else _figures(seen))} for name, seen in located.before],
        },
        "finding": layers.sentence(located, failed),
        "notes": list(located.notes),
    }  # fmt: skip


def _figures(verdict: Verdict) -> dict[str, Any]:

    figures = {key: verdict.details.get(key) for key in ("cosine", "largest", "rms")}
    return {**figures, "fine": verdict.outcome is Outcome.PASS, "text": verdict.text}


def _show(found: Mapping[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(shutil.get_terminal_size((130, 40)).columns, 100), highlight=False)
    table = Table(title=f"{found['case']}: {len(found['layers'])} of {found['of_layers']} layers, in the order of the "
                  "graph", title_justify="left", box=box.SIMPLE_HEAD)  # fmt: skip
    for name in ("", "op", "tensor", "cosine", "largest error", "rms error"):
        table.add_column(name, overflow="fold", justify="right" if "error" in name or name == "cosine" else "left")
    for row in found["layers"]:
        figures = [("-" if row[key] is None else format(row[key], shape))
                   for key, shape in (("cosine", ".6f"), ("largest", ".2e"), ("rms", ".2e"))]  # fmt: skip
        table.add_row("" if row["fine"] else "differs", row["op"], row["tensor"], *figures,
                      style=None if row["fine"] else "red")  # fmt: skip
    console.print(table)
    lines = [f"outputs: {found['outputs']['text']}", *found["notes"], found["finding"]]
    if "explanation" in found:
        lines.append(found["explanation"])
        lines += [f"  else {100 * m['share']:.0f} %: {m['mistake']}" for m in found["mistakes"][1:4] if m["share"]]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
