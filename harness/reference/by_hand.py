"""Results that were worked out by hand, beside the suite's own: numbers exactly at a threshold, equal numbers, unknown
labels. Drawn numbers never show which way a program decides there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from harness import metrics
from harness.arrays import boxes
from harness.case import Predictions, Tensors
from harness.judge.golden import Compared
from harness.metrics import changes, widerface
from harness.metrics.coco import Objects
from harness.metrics.widerface import Faces
from harness.models import gfocalv2, retinaface
from harness.models.base import Frame, Protocol

F32 = np.float32


def faces(protocol: Protocol, priors: int, kept: bool) -> Iterator[Compared]:
    """A face whose score is exactly that which is asked: biubug6's program drops it, Cambricon's keeps it. `priors` is
    the number of the protocol's."""
    conf = np.zeros((priors, 2), F32)
    conf[priors // 3, 1], conf[priors // 2, 1] = retinaface.SCORE, 0.5
    outputs: Tensors = dict(
        zip(retinaface.OUTPUTS, (np.zeros((priors, 4), F32), conf, np.zeros((priors, 10), F32)), strict=True)
    )
    frame = protocol.preprocess(np.zeros((*protocol.size, 3), np.uint8), True).frame
    found = protocol.postprocess(outputs, frame)["scores"]
    yield Compared("faces at the score asked and above it", np.array(len(found)), np.array(1 + kept))


def counted_faces() -> Iterator[Compared]:
    """A box of 10 x 10 (1 is added to each side) covers half of a face: it is found at 0.5, the 500th of 1,000
    thresholds."""
    face = Faces(np.array([[0.0, 0, 9, 19]]), np.ones((3, 1), bool))
    found = widerface.tally([np.array([[0, 0, 9, 9, 0.5]])], [face], (0.0, 1.0)).found[0]
    yield Compared("threshold at which a face is found", found, np.arange(1000) >= 499)
    yield from _changed(
        "faces", {"boxes": [[0, 0, 9, 9]], "scores": [0.9]}, {"boxes": [[0, 0, 9, 9]], "scores": [0.9]}, 0
    )


def objects() -> Iterator[Compared]:
    """mmdetection keeps scores above the threshold, and mmcv suppresses at an overlap of it: two boxes of 10 x 10, one
    moved by 2.5 pixels, overlap by 75 / 125 = 0.6."""
    asked, above = F32(gfocalv2.SCORE), F32(0.5)
    cells = boxes.best_cells(np.array([asked, above]), 2, gfocalv2.SCORE)
    yield Compared("cells above the score asked", cells, np.array([1]))
    corners = np.array([[0, 0, 10, 10], [2.5, 0, 12.5, 10], [50, 50, 60, 60]], F32)
    for what, scores in (("an overlap", (above, above / 2, 0)), ("a score", (above, 0, asked))):
        column = np.array(scores, F32)[:, None]
        found, _, _ = boxes.multiclass_nms(corners, column, gfocalv2.SCORE, gfocalv2.IOU, gfocalv2.LIMIT)
        yield Compared(f"objects left at {what} of the threshold", np.array(len(found)), np.array(1))
    # of equal scores the earlier picture comes first: the object is found before the box that is wrong
    box = {"boxes": np.array([[0, 0, 9, 9]], F32), "scores": np.array([0.5], F32), "labels": np.array([7])}
    there = Objects(np.array([[0.0, 0, 9, 9]]), np.array([7]), np.array([81.0]), np.zeros(1, bool))
    gone = Objects(np.empty((0, 4)), np.empty(0, np.int64), np.empty(0), np.empty(0, bool))
    ap = metrics.score("objects", [box, box], [there, gone]).values["ap"]
    yield Compared("AP of two boxes with one score", np.array(ap), np.array(1.0), 1e-9)
    two: dict[str, list[object]] = {"boxes": [[0, 0, 9, 9], [20, 0, 29, 9]], "scores": [0.8, 0.8], "labels": [7, 8]}
    yield from _changed("objects", {name: value[:1] for name, value in two.items()}, two, 0.5)  # one is lost
    yield from _changed("objects", {**two, "labels": [7, 9]}, two, 1.0)  # one is lost, and there is one too many


def _changed(
    task: str, found: Mapping[str, list[object]], wanted: Mapping[str, list[object]], share: float
) -> Iterator[Compared]:
    """How much of an answer changed, by which ruined images are counted."""
    ours, theirs = ({name: np.array(value) for name, value in one.items()} for one in (found, wanted))
    (seen,) = changes.compared(task, [ours], [theirs])
    yield Compared(f"share of {task} that changed", np.array(seen.share), np.array(share), 1e-6)


def suppressed_by_chip(protocol: Protocol) -> Iterator[Compared]:
    """Rows of an engine that suppresses itself: two objects, one of the class without meaning, and padding."""
    read = protocol.postprocess_suppressed
    if read is None:
        return
    rows, labels = np.zeros((gfocalv2.LIMIT, 5), F32), np.zeros(gfocalv2.LIMIT, F32)
    rows[:3] = [[10, 20, 30, 60, 0.9], [2, 4, 6, 8, 0.5], [1, 1, 9, 9, 0.4]]
    labels[:3] = [3, 79, 80]
    found = read({"boxes": rows, "labels": labels}, Frame(40, 40, (0.5, 0.25)))
    yield Compared("labels of suppressed objects", found["labels"], np.array([3, 79]))
    yield Compared("scores of suppressed objects", found["scores"], rows[:2, 4])
    yield Compared("corners of suppressed objects", found["boxes"], np.array([[20, 80, 60, 240], [4, 16, 12, 32]]))


def attributes() -> Iterator[Compared]:
    """Three people, three attributes. The third attribute of the first is unknown: no answer is right or wrong."""
    found: list[Predictions] = [{"logits": np.array(row, F32)} for row in ((1, -1, 1), (1, 1, -1), (-1, -1, -1))]
    score = metrics.score("attributes", found, [np.array(row) for row in ((1, 0, 2), (0, 1, 1), (0, 0, 0))])
    right = np.array([1, 1, 0, 1, 0, 1, 1, 1], bool)
    yield Compared("right answers beside an unknown label", score.hits["answers"], right)
    yield from _changed("attributes", {"logits": [1] * 4}, {"logits": [1, 1, -1, 1]}, 0.25)
    mean = np.array(score.values["mean_accuracy"])  # of 3/4 (one of two recognised as absent), 1 and 1/2
    yield Compared("mean_accuracy beside an unknown label", mean, np.array(0.75))


def classes() -> Iterator[Compared]:
    """Of equal scores the lower class comes first. An answer whose best class fell to the sixth place changed
    altogether."""
    alike: Predictions = {"logits": np.zeros(1000, F32)}
    hits = metrics.score("classes", [alike] * 3, [0, 4, 5]).hits
    yield Compared("top 1 of classes with one score", hits["top1"], np.array([1, 0, 0], bool))
    yield Compared("top 5 of classes with one score", hits["top5"], np.array([1, 1, 0], bool))
    best: list[object] = [9, 8, 7, 6, 5, 4, 3]
    for place, share in ((0, 0.0), (1, 0.2), (5, 1.0), (6, 1.0)):
        yield from _changed("classes", {"logits": best}, {"logits": [*[0] * place, 1, *[0] * (6 - place)]}, share)
