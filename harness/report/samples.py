"""What verdicts rest on, kept beside them: raw windows of a measurement, and who was right about each image."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.case import Case, Predictions
from harness.errors import DataError
from harness.judge.throughput import Effort
from harness.judge.timing import Timing, Window
from harness.metrics import score
from harness.metrics.base import Score
from harness.metrics.coco import Objects
from harness.metrics.widerface import Faces
from harness.report.journal import MOST
from harness.report.records import write_whole
from harness.run.accuracy import Evaluation
from harness.run.windows import Measurement

FEW = 64  # logits of an image that are kept whole; of more, the five best classes are


def of_measurement(case: Case, run: Measurement, at_least: float | None) -> dict[str, Any]:
    """The journal line of a throughput measurement: windows in seconds of one clock, latencies in seconds. `at_least`
    is the ratio to eager PyTorch that is asked."""
    return {
        "kind": "windows", "case": str(case), "devices_of_card": run.devices_of_card, "at_least": at_least,
        "blocks": [[timing.to_json() for timing in block] for block in run.blocks],
        "peer": [asdict(window) for window in run.peer], "effort": asdict(run.effort), "disturbed": run.disturbed,
        "launched_alone": run.launched_alone,
        "beside": {name: [asdict(window) for window in windows] for name, windows in run.beside.items()},
    }  # fmt: skip


def measurement_of(line: Mapping[str, Any]) -> Measurement:
    """The inverse of of_measurement. Raises ValueError for what no measurement gave."""
    blocks = tuple(tuple(Timing.from_json(timing) for timing in block) for block in line["blocks"])
    peer = tuple(Window(**window) for window in line["peer"])
    effort = Effort(**line["effort"])
    if not 1 <= effort.sessions <= max(1, len(blocks)):
        raise ValueError("it counts more sessions than blocks of windows")
    beside = {name: tuple(Window(**one) for one in windows) for name, windows in line.get("beside", {}).items()}
    alone = line.get("launched_alone", False)  # where it is not told, every chip was judged as if it were not
    return Measurement(
        blocks, peer, line["devices_of_card"], (), (), effort, line["disturbed"], beside=beside, launched_alone=alone
    )


def write_answers(folder: Path, name: str, suffix: str, run: Evaluation) -> dict[str, Any]:
    """Write `folder`/`name`.npz, compressed: for each metric that counts answers one bool an answer of chip and
    reference, and what the chip found; where a metric is none of these, also what the reference found and the truth.
    Returns the journal line. `suffix` is what follows the metric's name in the records. Raises StoreError."""
    chip, reference, cut = run.chip, run.reference, run.task == "classes"
    arrays: dict[str, NDArray[np.generic]] = {}
    for metric in chip.hits.keys() & reference.hits.keys():
        arrays[f"hits/{metric}/chip"] = chip.hits[metric]
        arrays[f"hits/{metric}/reference"] = reference.hits[metric]
    arrays |= _end_to_end(_best(run.found) if cut else run.found)
    if not chip.values.keys() <= chip.hits.keys():
        arrays |= {f"reference/{key}": value for key, value in _end_to_end(run.wanted).items()}
        truth = [] if run.truth is None else list(map(COLUMNS[run.task], run.truth))
        arrays |= {f"truth/{key}": value for key, value in _end_to_end(truth).items()}
    body = io.BytesIO()
    np.savez_compressed(body, allow_pickle=False, **arrays)
    write_whole(folder / f"{name}.npz", body.getvalue())
    return {
        "kind": "answers", "case": str(run.case), "suffix": suffix, "file": f"{folder.name}/{name}.npz",
        "sha256": hashlib.sha256(body.getvalue()).hexdigest(), "images": chip.samples, "task": run.task,
    }  # fmt: skip


