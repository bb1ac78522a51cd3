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
    """(n, 4) cx, cy, w, h in fractions of a network input of height x width; by map, row, column, size. Read-only."""
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
    """(4, n) rows cx, cy, w, h that `loc` (n, 4) says relative to `priors` (n, 4), in their unit; infinite where the
    exponential of a size is."""
    decoded, offset = np.array(priors.T, F32, order="C"), np.ascontiguousarray(loc.T)
    decoded[:2] += offset[:2] * CENTRE * decoded[2:]
    with np.errstate(over="ignore"):
        decoded[2:] *= np.exp(offset[2:] * SIZE)
    return decoded


def decode(priors: Floats, loc: Floats) -> Floats:
    """(n, 4) boxes in the unit of the priors. The far corner is the near one plus the size, in that order."""
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
    """Order of falling score; of equal scores the later comes first, as a stable ascending sort leaves it reversed."""
    return np.argsort(scores, kind="stable")[::-1].astype(np.int64, copy=False)


def nms(boxes: Floats, scores: Floats, threshold: float) -> Indices:
    """Greedy non-maximum suppression that counts the far pixel: a box goes when its IoU, with 1 added to each width
    and height, to a better kept one is above `threshold`. Indices kept, best first (RetinaFace, R-CNN)."""
    order = best_first(scores)
    return order.take(survivors(boxes.take(order, axis=0), threshold, extent=1))


# ------------------------------------------------------------------------------------------- GFocal V2


def points(height: int, width: int, stride: int) -> Floats:
    """(height * width, 2) x, y of the cells' top left corners, in pixels of the network's input, row by row."""
    y, x = np.divmod(np.arange(height * width), width)
    return (np.stack((x, y), axis=1) * stride).astype(F32)


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
    apart = found + (labels.astype(F32) * (found.max() + F32(1)))[:, None]
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

BLOCK, WINDOW = 64, 512  # boxes of which matrices decide at a time, at most 64, of so many that they look at
FEW, SPARSE = 256, 32  # behind a block there are more than so many, and more than so many of it stay: pairs are tried
DENSE = 1 / 6  # not when, of n boxes, more than this times n * n pairs would have to be looked at
MANY = 1 << 23  # nor when more than so many of those overlap: all of them are kept in memory
CHUNK = 3 << 12  # pairs looked at together: their arrays stay in the cache, and in memory that malloc keeps


def survivors(boxes: Floats, threshold: float, extent: float = 0, limit: int | None = None) -> Indices:
    """Ranks of the boxes that greedy suppression keeps, of `boxes` (n, 4) sorted best first; the first `limit`.

    A box goes when its IoU to a kept, better one is above `threshold` (0 < threshold < 1), with `extent` added to
    widths and heights. A box whose far corner lies before its near one overlaps nothing. Every IoU that matters is
    computed in float32 as inter / (area + area - inter); pairs too far apart to reach the threshold are left out
    without being looked at.
    """
    if not len(boxes):
        return np.empty(0, np.int64)
    t, more = F32(threshold), F32(extent)
    table = np.empty((5, len(boxes)), F32)  # corners and area
    with np.errstate(all="ignore"):  # 0 / 0 of two boxes without area is no IoU above anything
        table[:4] = boxes.T
        sides = table[2:4] - table[:2] + more
        np.multiply(sides[0], sides[1], out=table[4])
        if sides.min() < 0:
            table[4, (sides < 0).any(axis=0)] = np.inf  # of which any part is nothing
        return _all(table, t, more) if limit is None else _first(table, t, more, limit)


def _all(table: Floats, t: np.float32, more: np.float32) -> Indices:
    """Ranks kept of the boxes in `table` (5, n): x1, y1, x2, y2, area.

    While boxes lie in heaps, so that few of the best block stay, those clear most of what is behind them. Else
    overlaps are few, and are looked for pair by pair."""
    ranks, kept = np.arange(table.shape[1]), []
    while ranks.size:
        block, behind = ranks[:BLOCK], ranks[BLOCK:]
        best = block.take(_winners(table.take(block, axis=1), t, more))
        if behind.size > FEW and best.size > SPARSE:
            left = table.take(ranks, axis=1)
            pairs = _overlapping(left, t, more)
            stay = _first(left, t, more, ranks.size) if pairs is None else _by_pairs(ranks.size, *pairs)
            kept.append(ranks.take(stay))
            break
        kept.append(best)
        ranks = _spared(table, best, behind, t, more) if behind.size else behind
    return np.concatenate(kept)


def _first(table: Floats, t: np.float32, more: np.float32, limit: int) -> Indices:
    """The first `limit` of them, and no work for those after: a window of boxes faces those kept so far; then the best
    of it decide among themselves and over the rest of it."""
    kept = np.empty(0, np.int64)
    for start in range(0, table.shape[1], WINDOW):
        ranks = _spared(table, kept, np.arange(start, min(start + WINDOW, table.shape[1])), t, more)
        while ranks.size:
            block, behind = ranks[:BLOCK], ranks[BLOCK:]
            best = block.take(_winners(table.take(block, axis=1), t, more))
            kept = np.concatenate((kept, best))
            if len(kept) >= limit:
                return kept[:limit]
            ranks = _spared(table, best, behind, t, more)
    return kept


