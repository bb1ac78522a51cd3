"""pycocotools itself: the witness of our COCO figures."""

from contextlib import redirect_stdout
from io import StringIO

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def twelve(predictions, truth):
    """The twelve numbers that pycocotools prints, used as it commonly is: two lists of dictionaries, evaluate,
    accumulate, summarize. Image ids are places + 1, category ids labels + 1."""
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
        evaluation = COCOeval(dataset, dataset.loadRes(found) if found else _nothing(dataset), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats, np.float64)


def _nothing(dataset):
    """What loadRes gives for no detection, of which it makes an IndexError."""
    empty = COCO()
    empty.dataset = dataset.dataset | {"annotations": []}
    empty.createIndex()
    return empty
