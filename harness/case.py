"""A case is what is tested: one model on one chip at one precision and one batch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from harness.errors import UsageError

if TYPE_CHECKING:  # a command that only names cases needs no NumPy
    import numpy as np
    from numpy.typing import NDArray

Image: TypeAlias = "NDArray[np.uint8]"
"""H x W x 3, BGR, as OpenCV decodes it."""

Tensors: TypeAlias = "dict[str, NDArray[np.generic]]"
"""Arrays by tensor name; axis 0 is the batch."""

Predictions: TypeAlias = "dict[str, NDArray[np.generic]]"
"""What one image was found to be. Classes and attributes: `logits` (C,). Faces and objects: `boxes` (k, 4)
float32 x1, y1, x2, y2 in pixels of the original image, `scores` (k,) float32, best first, and `labels` (k,)
int64 for objects."""


class Precision(str, Enum):
    """Arithmetic of the engine; the vendor's word for it stays inside the backend."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, order=True)
class Case:
    """One model on one chip at one precision and one batch; its id is `model-chip-precision-bsN`."""

    model: str
    chip: str
    precision: Precision
    batch: int

    def __str__(self) -> str:
        return f"{self.model}-{self.chip}-{self.precision}-bs{self.batch}"

    @classmethod
    @lru_cache(maxsize=4096)  # records of many runs repeat their cases
    def parse(cls, text: str) -> Case:
        """Case of an id such as `regnety_016-ascend310p-fp16-bs16`. Raises UsageError."""
        match = re.fullmatch(rf"(\w+)-(\w+)-({'|'.join(Precision)})-bs([1-9]\d*)", text)
        if match is None:
            raise UsageError(f"{text!r} is not a case", hint="write it like regnety_016-ascend310p-fp16-bs1")
        model, chip, precision, batch = match.groups()
        return cls(model, chip, Precision(precision), int(batch))