def _winners(best: Floats, t: np.float32, more: np.float32) -> list[int]:
    """Which of at most 64 boxes, best first, stay among themselves."""
    n = best.shape[1]
    removes = np.zeros((n, 64), bool)
    removes[:, :n] = _above(best, best, t, more)
    gone, winners = 0, []
    for row, bits in enumerate(np.packbits(removes, axis=1, bitorder="little").view("<u8")[:, 0].tolist()):
        if not gone >> row & 1:
            winners.append(row)
            gone |= bits
    return winners


def _spared(table: Floats, kept: Indices, ranks: Indices, t: np.float32, more: np.float32) -> Indices:
    """Those of `ranks` that no box of `kept` removes."""
    for start in range(0, kept.size, BLOCK):
        rows, spared = table.take(kept[start : start + BLOCK], axis=1), []
        step = max(1, CHUNK // rows.shape[1])
        for first in range(0, ranks.size, step):
            some = ranks[first : first + step]
            spared.append(some[~_above(rows, table.take(some, axis=1), t, more).any(axis=0)])
        ranks = np.concatenate((ranks[:0], *spared))
    return ranks


def _above(rows: Floats, columns: Floats, t: np.float32, more: np.float32) -> NDArray[np.bool_]:
    """Whether the IoU of box i of `rows` and box j of `columns`, (5, n) each, is above t."""
    a, b = rows[:, :, None], columns[:, None, :]
    sides = np.minimum(a[2:4], b[2:4])
    sides -= np.maximum(a[:2], b[:2])
    sides += more
    np.maximum(sides[0], 0, out=sides[0])  # then a side below 0 makes the intersection 0 or less, and no IoU above t
    inter, union = np.multiply(sides[0], sides[1], out=sides[0]), np.add(a[4], b[4], out=sides[1])
    union -= inter
    inter /= union
    above: NDArray[np.bool_] = inter > t
    return above


def _overlapping(boxes: Floats, t: np.float32, more: np.float32) -> tuple[Indices, Indices] | None:
    """Pairs (better, worse) whose IoU is above t, some of them twice; None when there are too many.

    An IoU above t takes an intersection wider than t times each width, and higher than t times each height. So each
    box is put into the horizontal bands that its middle 1 - t of the height touches: two such boxes share a band.
    Within it, going along x1, the boxes that can reach box i begin before x1 + (1 - t) * width of i. `slack` covers
    rounding amply.
    """
    columns = boxes[:4]
    low, high = columns.min(axis=1).tolist(), columns.max(axis=1).tolist()
    slack = F32(4e-6 * (max(map(abs, low + high)) + 1))
    inner = F32(1) - t
    sizes = columns[2:] - columns[:2] + more
    reach = sizes[0] * inner + slack
    trim = sizes[1] * (t / F32(2)) - slack
    mean = float(np.add.reduce(np.abs(sizes[1]))) / len(sizes[1])
    band_height = F32(max(2 * mean, 16 * slack))  # then bands are few, and boxes in many too
    band = ((columns[1] + trim - F32(low[1])) / band_height).astype(np.int64)
    last = ((columns[3] - trim + (more - F32(low[1]))) / band_height).astype(np.int64)
    times = np.maximum(last - band, 0) + 1
    box = np.repeat(np.arange(times.size), times)
    band = np.arange(box.size) + np.repeat(band - times.cumsum() + times, times)
    key = band * (high[0] - low[0] + 2 * float(reach.max())) + columns[0].take(box)
    rank = key.argsort()
    key, rank = key.take(rank), box.take(rank)

    after = np.arange(1, rank.size + 1)
    partners = np.maximum(key.searchsorted(key + reach.take(rank), side="right") - after, 0)
    until = partners.cumsum()
    if until[-1] > DENSE * columns.shape[1] ** 2:
        return None
    rows, area = np.ascontiguousarray(columns.T).take(rank, axis=0), boxes[4].take(rank)  # along the bands
    np.negative(rows[:, 2:], out=rows[:, 2:])  # then the greater of each column are the corners of what is common
    first = after - until + partners  # pair number p of box i has partner first[i] + p
    better, worse = [], []
    start, found = 0, 0
    while start < rank.size:
        done = until[start] - partners[start]
        stop = max(start + 1, int(np.searchsorted(until, done + CHUNK)))
        some = slice(start, stop)
        count, start = partners[some], stop
        j = np.arange(done, until[stop - 1])
        j += first[some].repeat(count)
        x1, y1, x2, y2 = np.maximum(rows[some].repeat(count, axis=0), rows.take(j, axis=0)).T
        wide, high = more - (x1 + x2), more - (y1 + y2)
        inter = np.multiply(np.maximum(wide, 0, out=wide), high, out=high)
        union = area[some].repeat(count) + area.take(j)
        union -= inter
        inter /= union
        hit = np.flatnonzero(inter > t)
        found += hit.size
        if found > MANY:
            return None
        i, j = rank[some].repeat(count).take(hit), rank.take(j.take(hit))
        better.append(np.minimum(i, j))
        worse.append(np.maximum(i, j))
    none = np.empty(0, np.int64)
    return np.concatenate((none, *better)), np.concatenate((none, *worse))


def _by_pairs(n: int, better: Indices, worse: Indices) -> Indices:
    """Ranks kept of n boxes of which better[k], if kept, removes worse[k]."""
    undecided, kept = np.ones(n, bool), np.zeros(n, bool)
    while better.size:
        free = undecided.copy()
        free[worse] = False
        kept |= free
        undecided ^= free
        undecided[worse[free.take(better)]] = False
        still = np.flatnonzero(undecided.take(better) & undecided.take(worse))
        better, worse = better.take(still), worse.take(still)
    return np.flatnonzero(kept | undecided)
