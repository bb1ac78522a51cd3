"""COCO bounding-box average precision, equal to that of pycocotools, in a form in which images can be resampled.

The figure is the mean over ten overlaps 0.50:0.05:0.95 and 101 recalls, all areas, at most 100 detections an image and
class (the first of the twelve numbers that pycocotools prints; `statistics` gives all of them).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.case import Predictions
from harness.errors import RunError
from harness.metrics.base import Score, array, check_count, confident, detections

CLASSES = 80
CATEGORY_IDS = (
    *range(1, 12), *range(13, 26), 27, 28, *range(31, 45), *range(46, 66), 67, 70, *range(72, 83), *range(84, 91)
)  # fmt: skip
"""COCO's id of each label: label 0 is person (1), label 79 toothbrush (90)."""
OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
SIZES = ((0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10))  # least and largest area in pixels: all, small, ...
DETECTIONS = 100  # of an image and a class, the best


@dataclass(frozen=True)
class Objects:
    """Ground truth of one image."""

    boxes: NDArray[np.float64]  # (n, 4): x, y, width, height in pixels
    labels: NDArray[np.int64]  # (n,): 0..79
    areas: NDArray[np.float64]  # (n,): of the segments where there are any, else of the boxes
    crowd: NDArray[np.bool_]  # (n,): a crowd may match any number of detections and is not counted


def score(predictions: Sequence[Predictions], truth: Sequence[Objects], ids: Sequence[str] | None = None) -> Score:
    """The metric `ap` (0..1). Ties are resolved as in pycocotools when samples are in the order of their COCO image
    ids. Raises DataError and RunError."""
    found = _Set.of(predictions, truth, ids)
    marks, _, counted = _matched(found, SIZES[0])
    curves = _Curves.of(found, marks, counted)

    def resample(weights: NDArray[np.int64]) -> Mapping[str, float]:
        means = curves.means(np.asarray(weights, np.float64))
        per_class = [share @ mean for share, mean in zip(curves.shares, means, strict=True) if not np.isnan(mean[0])]
        return {"ap": float(np.mean(per_class)) if per_class else float("nan")}

    answers = {"ap": int(sum(len(objects.crowd) - objects.crowd.sum() for objects in truth))}
    return Score(resample(np.ones(len(truth), np.int64)), len(truth), resample, answers=answers)


