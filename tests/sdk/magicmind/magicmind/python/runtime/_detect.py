"""DetectionOutput of YOLO heads: decoding, then suppression of each class.

Form of the results: what the vendor's infer.py of yolov5_v6_1_pytorch reads, seven numbers a box (image, class, score,
left, top, right, bottom) in pixels of the network's input, and a count for each image. The decoding is that of the
networks' authors; which boxes the card keeps at equal scores is a guess."""

from __future__ import annotations

import numpy as np

from magicmind.python.runtime._kinds import IDetectionOutputAlgo

MOST = 2000  # candidates of one head, the best; how many the card looks at is not known


def detected(heads, rule):
    """(boxes (N, limit, 7) float32, counts (N,) int32) of heads (N, H, W, anchors x (entries + classes))."""
    batch, limit = len(heads[0]), int(rule["num_box_limit"])
    boxes, counts = np.zeros((batch, limit, 7), np.float32), np.zeros(batch, np.int32)
    for image in range(batch):
        rows = np.concatenate([_decoded(head[image].astype(np.float32), i, rule) for i, head in enumerate(heads)])
        kept = _suppressed(rows, float(rule["nms_thresh"]))[:limit]
        counts[image] = len(kept)
        boxes[image, : len(kept), 0] = image
        boxes[image, : len(kept), 1:] = kept
    return boxes, counts


def _decoded(head, scale, rule):
    """Rows of class, score and corners above the threshold."""
    height, width, _ = head.shape
    count, classes = int(rule["num_anchor"]), int(rule["num_class"])
    anchors = np.asarray(rule["anchors"], np.float32).reshape(-1, count, 2)[scale]
    cells = head.reshape(height, width, count, int(rule["num_entry"]) + classes)
    size_y, size_x = rule["image_shape"]
    stride = np.float32([size_x / width, size_y / height])
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1)[:, :, None].astype(np.float32)
    likely = 1 / (1 + np.exp(-cells))
    if IDetectionOutputAlgo(rule["algo"]) == IDetectionOutputAlgo.YOLOV5:
        centre = (2 * likely[..., :2] - 0.5 + grid) * stride
        size = (2 * likely[..., 2:4]) ** 2 * anchors
    else:
        centre = (likely[..., :2] + grid) * stride
        size = np.exp(np.minimum(cells[..., 2:4], 80)) * anchors
    scores = likely[..., 4:5] * likely[..., 5:]
    least = float(rule["confidence_thresh"])
    if scores.size > MOST:
        least = max(least, float(np.partition(scores, -MOST, axis=None)[-MOST]))
    where = np.argwhere(scores > least)
    at = tuple(where[:, :3].T)
    low, high = (centre - size / 2)[at], (centre + size / 2)[at]
    return np.column_stack([where[:, 3], scores[tuple(where.T)], low, high]).astype(np.float32).reshape(-1, 6)


def _suppressed(rows, threshold):
    """Of each class the boxes that overlap no better one by more; the best first."""
    left, kept = rows[np.argsort(-rows[:, 1], kind="stable")], []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        low, high = np.maximum(best[2:4], left[:, 2:4]), np.minimum(best[4:6], left[:, 4:6])
        shared = np.prod(np.maximum(high - low, 0), 1)
        areas = np.prod(best[4:6] - best[2:4]) + np.prod(left[:, 4:6] - left[:, 2:4], 1) - shared
        left = left[(shared <= threshold * areas) | (left[:, 0] != best[0])]
    return np.array(kept, np.float32).reshape(-1, 6)
