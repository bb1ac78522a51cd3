"""chipproof evaluate: the result files of the vendors' own tools, scored as the suite scores an engine."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.case import Case, Precision, Predictions, Tensors
from harness.errors import DataError, UsageError
from harness.vocabulary import ACCURACIES, Outcome
from tools.language import reader, say, show
from tools.preprocess import ChipOption, DataOption, ProtocolOption, bin_name, choose, progress

if TYPE_CHECKING:
    from harness.baselines import Baselines
    from harness.datasets.base import Dataset, Sample
    from harness.metrics.base import Score
    from harness.models.base import Frame, Model, Protocol
    from harness.vendor.files import Format

NEED_FRAME = ("faces", "objects")  # tasks whose boxes go back to the picture
COLUMNS = ("metric", "measured %", "source %", "published %", "verdict")
LARGER = {"coco": "coco_5000"}  # data set -> the same with pictures that are not scored


class Files(str, Enum):
    """Formats of result files: the tool that wrote them, or WIDER FACE text files."""

    BENCHMARK = "benchmark"
    MSAME = "msame"
    AIS_BENCH = "ais_bench"
    WIDERFACE = "widerface"


@dataclass(frozen=True)
class Ending:
    """A form of an engine's outputs: shape and dtype of each output for one image, and their post-processing."""

    outputs: Mapping[str, tuple[tuple[int, ...], str]]
    postprocess: Callable[[Tensors, Frame], Predictions]


def _suppressed(tensors: Tensors, frame: Frame) -> Predictions:
    from harness.models.gfocalv2 import postprocess_suppressed

    return postprocess_suppressed(tensors, frame)


SUPPRESSED = Ending({"dets": ((100, 5), "float32"), "labels": ((100,), "int64")}, _suppressed)
"""GFocalV2 with the suppression in the engine (BatchMultiClassNMS)."""