def statistics(
    predictions: Sequence[Predictions], truth: Sequence[Objects], ids: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """The twelve numbers of pycocotools: AP, AP50, AP75, small, medium, large; recalls at 1, 10, 100, small, medium,
    large. -1 where undefined. Raises DataError and RunError."""
    from harness.metrics.interpolation import TRUE

    found = _Set.of(predictions, truth, ids)
    precisions, recalls = [], []
    for size in SIZES:
        marks, ranks, counted = _matched(found, size)
        curves = _Curves.of(found, marks, counted, merged=False)
        precisions.append(np.array(curves.means(np.ones(found.images))).reshape(-1, len(OVERLAPS)))
        objects = np.bincount(found.object_labels[counted], minlength=CLASSES)
        there = objects > 0
        row, place = np.nonzero(marks == TRUE)
        at, rank = row * CLASSES + found.labels[place], ranks[place]
        for most in (1, 10, DETECTIONS) if size == SIZES[0] else (DETECTIONS,):
            hits = np.bincount(at[rank < most], minlength=marks.shape[0] * CLASSES).reshape(-1, CLASSES)
            recalls.append(hits[:, there] / objects[there])
    every, *by_size = precisions
    parts = [every, every[:, OVERLAPS == 0.5], every[:, OVERLAPS == 0.75], *by_size, *recalls]
    return np.array([part.mean() if part.size else -1.0 for part in parts])


def truth_from_reference(predictions: Sequence[Predictions]) -> list[Objects]:
    """Objects to use as truth where there is no ground truth: the reference's own detections of at least one pixel in
    width and height that score 0.3 or more, or its best ones where these are fewer than two per image (see
    `confident`). Raises RunError when it found nothing."""
    found = [detections(p, f"sample {i}") for i, p in enumerate(predictions)]
    large = [(_xywh(boxes)[:, 2:] >= 1).all(1) for boxes, _ in found]
    cut = confident([scores[ok] for (_, scores), ok in zip(found, large, strict=True)], 0.3)
    truth = []
    for prediction, (corners, scores), ok in zip(predictions, found, large, strict=True):
        kept = ok & (scores >= cut)
        boxes = _xywh(corners[kept])
        labels = np.asarray(prediction["labels"], np.int64)[kept]
        truth.append(Objects(boxes, labels, boxes[:, 2] * boxes[:, 3], np.zeros(len(boxes), bool)))
    return truth


def _xywh(boxes: NDArray[np.generic]) -> NDArray[np.float64]:
    """x, y, width, height (k, 4) of corners, subtracted in float32 like the authors do."""
    corners = np.asarray(boxes, np.float32)
    extents: NDArray[np.float32] = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
    return extents.astype(np.float64)


def _end_to_end(
    predictions: Sequence[Predictions], names: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8], list[int]]:
    """Boxes (d, 4) as corners, scores (d,) and labels (d,) of all images, and how many each image has.

    They are checked together, which is ten times as fast as one by one. When a check fails, they are checked one by one
    to name the image. Raises RunError."""
    if all("boxes" in p and "scores" in p and "labels" in p for p in predictions):
        parts = [[np.asarray(p[key]) for p in predictions] for key in ("boxes", "scores", "labels")]
        counts = [value.size for value in parts[1]]
        if all(
            box.shape == (n, 4) and score.shape == label.shape == (n,)
            for box, score, label, n in zip(*parts, counts, strict=True)
        ):
            columns = [np.concatenate(part) for part in parts]
            if all(np.isfinite(column).all() for column in columns):
                corners, scores = np.asarray(columns[0], np.float32), np.asarray(columns[1], np.float32)
                labels = np.asarray(columns[2], np.int64)
                if (corners[:, 2:] >= corners[:, :2]).all() and ((labels >= 0) & (labels < CLASSES)).all():
                    return corners, scores, labels.astype(np.uint8), counts
    usable = [_usable(prediction, name) for prediction, name in zip(predictions, names, strict=True)]
    corners, scores, classes = (np.concatenate(part) for part in zip(*usable, strict=True))
    return corners, scores, classes, [len(labels) for _, _, labels in usable]


