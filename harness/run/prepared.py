"""Images prepared once a run: batches, precisions and chips that take the same tensors share them."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.base import Sample
from harness.models.base import Frame, Prepared, Protocol
from harness.store import SHARED

PREPARED_GB = 16.0  # 3,226 faces at 1000 x 1000 take 10 GB as pixels, 50,000 pictures at 224 x 224 take 8
OF_FREE = 0.5  # share of the free space that is used at most


@dataclass
class _File:
    """Tensors of one kind, end to end. The file has no name, so that nothing is left of it however the run ends."""

    descriptor: int
    places: dict[str, tuple[int, Frame]] = field(default_factory=dict)  # by the sample's id
    kinds: tuple[tuple[int, ...], np.dtype[Any]] | None = None  # shape and dtype of one tensor


class PreparedImages:
    """Tensors on disk in `folder`: `most` bytes of them in all, and at most half of what is free there at first, shared
    by the `processes` of the run. Images beyond that are prepared each time, as are all when the disk becomes full."""

    def __init__(self, folder: Path, most: float, processes: int = 1) -> None:
        self._folder, self._most, self._processes, self._left = folder, most, processes, -1.0
        self._files: dict[tuple[Any, ...], _File] = {}
        self._lock = threading.Lock()

    def prepare(self, dataset: str, protocol: Protocol, raw: bool) -> Callable[[Sample], Prepared]:
        """A function that gives protocol.preprocess(sample.read(), raw), as it was kept or else computed. `dataset` is
        the name of the set to which samples belong. Raises what these raise."""
        what = (dataset, protocol.preprocess, raw)

        def prepare(sample: Sample) -> Prepared:
            kept = self._read(what, sample.id)
            if kept is None:
                kept = protocol.preprocess(sample.read(), raw)
                self._keep(what, sample.id, kept)
            return kept

        return prepare

    def close(self) -> None:
        """Give the space back."""
        with self._lock:  # a thread may still be writing
            self._left = 0.0
            for file in self._files.values():
                os.close(file.descriptor)
            self._files.clear()

    def _read(self, what: tuple[Any, ...], name: str) -> Prepared | None:
        file = self._files.get(what)
        if file is None or file.kinds is None or name not in file.places:
            return None
        place, frame = file.places[name]
        tensor = np.empty(*file.kinds)
        try:
            whole = os.preadv(file.descriptor, [tensor.data.cast("B")], place) == tensor.nbytes
        except OSError:
            whole = False
        return Prepared(tensor, frame) if whole else None

    def _keep(self, what: tuple[Any, ...], name: str, made: Prepared) -> None:
        tensor: NDArray[np.generic] = np.ascontiguousarray(made.tensor)
        with self._lock:
            if self._left < 0:
                self._left = self._allowed()
            if self._left < tensor.nbytes:
                return
            try:
                file = self._files.get(what) or self._files.setdefault(what, _File(self._open()))
            except OSError:
                self._left = 0.0
                return
            if name in file.places or (file.kinds or (tensor.shape, tensor.dtype)) != (tensor.shape, tensor.dtype):
                return
            file.kinds = tensor.shape, tensor.dtype
            place = len(file.places) * tensor.nbytes
            try:
                whole = os.pwrite(file.descriptor, tensor.data.cast("B"), place) == tensor.nbytes
            except OSError:
                whole = False
            if whole:
                self._left -= tensor.nbytes
                file.places[name] = place, made.frame
            else:  # the disk is full
                self._left = 0.0

    def _allowed(self) -> float:
        try:
            self._folder.mkdir(SHARED, parents=True, exist_ok=True)
            return min(self._most, OF_FREE * shutil.disk_usage(self._folder).free) / self._processes
        except OSError:
            return 0.0

    def _open(self) -> int:
        with tempfile.TemporaryFile(dir=self._folder) as file:
            return os.dup(file.fileno())
