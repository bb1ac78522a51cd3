"""Greedy suppression, compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.arrays.jit import compiled

F32 = np.float32


@compiled("int64[:](float32[:, ::1], float32, float32, int64)")
def greedy(corners: NDArray[np.float32], threshold: np.float32, extent: np.float32, limit: int) -> NDArray[np.int64]:
    """Ranks of the first `limit` boxes that stay, of `corners` (4, n) x1, y1, x2, y2 sorted best first.

    Plain loops, whose inner one has no branch: then it runs on as many boxes at once as a register holds. All of it is
    float32 in the order of the authors' programs."""
    n = corners.shape[1]
    x1, y1, x2, y2 = corners[0], corners[1], corners[2], corners[3]
    area = np.empty(n, F32)
    for i in range(n):
        wide, high = x2[i] - x1[i] + extent, y2[i] - y1[i] + extent
        # of an endless area any part is nothing: a box upside down overlaps none (a wrong width has no part in common)
        area[i] = wide * high if high >= F32(0) else F32(np.inf)
    gone = np.zeros(n, np.uint8)
    kept = np.empty(n, np.int64)
    count = 0
    for i in range(n):
        if gone[i]:
            continue
        kept[count] = i
        count += 1
        if count == limit:
            break
        left, top, right, bottom, own = x1[i], y1[i], x2[i], y2[i], area[i]
        lefts, tops, rights, bottoms = x1[i + 1 :], y1[i + 1 :], x2[i + 1 :], y2[i + 1 :]
        areas, after = area[i + 1 :], gone[i + 1 :]
        for j in range(n - i - 1):
            wide = (right if right < rights[j] else rights[j]) - (left if left > lefts[j] else lefts[j]) + extent
            high = (bottom if bottom < bottoms[j] else bottoms[j]) - (top if top > tops[j] else tops[j]) + extent
            inter = (wide if wide > F32(0) else F32(0)) * high  # a negative one is above no threshold
            after[j] |= np.uint8(inter / (own + areas[j] - inter) > threshold)
    return kept[:count]
