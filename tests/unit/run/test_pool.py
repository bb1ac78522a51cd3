"""Processes prepare what threads would: the same bytes, in order, with every loss named and nothing left of them."""

import os
import signal
import subprocess
import sys
import time
import warnings
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pooled
import psutil
import pytest

from harness.arrays.images import read
from harness.datasets import scenes
from harness.datasets.base import Sample
from harness.errors import DataError
from harness.models import MODELS
from harness.run import pool

pytestmark = pytest.mark.slow  # starts processes

ROOT = Path(__file__).parents[3]


def numbered(count, reader=pooled.read):
    return [Sample(f"n{number}", partial(reader, number)) for number in range(count)]


def made(samples, preprocess=pooled.preprocess, raw=False, files=(None, None), room=0.0, size=2**22):
    return pool.prepared(samples, preprocess, raw, files, room, size)


@pytest.fixture
def file(tmp_path):
    with (tmp_path / "kept").open("w+b") as opened:
        yield opened.fileno()


@pytest.mark.parametrize(
    ("name", "raw"), [("regnety_016", False), ("deepmar_resnet50", True), ("retinaface_resnet50", True),
                      ("gfocalv2_r50_fpn", False)]
)  # fmt: skip
def test_the_bytes_are_those_of_one_process(name, raw):
    model = MODELS[name]
    samples, prepare = scenes.dataset(model.task, 7).samples, model.protocols[0].preprocess

    with closing(made(samples, prepare, raw, size=2**21)) as images:
        found = list(images)

    for sample, (one, place) in zip(samples, found, strict=True):
        wanted = prepare(sample.read(), raw)
        assert (one.tensor.dtype, one.tensor.shape, one.frame) == (
            wanted.tensor.dtype,
            wanted.tensor.shape,
            wanted.frame,
        )
        assert one.tensor.tobytes() == wanted.tensor.tobytes()
        assert place is None


@pytest.mark.parametrize("size", [2**22, pooled.BYTES], ids=["one by one", "eight at once"])
def test_images_come_in_order_and_stay_as_they_are_while_they_are_used(size):
    numbers = range(0, 100, 16)  # one of two groups; the others' memory serves again meanwhile
    found = {n: one for n, (one, _) in enumerate(made(numbered(100), size=size)) if n in numbers}

    assert {n: one.frame.scale[1] for n, one in found.items()} == {n: n for n in numbers}
    assert {n: float(one.tensor.max()) for n, one in found.items()} == {
        n: np.float32(n) / np.float32(7) for n in numbers
    }


@pytest.mark.parametrize("size", [2**22, pooled.BYTES], ids=["one by one", "eight at once"])
def test_what_is_written_where_it_is_fed_from_stays_as_it_is(size):
    """Sizes differ, so that some find room in the memory of the group and some do not; some are held on."""
    found = [one for one, _ in made(numbered(100), pooled.fed, size=size)]

    assert [one.tensor.shape for one in found] == [(3, 4, 5 + n % 3) for n in range(100)]
    assert [set(one.tensor.flat) for one in found] == [{n} for n in range(100)]


def test_what_is_written_where_it_is_fed_from_is_not_copied():
    shared, lies = pool._Shared(), []
    for _ in range(3):
        shared.begin()
        tensors = [shared.lend((3, 4), np.float32) for _ in range(2)]
        number, places = shared.put([tensor.reshape(-1).view(np.uint8) for tensor in tensors])
        begin = np.frombuffer(shared._pieces[number], np.uint8).ctypes.data
        lies.append([tensor.ctypes.data - begin for tensor in tensors] == places)
        del tensors
        shared.free.append(number)

    assert lies == [False, True, True]  # how much a group needs is known after the first
    assert len(shared.fresh) == 1


def test_memory_serves_again_once_its_images_are_not_used():
    with closing(made(numbered(100), files=[None])) as images:
        for _ in islice(images, 60):
            pieces = len(images.gi_frame.f_locals["children"][0].pieces)

    assert pieces <= pool.AHEAD + 2


def test_what_there_is_room_for_is_kept_in_the_file(file):
    os.write(file, b"earlier")
    found = [place for _, place in made(numbered(5), files=[file], room=3.5 * pooled.BYTES)]

    assert found == [(file, 7 + n * pooled.BYTES) for n in range(3)] + [None, None]
    for number, (descriptor, place) in enumerate(found[:3]):
        kept = np.frombuffer(os.pread(descriptor, pooled.BYTES, place), np.float32)
        assert kept.tobytes() == pooled.preprocess(pooled.read(number), False).tensor.tobytes()


def test_each_image_of_a_group_is_found_again_in_the_file(file):
    places = [place for _, place in made(numbered(20), files=[file], room=1e9, size=pooled.BYTES)]

    for number, (descriptor, place) in enumerate(places):
        kept = np.frombuffer(os.pread(descriptor, pooled.BYTES, place), np.float32)
        assert kept.tobytes() == pooled.preprocess(pooled.read(number), False).tensor.tobytes()


