"""How many values of an array are NaN or infinite."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def not_finite(values: NDArray[Any]) -> int:
    """The number of values that are NaN or infinite. A finite sum proves that there are none and takes one pass without
    a temporary array; only where the sum is not finite are the values counted."""
    with np.errstate(all="ignore"):
        total = np.einsum("i->", values.reshape(-1))
    return 0 if np.isfinite(total) else values.size - int(np.count_nonzero(np.isfinite(values)))
