"""Images prepared once a run: batches, precisions and chips that take the same tensors share them."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.base import Sample
from harness.datasets.stream import cores, stream
from harness.models.base import Frame, Prepared, Protocol
from harness.run import pool
from harness.store import SHARED

PREPARED_GB = 16.0  # 3,226 faces at 1000 x 1000 take 10 GB as pixels, 50,000 pictures at 224 x 224 take 8
OF_FREE = 0.5  # share of the free space that is used at most
LARGE = 2000  # images from which on processes prepare them: to start them takes a second
FEWEST, MOST = 4, 32
"""Processes. On fewer cores threads are as fast; a process takes 100 MB, and 32 prepare more than one chip takes."""

Images = Generator[Prepared, None, None]
Ahead = Callable[[Sequence[Sample]], Images]
"""Samples, prepared in order ahead of their use."""


@dataclass
class _File:
    """Tensors of one kind, end to end. The file has no name, so that nothing is left of it however the run ends."""

    descriptor: int | None = None
    end: int = 0  # bytes
    places: dict[str, tuple[pool.Place, Frame]] = field(default_factory=dict)  # by the sample's id; here or elsewhere
    kinds: tuple[tuple[int, ...], np.dtype[Any]] | None = None  # shape and dtype of one tensor

    def takes(self, name: str, tensor: NDArray[np.generic]) -> bool:
        kinds = tensor.shape, tensor.dtype
        return name not in self.places and (self.kinds or kinds) == kinds


class PreparedImages:
    """Tensors on disk in `folder`: `most` bytes of them in all, and at most half of what is free there at first, shared
    by the `processes` of the run. Images beyond that are prepared each time, as are all when the disk becomes full."""

    def __init__(self, folder: Path, most: float, processes: int = 1) -> None:
        self._folder, self._most, self._processes, self._left = folder, most, processes, -1.0
        self._files: dict[tuple[Any, ...], _File] = {}
        self._opened: list[int] = []
        self._spare: list[int] = []  # files of processes that have ended, to be continued by others
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

    def ahead(self, dataset: str, protocol: Protocol, raw: bool, streams: int = 1) -> Ahead:
        """A function that gives for each sample what `prepare` gives, by threads, or where many are missing by
        processes. `streams`: how many such functions are at work at once."""
        what, prepare = (dataset, protocol.preprocess, raw), self.prepare(dataset, protocol, raw)
        processes = min(MOST, cores() // (self._processes * streams))

        def images(samples: Sequence[Sample]) -> Images:
            kept = self._files.get(what, _File()).places
            missing = [sample for sample in samples if sample.id not in kept]
            if processes < FEWEST or len(missing) < LARGE or not pool.can(protocol.preprocess, missing):
                yield from stream(samples, prepare)
                return
            made = self._by_processes(what, missing, 12 * protocol.size[0] * protocol.size[1], processes)
            names = {sample.id for sample in missing}
            with closing(made):
                for sample in samples:
                    yield next(made) if sample.id in names else prepare(sample)

        return images

    def close(self) -> None:
        """Give the space back."""
        with self._lock:  # a thread may still be writing
            self._left = self._most = 0.0
            for descriptor in self._opened:
                os.close(descriptor)
            self._files.clear()
            self._opened.clear()
            self._spare.clear()

    def _read(self, what: tuple[Any, ...], name: str) -> Prepared | None:
        file = self._files.get(what)
        if file is None or file.kinds is None or name not in file.places:
            return None
        (descriptor, place), frame = file.places[name]
        tensor = np.empty(*file.kinds)
        try:
            whole = os.preadv(descriptor, [tensor.data.cast("B")], place) == tensor.nbytes
        except OSError:
            whole = False
        return Prepared(tensor, frame) if whole else None

    def _keep(self, what: tuple[Any, ...], name: str, made: Prepared) -> None:
        tensor: NDArray[np.generic] = np.ascontiguousarray(made.tensor)
        with self._lock:
            if self._room() < tensor.nbytes:
                return
            file = self._files.setdefault(what, _File())
            if not file.takes(name, tensor):
                return
            try:
                if file.descriptor is None:
                    file.descriptor = self._open()
                whole = os.pwrite(file.descriptor, tensor.data.cast("B"), file.end) == tensor.nbytes
            except OSError:
                whole = False
            if not whole or file.descriptor is None:  # the disk is full
                self._left = 0.0
                return
            file.kinds = tensor.shape, tensor.dtype
            file.places[name] = (file.descriptor, file.end), made.frame
            file.end += tensor.nbytes
            self._left -= tensor.nbytes

    def _by_processes(self, what: tuple[Any, ...], samples: Sequence[Sample], size: int, processes: int) -> Images:
        """The samples, prepared by that many processes, each with a file of its own: to write to one they would wait
        for one another."""
        with self._lock:
            room = self._room()
            files = self._some(processes) if room else []
            self._left -= room
            before = _size(files)
        given = [*files, *[None] * (processes - len(files))]
        _, preprocess, raw = what
        try:
            with closing(pool.prepared(samples, preprocess, raw, given, room / processes, size)) as made:
                for sample, (one, place) in zip(samples, made, strict=True):
                    if place is not None:
                        self._note(what, sample.id, one, place)
                    yield one
        finally:
            with self._lock:
                if self._opened:  # else all was closed
                    self._left += room - (_size(files) - before)
                    self._spare += files

    def _note(self, what: tuple[Any, ...], name: str, made: Prepared, place: pool.Place) -> None:
        with self._lock:
            file = self._files.setdefault(what, _File())
            if file.takes(name, made.tensor):
                file.kinds = made.tensor.shape, made.tensor.dtype
                file.places[name] = place, made.frame

    def _some(self, count: int) -> list[int]:
        """As many files as asked for, or as can be opened."""
        files = [self._spare.pop() for _ in range(min(count, len(self._spare)))]
        with suppress(OSError):
            files += [self._open() for _ in range(count - len(files))]
        return files

    def _room(self) -> float:
        """Bytes that may still be kept."""
        if self._left < 0:
            try:
                self._folder.mkdir(SHARED, parents=True, exist_ok=True)
                free = OF_FREE * shutil.disk_usage(self._folder).free
                self._left = min(self._most, free) / self._processes
            except OSError:
                self._left = 0.0
        return self._left

    def _open(self) -> int:
        with tempfile.TemporaryFile(dir=self._folder) as file:
            self._opened.append(os.dup(file.fileno()))
        return self._opened[-1]


def _size(files: Sequence[int]) -> int:
    return sum(os.fstat(file).st_size for file in files)
