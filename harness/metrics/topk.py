"""ImageNet top-1 and top-5: whether the label is among the k largest scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.case import Predictions
from harness.errors import DataError
from harness.metrics.base import Score, array, check_count

CLASSES = 1000


def ranks(
    predictions: Sequence[Predictions],
    truth: Sequence[int],
    ids: Sequence[str] | None = None,
    classes: int = CLASSES,
) -> NDArray[np.int64]:
    """Rank (N,) of each sample's label among its `logits` (classes,), 0 being the best. Of equal scores the lower class
    comes first, because the authors' order of ties depends on the NumPy build. Raises DataError and RunError."""
    names = check_count(predictions, truth, ids)
    places = np.empty(len(truth), np.int64)
    for i, (prediction, label) in enumerate(zip(predictions, truth, strict=True)):
        logits = array(prediction, "logits", names[i])
        if logits.shape != (classes,):
            raise DataError(
                f"{names[i]}: {logits.size} scores for {classes} classes",
                hint="a background class would shift every label by one: cut it from the output",
            )
        if not 0 <= label < classes:
            raise DataError(f"{names[i]}: label {label} is not 0..{classes - 1}", hint="labels count from 0")
        own = logits[label]
        places[i] = np.count_nonzero(logits > own) + np.count_nonzero(logits[:label] == own)
    return places


def score(predictions: Sequence[Predictions], truth: Sequence[int], ids: Sequence[str] | None = None) -> Score:
    """top1 and top5 over 1,000 classes; truth is the class number, from 0. Raises DataError and RunError."""
    places = ranks(predictions, truth, ids)
    hits = {"top1": places < 1, "top5": places < 5}

    def resample(weights: NDArray[np.int64]) -> Mapping[str, float]:
        return {name: float(weights @ hit / weights.sum()) for name, hit in hits.items()}

    return Score(resample(np.ones(len(places), np.int64)), len(places), resample, hits)


def truth_from_reference(predictions: Sequence[Predictions]) -> list[int]:
    """Each sample's best class, where there is no ground truth."""
    return [int(np.argmax(p["logits"])) for p in predictions]
