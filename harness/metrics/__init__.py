"""For each task, the function that scores it and the one that makes labels of a reference. Metrics are rows of
harness.vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.case import Predictions
from harness.errors import UsageError
from harness.metrics import attributes, coco, topk, widerface
from harness.metrics.base import Score

SCORERS: dict[str, Callable[..., Score]] = {
    "faces": widerface.score,
    "attributes": attributes.score,
    "classes": topk.score,
    "objects": coco.score,
}

TRUTHS: dict[str, Callable[..., list[Any]]] = {
    "faces": widerface.truth_from_reference,
    "attributes": attributes.truth_from_reference,
    "classes": topk.truth_from_reference,
    "objects": coco.truth_from_reference,
}


def score(
    task: str,
    predictions: Sequence[Predictions],
    truth: Sequence[Any] | None,
    ids: Sequence[str] | None = None,
    reference: Sequence[Predictions] | None = None,
) -> Score:
    """Score of one prediction a sample, in the data set's order; `ids` names the samples in errors. Where there is no
    truth, it is what the `reference` predicted. Raises UsageError, DataError (short, doubled) and RunError (NaN)."""
    if task not in SCORERS:
        raise UsageError(f"there is no task {task!r}", hint=f"tasks: {', '.join(SCORERS)}")
    if truth is None and reference is None:
        raise UsageError(f"{task}: neither truth nor a reference", hint="give one of them")
    return SCORERS[task](predictions, TRUTHS[task](reference) if truth is None else truth, ids)
