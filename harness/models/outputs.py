"""The check of an engine's outputs for one image: every output is there, has the right shape and is finite."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from harness.arrays.finite import not_finite
from harness.case import Tensors
from harness.errors import RunError


def checked(outputs: Tensors, shapes: Mapping[str, tuple[int, ...]]) -> list[NDArray[np.float32]]:
    """The outputs named in `shapes`, in that order, as float32. Raises RunError for an output that is missing, has
    another shape, or has values that are not finite."""
    arrays = []
    for name, shape in shapes.items():
        if name not in outputs:
            there = ", ".join(sorted(outputs)) or "none"
            raise RunError(
                f"output {name} is missing; there are: {there}",
                hint="compare the engine's outputs with the ONNX file's",
            )
        array = np.asarray(outputs[name])
        if array.shape != shape:
            raise RunError(
                f"output {name} has shape {array.shape} for one image, the model's is {shape}",
                hint="compare the order of the engine's outputs with the ONNX file's",
            )
        values = array.astype(np.float32, copy=False)
        if bad := not_finite(values):
            raise RunError(
                f"{bad} of {values.size} values of output {name} are not finite",
                hint="run at a higher precision, or find the first layer that overflows: chipproof diagnose",
            )
        arrays.append(values)
    return arrays
