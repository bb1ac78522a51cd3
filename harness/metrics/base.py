"""What a metric returns: values, how many samples they rest on, and enough to resample them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Score:
    """Metrics of one run over one data set. Accuracies are fractions."""

    values: Mapping[str, float]
    samples: int
    resample: Callable[[NDArray[np.int64]], Mapping[str, float]]
    """The same metrics with sample i counted weights[i] times: what a paired bootstrap needs."""
    hits: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """For metrics that are means of right and wrong answers: one bool an answer, in a fixed order. An exact paired
    test uses them."""