COLUMNS: Mapping[str, Callable[[Any], Predictions]] = {
    "faces": lambda one: {"boxes": one.boxes, "counted": one.counted.T},
    "objects": vars,
    "attributes": lambda one: {"labels": one},
}
"""The truth of an image as arrays with a row a face, an object or an attribute, by task."""
TRUTHS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "faces": lambda row: Faces(row["boxes"], row["counted"].T),
    "objects": lambda row: Objects(**row),
    "attributes": lambda row: row["labels"],
}
"""The inverse."""


def _best(found: Sequence[Predictions]) -> list[Predictions]:
    """The five best classes of each image, where there are many."""
    rows = [np.asarray(one["logits"]) for one in found]
    if not rows or len(rows[0]) <= FEW:
        return list(found)
    return [{"best5": np.argsort(row, kind="stable")[::-1][:5].astype(np.int32)} for row in rows]


def _end_to_end(found: Sequence[Predictions]) -> dict[str, NDArray[np.generic]]:
    """By name the values of all images end to end, beside how many each has (`name#`)."""
    kept: dict[str, NDArray[np.generic]] = {}
    for name in found[0] if found else ():
        rows = [np.asarray(image[name]) for image in found]
        kept[name], kept[f"{name}#"] = np.concatenate(rows), np.array([len(row) for row in rows])
    return kept


def _one_by_one(arrays: Mapping[str, NDArray[np.generic]], side: str) -> list[dict[str, Any]]:
    """The inverse of _end_to_end, of the arrays whose names begin with `side`."""
    names = [name.removeprefix(side) for name in arrays if name.startswith(side)]
    names = [name for name in names if f"{name}#" in names and "/" not in name]
    rows = {name: np.split(arrays[side + name], np.cumsum(arrays[f"{side}{name}#"])[:-1]) for name in names}
    return [dict(zip(rows, image, strict=True)) for image in zip(*rows.values(), strict=True)]


@dataclass(frozen=True)
class Whole:
    """Scores that were made again of what chip (`found`) and reference (`wanted`) answered to each image."""

    task: str
    found: Sequence[Predictions]
    wanted: Sequence[Predictions]
    chip: Score
    reference: Score


def whole(line: Mapping[str, Any], arrays: Mapping[str, NDArray[np.generic]]) -> Whole | None:
    """Of a journal line and its arrays (read_answers), where both sides' answers were kept. Raises what scoring raises,
    LookupError and ValueError for arrays that no run wrote."""
    wanted = _one_by_one(arrays, "reference/")
    if not wanted:
        return None
    task, found = str(line["task"]), _one_by_one(arrays, "")
    truth = [TRUTHS[task](row) for row in _one_by_one(arrays, "truth/")] or None
    chip, reference = (score(task, side, truth, reference=wanted) for side in (found, wanted))
    return Whole(task, found, wanted, chip, reference)


def read_answers(results: Path, line: Mapping[str, Any]) -> dict[str, NDArray[np.generic]]:
    """The arrays of a journal line. Raises DataError when the file is missing, outside `results`, or another."""
    again = "run the suite again; verdicts without their answers cannot be computed again"
    path = (results / str(line["file"])).resolve()
    if not path.is_relative_to(results.resolve()):
        raise DataError(f"{line['file']} lies outside {results}", hint=again)
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path} is a pipe or a device, not a file", hint=again)
        if path.stat().st_size > MOST:
            raise DataError(f"{path} has {path.stat().st_size / 1e6:.0f} MB, more than any run writes", hint=again)
        body = path.read_bytes()
        if hashlib.sha256(body).hexdigest() != line["sha256"]:
            raise DataError(f"{path} was changed after it was written", hint=again)
        with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
            size = sum(member.file_size for member in arrays.zip.infolist())
            if size > MOST:
                raise DataError(f"{path} has {size / 1e6:.0f} MB, more than any run writes", hint=again)
            return dict(arrays)
    except (OSError, ValueError, AttributeError, TypeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}", hint=again) from error
