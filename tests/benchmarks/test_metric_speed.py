"""Evaluation against its peers, timed in turn in one run.

WIDER FACE: the authors' program reads each of 1,000 thresholds of each picture in Python; its peer here does the same
(tests/support/plain_metrics.py), with the overlaps in NumPy in the place of their compiled loop.
COCO: pycocotools itself.
"""

import time
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import plain_metrics
import pytest

from harness.metrics import coco, widerface

pytestmark = pytest.mark.benchmark


def seconds(function, *arguments, times=1):
    """(least of `times` runs, result)."""
    best = np.inf
    for _ in range(times):
        begun = time.perf_counter()
        result = function(*arguments)
        best = min(best, time.perf_counter() - begun)
    return best, result


def test_wider_face_is_evaluated_40_times_as_fast_as_step_by_step():
    found, truth = plain_metrics.crowd(300, 150)

    fast, score = seconds(widerface.evaluate, found, truth, times=5)
    slow, peer = seconds(plain_metrics.evaluate, found, truth)

    print(f"ratio {slow / fast:.3f}")
    np.testing.assert_allclose(list(score.values.values()), peer, rtol=0, atol=1e-12)
    assert slow / fast >= 40, f"{slow:.2f} s against {fast:.3f} s: {slow / fast:.0f}x"


def test_the_time_a_picture_takes_does_not_grow_with_the_set():
    found, truth = plain_metrics.crowd(3226, 150)

    part, _ = seconds(widerface.evaluate, found[:300], truth[:300], times=5)
    whole, score = seconds(widerface.evaluate, found, truth, times=3)
    draw, _ = seconds(score.resample, np.ones(3226, np.int64), times=5)

    print(f"seconds {whole:.3f}")
    assert whole / 3226 <= 1.5 * part / 300, f"{whole:.2f} s for 3,226 pictures, {part:.3f} s for 300"
    assert draw <= whole / 20, f"a draw takes {draw:.4f} s, the evaluation {whole:.2f} s"


def things(images, detections, seed=0):
    """(predictions, truth) of pictures with about seven objects each, most of them found."""
    state = np.random.RandomState(seed)
    predictions, truth = [], []
    for _ in range(images):
        n = min(state.poisson(7.4), 60)
        boxes = np.hstack([state.random_sample((n, 2)) * 400, 10 + state.random_sample((n, 2)) * 150])
        labels = state.randint(0, 80, n)
        truth.append(coco.Objects(boxes, labels, boxes[:, 2] * boxes[:, 3], state.random_sample(n) < 0.01))
        rest = detections - n
        false = np.hstack([state.random_sample((rest, 2)) * 400, 10 + state.random_sample((rest, 2)) * 150])
        rows = np.vstack([boxes + state.standard_normal((n, 4)) * 5, false])
        rows[:, 2:] = rows[:, :2] + rows[:, 2:].clip(min=1)
        scores = state.random_sample(detections).astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        classes = np.concatenate([labels, state.randint(0, 80, rest)])
        predictions.append({"boxes": rows[order].astype(np.float32), "scores": scores[order], "labels": classes[order]})
    return predictions, truth


def pycocotools_ap(predictions, truth):
    """The way pycocotools is commonly used: two lists of dictionaries, evaluate, accumulate, summarize."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    labelled, found = [], []
    for i, (prediction, objects) in enumerate(zip(predictions, truth, strict=True), 1):
        for box, label, area, crowd in zip(objects.boxes, objects.labels, objects.areas, objects.crowd, strict=True):
            entry = {"id": len(labelled) + 1, "image_id": i, "category_id": int(label) + 1, "bbox": box.tolist()}
            labelled.append(entry | {"area": float(area), "iscrowd": int(crowd)})
        columns = (prediction[k] for k in ("boxes", "scores", "labels"))
        for (x1, y1, x2, y2), score, label in zip(*columns, strict=True):
            box = [float(x1), float(y1), float(x2 - x1), float(y2 - y1)]
            found.append({"image_id": i, "category_id": int(label) + 1, "bbox": box, "score": float(score)})
    with redirect_stdout(StringIO()):
        dataset = COCO()
        images = [{"id": i + 1} for i in range(len(truth))]
        dataset.dataset = {"images": images, "categories": [{"id": c + 1} for c in range(80)], "annotations": labelled}
        dataset.createIndex()
        evaluation = COCOeval(dataset, dataset.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[0]


def test_coco_is_scored_no_slower_than_by_pycocotools():
    predictions, truth = things(120, 100)
    coco.score(predictions[:10], truth[:10])  # imports

    ours, score = seconds(coco.score, predictions, truth, times=2)
    theirs, ap = seconds(pycocotools_ap, predictions, truth, times=2)

    print(f"ratio {theirs / ours:.3f}")
    assert score.values["ap"] == pytest.approx(ap, abs=1e-12)
    assert ours <= theirs, f"{ours:.2f} s against {theirs:.2f} s"
