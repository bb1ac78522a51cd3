"""WIDER FACE average precision, easy, medium and hard: the protocol of the authors' evaluation program.

Scores are scaled to 0..1 over the whole set; a detection belongs to the face with the largest overlap; at each of 1,000
thresholds the detections above it are counted; the area under that curve is the AP. Two steps of the program depend on
the order of rows, not on scores: a second detection of a face is a false positive, and a threshold takes every row up
to the last one that reaches it. Rows that are not sorted best first are therefore scored as that program scores them
(`unsorted` finds them).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.case import Predictions
from harness.errors import RunError
from harness.metrics.base import Score, check_count, confident, detections

SETTINGS = ("easy", "medium", "hard")
THRESHOLDS = 1 - np.arange(1, 1001) / 1000  # as the authors compute them
OVERLAP = 0.5
Rows = NDArray[np.float64]  # (k, 5): x, y, width, height in pixels, score


@dataclass(frozen=True)
class Faces:
    """Ground truth of one image."""

    boxes: NDArray[np.float64]  # (n, 4): x, y, width, height in pixels
    counted: NDArray[np.bool_]  # (3, n): whether the face counts in easy, medium, hard; else it is ignored


@dataclass(frozen=True)
class Tally:
    """Sums over images, one row per setting. The tallies of parts of a data set add up to that of the whole set only if
    all were made with the same score range."""

    proposals: NDArray[np.float64]  # (3, 1000): detections above each threshold, less those on ignored faces
    found: NDArray[np.float64]  # (3, 1000): faces found above each threshold
    faces: NDArray[np.float64]  # (3,): faces that count
    score_range: tuple[float, float]

    def __add__(self, other: Tally) -> Tally:
        if self.score_range != other.score_range:
            raise RunError(
                f"score ranges differ: {self.score_range} and {other.score_range}",
                hint="make both tallies with the range of the whole set: score_range(all rows)",
            )
        return Tally(
            self.proposals + other.proposals, self.found + other.found, self.faces + other.faces, self.score_range
        )

    def ap(self) -> dict[str, float]:
        """AP (0..1) of each setting, by metric name; NaN where no face counts."""
        curves = zip(SETTINGS, self.proposals, self.found, self.faces, strict=True)
        return {f"ap_{name}": _ap(proposals, found, faces) for name, proposals, found, faces in curves}


def score(predictions: Sequence[Predictions], truth: Sequence[Faces], ids: Sequence[str] | None = None) -> Score:
    """ap_easy, ap_medium and ap_hard of predictions as their result files would hold them (whole pixels).

    Raises DataError and RunError."""
    names = check_count(predictions, truth, ids)
    return evaluate([rows(p, name) for p, name in zip(predictions, names, strict=True)], truth, ids)


def evaluate(found: Sequence[Rows], truth: Sequence[Faces], ids: Sequence[str] | None = None) -> Score:
    """ap_easy, ap_medium and ap_hard of rows, for example those of result files. Raises DataError."""
    check_count([{}] * len(found), truth, ids)
    matched = _Matched(found, truth, score_range(found))

    def resample(weights: NDArray[np.int64]) -> Mapping[str, float]:
        return matched.tally(weights).ap()

    counted = sum((faces.counted.sum(axis=1) for faces in truth), np.zeros(3, np.int64))
    answers = {f"ap_{name}": int(count) for name, count in zip(SETTINGS, counted, strict=True)}
    return Score(matched.tally().ap(), len(truth), resample, answers=answers)


def tally(found: Sequence[Rows], truth: Sequence[Faces], score_range: tuple[float, float]) -> Tally:
    """The tally of a part of the set, which can be added to those of the other parts."""
    return _Matched(found, truth, score_range).tally()


def score_range(found: Iterable[Rows]) -> tuple[float, float]:
    """Lowest and highest score of the whole set, as the authors take them: never above 1 and never below 0."""
    columns = [row[:, 4] for row in found if len(row)]
    if not columns:
        return 1.0, 0.0
    scores = np.concatenate(columns)
    return min(1.0, float(np.min(scores))), max(0.0, float(np.max(scores)))


def unsorted(found: Iterable[Rows]) -> list[int]:
    """Indices of the images whose rows are not sorted best first; the AP then depends on the order of the rows."""
    return [i for i, row in enumerate(found) if (np.diff(row[:, 4]) > 0).any()]


def rows(prediction: Predictions, sample: str = "sample") -> Rows:
    """Rows (k, 5) as they would be read from the prediction's result file: corners cut to whole pixels towards zero,
    width and height from those, the score from its shortest decimal. Raises RunError."""
    boxes, scores = detections(prediction, sample)
    corners = np.trunc(boxes).astype(np.float64)
    return np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2], shortest_decimal(scores)])


def shortest_decimal(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """float(str(s)) of each float32 score: the value of the shortest decimal text that reads back as that float32."""
    exact = scores.astype(np.float64)
    out = exact.copy()
    todo = np.flatnonzero((scores > 1e-4) & (scores < 1))
    for digits in range(1, 14):
        if not todo.size:
            break
        decimal = np.rint(exact[todo] * 10.0**digits) / 10.0**digits  # correctly rounded: both are exact
        same = decimal.astype(np.float32) == scores[todo]
        out[todo[same]] = decimal[same]
        todo = todo[~same]
    for i in np.flatnonzero(((scores <= 1e-4) & (scores != 0)) | (scores > 1)):
        out[i] = float(str(scores[i]))
    return np.asarray(out, np.float64)


def truth_from_reference(predictions: Sequence[Predictions]) -> list[Faces]:
    """Faces to use as truth where there is no ground truth: the reference's own detections that score 0.5 or more, or
    its best ones where these are fewer than two per image (see `confident`). The tallest third counts as easy, the
    tallest two thirds as medium, all as hard. Raises RunError when the reference found nothing."""
    found = [rows(p) for p in predictions]
    cut = confident([row[:, 4] for row in found], 0.5)
    kept = [row[row[:, 4] >= cut, :4] for row in found]
    heights = np.concatenate([boxes[:, 3] for boxes in kept])
    lowest = np.sort(heights)[::-1][[(len(heights) - 1) // 3, (2 * len(heights) - 1) // 3, -1]]
    return [Faces(boxes, boxes[:, 3] >= lowest[:, None]) for boxes in kept]


class _Matched:
    """Detections of a set matched to its faces once, for the three settings and for any weights of the images."""

    def __init__(self, found: Sequence[Rows], truth: Sequence[Faces], score_range: tuple[float, float]) -> None:
        self.score_range = score_range
        self.faces = np.array([faces.counted.sum(1) for faces in truth], np.float64).reshape(len(truth), 3)
        pairs = [(i, row, faces) for i, (row, faces) in enumerate(zip(found, truth, strict=True)) if len(row)]
        # an image without faces adds nothing, whatever was detected there
        pairs = [(i, row, faces) for i, row, faces in pairs if len(faces.boxes)]
        image = np.repeat([i for i, _, _ in pairs], [len(row) for _, row, _ in pairs]).astype(np.int64)
        lowest, highest = score_range
        scores = np.concatenate([np.maximum.accumulate(row[::-1, 4])[::-1] for _, row, _ in pairs] or [np.empty(0)])
        if highest <= lowest:  # the authors divide 0 by 0 here: no row reaches any threshold
            bins = np.full(len(scores), len(THRESHOLDS))
        else:
            stretched = (scores - lowest) / (highest - lowest)
            bins = len(THRESHOLDS) - np.searchsorted(THRESHOLDS[::-1], stretched, side="right")
        marks = [_match(row, faces) for _, row, faces in pairs]
        proposal = np.concatenate([p for p, _ in marks] or [np.empty((3, 0), bool)], axis=1)
        hit = np.concatenate([h for _, h in marks] or [np.empty((3, 0), bool)], axis=1)
        self._sparse = [_Sparse.of(bins, image, flags) for flags in (*proposal, *hit)]

    def tally(self, weights: NDArray[np.int64] | None = None) -> Tally:
        per_image = np.ones(len(self.faces)) if weights is None else np.asarray(weights, np.float64)
        curves = np.stack([sparse.curve(per_image) for sparse in self._sparse])
        return Tally(curves[:3], curves[3:], per_image @ self.faces, self.score_range)


@dataclass(frozen=True)
class _Sparse:
    """How many flagged rows of each image reach a threshold first at each place."""

    place: NDArray[np.int64]
    image: NDArray[np.int64]
    count: NDArray[np.int64]

    @classmethod
    def of(cls, bins: NDArray[np.int64], image: NDArray[np.int64], flags: NDArray[np.bool_]) -> _Sparse:
        width = len(THRESHOLDS) + 1
        key, count = np.unique(image[flags] * width + bins[flags], return_counts=True)
        return cls(key % width, key // width, count)

    def curve(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        width = len(THRESHOLDS) + 1
        sums = np.bincount(self.place, weights[self.image] * self.count, minlength=width)
        return np.cumsum(sums[:-1], dtype=np.float64)  # of nothing, bincount makes integers


def overlaps(found: Rows, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU (k, n) of rows and boxes x, y, width, height, with 1 pixel added to each width and height."""
    x1, y1, w, h = found[:, :4].T[:, :, None]
    X1, Y1, W, H = boxes.T[:, None, :]
    inner = np.minimum(x1 + w, X1 + W) - np.maximum(x1, X1) + 1
    np.maximum(inner, 0, out=inner)
    height = np.minimum(y1 + h, Y1 + H) - np.maximum(y1, Y1) + 1
    inner *= np.maximum(height, 0, out=height)
    union = (w + 1) * (h + 1) + (W + 1) * (H + 1) - inner
    # one box of the ground truth has a negative width: it overlaps nothing, whatever its area comes to
    return np.asarray(np.divide(inner, np.maximum(union, 1, out=union), out=union))


