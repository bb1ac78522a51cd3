"""What passes between the suite and its worker: values as JSON, tensors through memory that both have mapped.

Runs at both ends, so under Python 3.7 with NumPy alone; NumPy is imported when the first tensor passes.
"""

from __future__ import annotations

import errno
import mmap
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.backends.base import BuildSpec, Device, Found, Health, Normalize, TensorSpec
from harness.errors import DeviceError, RunError

if TYPE_CHECKING:
    from harness.backends.base import Tensors

PAGE = 4096  # the first page of the shared memory is the trail, tensors come after
ALIGNED = 256  # bytes; more than any vector load asks for


def plain(value: Any) -> dict[str, Any]:
    """A dataclass of base.py as JSON takes it."""
    return asdict(value)


def tensor_spec(value: dict[str, Any]) -> TensorSpec:
    """The inverse of `plain` for a TensorSpec."""
    return TensorSpec(value["name"], value["dtype"], tuple(value["shape"]))


def device(value: dict[str, Any]) -> Device:
    """The inverse of `plain` for a Device."""
    return Device(**dict(value, precisions=tuple(value["precisions"])))


def found(value: dict[str, Any]) -> Found:
    """The inverse of `plain` for a Found."""
    return Found(tuple(device(item) for item in value["devices"]), value["evidence"], value.get("hint", ""))


def health(value: dict[str, Any]) -> Health:
    """The inverse of `plain` for a Health."""
    return Health(**dict(value, processes=tuple(value["processes"])))


def build_spec(value: dict[str, Any]) -> BuildSpec:
    """The inverse of `plain` for a BuildSpec."""
    normalize = value["normalize"]
    if normalize is not None:
        normalize = Normalize(tuple(normalize["mean"]), tuple(normalize["std"]), normalize["order"])
    return BuildSpec(
        **dict(
            value,
            inputs=tuple(tensor_spec(item) for item in value["inputs"]),
            outputs=tuple(value["outputs"]),
            tiers=tuple(value["tiers"]),
            normalize=normalize,
        )
    )


class Memory:
    """Tensors in the memory behind a file descriptor. Either end may make it grow; the other follows."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map: mmap.mmap | None = None
        self._size = 0

    def put(self, tensors: Tensors, start: int = PAGE) -> list[dict[str, Any]]:
        """Copy the tensors in from byte `start`; the layout that comes back finds them. Raises DeviceError when there
        is not that much memory."""
        import numpy as np

        layout = []
        end = start
        for name, tensor in tensors.items():
            array = np.asarray(tensor)
            if array.dtype.hasobject:
                raise RunError(f"tensor {name} holds Python objects", hint="a backend returns plain arrays")
            end = -(-end // ALIGNED) * ALIGNED
            layout.append({"name": name, "dtype": array.dtype.str, "shape": array.shape, "offset": end})
            end += array.nbytes
        self._reserve(end)
        for item, tensor in zip(layout, tensors.values()):
            np.copyto(self._view(item), tensor)
        return layout

    def views(self, layout: list[dict[str, Any]]) -> Tensors:
        """The tensors in place: good until the next `put`."""
        self._follow(end(layout))
        return {item["name"]: self._view(item) for item in layout}

    def _view(self, item: dict[str, Any]) -> Any:
        import numpy as np

        return np.ndarray(tuple(item["shape"]), item["dtype"], buffer=self._map, offset=item["offset"])

    def _reserve(self, size: int) -> None:
        if size > self._size:
            try:
                _allocate(self._descriptor, size)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG):
                    raise
                raise DeviceError(
                    f"no {size / 1e6:.0f} MB of memory for the tensors of one batch",
                    hint="use a smaller batch, or free memory",
                ) from error
        self._follow(size)

    def _follow(self, size: int) -> None:
        if self._map is None or size > self._size:
            # the old map is not closed: views of it may be alive, and it goes with the last of them
            self._size = os.fstat(self._descriptor).st_size
            self._map = mmap.mmap(self._descriptor, self._size)


def end(layout: list[dict[str, Any]]) -> int:
    """First byte after the tensors of a layout."""
    import numpy as np

    last = PAGE
    for item in layout:
        size = np.dtype(item["dtype"]).itemsize
        for length in item["shape"]:
            size *= int(length)
        last = max(last, item["offset"] + size)
    return last


def _allocate(descriptor: int, size: int) -> None:
    """Grow the file so that touching it cannot fail later: a sparse one would end in SIGBUS when memory runs out."""
    size = -(-size // PAGE) * PAGE
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)
