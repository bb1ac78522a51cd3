"""Calibration data for a compiler: checked to be this model's, complete and in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterator

import numpy as np

from harness.errors import BuildError

if TYPE_CHECKING:
    from harness.backends.base import BuildSpec, TensorSpec

Samples = Dict[str, Any]
"""By input an array whose axis 0 counts samples: rows of an input with a free batch, else whole tensors."""


def calibration_samples(spec: BuildSpec) -> Samples:
    """The calibration set, by input of `spec` in its order; of a single input memory-mapped. A file for one input is
    an .npy, for several an .npz with one array each, called by its place: "0", "1".

    Raises BuildError when the file cannot be read, an array has another shape or dtype (another model's, or raw
    pixels), is empty, or is not finite, and when inputs have different numbers of samples."""
    path = spec.calibration
    if path is None:
        raise BuildError("int8 without calibration data", hint="give spec.calibration, float32 (N, C, H, W)")
    try:
        kept = np.load(path, mmap_mode="r", allow_pickle=False)
        arrays = [kept[str(place)] for place in range(len(spec.inputs))] if isinstance(kept, np.lib.npyio.NpzFile) \
            else [kept]  # fmt: skip
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise BuildError(f"calibration data {path} cannot be read: {error}", hint="make it again") from error
    if len(arrays) != len(spec.inputs):
        raise BuildError(
            f"calibration data {path} is for {len(arrays)} inputs, the model has {len(spec.inputs)}",
            hint="it belongs to another model: make it with this model's inputs",
        )
    for tensor, samples in zip(spec.inputs, arrays):
        _check(path, tensor, samples)
    if len({len(samples) for samples in arrays}) > 1:
        counts = ", ".join(f"{tensor.name} {len(samples)}" for tensor, samples in zip(spec.inputs, arrays))
        raise BuildError(f"calibration data {path} has different numbers of samples: {counts}", hint="make it again")
    return {tensor.name: samples for tensor, samples in zip(spec.inputs, arrays)}


def _check(path: str, tensor: TensorSpec, samples: Any) -> None:
    wanted = tuple(tensor.shape[1:] if tensor.shape[:1] == (-1,) else tensor.shape)
    if samples.dtype.name != tensor.dtype or samples.shape[1:] != wanted or not len(samples):
        raise BuildError(
            f"calibration data {path} is {samples.dtype} {samples.shape}, "
            f"the model takes {tensor.dtype} (N, {', '.join(map(str, wanted))}) as {tensor.name}",
            hint="it belongs to another model: make it with this model's pre-processing",
        )
    if samples.dtype.kind == "f" and not all(np.isfinite(sample).all() for sample in samples):
        raise BuildError(f"calibration data {path} is not finite", hint="make it again")


def calibration_batches(samples: Samples, spec: BuildSpec, batch: int) -> Iterator[Samples]:
    """What is fed to the model, by input, contiguous: batches of `batch` rows in the order of the file, the last padded
    from the start of the file. An input of fixed shape gets the sample of the batch's first row; where all are fixed,
    each sample is a batch."""
    count = len(next(iter(samples.values())))
    free = {tensor.name for tensor in spec.inputs if tensor.shape[:1] == (-1,)}
    for start in range(0, count, batch if free else 1):
        rows = [i % count for i in range(start, start + batch)]
        yield {
            name: np.ascontiguousarray(kept[rows] if name in free else kept[start]) for name, kept in samples.items()
        }
