"""Evaluation against its peers, timed in turn in one run.

WIDER FACE: the authors' program reads each of 1,000 thresholds of each picture in Python; its peer here does the same
(tests/support/plain_metrics.py), with the overlaps in NumPy in the place of their compiled loop.
COCO: pycocotools itself, and hotcoco, a port of it to Rust that is faster than any other we know.
"""

import time
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import plain_metrics
import pytest
import witness_coco

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


def test_coco_is_scored_100_times_as_fast_as_by_pycocotools():
    predictions, truth = things(120, 100)
    coco.score(predictions[:10], truth[:10])  # imports

    ours, score = seconds(coco.score, predictions, truth, times=5)
    theirs, witness = seconds(witness_coco.twelve, predictions, truth)

    print(f"ratio {theirs / ours:.3f}")
    assert score.values["ap"] == pytest.approx(witness[0], abs=1e-12)
    assert theirs / ours >= 100, f"{ours:.4f} s against {theirs:.2f} s"


def end_to_end(predictions, truth):
    """(labels as dictionaries, detections as rows image, x, y, width, height, score, category): what hotcoco reads
    fastest."""
    labelled = []
    for i, objects in enumerate(truth, 1):
        for box, label, area, crowd in zip(objects.boxes, objects.labels, objects.areas, objects.crowd, strict=True):
            entry = {"id": len(labelled) + 1, "image_id": i, "category_id": int(label) + 1, "bbox": box.tolist()}
            labelled.append(entry | {"area": float(area), "iscrowd": int(crowd)})
    images = [{"id": i + 1, "width": 640, "height": 640} for i in range(len(truth))]
    categories = [{"id": c + 1, "name": str(c)} for c in range(80)]
    rows = []
    for i, p in enumerate(predictions, 1):
        sides = p["boxes"][:, 2:] - p["boxes"][:, :2]
        columns = np.full(len(sides), i), p["boxes"][:, :2], sides, p["scores"], p["labels"] + 1
        rows.append(np.column_stack(columns).astype(np.float64))
    return {"images": images, "categories": categories, "annotations": labelled}, np.concatenate(rows)


@pytest.mark.parametrize("numbers", [1, 12])
def test_coco_is_scored_no_slower_than_by_hotcoco(numbers):
    """AP alone, and all twelve numbers. hotcoco starts with its labels indexed and its rows ready, we with what a run
    has, an array an image. Processor time of all threads, so that other programs count for less."""
    hotcoco = pytest.importorskip("hotcoco", reason="the peer is not installed: make bench installs it")
    predictions, truth = things(1000, 100)
    dataset, rows = end_to_end(predictions, truth)
    labelled = hotcoco.COCO(dataset)

    def peer():
        evaluation = hotcoco.COCOeval(labelled, labelled.load_res(rows), "bbox")
        if numbers == 1:
            evaluation.params.area_rng, evaluation.params.area_rng_lbl = [[0, 1e10]], ["all"]
            evaluation.params.max_dets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
        if numbers == 1:
            return evaluation.eval["precision"]
        with redirect_stdout(StringIO()):
            evaluation.summarize()
        return np.asarray(evaluation.stats)

    ours = coco.statistics if numbers == 12 else coco.score
    ours(predictions[:10], truth[:10])  # imports
    taken = []
    for _ in range(7):
        begun = time.process_time()
        result = ours(predictions, truth)
        between = time.process_time()
        theirs = peer()
        taken.append((between - begun, time.process_time() - between))
    mine, other = np.median(taken, axis=0)

    print(f"ratio {other / mine:.3f}")
    if numbers == 1:
        precision = np.asarray(theirs)
        result, theirs = result.values["ap"], precision[precision > -1].mean()
    np.testing.assert_allclose(result, theirs, rtol=0, atol=1e-12)
    assert mine <= other, f"{mine:.3f} s against {other:.3f} s"


def test_the_whole_of_coco_is_scored_in_2_seconds_and_drawn_in_5_milliseconds():
    predictions, truth = things(5000, 100)
    coco.score(predictions[:10], truth[:10])  # imports
    random = np.random.default_rng(0)

    begun = time.process_time()
    score = coco.score(predictions, truth)
    whole = time.process_time() - begun
    draws = []
    for _ in range(20):
        weights = random.multinomial(5000, np.full(5000, 1 / 5000))
        begun = time.process_time()
        score.resample(weights)
        draws.append(time.process_time() - begun)
    draw = float(np.median(draws))

    print(f"seconds {whole:.3f}")
    assert whole <= 2, f"{whole:.2f} s for 5,000 pictures"
    assert draw <= 0.005, f"a draw takes {1000 * draw:.2f} ms"