def test_a_full_disk_costs_no_image():
    with Path("/dev/full").open("wb") as full:
        found = list(made(numbered(5), files=[full.fileno()], room=1e9))

    assert [one.frame.scale[1] for one, _ in found] == list(range(5))
    assert {place for _, place in found} == {None}


def test_no_more_is_prepared_than_is_soon_used(tmp_path):
    samples = numbered(60, partial(pooled.noted, str(tmp_path)))
    with closing(made(samples)) as images:
        for taken in range(1, 30):
            next(images)
            assert len(list(tmp_path.iterdir())) <= taken + 2 * pool.AHEAD


@pytest.mark.parametrize("size", [2**22, pooled.BYTES], ids=["one by one", "eight at once"])
def test_an_image_that_cannot_be_read_is_named_after_all_before_it(tmp_path, size):
    samples = numbered(20)
    samples[5] = Sample("n5", partial(read, tmp_path / "gone.jpg"))
    images = made(samples, size=size)

    assert [one.frame.scale[1] for one, _ in islice(images, 5)] == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match=r"gone.jpg cannot be read: No such file") as caught:
        next(images)
    assert str(caught.value.__cause__).startswith("n5\nTraceback")
    assert "images.py" in str(caught.value.__cause__), "where it was raised"


def test_an_error_that_cannot_be_sent_is_told():
    with pytest.raises(RuntimeError, match="Odd: no good") as caught:
        list(made(numbered(9), pooled.odd_at_5))
    assert str(caught.value.__cause__).startswith("n5\nTraceback")


@pytest.mark.parametrize(
    ("preprocess", "end"),
    [(pooled.killed_at_5, "died of SIGKILL"), (pooled.ends_at_5, "exited with 3")],
)
@pytest.mark.parametrize(("size", "named"), [(2**22, "n5"), (pooled.BYTES, "n0 ... n7")], ids=["one", "eight"])
def test_a_process_that_dies_is_an_error_that_names_its_images(preprocess, end, size, named):
    images = made(numbered(40), preprocess, size=size)

    if size == 2**22:
        assert [one.frame.scale[1] for one, _ in islice(images, 5)] == [0, 1, 2, 3, 4]
    with pytest.raises(DataError) as caught:
        next(images)
    assert caught.value.fact == f"a process {end} while it prepared {named}"


def of_the_pool():
    """Its processes; other tests may have left a server to this one."""
    return [
        child for child in psutil.Process().children() if any("harness.run.pool" in word for word in child.cmdline())
    ]


def test_a_process_that_is_killed_from_outside_is_no_hang():
    with closing(made(numbered(400), pooled.slow)) as images:
        next(images)
        of_the_pool()[0].kill()
        with pytest.raises(DataError, match="died of SIGKILL while it prepared n"):
            list(images)


def test_a_warning_that_is_an_error_here_is_one_there():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(RuntimeWarning, match="of a library"):
            list(made(numbered(3), pooled.warns))


def test_nothing_is_left_when_it_is_closed_early():
    images = made(numbered(1000), pooled.slow)
    next(images)
    children = of_the_pool()
    images.close()

    assert len(children) == 2
    assert not of_the_pool()


RUN = """
import sys, time
sys.path[:0] = [{root!r}, {support!r}]
import pooled, psutil
from functools import partial
from pathlib import Path
from harness.datasets.base import Sample
from harness.run import prepared

prepared.LARGE, prepared.cores = 1, lambda: 4
kept = prepared.PreparedImages(Path({folder!r}), 1e9)

class Protocol:
    preprocess, size = staticmethod(pooled.slow), pooled.SIZE

images = kept.ahead("set", Protocol, False)([Sample(str(n), partial(pooled.read, n)) for n in range(250)] * 8)
next(images)
print(*(child.pid for child in psutil.Process().children()), flush=True)
time.sleep(600)
"""


def test_nothing_is_left_of_a_run_that_is_killed(tmp_path):
    shared = set(Path("/dev/shm").iterdir())
    folder = tmp_path / "cache"
    script = RUN.format(root=str(ROOT), support=str(ROOT / "tests" / "support"), folder=str(folder))
    run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    children = [psutil.Process(int(pid)) for pid in run.stdout.readline().split()]
    assert len(children) == 4

    os.kill(run.pid, signal.SIGKILL)
    run.communicate()

    deadline = time.monotonic() + 60
    while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
        assert time.monotonic() < deadline, "a process outlived its run"
        time.sleep(0.05)
    assert not list(folder.iterdir())
    assert not {path for path in set(Path("/dev/shm").iterdir()) - shared if "chipproof" in path.name}


def test_functions_that_no_other_process_can_import_are_left_to_threads(monkeypatch):
    def own(image, raw):
        return pooled.preprocess(image, raw)

    own.__module__, own.__qualname__ = "__main__", "own"
    monkeypatch.setattr(sys.modules["__main__"], "own", own, raising=False)

    assert not pool.can(own, numbered(1))
    assert pool.can(pooled.preprocess, numbered(1))
    assert not pool.can(lambda image, raw: None, numbered(1))
    assert not pool.can(pooled.preprocess, [Sample("n", lambda: None)])
