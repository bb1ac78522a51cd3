"""Pedestrian attributes: instance accuracy, precision, recall, F1, and the label-based mean accuracy.

Definitions of Li et al., "A Richly Annotated Dataset for Pedestrian Attribute Recognition" (RAP), section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.case import Predictions
from harness.errors import DataError
from harness.metrics.base import Score, array, check_count

UNKNOWN = 2  # a label that is neither yes nor no; PETA's own file has some


def score(
    predictions: Sequence[Predictions], truth: Sequence[NDArray[np.integer]], ids: Sequence[str] | None = None
) -> Score:
    """Metrics of `logits` (L,), where 0 or more is positive, against labels (L,) of 0, 1 or 2 (unknown).

    A sample without a positive label is left out of the instance metrics. `hits["answers"]` has one bool for each known
    label, sample by sample. Raises DataError and RunError."""
    names = check_count(predictions, truth, ids)
    labels = _labels(truth, names)
    positive = np.zeros(labels.shape, bool)
    for i, prediction in enumerate(predictions):
        logits = array(prediction, "logits", names[i])
        if logits.shape != labels[i].shape:
            raise DataError(
                f"{names[i]}: {logits.size} scores for {labels.shape[1]} attributes",
                hint="use the labels that the model was trained on",
            )
        positive[i] = np.greater_equal(logits, 0)
    yes, no = labels == 1, labels == 0
    instance = _instance_parts(yes, positive)

    def resample(weights: NDArray[np.int64]) -> Mapping[str, float]:
        return _instance(weights, *instance) | {
            "mean_accuracy": float(label_accuracy(yes, no, positive, weights).mean())
        }

    known = labels != UNKNOWN
    values = resample(np.ones(len(labels), np.int64))
    hits = {"answers": (positive == yes)[known]}
    return Score(values, len(labels), resample, hits, dict.fromkeys(values, int(known.sum())))


def truth_from_reference(predictions: Sequence[Predictions]) -> list[NDArray[np.int8]]:
    """Each sample's positive attributes, where there is no ground truth."""
    return [np.greater_equal(p["logits"], 0).astype(np.int8) for p in predictions]


def label_accuracy(
    yes: NDArray[np.bool_], no: NDArray[np.bool_], positive: NDArray[np.bool_], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean of the true positive and the true negative rate of each attribute, (L,); NaN where no sample or every sample
    has the attribute. `yes`, `no` and `positive` are (N, L), `weights` (N,)."""
    with np.errstate(invalid="ignore"):
        recall = weights @ (yes & positive) / (weights @ yes)
        rejection = weights @ (no & ~positive) / (weights @ no)
    return np.asarray((recall + rejection) / 2)


def _labels(truth: Sequence[NDArray[np.integer]], names: Sequence[str]) -> NDArray[np.integer]:
    for row, name in zip(truth, names, strict=True):
        if np.shape(row) != np.shape(truth[0]) or not np.isin(row, (0, 1, UNKNOWN)).all():
            raise DataError(f"{name}: labels are not {np.size(truth[0])} values of 0, 1 or 2", hint="check label.json")
    return np.stack([np.asarray(row) for row in truth])


def _instance_parts(
    yes: NDArray[np.bool_], positive: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which samples count (N,), and their accuracy, precision and recall (N, 3)."""
    both = (yes & positive).sum(1)
    either, labelled, found = (yes | positive).sum(1), yes.sum(1), positive.sum(1)
    counts = labelled > 0
    parts = both[:, None] / np.maximum(np.stack([either, found, labelled], 1), 1)
    return counts, np.where(counts[:, None], parts, 0.0)


def _instance(weights: NDArray[np.int64], counts: NDArray[np.bool_], parts: NDArray[np.float64]) -> dict[str, float]:
    n = int(weights @ counts)
    accuracy, precision, recall = (weights @ parts / n).tolist() if n else (np.nan,) * 3
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {
        "instance_accuracy": accuracy,
        "instance_precision": precision,
        "instance_recall": recall,
        "instance_f1": f1,
    }
