"""COCO bounding-box average precision: matching by pycocotools, counted so that images can be resampled.

The figure is the mean over ten overlaps 0.50:0.05:0.95 and 101 recalls, all areas, at most 100 detections an image
(the first of the twelve numbers that pycocotools prints; `statistics` gives all of them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

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


@dataclass(frozen=True)
class Objects:
    """Ground truth of one image."""

    boxes: NDArray[np.float64]  # (n, 4): x, y, width, height in pixels
    labels: NDArray[np.int64]  # (n,): 0..79
    areas: NDArray[np.float64]  # (n,): of the segments where there are any, else of the boxes
    crowd: NDArray[np.bool_]  # (n,): a crowd is matched by any number of detections and counts for nothing


def score(predictions: Sequence[Predictions], truth: Sequence[Objects], ids: Sequence[str] | None = None) -> Score:
    """ap. Samples stand in the order of their COCO image ids where ties are to fall as in pycocotools.

    Raises DataError and RunError."""
    evaluation = _evaluation(predictions, truth, ids)
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.params.maxDets = [100]
    with redirect_stdout(StringIO()):
        evaluation.evaluate()
    categories = _categories(evaluation.evalImgs, len(truth))
    recalls = np.asarray(evaluation.params.recThrs)

    def resample(weights: NDArray[np.int64]) -> Mapping[str, float]:
        per_category = [ap for c in categories if (ap := c.ap(np.asarray(weights, np.float64), recalls)) is not None]
        return {"ap": float(np.mean(per_category)) if per_category else float("nan")}

    answers = {"ap": int(sum(len(objects.crowd) - objects.crowd.sum() for objects in truth))}
    return Score(resample(np.ones(len(truth), np.int64)), len(truth), resample, answers=answers)


def statistics(
    predictions: Sequence[Predictions], truth: Sequence[Objects], ids: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """The twelve numbers of pycocotools: AP, AP50, AP75, small, medium, large; recalls at 1, 10, 100, small, medium,
    large. -1 where undefined."""
    evaluation = _evaluation(predictions, truth, ids)
    with redirect_stdout(StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats, np.float64)


def truth_from_reference(predictions: Sequence[Predictions]) -> list[Objects]:
    """Objects where there is no ground truth: the reference's own, at least a pixel wide and high, that score 0.3
    or more or, where these are fewer than two an image, its best ones (see `confident`). Raises RunError when it found
    nothing."""
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
    """x, y, width, height of corners, subtracted as float32 like the authors do."""
    corners = np.asarray(boxes, np.float32)
    extents: NDArray[np.float32] = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
    return extents.astype(np.float64)


def _evaluation(predictions: Sequence[Predictions], truth: Sequence[Objects], ids: Sequence[str] | None) -> Any:
    """A pycocotools COCOeval of the set. Image ids are places + 1, category ids labels + 1."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    names = check_count(predictions, truth, ids)
    labelled: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for i, (prediction, objects) in enumerate(zip(predictions, truth, strict=True)):
        columns = zip(objects.boxes, objects.labels, objects.areas, objects.crowd, strict=True)
        labelled += [_entry(i, box, label, area, crowd) for box, label, area, crowd in columns]
        boxes, scores = detections(prediction, names[i])
        labels = np.asarray(array(prediction, "labels", names[i]), np.int64)
        if labels.shape != scores.shape or ((labels < 0) | (labels >= CLASSES)).any():
            raise RunError(f"{names[i]}: labels are not one of 0..{CLASSES - 1} a box", hint="drop the 81st class")
        extent = _xywh(boxes)
        areas = extent[:, 2] * extent[:, 3]
        found += [
            _entry(i, box, label, area, False) | {"score": score}
            for box, label, area, score in zip(extent, labels, areas, scores.tolist(), strict=True)
        ]
    dataset = {
        "images": [{"id": i + 1} for i in range(len(truth))],
        "categories": [{"id": c + 1} for c in range(CLASSES)],
    }
    truth_set, found_set = COCO(), COCO()
    with redirect_stdout(StringIO()):
        for coco, entries in ((truth_set, labelled), (found_set, found)):
            coco.dataset = dataset | {"annotations": [e | {"id": n + 1} for n, e in enumerate(entries)]}
            coco.createIndex()
        return COCOeval(truth_set, found_set, "bbox")


def _entry(image: int, box: NDArray[np.float64], label: np.int64, area: np.float64, crowd: bool) -> dict[str, Any]:
    return {
        "image_id": image + 1,
        "category_id": int(label) + 1,
        "bbox": box.tolist(),
        "area": float(area),
        "iscrowd": int(crowd),
    }


@dataclass(frozen=True)
class _Category:
    """Detections of one category, best first over all images, and the objects to find in each image."""

    objects: NDArray[np.float64]  # (images,)
    image: NDArray[np.int64]  # (d,)
    marks: NDArray[np.int8]  # (k, d): what they are at the k overlaps that differ
    share: NDArray[np.float64]  # (k,): how many of the overlaps are like each, as a fraction

    def ap(self, weights: NDArray[np.float64], recalls: NDArray[np.float64]) -> float | None:
        """Mean over overlaps and recalls, image i counted weights[i] times; None without an object."""
        from harness.metrics.interpolation import average_precision

        objects = float(weights @ self.objects)
        if not objects:
            return None
        return float(self.share @ average_precision(self.marks, self.image, weights, objects, recalls))


def _categories(evaluated: Sequence[Mapping[str, Any] | None], images: int) -> list[_Category]:
    """What pycocotools matched, category by category; its list runs over categories, then images."""
    from harness.metrics.interpolation import FALSE, IGNORED, TRUE

    out = []
    for start in range(0, len(evaluated), images):
        entries = [(i, e) for i, e in enumerate(evaluated[start : start + images]) if e is not None]
        if not entries:
            continue
        objects = np.zeros(images)
        for i, e in entries:
            objects[i] = np.count_nonzero(np.asarray(e["gtIgnore"]) == 0)
        order = np.argsort(-np.concatenate([e["dtScores"] for _, e in entries]), kind="mergesort")
        image = np.repeat([i for i, _ in entries], [len(e["dtScores"]) for _, e in entries])[order]
        matched = np.concatenate([e["dtMatches"] for _, e in entries], axis=1)[:, order]
        ignored = np.concatenate([e["dtIgnore"] for _, e in entries], axis=1)[:, order]
        marks = np.where(ignored.astype(bool), IGNORED, np.where(matched.astype(bool), TRUE, FALSE)).astype(np.int8)
        # what lies exactly on its object is matched alike at every overlap
        different, alike = np.unique(marks, axis=0, return_counts=True)
        out.append(_Category(objects, image, np.ascontiguousarray(different), alike / len(marks)))
    return out
