"""chipproof diagnose: after a failed comparison, the first layer that differs and the mistake that explains it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.errors import InvalidMeasurement, UsageError
from harness.vocabulary import Outcome
from tools.language import reader, say, show
from tools.preprocess import progress
from tools.suite import (
    BackendOptionOption,
    CacheOption,
    DataOption,
    DeviceOption,
    PolicyOption,
    PythonOption,
    RunnerOption,
    SimulateOption,
    TuneOption,
    suite,
)

if TYPE_CHECKING:
    from harness.case import Case, Tensors
    from harness.diagnose.layers import Layer, Located
    from harness.diagnose.sweep import Part
    from harness.judge.verdict import Verdict
    from harness.run.case_run import CaseRun
    from harness.run.context import RunContext

if TYPE_CHECKING:
    from onnx import ModelProto


OnnxOption = Annotated[Path | None, typer.Option("--onnx", help="the file, for a case of an ONNX file of your own")]
OnnxInputOption = Annotated[
    list[str] | None,
    typer.Option("--onnx-input", metavar="NAME=VALUE", help="as for pytest: NAME=LOW:HIGH or NAME=FILE.npy"),
]


LAYERS = ("", "op", "tensor", "cosine", "largest error", "rms error")
PARTS = ("", "ops", "tensor", "rms error", "largest error", "ms")


def command(
    called: typer.Context,
    case: Annotated[str, typer.Argument(help="model-chip-precision-bsN, e.g. regnety_016-ascend310p-fp16-bs16")],
    data: DataOption = None,
    cache: CacheOption = None,
    sdk_python: PythonOption = None,
    backend_option: BackendOptionOption = None,
    simulate: SimulateOption = False,
    tune: TuneOption = False,
    runner: RunnerOption = None,
    device: DeviceOption = None,
    policy: PolicyOption = None,
    onnx: OnnxOption = None,
    onnx_input: OnnxInputOption = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="write the first differing part, with inputs and outputs (.zip)")
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="run every layer and small block by itself: error and time, worst first")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False,
) -> None:
    """Find the first layer of CASE that differs from the reference, and the mistake that explains the gap.

    --bundle writes what the vendor needs to reproduce it: the smallest ONNX file that fails, its inputs, the chip's and
    the reference's outputs, and the versions. Exit status: 0 nothing differs, 1 something does, 2 could not run."""
    from harness.case import Case
    from harness.diagnose import layers, taps
    from harness.run.settings import lab_policy

    if sweep and bundle is not None:
        raise UsageError("--sweep writes no bundle", hint="run chipproof diagnose again with --bundle alone")
    of = Case.parse(case)
    context = suite(
        data, cache, sdk_python, simulate=simulate, tune=tune, backend_option=backend_option, device=device,
        runner=runner, policy=lab_policy(policy, Path.cwd(), [of]),
    )  # fmt: skip
    with closing(_run_of(context, of, onnx, onnx_input or [])) as case_run:
        if sweep:
            _end_of_sweep({"case": case, **case_run.facts, **swept(case_run, _given(called))}, as_json)
        chip, wanted = case_run.outputs()
        verdict = case_run.judged(chip)
        every = taps.comparable(case_run)
        located = layers.locate(every, taps.tapping(case_run, every))
        found = {"case": case, **case_run.facts, **findings(verdict, located, len(every))}
        if onnx is None:
            found |= explanations(case_run, chip, wanted)
            found["differs"] |= found["explained"]
        if bundle is not None and found["differs"]:
            found["bundle"] = _bundled(case_run, every, located, found, bundle)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        _show(found)
    if found["differs"]:
        raise typer.Exit(1)


