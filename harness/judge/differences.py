"""How an output differs from the reference: how often by how much, and where."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 41  # odd, so that zero lies in the middle of a bin
CELLS = 40  # at most so many rows and columns of a map
DECADES = 5  # levels of a map, each for differences ten times as large as those of the one below


def differences(ours: NDArray[np.float64], wanted: NDArray[np.float64]) -> dict[str, Any]:
    """Histogram and map of `ours` - `wanted`, one output of one sample, of equal shape, as JSON values; {} where
    nothing differs or a difference is not finite.

    `largest` is the largest absolute difference. `counts` are the differences in each of `BINS` equal bins from
    -`largest` to `largest`. `heat` has the rows of a map of at most `CELLS` x `CELLS` cells, one character a cell: the
    level of the largest absolute difference in it, "5" above a tenth of `largest`, "4" above a hundredth, ..., "0" up
    to 1e-5 of it, or " " behind the end of the output. The map shows `plane`, (rows, columns): a vector is `wrapped`
    in reading order into about as many rows as columns; of more than two axes the last two are shown, and of the
    others the largest difference."""
    error = np.asarray(ours - wanted, np.float64)
    size = np.abs(error)
    largest = float(size.max(initial=0.0))
    if not 0 < largest < math.inf:
        return {}
    counts, _ = np.histogram(error / largest, BINS, (-1, 1))
    wrapped = size.squeeze().ndim < 2
    plane = _wrapped(size.ravel()) if wrapped else size.squeeze().reshape(-1, *size.squeeze().shape[-2:]).max(axis=0)
    shares = _pooled(_pooled(plane).T).T / largest
    return {
        "largest": largest, "counts": counts.tolist(), "heat": ["".join(map(_level, row)) for row in shares],
        "plane": list(plane.shape), "wrapped": wrapped,
    }  # fmt: skip


def _wrapped(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """The vector in rows about as long as there are many; NaN behind its end."""
    columns = math.ceil(math.sqrt(len(vector)))
    return np.concatenate([vector, np.full(-len(vector) % columns, np.nan)]).reshape(-1, columns)


def _pooled(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most `CELLS` rows: the largest values of those that fall together, NaN only where all are."""
    rows = min(len(plane), CELLS)
    return np.asarray(np.fmax.reduceat(plane, np.arange(rows) * len(plane) // rows, axis=0))


def _level(share: float) -> str:
    if math.isnan(share):
        return " "
    return str(max(0, DECADES + math.ceil(math.log10(share)))) if share > 0 else "0"
