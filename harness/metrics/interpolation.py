"""Matching and interpolated average precision as COCO defines them, compiled.

Both follow pycocotools (COCOeval.evaluateImg, COCOeval.accumulate; bbIou in maskApi.c). A bootstrap computes the
average precision thousands of times.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.arrays.jit import compiled

FALSE, TRUE, IGNORED = 0, 1, 2  # marks of a detection; an ignored one is not counted
SPACING = float(np.spacing(1))  # pycocotools adds this to the divisor of a precision
MOST = 1 - 1e-10  # the largest overlap that pycocotools requires


@compiled("float64(float64[::1], float64[::1], boolean)")
def _overlap(found: NDArray[np.float64], labelled: NDArray[np.float64], crowd: bool) -> float:
    """Intersection over union of boxes x, y, width, height; for a crowd, intersection over the detection's area.

    The order of the arguments of min and max matters: for a label that is NaN they return the detection's value, as in
    C."""
    wide = min(found[2] + found[0], labelled[2] + labelled[0]) - max(found[0], labelled[0])
    if wide <= 0:
        return 0.0
    high = min(found[3] + found[1], labelled[3] + labelled[1]) - max(found[1], labelled[1])
    if high <= 0:
        return 0.0
    inter, area = wide * high, found[2] * found[3]
    share: float = inter / (area if crowd else area + labelled[2] * labelled[3] - inter)
    return share


@compiled(
    "Tuple((int8[:, ::1], int64[::1]))(float64[:, ::1], int64[::1], boolean[::1], "
    "float64[:, ::1], int64[::1], boolean[::1], boolean[::1], float64[::1], int64)"
)
def match(
    found: NDArray[np.float64],
    group: NDArray[np.int64],
    outside: NDArray[np.bool_],
    labelled: NDArray[np.float64],
    first: NDArray[np.int64],
    crowd: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
    overlaps: NDArray[np.float64],
    limit: int,
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """(marks (overlaps, d), ranks (d,)): FALSE, TRUE or IGNORED for each detection of `found` (d, 4) at each of the
    `overlaps`, and its rank in its group from 0.

    A group is an image and a class. Detection i is in group[i]; detections of a group are sorted best first. The
    objects of group g are labelled[first[g] : first[g + 1]], ignored ones last. Only the `limit` best detections of a
    group are matched; the others are ignored, and so are unmatched ones `outside` the requested sizes."""
    marks, ranks = np.empty((len(overlaps), len(found)), np.int8), np.empty(len(found), np.int64)
    seen = np.zeros(len(first) - 1, np.int64)
    taken = np.zeros((len(labelled), len(overlaps)), np.bool_)
    ious = np.empty(len(labelled))
    for i in range(len(found)):
        start, end = first[group[i]], first[group[i] + 1]
        ranks[i] = seen[group[i]]
        seen[group[i]] += 1
        for g in range(start, end):
            ious[g] = _overlap(found[i], labelled[g], crowd[g])
        for k in range(len(overlaps)):
            least, best = min(overlaps[k], MOST), -1
            if ranks[i] < limit:
                for g in range(start, end):
                    if taken[g, k] and not crowd[g]:
                        continue
                    if best >= 0 and ignored[g] and not ignored[best]:
                        break
                    if not ious[g] < least:  # a NaN matches
                        least, best = ious[g], g
            if best >= 0:
                taken[best, k] = True
                marks[k, i] = IGNORED if ignored[best] else TRUE
            else:
                marks[k, i] = IGNORED if outside[i] or ranks[i] >= limit else FALSE
    return marks, ranks


@compiled(
    "float64[::1](float64[::1], int32[::1], int64[::1], int32[::1], int64[::1], int64[::1], int32[::1], int64[::1], "
    "float64[::1])"
)
def average_precision(
    weights: NDArray[np.float64],
    image: NDArray[np.int32],
    begins: NDArray[np.int64],
    objects: NDArray[np.int32],
    objects_begin: NDArray[np.int64],
    curves_begin: NDArray[np.int64],
    events: NDArray[np.int32],
    events_begin: NDArray[np.int64],
    recalls: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(curves,): for each curve the mean, over the rising `recalls`, of the highest precision at that recall or above,
    with image i counted weights[i] times (a whole number); NaN where the class has no object.

    Detections of class c, best first over all images, are begins[c] : begins[c + 1], and detection i is in image[i].
    The objects of class c are in the images objects[objects_begin[c] : objects_begin[c + 1]]. Its curves are
    curves_begin[c] : curves_begin[c + 1], one for each way in which its detections are matched. Curve k lists in
    events[events_begin[k] : events_begin[k + 1]], in order, the places in the class that are TRUE, and as ~place those
    that are IGNORED. All others are FALSE."""
    means = np.empty(curves_begin[-1])
    longest = 0
    for c in range(len(begins) - 1):
        longest = max(longest, begins[c + 1] - begins[c])
    counted, reached, precision = np.empty(longest), np.empty(longest), np.empty(longest)
    needed = np.empty(len(recalls))
    for c in range(len(begins) - 1):
        total = 0.0
        for i in range(objects_begin[c], objects_begin[c + 1]):
            total += weights[objects[i]]
        if total == 0.0:
            means[curves_begin[c] : curves_begin[c + 1]] = np.nan
            continue
        for r in range(len(recalls)):  # the fewest objects whose share, rounded as pycocotools rounds it, is the recall
            fewest = np.ceil(recalls[r] * total)
            while fewest / total < recalls[r]:
                fewest += 1.0
            while (fewest - 1.0) / total >= recalls[r]:
                fewest -= 1.0
            needed[r] = fewest
        inside = image[begins[c] : begins[c + 1]]
        before = 0.0
        for i in range(len(inside)):
            before += weights[inside[i]]
            counted[i] = before
        for k in range(curves_begin[c], curves_begin[c + 1]):
            true, skipped, points = 0.0, 0.0, 0
            for e in range(events_begin[k], events_begin[k + 1]):
                place = events[e]
                if place < 0:
                    skipped += weights[inside[~place]]
                else:  # precision rises only at a TRUE detection, so these points give the whole curve
                    true += weights[inside[place]]
                    reached[points] = true
                    precision[points] = true / (counted[place] - skipped + SPACING)
                    points += 1
            area, highest, r = 0.0, 0.0, len(recalls) - 1
            for p in range(points - 1, -1, -1):
                while r >= 0 and needed[r] > reached[p]:
                    area += highest
                    r -= 1
                highest = max(highest, precision[p])
            means[k] = (area + (r + 1) * highest) / len(recalls)
    return means
