"""Samples come in order, prepared ahead but never far, and an error comes at its place."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import cv2
import pytest

from harness.datasets import stream as streams
from harness.datasets.base import Sample
from harness.datasets.stream import stream
from harness.errors import DataError


def numbered(count):
    return [Sample(str(i), lambda: None) for i in range(count)]


def number(sample):
    return int(sample.id)


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (2, 3), (4, 100), (None, None)])
def test_samples_come_in_order(workers, ahead):
    assert list(stream(numbered(50), number, workers, ahead)) == list(range(50))


def test_a_slow_sample_does_not_lose_its_place():
    fast_done = threading.Event()

    def prepare(sample):
        if sample.id == "0":
            assert fast_done.wait(60)
        if sample.id == "1":
            fast_done.set()
        return number(sample)

    assert list(stream(numbered(4), prepare, workers=2)) == [0, 1, 2, 3]


def test_no_more_samples_are_prepared_than_asked_for():
    begun = []

    def prepare(sample):
        begun.append(sample.id)
        return number(sample)

    iterator = stream(numbered(100), prepare, workers=2, ahead=5)
    for taken in range(1, 20):
        next(iterator)
        assert len(begun) <= taken + 5
    iterator.close()


@pytest.mark.parametrize("ended", ["empty", "closed", "broken"])
def test_opencv_starts_no_threads_of_its_own_meanwhile(ended):
    before, seen = cv2.getNumThreads(), []

    def prepare(sample):
        seen.append(cv2.getNumThreads())
        if ended == "broken" and sample.id == "9":
            raise DataError("9 is truncated", hint="fetch it")

    iterator = stream(numbered(20), prepare, workers=10_000)
    with pytest.raises(DataError) if ended == "broken" else nullcontext():
        for _ in iterator:
            if ended == "closed":
                iterator.close()

    assert set(seen) == {1}
    assert cv2.getNumThreads() == before


def test_an_error_comes_at_its_place_and_after_all_before_it():
    def prepare(sample):
        if sample.id == "7":
            raise DataError("7 is truncated", hint="fetch it")
        return number(sample)

    iterator = stream(numbered(20), prepare, workers=4)

    assert [next(iterator) for _ in range(7)] == list(range(7))
    with pytest.raises(DataError, match="7 is truncated"):
        next(iterator)


def test_of_two_errors_the_first_in_order_comes():
    late = threading.Event()

    def prepare(sample):
        if sample.id == "3":
            assert late.wait(60)
            raise DataError("first", hint="-")
        if sample.id == "4":
            late.set()
            raise DataError("second", hint="-")
        return number(sample)

    with pytest.raises(DataError, match="first"):
        list(stream(numbered(8), prepare, workers=4))


def test_closing_drops_what_has_not_begun_and_leaves_no_thread(monkeypatch):
    begun, gate = [], threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            gate.set()  # what had begun goes on only now
            super().shutdown(wait=wait)

    def prepare(sample):
        begun.append(sample.id)
        assert sample.id == "0" or gate.wait(60)

    monkeypatch.setattr(streams, "ThreadPoolExecutor", Pool)
    iterator = stream(numbered(1000), prepare, workers=2, ahead=100)
    next(iterator)

    iterator.close()

    assert len(begun) <= 3, "the first, and one a thread"
    assert not [t for t in threading.enumerate() if t.name.startswith("prepare")]


def test_nothing_is_prepared_before_the_first_is_asked_for():
    begun = []

    stream(numbered(5), lambda s: begun.append(s.id))

    assert begun == []


def test_no_sample_is_no_error():
    assert list(stream([], number)) == []


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 8), ("400000 100000", 4), ("50000 100000", 1), ("1600000 100000", 8)]
)
def test_cores_are_those_of_the_containers_quota(monkeypatch, quota, expected):
    monkeypatch.setattr(streams.os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(streams.Path, "read_text", lambda path: quota)

    assert streams.cores() == expected