def _match(found: Rows, faces: Faces) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each setting and row (3, k): whether the row is a proposal, and whether it finds a face."""
    iou = overlaps(found, faces.boxes)
    face = iou.argmax(1)
    matched = np.flatnonzero(iou[np.arange(len(iou)), face] >= OVERLAP)
    of = face[matched]
    counted = faces.counted[:, of]
    proposal = np.ones((3, len(found)), bool)
    proposal[:, matched] = counted
    _, first = np.unique(of, return_index=True)
    hit = np.zeros((3, len(found)), bool)
    hit[:, matched[first]] = counted[:, first]
    return proposal, hit


def _ap(proposals: NDArray[np.float64], found: NDArray[np.float64], faces: float) -> float:
    if not faces:
        return float("nan")
    precision = np.divide(found, proposals, out=np.zeros_like(found), where=proposals > 0)
    return area(found / faces, precision)


def area(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Area under a curve of rising recall, each precision raised to the highest that follows (Pascal VOC 2010)."""
    edges = np.concatenate([[0.0], recall, [1.0]])
    envelope = np.maximum.accumulate(np.concatenate([[0.0], precision, [0.0]])[::-1])[::-1]
    steps = np.flatnonzero(edges[1:] != edges[:-1])
    return float(np.sum((edges[steps + 1] - edges[steps]) * envelope[steps + 1]))
