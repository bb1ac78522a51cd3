"""The result of a metric: values, the number of samples, and a function to resample them; and checks of its inputs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.case import Predictions
from harness.errors import DataError, RunError


@dataclass(frozen=True)
class Score:
    """Metrics of one run over one data set. Accuracies are fractions; nan where a metric is undefined, for example
    easy faces when no face counts as easy."""

    values: Mapping[str, float]
    samples: int
    resample: Callable[[NDArray[np.int64]], Mapping[str, float]]
    """The same metrics with sample i counted weights[i] times, for a paired bootstrap."""
    hits: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """For metrics that are means of right and wrong answers: one bool per answer, in a fixed order, for an exact paired
    test."""
    answers: Mapping[str, int] = field(default_factory=dict)
    """For the other metrics: the number of answers that each counts (faces, objects, attributes); default: samples."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "resample", _remembering(self.resample))


def _remembering(
    resample: Callable[[NDArray[np.int64]], Mapping[str, float]],
) -> Callable[[NDArray[np.int64]], Mapping[str, float]]:
    """`resample` with a cache of its results: all metrics of a score use equal draws, and few images have few draws."""
    known: dict[bytes, Mapping[str, float]] = {}

    def remembered(weights: NDArray[np.int64]) -> Mapping[str, float]:
        key = hashlib.sha256(np.asarray(weights, np.int64).tobytes()).digest()
        if key not in known:
            known[key] = resample(weights)
        return known[key]

    return remembered


def check_order(ids: Sequence[str], got: Sequence[str]) -> None:
    """Raises DataError when the results `got` are not exactly those of the samples `ids`, in the same order."""
    if list(got) == list(ids):
        return
    hint = "score each sample of the data set once, in its order"
    doubled = [name for name, n in Counter(got).items() if n > 1]
    if doubled:
        raise DataError(f"{len(doubled)} samples have more than one result, first {doubled[0]}", hint=hint)
    missing = sorted(set(ids) - set(got))
    if missing:
        raise DataError(f"{len(missing)} of {len(ids)} samples have no result, first {missing[0]}", hint=hint)
    unknown = sorted(set(got) - set(ids))
    if unknown:
        raise DataError(f"{len(unknown)} results belong to no sample, first {unknown[0]}", hint=hint)
    i = next(i for i, (a, b) in enumerate(zip(ids, got, strict=False)) if a != b)
    raise DataError(f"result {i} is for {got[i]}, the data set has {ids[i]} there", hint=hint)


def check_count(predictions: Sequence[Predictions], truth: Sequence[Any], ids: Sequence[str] | None) -> Sequence[str]:
    """Names of the samples. Raises DataError when there is no sample, when the numbers of predictions, truths and ids
    differ, and for ids that occur twice."""
    hint = "score each sample of the data set once, in its order"
    if len(predictions) != len(truth):
        raise DataError(f"{len(predictions)} predictions for {len(truth)} samples", hint=hint)
    if len(truth) == 0:
        raise DataError("there is no sample to score", hint="check --data and --limit")
    if ids is None:
        return [f"sample {i}" for i in range(len(truth))]
    if len(ids) != len(truth):
        raise DataError(f"{len(ids)} names for {len(truth)} samples", hint=hint)
    check_order(sorted(set(ids)), sorted(ids))
    return ids


def array(prediction: Predictions, key: str, sample: str) -> NDArray[np.generic]:
    """One array of a prediction. Raises RunError when it is missing or holds NaN or infinity."""
    if key not in prediction:
        raise RunError(f"{sample}: the prediction has no {key}", hint=f"it has {', '.join(prediction) or 'nothing'}")
    values = np.asarray(prediction[key])
    if not np.isfinite(values).all():
        raise RunError(
            f"{sample}: {key} hold NaN or infinity", hint="find the first layer that differs: chipproof diagnose"
        )
    return values


def detections(prediction: Predictions, sample: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes (k, 4) x1, y1, x2, y2 and scores (k,), as float32. Raises RunError for values that are not finite, other
    shapes, and boxes with a negative width or height."""
    boxes = np.asarray(array(prediction, "boxes", sample), np.float32)
    scores = np.asarray(array(prediction, "scores", sample), np.float32)
    if boxes.shape != (len(scores), 4) or scores.ndim != 1:
        raise RunError(f"{sample}: boxes are {boxes.shape} and scores {scores.shape}", hint="expected (k, 4) and (k,)")
    if (boxes[:, 2:] < boxes[:, :2]).any():
        raise RunError(f"{sample}: a box has negative width or height", hint="boxes are x1, y1, x2, y2")
    return boxes, scores


def confident(scores: Sequence[NDArray[np.floating]], sure: float) -> float:
    """The lowest score at which a reference's own detections are used as truth.

    It is `sure`, if at least two detections per image reach it. Else it is the score above the widest gap between the
    2n-th and the 4n-th best score of all n images together, where rounding is least likely to swap neighbours. Raises
    RunError when nothing was detected."""
    ordered = np.sort(np.concatenate([*scores, np.empty(0)]))[::-1]
    if not ordered.size:
        raise RunError(
            f"the reference found nothing on {len(scores)} images",
            hint="check the weights: chipproof doctor --data DIR",
        )
    fewest = 2 * len(scores)
    if np.count_nonzero(ordered >= sure) >= fewest:
        return sure
    if len(ordered) <= fewest:
        return float(ordered[-1])
    gaps = -np.diff(ordered[fewest - 1 : 2 * fewest])
    return float(ordered[fewest - 1 + np.argmax(gaps)])