def _usable(prediction: Predictions, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """Boxes, scores and labels of one image. Raises RunError."""
    boxes, scores = detections(prediction, name)
    labels: NDArray[np.int64] = np.asarray(array(prediction, "labels", name), np.int64)
    if labels.shape != scores.shape or ((labels < 0) | (labels >= CLASSES)).any():
        raise RunError(f"{name}: labels are not one of 0..{CLASSES - 1} a box", hint="drop the 81st class")
    return boxes, scores, labels.astype(np.uint8)


@dataclass(frozen=True)
class _Set:
    """All detections of a data set, concatenated: by class, best first, for equal scores the earlier image first; and
    all its objects, concatenated."""

    images: int
    boxes: NDArray[np.float64]  # (d, 4): x, y, width, height
    labels: NDArray[np.uint8]  # (d,)
    image: NDArray[np.int32]  # (d,)
    object_boxes: NDArray[np.float64]  # (n, 4)
    object_labels: NDArray[np.uint8]  # (n,)
    object_image: NDArray[np.int32]  # (n,)
    object_areas: NDArray[np.float64]  # (n,)
    crowd: NDArray[np.bool_]  # (n,)

    @staticmethod
    def of(predictions: Sequence[Predictions], truth: Sequence[Objects], ids: Sequence[str] | None) -> _Set:
        """The detections and objects of these samples. Raises DataError and RunError."""
        boxes, scores, label, counts = _end_to_end(predictions, check_count(predictions, truth, ids))
        image = np.repeat(np.arange(len(truth), dtype=np.int32), counts)
        order = np.lexsort((-scores, label))
        object_labels = np.concatenate([objects.labels for objects in truth])
        known = (object_labels >= 0) & (object_labels < CLASSES)
        object_image = np.repeat(np.arange(len(truth), dtype=np.int32), [len(objects.labels) for objects in truth])
        return _Set(
            len(truth),
            _xywh(boxes[order]),
            label[order],
            image[order],
            np.concatenate([np.asarray(objects.boxes, np.float64).reshape(-1, 4) for objects in truth])[known],
            object_labels[known].astype(np.uint8),
            object_image[known],
            np.concatenate([np.asarray(objects.areas, np.float64) for objects in truth])[known],
            np.concatenate([np.asarray(objects.crowd, bool) for objects in truth])[known],
        )


def _matched(found: _Set, size: tuple[float, float]) -> tuple[NDArray[np.int8], NDArray[np.int64], NDArray[np.bool_]]:
    """(mark of each detection at each overlap (10, d), its rank in its image and class (d,), which objects count (n,)).
    Only areas within `size`, in pixels, count."""
    from harness.metrics.interpolation import match

    least, largest = size
    ignored = found.crowd | (found.object_areas < least) | (found.object_areas > largest)
    areas = found.boxes[:, 2] * found.boxes[:, 3]
    group = found.object_labels.astype(np.int64) * found.images + found.object_image
    order = np.lexsort((ignored, group))
    first = np.zeros(CLASSES * found.images + 1, np.int64)
    np.cumsum(np.bincount(group, minlength=CLASSES * found.images), out=first[1:])
    marks, ranks = match(
        found.boxes,
        found.labels.astype(np.int64) * found.images + found.image,
        (areas < least) | (areas > largest),
        found.object_boxes[order],
        first,
        found.crowd[order],
        ignored[order],
        OVERLAPS,
        DETECTIONS,
    )
    return marks, ranks, ~ignored


@dataclass(frozen=True)
class _Curves:
    """Precision over recall of every class with an object, for each way in which its detections are matched."""

    columns: tuple[NDArray[np.generic], ...]  # arguments of `average_precision` between the weights and the recalls
    ends: NDArray[np.int64]  # where the curves of each class end, without the last class
    shares: list[NDArray[np.float64]]  # for each class, how many of the overlaps have each curve, as a fraction

    @staticmethod
    def of(found: _Set, marks: NDArray[np.int8], counted: NDArray[np.bool_], merged: bool = True) -> _Curves:
        """The curves of all classes. `merged`: overlaps at which a class is matched in the same way share a curve."""
        from harness.metrics.interpolation import IGNORED, TRUE

        somewhere = (marks != IGNORED).any(axis=0)
        marks = marks[:, somewhere]
        labels, image = found.object_labels[counted], found.object_image[counted]
        begins = np.searchsorted(found.labels[somewhere], np.arange(CLASSES + 1))
        objects_begin = np.searchsorted(np.sort(labels), np.arange(CLASSES + 1))
        curves, shares, lengths, events = np.zeros(CLASSES, np.int64), [], [], []
        for c in np.unique(labels):
            inside = marks[:, begins[c] : begins[c + 1]]
            alike = np.ones(len(inside), np.int64)
            if merged:  # as bytes, whose order is that of the marks; a hundredth of what np.unique takes
                rows = sorted(Counter(row.tobytes() for row in inside).items())
                inside = np.frombuffer(b"".join(row for row, _ in rows), np.int8).reshape(len(rows), -1)
                alike = np.array([count for _, count in rows])
            curves[c] = len(inside)
            shares.append(alike / len(marks))
            row, place = np.nonzero(inside)
            events.append(np.where(inside[row, place] == TRUE, place, ~place).astype(np.int32))
            lengths.append(np.bincount(row, minlength=len(inside)))
        columns = (
            found.image[somewhere],
            begins,
            image[np.argsort(labels, kind="stable")],
            objects_begin,
            np.concatenate([[0], np.cumsum(curves)]),
            np.concatenate([np.empty(0, np.int32), *events]),
            np.concatenate([[0], np.cumsum(np.concatenate([np.empty(0, np.int64), *lengths]))]),
        )
        return _Curves(columns, np.cumsum(curves[curves > 0])[:-1], shares)

    def means(self, weights: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """For each class the mean precision of its curves, with image i counted weights[i] times; NaN without
        objects."""
        from harness.metrics.interpolation import average_precision

        means = average_precision(weights, *self.columns, RECALLS)
        return np.split(means, self.ends) if self.shares else []