def command(
    model: Annotated[str, typer.Argument(help="name of the model, as in its marker")],
    outputs: Annotated[Path, typer.Option(help="folder into which the tool wrote")],
    form: Annotated[
        Files, typer.Option("--format", help="the tool that wrote the files; widerface: <event>/<name>.txt")
    ],
    data: DataOption = None,
    images: Annotated[Path | None, typer.Option(help="folder of the pictures, when they are not in --data")] = None,
    chip: ChipOption = None,
    protocol: ProtocolOption = None,
    precision: Annotated[
        Precision | None,
        typer.Option(help="precision of the engine, to find its published figure; default: the only one there is"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the scores as JSON")] = False,
) -> None:
    """Score what benchmark, msame or ais_bench wrote to OUTPUTS, or WIDER FACE result files.

    A missing, doubled or damaged result is an error, never a lower score. With --chip and the whole data set, the
    scores are judged: exit status 1 when one is more than 1 % below the source."""
    from harness import matrix
    from harness.vendor.files import FORMATS

    row, chosen, _ = choose(model, chip, protocol)
    if data is None:
        raise UsageError("there are no labels to score against", hint="give --data DIR with the data set")
    published = matrix.published()
    case = None if chip is None else Case(model, chip, precision or _published_precision(published, chip, model), 1)
    if form is Files.WIDERFACE:
        score, kind, notes = _score_texts(row, outputs, data)
    else:
        score, kind, notes = _score_files(row, chosen, FORMATS[form.value], outputs, data, images)
    rows = _rows(row, score, published, case, judged=kind == "whole")
    if as_json:
        facts = {"model": model, "protocol": chosen.name, "chip": chip, "images": score.samples, "kind": kind}
        print(json.dumps({**facts, "notes": notes, "metrics": rows}, ensure_ascii=False, indent=1))
    else:
        _show(row, score, kind, notes, rows)
    if any(line["verdict"] in (Outcome.FAIL, Outcome.INVALID) for line in rows):
        raise typer.Exit(1)


def _score_files(
    model: Model, protocol: Protocol, form: Format, outputs: Path, data: Path, images: Path | None
) -> tuple[Score, str, list[str]]:
    from harness import datasets, metrics
    from harness.datasets.stream import stream
    from harness.vendor import files

    folder = files.folder_of(outputs, form)
    dataset = datasets.load(model.dataset, data, images)
    if dataset.truth is None:
        raise DataError(f"{model.dataset}: {dataset.note}", hint="scores need the labels of the data set")
    ids = [sample.id for sample in dataset.samples]
    notes = [dataset.note] if dataset.note else []
    ending = _ending(model, protocol, files.indices(folder, form))
    written = _all_written(model, dataset, folder, form, data, images)
    found = dict(
        zip(written, files.find(folder, form, [bin_name(i) for i in written], len(ending.outputs)), strict=True)
    )
    if len(written) > len(ids):
        notes.append(f"{len(written) - len(ids)} pictures without a label have results, which are not scored")
    predictions = []
    with progress(reader(sys.stderr)(f"reading {model.name}"), len(ids)) as advance:
        for prediction in stream(dataset.samples, lambda s: _predict(model, protocol, ending, s, found[s.id])):
            predictions.append(prediction)
            advance()
    return metrics.score(model.task, predictions, dataset.truth, ids), dataset.kind, notes


def _all_written(
    model: Model, dataset: Dataset, folder: Path, form: Format, data: Path, images: Path | None
) -> list[str]:
    """Samples that the tool ran: those of the data set or, when there are more results, those of the larger one."""
    from harness import datasets
    from harness.vendor import files

    ids = [sample.id for sample in dataset.samples]
    if model.dataset not in LARGER or len(files.stems(folder, form)) <= len(ids):
        return ids
    return [sample.id for sample in datasets.load(LARGER[model.dataset], data, images).samples]


def _ending(model: Model, protocol: Protocol, indices: Collection[int]) -> Ending:
    """The ending that has as many outputs as there are files an image; else the network's own."""
    endings = [raw_ending(model, protocol), *([SUPPRESSED] if model.task == "objects" else [])]
    return next((ending for ending in endings if len(ending.outputs) == len(indices)), endings[0])


@cache
def raw_ending(model: Model, protocol: Protocol) -> Ending:
    """The network's own outputs. Their shapes come from a run on PyTorch's meta device."""
    import torch

    with torch.device("meta"), torch.inference_mode():
        network = model.network().eval()
        out = network(torch.empty(1, 3, *protocol.size))
    tensors = out if isinstance(out, (tuple, list)) else (out,)
    shapes = {name: (tuple(t.shape[1:]), "float32") for name, t in zip(model.outputs, tensors, strict=True)}
    return Ending(shapes, protocol.postprocess)


def _predict(model: Model, protocol: Protocol, ending: Ending, sample: Sample, paths: Sequence[Path]) -> Predictions:
    from harness.models.base import Frame

    frame = Frame(0, 0, (1.0, 1.0))
    if model.task in NEED_FRAME:
        frame = protocol.preprocess(sample.read(), bool(protocol.normalized_by_chip)).frame
    return ending.postprocess(arranged(paths, ending), frame)


def arranged(paths: Sequence[Path], ending: Ending) -> Tensors:
    """The files of one image as the outputs of the ending, identified by their number of values: a compiler may reorder
    outputs, as ATC's --out_nodes does for RetinaFace. Raises DataError when a length is wrong or occurs twice."""
    from harness.vendor import files

    by_length = {math.prod(shape): name for name, (shape, _) in ending.outputs.items()}
    if len(by_length) < len(ending.outputs):  # lengths do not tell them apart: the model's own order
        pairs = zip(paths, ending.outputs.items(), strict=True)
        return {
            name: files.load(path, {math.prod(shape): dtype}).reshape(shape) for path, (name, (shape, dtype)) in pairs
        }
    lengths = {length: ending.outputs[name][1] for length, name in by_length.items()}
    tensors: Tensors = {}
    for path in paths:
        values = files.load(path, lengths)
        name = by_length[values.size]
        if name in tensors:
            raise DataError(
                f"{path} is a second output of {values.size} values", hint=f"the model has: {_described(ending)}"
            )
        tensors[name] = values.reshape(ending.outputs[name][0])
    return {name: tensors[name] for name in ending.outputs}


def _described(ending: Ending) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, (shape, _) in ending.outputs.items())


def _score_texts(model: Model, outputs: Path, data: Path) -> tuple[Score, str, list[str]]:
    """Score of WIDER FACE result files against the ground truth; the pictures are not needed. When only part of the
    pictures is there, the files are taken for that part or for the whole set, whichever differs in fewer names."""
    from harness import datasets
    from harness.datasets import widerface as wider
    from harness.datasets.base import Absent
    from harness.datasets.files import utf8
    from harness.metrics import widerface, widertext

    if model.task != "faces":
        raise UsageError(f"{model.name} finds no faces", hint="the format widerface is for RetinaFace")
    truth = wider.ground_truth(data / "widerface" / "ground_truth")
    kind, ids = "whole", list(truth)
    written = set()
    for path in widertext.result_files(outputs):
        utf8(path)
        written.add(f"{path.parent.name}/{path.stem}")
    try:
        part = [sample.id for sample in datasets.load("widerface", data).samples]
    except Absent:
        part = ids
    if len(part) < len(ids) and len(written ^ set(part)) < len(written ^ set(ids)):
        kind, ids = "partial", part
    rows = widertext.read(outputs, ids)
    unsorted = widerface.unsorted(rows)
    notes = []
    if unsorted:
        notes.append(
            f"{len(unsorted)} files, first {ids[unsorted[0]]}, do not list the best first; AP depends on the order"
        )
    faces = [truth[name] for name in ids]
    score = widerface.evaluate(rows, faces, ids)
    return score, kind, notes + widertext.notes(rows, faces, score)


def _published_precision(published: Baselines, chip: str, model: str) -> Precision:
    """Of the accuracies that were published. Raises UsageError when there are several."""

    found = {
        cell.precision
        for cell in published.cells
        if (cell.chip, cell.model) == (chip, model) and cell.metric in ACCURACIES and cell.precision is not None
    }
    if len(found) > 1:
        names = ", ".join(sorted(map(str, found)))
        raise UsageError(f"{model} on {chip} was published at {names}", hint="state the engine's: --precision")
    return found.pop() if found else Precision.FP16


def _rows(model: Model, score: Score, published: Baselines, case: Case | None, judged: bool) -> list[dict[str, Any]]:
    """A row a metric: measured, source and published figures, verdict."""
    from harness.judge.accuracy import judge_published

    rows = []
    for name in model.metrics:
        measured = float(score.values[name])
        source = published.source(model.name, name)
        cell = published.cell(case, name) if case is not None else None
        verdict = None
        if judged and case is not None and (source or cell) is not None:
            verdict = judge_published(measured, source, cell, published.deviation(case, "published", name))
        rows.append({
            "metric": name, "measured": None if math.isnan(measured) else measured,
            "source": source.value if source is not None else None,
            "published": cell.value if cell is not None else None,
            "verdict": str(verdict.outcome) if verdict is not None else None,
            "text": verdict.text if verdict is not None else None,
        })  # fmt: skip
    return rows


def _show(model: Model, score: Score, kind: str, notes: list[str], rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    say(f"{model.name}: {score.samples} images, {kind} data set")
    table = Table(box=None)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("metric", "verdict") else "right")
    for row in rows:
        percents = ("-" if row[key] is None else f"{100 * row[key]:.3f}" for key in ("measured", "source", "published"))
        table.add_row(row["metric"], *percents, row["verdict"] or "-")
    show(table)
    for text in [*notes, *(row["text"] for row in rows if row["text"])]:
        say(text)
    if kind != "whole":
        say("part of the data set: no verdict against published accuracies")