def _given(called: typer.Context) -> dict[str, Any]:
    """The options by name; of those that may be given several times, a list."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in called.params.items()}


def _end_of_sweep(found: Mapping[str, Any], as_json: bool) -> None:
    """Show a sweep and exit: 0 when no part differs, 1 when one does, 2 when none could be run."""
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        _show_sweep(found)
    ran = [row for row in found["parts"] if "error" not in row]
    raise typer.Exit(2 if not ran else 1 if found["differs"] else 0)


def swept(case_run: CaseRun, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every layer and small block of the case by itself, on the reference's activations: errors and milliseconds of
    one execute, worst first; the nodes whose layer differs by itself, and those that have to stay in FP32."""
    from harness.case import Precision
    from harness.diagnose import layers, sweep, taps

    model, batch = taps.exported(case_run), case_run.case.batch
    every = layers.layers(model, batch)
    known, wanted_of = {layer.tensor for layer in every}, taps.reference(case_run)
    parts, rows = sweep.parts(every), []
    with progress(reader(sys.stderr)("layers and blocks"), len(parts)) as advance:
        for group in sweep.groups(parts, every):
            names = list(dict.fromkeys(name for part in group for name in part.inputs if name in known))
            activations = {**wanted_of(layers.tapped(model, every, names)), **case_run.inputs(raw=False)}
            for part in group:
                rows.append(_row(case_run, model, part, activations))
                advance()
    rows = sweep.worst_first(rows)
    differing = [row for row in rows if "error" not in row and not row["fine"]]
    alone = [row["nodes"][0] for row in differing if len(row["nodes"]) == 1]
    found = {"parts": rows, "differs": bool(differing), "differ_alone": alone,
             "marks": list(case_run.context.not_the_chip(case_run.chip))}  # fmt: skip
    if case_run.case.precision is Precision.FP32:
        return found
    if case_run.judged(case_run.outputs()[0]).outcome is Outcome.PASS:
        said = f"the outputs pass at {case_run.case.precision}: no node has to stay in FP32"
        return {**found, "keep_in_fp32": [], "kept": said}
    kept, said = _kept(case_run, model, harmful(rows), given)
    return {**found, "differs": True, "keep_in_fp32": list(kept), "kept": said}


def _kept(
    case_run: CaseRun, model: ModelProto, ranked: Sequence[str], given: Mapping[str, Any]
) -> tuple[tuple[str, ...], str]:
    """(the nodes that have to stay in FP32 for the outputs to pass, tried on the chip; the same in words, with the
    command that runs all stages so, with the options `given`). No node, and why, where the backend cannot keep any and
    where that is not enough."""
    from harness.backends import registry
    from harness.diagnose import sweep, taps
    from harness.errors import BuildError, DeviceError, RunError
    from harness.report.causes import passed_on

    case, backend = case_run.case, registry.backend(case_run.present.backend)
    if "in_fp32" not in backend.settings or not ranked:
        why = f"the backend {backend.name} cannot keep nodes in FP32" if ranked else "no layer ran by itself"
        return (), f"which nodes have to stay in FP32 was not tried: {why}"
    tries = 0

    def passes(nodes: Sequence[str]) -> bool:
        nonlocal tries
        tries += 1
        passed = case_run.judged(taps.on_chip(case_run, model, in_fp32=nodes)).outcome is Outcome.PASS
        advance()
        return passed

    try:
        with progress(reader(sys.stderr)("engines with nodes in FP32"), sweep.most_tries(len(ranked))) as advance:
            found = sweep.fewest(ranked, passes)
    except (BuildError, DeviceError, RunError) as error:
        return (), f"which nodes have to stay in FP32 is not known: engine {tries} failed: {error.fact}"
    if found is None:
        return (), f"with all {len(ranked)} layers in FP32 the outputs still differ: it is not their precision"
    marks = f"{case.model} and {case.chip} and {case.precision} and bs{case.batch}"
    kept = [*(given.get("backend_option") or ()), f"{case.chip}:in_fp32={','.join(found)}"]
    command = shlex.join(["pytest", "-m", marks, *passed_on({**given, "backend_option": kept})])
    return found, (
        f"{len(found)} of {len(ranked)} layers have to stay in FP32 for the outputs to pass, found with {tries} "
        f"engines: {command}"
    )


