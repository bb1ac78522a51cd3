"""Interpolated average precision as COCO defines it, compiled: a bootstrap computes it thousands of times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.arrays.jit import compiled

FALSE, TRUE, IGNORED = 0, 1, 2  # what a detection is; an ignored one counts for nothing
SPACING = float(np.spacing(1))  # pycocotools divides by so much more


@compiled("float64[::1](int8[:, ::1], int64[::1], float64[::1], float64, float64[::1])")
def average_precision(
    marks: NDArray[np.int8],
    image: NDArray[np.int64],
    weights: NDArray[np.float64],
    objects: float,
    recalls: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(k,): of each row of `marks` (k, d), best detection first over all images, the mean over rising `recalls` of the
    highest precision at or beyond them (pycocotools, COCOeval.accumulate). Detection i lies in image[i], which counts
    weights[image[i]] times."""
    curves, found = marks.shape
    means = np.empty(curves)
    recall, precision = np.empty(found), np.empty(found)
    for c in range(curves):
        true, counted, points = 0.0, 0.0, 0
        for i in range(found):
            if marks[c, i] == IGNORED:
                continue
            counted += weights[image[i]]
            if marks[c, i] == TRUE:  # only here can the precision rise: these points are the whole curve
                true += weights[image[i]]
                recall[points] = true / objects
                precision[points] = true / (counted + SPACING)
                points += 1
        total, highest, r = 0.0, 0.0, len(recalls) - 1
        for p in range(points - 1, -1, -1):
            while r >= 0 and recalls[r] > recall[p]:
                total += highest
                r -= 1
            highest = max(highest, precision[p])
        means[c] = (total + (r + 1) * highest) / len(recalls)
    return means
