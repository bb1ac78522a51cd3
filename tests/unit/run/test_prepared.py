"""Images are prepared once a run, within the space allowed, and are the same bytes afterwards."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import pooled
import pytest

from harness.datasets.base import Sample
from harness.errors import DataError
from harness.models.base import Frame, Prepared
from harness.run import prepared
from harness.run.prepared import PreparedImages

BYTES = 3 * 4 * 5 * 4  # of one tensor


class Work:
    """A protocol and samples that count how often they are asked."""

    def __init__(self):
        self.read, self.made = [], []
        self.protocol = SimpleNamespace(preprocess=self.preprocess)

    def sample(self, number):
        def read():
            self.read.append(number)
            return np.full((4, 5, 3), number, np.uint8)

        return Sample(f"n{number}", read)

    def preprocess(self, image, raw):
        self.made.append(raw)
        tensor = image if raw else (image.transpose(2, 0, 1) / np.float32(7)).astype(np.float32)
        return Prepared(tensor, Frame(5, 4, (1.0, float(image[0, 0, 0]))))


@pytest.fixture
def work():
    return Work()


def images(tmp_path, most=1e6):
    return PreparedImages(tmp_path / "cache", most)


def ask(kept, work, numbers, raw=False, dataset="set"):
    prepare = kept.prepare(dataset, work.protocol, raw)
    return [prepare(work.sample(number)) for number in numbers]


@pytest.mark.parametrize("raw", [False, True])
def test_the_second_time_nothing_is_read_and_the_bytes_are_the_same(tmp_path, work, raw):
    kept = images(tmp_path)
    first, second = ask(kept, work, range(9), raw), ask(kept, work, reversed(range(9)), raw)

    assert work.read == list(range(9))
    for one, other in zip(first, reversed(second), strict=True):
        assert (one.tensor.dtype, one.tensor.shape, one.frame) == (other.tensor.dtype, other.tensor.shape, other.frame)
        assert one.tensor.tobytes() == other.tensor.tobytes()


def test_other_sets_protocols_and_layouts_are_kept_apart(tmp_path, work):
    kept, other = images(tmp_path), Work()
    ask(kept, work, [1])
    ask(kept, work, [1], raw=True)
    ask(kept, work, [1], dataset="another")
    ask(kept, other, [1])

    assert (len(work.read), len(other.read)) == (3, 1)


def test_what_is_beyond_the_space_is_prepared_each_time(tmp_path, work):
    kept = images(tmp_path, most=2.5 * BYTES)
    ask(kept, work, range(4))
    ask(kept, work, range(4))

    assert work.read == [0, 1, 2, 3, 2, 3]


def test_nothing_allowed_keeps_nothing(tmp_path, work):
    ask(images(tmp_path, most=0), work, [1])

    assert not list((tmp_path / "cache").iterdir())


def test_half_of_the_free_space_is_left(tmp_path, work, monkeypatch):
    monkeypatch.setattr(prepared.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2 * BYTES))
    kept = images(tmp_path)
    ask(kept, work, range(3))
    ask(kept, work, range(3))

    assert work.read == [0, 1, 2, 1, 2]


def test_a_disk_that_fills_up_costs_time_only(tmp_path, work, monkeypatch):
    kept = images(tmp_path)
    ask(kept, work, [0])

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepared.os, "pwrite", full)
    assert ask(kept, work, [1])[0].tensor.max() == np.float32(1) / 7
    monkeypatch.undo()
    ask(kept, work, [0, 1, 1])

    assert work.read == [0, 1, 1, 1]


def test_a_write_that_is_cut_short_is_not_kept(tmp_path, work, monkeypatch):
    kept = images(tmp_path)
    monkeypatch.setattr(prepared.os, "pwrite", lambda descriptor, data, place: len(data) - 1)
    ask(kept, work, [0])

    assert ask(kept, work, [0])[0].tensor.sum() == 0
    assert work.read == [0, 0]


def test_an_image_that_cannot_be_read_raises_each_time(tmp_path, work):
    def broken():
        raise DataError("n5 is truncated", hint="fetch it again")

    prepare = images(tmp_path).prepare("set", work.protocol, False)
    for _ in range(2):
        with pytest.raises(DataError, match="truncated"):
            prepare(Sample("n5", broken))


def test_threads_share_it(tmp_path, work):
    prepare = images(tmp_path).prepare("set", work.protocol, False)
    numbers = [n % 40 for n in range(400)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: prepare(work.sample(number)), numbers))

    assert [round(float(one.tensor.max()) * 7) for one in found] == numbers
    assert [one.frame.scale[1] for one in found] == numbers


def test_the_file_has_no_name_and_its_space_comes_back(tmp_path, work):
    kept = images(tmp_path)
    ask(kept, work, range(5))

    assert not list((tmp_path / "cache").iterdir())
    (descriptor,) = kept._opened
    assert os.fstat(descriptor).st_size == 5 * BYTES
    kept.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    ask(kept, work, [0])  # after the end it prepares
    assert work.read[-1] == 0
    assert not kept._files, "and opens nothing"


def test_processes_of_a_run_share_the_free_space(tmp_path, work, monkeypatch):
    monkeypatch.setattr(prepared.shutil, "disk_usage", lambda folder: SimpleNamespace(free=8 * BYTES))
    kept = PreparedImages(tmp_path / "cache", 1e9, processes=2)
    ask(kept, work, range(4))
    ask(kept, work, range(4))

    assert work.read == [0, 1, 2, 3, 2, 3]


# ---------------------------------------------------------------------------------------------- by processes

POOLED = SimpleNamespace(preprocess=pooled.preprocess, size=(1000, 1000))  # so large are sent one by one


@pytest.fixture
def four_cores(monkeypatch):
    """On which ten images are a large set; (number of files, room) of each time that processes were started."""
    started, sound = [], prepared.pool.prepared

    def noted(samples, preprocess, raw, files, room, size):
        started.append((len(files), room))
        return sound(samples, preprocess, raw, files, room, size)

    monkeypatch.setattr(prepared.pool, "prepared", noted)
    monkeypatch.setattr(prepared, "cores", lambda: 4)
    monkeypatch.setattr(prepared, "LARGE", 10)
    return started


def numbered(tmp_path, numbers):
    """Samples that leave a file when they are read."""
    return [Sample(f"n{number}", partial(pooled.noted, str(tmp_path), number)) for number in numbers]


@pytest.mark.slow
def test_processes_prepare_what_is_missing_of_a_large_set_and_it_is_kept(tmp_path, four_cores):
    read = tmp_path / "read"
    read.mkdir()
    kept = images(tmp_path)
    few, many, again = (numbered(read, numbers) for numbers in ((3, 7), range(40), reversed(range(40))))

    assert [one.frame.scale[1] for one in kept.ahead("set", POOLED, False)(few)] == [3, 7]
    assert four_cores == []
    assert [one.frame.scale[1] for one in kept.ahead("set", POOLED, False)(many)] == list(range(40))
    for path in read.iterdir():
        path.unlink()
    found = list(kept.ahead("set", POOLED, False)(again))

    assert not list(read.iterdir()), "all were kept"
    assert four_cores == [(4, (1e6 - 2 * BYTES) / 4)]
    for number, one in zip(reversed(range(40)), found, strict=True):
        wanted = pooled.preprocess(pooled.read(number), False)
        assert (one.tensor.tobytes(), one.frame) == (wanted.tensor.tobytes(), wanted.frame)


@pytest.mark.slow
def test_processes_keep_no_more_than_is_allowed_and_their_files_serve_again(tmp_path, four_cores):
    read = tmp_path / "read"
    read.mkdir()
    kept = images(tmp_path, most=20 * BYTES)
    for dataset in ("one", "other", "third"):
        list(kept.ahead(dataset, POOLED, False)(numbered(read, range(12))))

    assert four_cores == [(4, 5 * BYTES), (4, 2 * BYTES), (4, 0)]
    assert sum(os.fstat(file).st_size for file in kept._opened) == 20 * BYTES
    assert len(kept._opened) == 4
    kept.close()
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.slow
def test_a_place_that_cannot_be_written_keeps_nothing_and_costs_no_image(tmp_path, four_cores):
    (tmp_path / "cache").write_text("a file")
    found = images(tmp_path).ahead("set", POOLED, False)(numbered(tmp_path, range(12)))

    assert [one.frame.scale[1] for one in found] == list(range(12))
    assert four_cores == [(4, 0)]


@pytest.mark.parametrize(
    ("cores", "processes", "streams", "expected"),
    [(3, 1, 1, 0), (4, 1, 1, 4), (64, 1, 1, 32), (64, 4, 1, 16), (64, 4, 4, 4), (64, 8, 4, 0)],
)
def test_processes_and_devices_of_a_run_share_the_cores(
    tmp_path, four_cores, monkeypatch, cores, processes, streams, expected
):
    monkeypatch.setattr(prepared, "cores", lambda: cores)
    monkeypatch.setattr(
        prepared.pool, "prepared",
        lambda samples, preprocess, raw, files, room, size:
            four_cores.append(len(files)) or ((preprocess(one.read(), raw), None) for one in samples),
    )  # fmt: skip
    made = PreparedImages(tmp_path / "cache", 1e9, processes).ahead("set", POOLED, False, streams)

    assert len(list(made(numbered(tmp_path, range(12))))) == 12
    assert four_cores == [expected] * bool(expected)


def test_what_no_process_can_import_is_prepared_by_threads(tmp_path, work, four_cores):
    work.protocol.size = pooled.SIZE
    found = images(tmp_path).ahead("set", work.protocol, False)([work.sample(number) for number in range(12)])

    assert [one.frame.scale[1] for one in found] == list(range(12))
    assert four_cores == []


@pytest.mark.slow
def test_a_stream_that_is_left_gives_the_room_back(tmp_path, four_cores):
    kept = images(tmp_path, most=20 * BYTES)
    made = kept.ahead("set", POOLED, False)(numbered(tmp_path, range(12)))
    next(made)
    made.close()

    assert kept._left == 20 * BYTES - sum(os.fstat(file).st_size for file in kept._opened) < 20 * BYTES