def harmful(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Nodes of the layers that ran by themselves and lost something, the most harmful first (sweep.worst_first)."""
    single = (row for row in rows if "error" not in row and len(row["nodes"]) == 1)
    return list(dict.fromkeys(row["nodes"][0] for row in single if row["rms"] is None or row["rms"] > 0))


def _row(case_run: CaseRun, model: ModelProto, part: Part, activations: Tensors) -> dict[str, Any]:
    """One part on the chip: what it is, and its errors and milliseconds, or why it did not run."""
    from harness.diagnose import layers, taps
    from harness.errors import BuildError, DeviceError, ExportError, RunError

    ops = [layer.op for layer in part.layers]
    row: dict[str, Any] = {"tensor": part.tensor, "ops": ops, "nodes": [layer.node for layer in part.layers]}
    missing = [name for name in part.inputs if name not in activations]
    if missing:
        return {**row, "error": f"its input {missing[0]} has no row for each sample"}
    feeds = {name: activations[name] for name in part.inputs}
    times: list[float] = []
    try:
        cut = part.of(model, case_run.case.batch)
        wanted = layers.of_batch(cut, feeds, case_run.case.batch)
        chip = taps.on_chip(case_run, cut, feeds, times)
    except (BuildError, DeviceError, ExportError, RunError) as error:
        return {**row, "error": error.fact}
    verdict = layers.compare(chip, wanted, case_run.case.precision)[part.tensor]
    return {**row, "ms": 1e3 * min(times), **_figures(verdict)}


def _run_of(context: RunContext, case: Case, onnx: Path | None, inputs: Sequence[str]) -> CaseRun:
    """The run of a published model's case, or of the user's file. Raises UsageError for a case of another file."""
    from harness.export import own
    from harness.run.case_run import CaseRun
    from harness.run.own_run import OwnRun

    given = own.inputs(inputs, int(onnx is not None))
    if onnx is None:
        return CaseRun(context, case)
    model = own.read(onnx, given)
    if model.name != case.model:
        raise UsageError(f"{onnx} is {model.name}, the case is of {case.model}", hint="give the file of that case")
    return OwnRun(context, case, model=model)


def _bundled(
    case_run: CaseRun, every: Sequence[Layer], located: Located, found: Mapping[str, Any], path: Path
) -> dict[str, Any]:
    """Write the bundle of the first layer that differs, computed by itself from the reference's activations; says
    whether it differs alone. Where none differs, or it has no inputs in the graph, the last output is taken."""
    from harness.diagnose import bundle, layers, taps
    from harness.diagnose.layers import compare

    model, first = taps.exported(case_run), located.first or every[-1]
    activations = taps.reference(case_run)(layers.tapped(model, every, [name for name in first.inputs if name in {
        layer.tensor for layer in every}]))  # fmt: skip
    feeds = {
        name: value for name, value in {**activations, **case_run.inputs(raw=False)}.items() if name in first.inputs
    }
    part = bundle.part(model, first, case_run.case.batch)
    wanted = layers.of_batch(part, feeds, case_run.case.batch)
    chip = taps.on_chip(case_run, part, feeds)
    alone = any(v.outcome is not Outcome.PASS for v in compare(chip, wanted, case_run.case.precision).values())
    engine = case_run.context.settings.store.told(case_run.built().path)
    told = {"engine_key": engine["key"], "engine_sha256": engine["sha256"], "command": " ".join(sys.argv)}
    bundle.write(path, part, feeds, chip, wanted, {**found, "differs_alone": alone, **told})
    return {"file": str(path), "layer": first.tensor, "differs_alone": alone}


def explanations(case_run: CaseRun, chip: Tensors, wanted: Tensors) -> dict[str, Any]:
    """The mistakes that may explain the gap between the chip's outputs and the reference's, also where that is within
    the tolerance: the accuracy may show what a precision allows. `explained`: whether one explains most of the gap."""
    from rich.console import Console
    from rich.progress import Progress

    from harness.diagnose import layers, mistakes, taps
    from harness.diagnose.picture import picture

    first = case_run.context.dataset(case_run.model).samples[0].read()
    bare = mistakes.without_softmax(taps.exported(case_run))
    gap = mistakes.Gap(
        chip,
        wanted,
        picture(case_run.protocol, first),
        run=lambda images: case_run.context.references.eager(case_run.model, images),
        bare=None if bare is None else lambda images: layers.reference(bare, images, len(images)),
    )
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(reader(sys.stderr)("mistakes"), total=len(mistakes.MISTAKES))
            found = mistakes.explain(gap, lambda done: progress.advance(task, done))
    except InvalidMeasurement as error:  # for example NaN: the layers still show where it begins
        return {"mistakes": [], "explanation": error.fact, "explained": False}
    return {
        "mistakes": mistakes.as_json(found),
        "explanation": mistakes.conclusion(found),
        "explained": mistakes.explained(found),
    }


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
    from rich.table import Table

    differs = reader()("differs")
    say(f"{found['case']}: {len(found['layers'])} of {found['of_layers']} layers, in the order of the graph")
    table = Table(box=box.SIMPLE_HEAD)
    for name in LAYERS:
        table.add_column(name, overflow="fold", justify="right" if "error" in name or name == "cosine" else "left")
    for row in found["layers"]:
        figures = [("-" if row[key] is None else format(row[key], shape))
                   for key, shape in (("cosine", ".6f"), ("largest", ".2e"), ("rms", ".2e"))]  # fmt: skip
        table.add_row("" if row["fine"] else differs, row["op"], row["tensor"], *figures,
                      style=None if row["fine"] else "red")  # fmt: skip
    show(table, least=100)
    lines = [f"outputs: {found['outputs']['text']}", *found["notes"], found["finding"]]
    if "bundle" in found:
        made = found["bundle"]
        alone = "it differs alone" if made["differs_alone"] else "alone it does not differ: give the whole file too"
        lines.append(f"{made['file']}: {made['layer']}, with inputs and both outputs; {alone}")
    if "explanation" in found:
        lines.append(found["explanation"])
        lines += [
            f"  {100 * m['share']:.0f} % of the gap: {m['mistake']}"
            for m in found["mistakes"][int(found["explained"]) : 4]
            if m["share"]
        ]
    for line in lines:
        say(line)


def _show_sweep(found: Mapping[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    t = reader()
    differs = t("differs")
    say(f"{found['case']}: {len(found['parts'])} layers and blocks by themselves, worst first")
    table = Table(box=box.SIMPLE_HEAD)
    for name in PARTS:
        table.add_column(name, overflow="fold", justify="right" if "error" in name or name == "ms" else "left")
    for row in found["parts"]:
        figures = [("-" if row.get(key) is None else format(row[key], shape))
                   for key, shape in (("rms", ".2e"), ("largest", ".2e"), ("ms", ".3f"))]  # fmt: skip
        state = t("not run") if "error" in row else "" if row["fine"] else differs
        table.add_row(state, " ".join(row["ops"]), row["tensor"], *figures, style="red" if state == differs else None)
    show(table, least=100)
    for mark in found["marks"]:
        say(f"{mark.upper()}: errors and ms are not those of the chip")
    refused = [row for row in found["parts"] if "error" in row]
    if refused:
        say(f"{len(refused)} parts did not run; the first, {refused[0]['tensor']}: {refused[0]['error']}")
    if found["differ_alone"]:
        say(f"differ by themselves: {', '.join(found['differ_alone'])}")
    elif not any("error" not in row and not row["fine"] for row in found["parts"]):
        say("no layer or block differs by itself")
    if "kept" in found:
        say(found["kept"])
