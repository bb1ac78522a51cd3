"""Boxes as arrays: where priors and points lie, what a network's numbers mean there, and which boxes survive.

Arithmetic is float32 in the order of the authors' programs, so that a box on the verge of a threshold falls on their
side of it. Boxes are rows x1, y1, x2, y2.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
F32 = np.float32

STRIDES = (8, 16, 32)  # RetinaFace, of its three maps
SIDES = ((16, 32), (64, 128), (256, 512))  # pixels of the two square priors in each cell of a map
CENTRE, SIZE = F32(0.1), F32(0.2)  # variances

BINS = 17  # GFocal: a side is a distribution over 0, 1, ..., 16 strides


# ------------------------------------------------------------------------------------------- RetinaFace


@lru_cache(maxsize=16)
def priors(height: int, width: int) -> Floats:
    """Priors (n, 4) cx, cy, w, h in fractions of a network input of height x width, ordered by map, row, column, size.
    Read-only."""
    levels = []
    for stride, sides in zip(STRIDES, SIDES, strict=True):
        level = np.empty((-(-height // stride), -(-width // stride), len(sides), 4))
        level[..., 0] = ((np.arange(level.shape[1]) + 0.5) * stride / width)[None, :, None]
        level[..., 1] = ((np.arange(level.shape[0]) + 0.5) * stride / height)[:, None, None]
        level[..., 2] = np.array(sides) / width
        level[..., 3] = np.array(sides) / height
        levels.append(level.reshape(-1, 4))
    table = np.concatenate(levels).astype(F32)
    table.flags.writeable = False
    return table


def decode_centres(priors: Floats, loc: Floats) -> Floats:
    """Rows cx, cy, w, h, (4, n), decoded from `loc` (n, 4) relative to `priors` (n, 4), in the unit of the priors; a
    size is infinite where its exponential is."""
    decoded, offset = np.array(priors.T, F32, order="C"), np.ascontiguousarray(loc.T)
    decoded[:2] += offset[:2] * CENTRE * decoded[2:]
    with np.errstate(over="ignore"):
        decoded[2:] *= np.exp(offset[2:] * SIZE)
    return decoded


def decode(priors: Floats, loc: Floats) -> Floats:
    """Boxes (n, 4) x1, y1, x2, y2 in the unit of the priors; x2, y2 are x1, y1 plus the size, in float32."""
    box = decode_centres(priors, loc)
    with np.errstate(invalid="ignore"):
        box[:2] -= box[2:] / F32(2)
        box[2:] += box[:2]
    corners: Floats = box.T
    return corners


def decode_landmarks(priors: Floats, landm: Floats) -> Floats:
    """(n, 5, 2) points x, y of `landm` (n, 10), in the unit of the priors."""
    prior = np.ascontiguousarray(priors.T)
    marks = np.ascontiguousarray(landm.T).reshape(5, 2, -1) * CENTRE * prior[2:]
    marks += prior[:2]
    by_face: Floats = marks.transpose(2, 0, 1)
    return by_face


def best_first(scores: Floats) -> Indices:
    """Indices by falling score; of equal scores the later comes first, as in a reversed stable ascending sort."""
    return np.argsort(scores, kind="stable")[::-1].astype(np.int64, copy=False)


def nms(boxes: Floats, scores: Floats, threshold: float) -> Indices:
    """Indices kept by greedy non-maximum suppression, best first (RetinaFace, R-CNN): a box is removed when its IoU
    with a better kept box, with 1 added to each width and height, is above `threshold`."""
    order = best_first(scores)
    return order.take(survivors(boxes.take(order, axis=0), threshold, extent=1))


# ------------------------------------------------------------------------------------------- GFocal V2


@lru_cache(maxsize=16)
def points(height: int, width: int, stride: int) -> Floats:
    """(height * width, 2) x, y of the cells' top left corners, in pixels of the network's input, row by row.
    Read-only."""
    y, x = np.divmod(np.arange(height * width), width)
    table = (np.stack((x, y), axis=1) * stride).astype(F32)
    table.flags.writeable = False
    return table


def integral(logits: Floats) -> Floats:
    """(4, n) expected distances left, top, right, bottom in strides, of `logits` (4 * BINS, n)."""
    bins = logits.reshape(4, BINS, -1)
    with np.errstate(over="ignore", under="ignore"):  # -inf has no weight
        weights = np.exp(bins - bins.max(axis=1, keepdims=True))
    distances: Floats = np.einsum("sbn,b->sn", weights, np.arange(BINS, dtype=F32)) / weights.sum(axis=1)
    return distances


def best_cells(best: Floats, keep: int, threshold: float) -> Indices:
    """Cells whose best score is above `threshold`; where there are more than `keep` cells, the best `keep` of them in
    falling order, of equal scores the first."""
    cells = np.flatnonzero(best > F32(threshold))
    if len(best) <= keep:
        return cells
    return cells[np.argsort(-best[cells], kind="stable")[:keep]]


def multiclass_nms(
    boxes: Floats, scores: Floats, score_threshold: float, iou_threshold: float, limit: int
) -> tuple[Floats, Floats, Indices]:
    """Boxes (k, 4), scores (k,), labels (k,) of the best `limit` detections, one box at most a class and place.

    `boxes` (n, 4) are shared by the classes of `scores` (n, C). As mmcv does it on the CPU: candidates have a score
    above `score_threshold`; classes are kept apart by moving each to a place of its own, in float32, which costs its
    coordinates low bits; a candidate goes when its IoU to a better kept one is `iou_threshold` or more. Of equal
    scores the first comes first.
    """
    rows, labels = np.nonzero(scores > F32(score_threshold))
    if not rows.size:
        return np.empty((0, 4), F32), np.empty(0, F32), np.empty(0, np.int64)
    chosen, found = scores[rows, labels], boxes[rows]
    order = np.argsort(-chosen, kind="stable")
    apart = found + (labels.astype(F32) * (np.max(found) + F32(1)))[:, None]
    at_least = float(np.nextafter(F32(iou_threshold), F32(0)))  # IoU >= t is IoU > the float before t
    kept = order[survivors(apart[order], at_least, limit=limit)]
    return found[kept], chosen[kept], labels[kept]


def batch_multiclass_nms(
    boxes: Floats, scores: Floats, score_threshold: float, iou_threshold: float, per_class: int, limit: int
) -> tuple[Floats, Floats, Indices]:
    """What Ascend's operator BatchMultiClassNMS says it does, in its float16: arguments and results as multiclass_nms.

    Boxes and scores are rounded to float16; of each class at most `per_class` boxes stay, of all of them `limit`; a
    box goes when its IoU is above the threshold. Which way the operator decides at equality, and between equal
    scores, is not documented: above, and the first.
    """
    found = boxes.astype(np.float16).astype(F32)
    rounded = scores.astype(np.float16).astype(F32)
    kept_rows, kept_labels = [], []
    for label in np.flatnonzero((rounded > F32(score_threshold)).any(axis=0)):
        rows = np.flatnonzero(rounded[:, label] > F32(score_threshold))
        rows = rows[np.argsort(-rounded[rows, label], kind="stable")]
        rows = rows[survivors(found[rows], iou_threshold, limit=per_class)]
        kept_rows.append(rows)
        kept_labels.append(np.full(len(rows), label))
    rows = np.concatenate([np.empty(0, np.int64), *kept_rows])
    labels = np.concatenate([np.empty(0, np.int64), *kept_labels])
    order = np.argsort(-rounded[rows, labels], kind="stable")[:limit]
    rows, labels = rows[order], labels[order]
    return found[rows], rounded[rows, labels], labels


# ------------------------------------------------------------------------------------------- suppression


def survivors(boxes: Floats, threshold: float, extent: float = 0, limit: int | None = None) -> Indices:
    """Ranks of the boxes that greedy suppression keeps, of `boxes` (n, 4) sorted best first; the first `limit`.

    A box goes when its IoU to a kept, better one is above `threshold` (0 < threshold < 1), with `extent` added to
    widths and heights. A box whose far corner lies before its near one overlaps nothing. Every IoU is computed in
    float32 as inter / (area + area - inter)."""
    from harness.arrays.suppression import greedy

    kept: Indices = greedy(
        np.array(boxes.T, F32, order="C"), F32(threshold), F32(extent), len(boxes) if limit is None else limit
    )
    return kept
