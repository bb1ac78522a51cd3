"""The metrics: one row each, and for each task the functions that score it and that make labels of a reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.case import Predictions
from harness.errors import UsageError
from harness.metrics import attributes, coco, topk, widerface
from harness.metrics.base import Score

FRACTION, RATE = "fraction", "img/s"


@dataclass(frozen=True)
class Metric:
    name: str
    title: str
    unit: str = FRACTION
    higher_is_better: bool = True


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("ap_easy", "WIDER FACE AP, easy"),
        Metric("ap_medium", "WIDER FACE AP, medium"),
        Metric("ap_hard", "WIDER FACE AP, hard"),
        Metric("ap", "COCO AP 0.50:0.95"),
        Metric("top1", "ImageNet top-1 accuracy"),
        Metric("top5", "ImageNet top-5 accuracy"),
        Metric("instance_accuracy", "PETA instance accuracy"),
        Metric("instance_precision", "PETA instance precision"),
        Metric("instance_recall", "PETA instance recall"),
        Metric("instance_f1", "PETA instance F1"),
        Metric("mean_accuracy", "PETA label-based mean accuracy"),
        Metric("throughput", "images a second and card", RATE),
    )
}

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
