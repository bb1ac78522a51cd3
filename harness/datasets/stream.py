"""Samples read and prepared ahead of their use, in order, by a few threads, with a bounded number in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from harness.datasets.base import Sample

T = TypeVar("T")


def stream(
    samples: Iterable[Sample], prepare: Callable[[Sample], T], workers: int | None = None, ahead: int | None = None
) -> Iterator[T]:
    """prepare(sample) of each sample, in order, computed while the caller works on earlier samples.

    `workers` threads (default: one per core) prepare at most `ahead` samples (default: 4 per thread) that the caller
    has not taken yet, so that memory does not grow with the number of samples. An exception of `prepare` is raised in
    the place of its sample. Closing the iterator cancels samples that have not begun and waits for the others. OpenCV's
    own threads are limited meanwhile, so that all threads together use the cores once."""
    threads = workers or cores()
    pending: deque[Future[T]] = deque()
    with _opencv_threads(max(1, cores() // threads)), ThreadPoolExecutor(threads, "prepare") as pool:
        try:
            for sample in samples:
                pending.append(pool.submit(prepare, sample))
                if len(pending) >= (ahead or 4 * threads):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _opencv_threads(number: int) -> Iterator[None]:
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(number)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def cores() -> int:
    """Number of cores that this process may use: by affinity, and by the quota of its container."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # "max" is no number
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, max(1, round(int(quota) / int(period))))
    return count
