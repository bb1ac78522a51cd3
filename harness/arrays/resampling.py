"""Pillow's antialiased resampling, compiled (python-pillow/Pillow, src/libImaging/Resample.c).

Pillow itself is a third to half as fast, for pictures have to become its own first and arrays again afterwards, and
threads wait for Python's lock meanwhile; and the order of its two passes, which changes bytes, is not that of the
authors' versions any more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.arrays.jit import compiled

I32 = np.int32
BITS = 22
"""Weights are whole multiples of 2**-22: 8 bits are left for a byte, and 2 for sums of weights above 1."""


@compiled("float64(float64, boolean)")
def _kernel(x: float, bicubic: bool) -> float:
    """A hat, or the cubic convolution kernel (Keys 1981) with a = -1/2."""
    x = abs(x)
    if not bicubic:
        return 1.0 - x if x < 1.0 else 0.0
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5 if x < 2.0 else 0.0


@compiled("Tuple((int64[::1], int64[::1], int32[:, ::1]))(int64, int64, int64, int64, boolean)")
def _weights(
    old: int, new: int, first: int, count: int, bicubic: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """For `count` of the `new` places from `first` on: the first of the `old` places that it sees, how many it sees,
    and what each of them weighs."""
    ratio = old / new
    spread = max(ratio, 1.0)
    reach = (2.0 if bicubic else 1.0) * spread
    low, seen = np.empty(count, np.int64), np.empty(count, np.int64)
    weights = np.zeros((count, 2 * int(np.ceil(reach)) + 1), I32)
    exact = np.empty(weights.shape[1], np.float64)
    for n in range(count):
        centre = (first + n + 0.5) * ratio
        low[n] = max(int(centre - reach + 0.5), 0)
        seen[n] = min(int(centre + reach + 0.5), old) - low[n]
        total = 0.0
        for i in range(seen[n]):
            exact[i] = _kernel((i + low[n] - centre + 0.5) * (1.0 / spread), bicubic)
            total += exact[i]
        for i in range(seen[n]):
            whole = exact[i] / total * (1 << BITS)
            weights[n, i] = int(whole - 0.5 if whole < 0.0 else whole + 0.5)
    return low, seen, weights


@compiled("uint8[:, ::1](uint8[:, ::1], int64[::1], int64[::1], int32[:, ::1])")
def _down(
    lines: NDArray[np.uint8], low: NDArray[np.int64], seen: NDArray[np.int64], weights: NDArray[np.int32]
) -> NDArray[np.uint8]:
    """Each new line as the weighted sum of old lines, rounded to uint8. The inner loops run along a line, so that they
    are vectorised."""
    half = I32(1 << (BITS - 1))
    length = lines.shape[1]
    out = np.empty((len(low), length), np.uint8)
    sums = np.empty(length, I32)
    for y in range(len(low)):
        sums[:] = half
        for i in range(seen[y]):
            weight, line = weights[y, i], lines[low[y] + i]
            for x in range(length):
                sums[x] += I32(weight * line[x])
        for x in range(length):
            out[y, x] = min(max(sums[x] >> BITS, 0), 255)
    return out


def resample(
    image: NDArray[np.uint8], height: int, width: int, top: int, left: int, rows: int, columns: int, bicubic: bool
) -> NDArray[np.uint8]:
    """Of `image` (H, W, 3) resized to `height` x `width`, the `rows` x `columns` whose corner is at `top`, `left`.

    Across first, rounded to bytes, then down. Across is down on the transposed picture, which is five times as fast as
    going along a line pixel by pixel, three bytes at a time."""
    import cv2

    low, seen, weights = _weights(image.shape[1], width, left, columns, bicubic)
    lower, seen_down, weights_down = _weights(image.shape[0], height, top, rows, bicubic)
    first, above = low[0], lower[0]
    used = image[above : lower[-1] + seen_down[-1], first : low[-1] + seen[-1]]
    across = _down(cv2.transpose(used).reshape(used.shape[1], -1), low - first, seen, weights)
    upright = cv2.transpose(across.reshape(columns, -1, 3))
    out: NDArray[np.uint8] = _down(upright.reshape(len(used), -1), lower - above, seen_down, weights_down)
    return out.reshape((rows, columns, 3))
