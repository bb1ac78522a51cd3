"""Calibration data for a compiler: checked to be this model's, complete and in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator

import numpy as np

from harness.errors import BuildError

if TYPE_CHECKING:
    from harness.backends.base import BuildSpec


def calibration_samples(spec: BuildSpec) -> Any:
    """The calibration set, float32 (N, C, H, W), memory-mapped. Raises BuildError when the file cannot be read, has
    another shape or dtype (another model's, or raw pixels), is empty, or is not finite."""
    path = spec.calibration
    if path is None:
        raise BuildError("int8 without calibration data", hint="give spec.calibration, float32 (N, C, H, W)")
    if len(spec.inputs) != 1:
        raise BuildError(f"calibration feeds one input, the model has {len(spec.inputs)}", hint="build fp16 instead")
    try:
        samples = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BuildError(f"calibration data {path} cannot be read: {error}", hint="make it again") from error
    wanted = tuple(spec.inputs[0].shape[1:])
    if samples.dtype != np.float32 or samples.shape[1:] != wanted or not len(samples):
        raise BuildError(
            f"calibration data {path} is {samples.dtype} {samples.shape}, "
            f"the model takes float32 (N, {', '.join(map(str, wanted))})",
            hint="it belongs to another model: make it with this model's pre-processing",
        )
    if not all(np.isfinite(sample).all() for sample in samples):
        raise BuildError(f"calibration data {path} is not finite", hint="make it again")
    return samples


def calibration_batches(samples: Any, batch: int) -> Iterator[Any]:
    """Contiguous batches of `batch` samples in the order of the file; the last is padded from the start of the file."""
    for start in range(0, len(samples), batch):
        yield np.ascontiguousarray(samples[[i % len(samples) for i in range(start, start + batch)]])
