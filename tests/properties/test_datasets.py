"""What holds of every data set, scene and stream."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.datasets import scenes
from harness.datasets.base import Dataset, Sample
from harness.datasets.stream import stream

few = settings(max_examples=25, deadline=None)
counts = st.integers(0, 40)


def dataset(count):
    samples = [Sample(f"s{i}", lambda: np.zeros((1, 1, 3), np.uint8)) for i in range(count)]
    return Dataset("numbers", "whole", samples, count, list(range(count)), "digest")


@few
@given(counts, st.integers(1, 5), st.integers(1, 9))
def test_a_stream_is_the_map_of_its_samples(count, workers, ahead):
    samples = dataset(count).samples

    assert list(stream(samples, lambda s: s.id, workers, ahead)) == [s.id for s in samples]


@few
@given(st.integers(1, 40), st.data())
def test_an_error_in_a_stream_comes_after_exactly_the_samples_before_it(count, data):
    broken = data.draw(st.integers(0, count - 1))

    def prepare(sample):
        if sample.id == f"s{broken}":
            raise KeyError(sample.id)
        return sample.id

    seen = []
    try:
        seen.extend(stream(dataset(count).samples, prepare, 3))
        raised = False
    except KeyError:
        raised = True

    assert raised
    # extend keeps what came before the error
    assert seen == [f"s{i}" for i in range(broken)]


@few
@given(counts, st.integers(0, 60))
def test_the_head_of_a_set_is_its_first_samples_with_their_truth(count, limit):
    whole = dataset(count)

    head = whole.head(limit)

    assert [s.id for s in head.samples] == [s.id for s in whole.samples[:limit]]
    assert list(head.truth) == list(whole.truth[:limit])
    assert head.total == whole.total


@few
@given(st.integers(1, 40), st.data())
def test_only_the_whole_of_a_whole_set_is_whole(count, data):
    whole = dataset(count)
    chosen = data.draw(st.lists(st.integers(0, count - 1), unique=True))

    part = whole.take(chosen)

    assert (part.kind == "whole") == (chosen == list(range(count)))
    assert (part.digest == whole.digest) == (chosen == list(range(count)))


@few
@given(st.sampled_from(sorted(scenes.KINDS)), st.integers(0, 100_000))
def test_a_scene_drawn_twice_has_the_same_bytes(task, index):
    assert np.array_equal(scenes.draw(task, index), scenes.draw(task, index))


@few
@given(st.sampled_from(sorted(scenes.KINDS)), st.integers(0, 100_000), st.integers(1, 1000))
def test_scenes_of_other_numbers_differ(task, index, step):
    assert not np.array_equal(scenes.draw(task, index), scenes.draw(task, index + step))


@few
@given(st.sampled_from(sorted(scenes.KINDS)), st.integers(0, 100_000))
def test_what_is_drawn_in_a_scene_lies_inside_it(task, index):
    scene = scenes.scene(task, index)

    height, width = scene.image.shape[:2]
    assert (scene.boxes >= 0).all()
    assert (scene.boxes <= (width, height, width, height)).all()
    assert (scene.boxes[:, 2:] > scene.boxes[:, :2]).all()


@few
@given(st.sampled_from(sorted(scenes.KINDS)), st.integers(0, 1000), st.integers(1, 30))
def test_a_set_of_scenes_names_each_once_and_starts_where_it_is_told(task, first, count):
    ids = [s.id for s in scenes.dataset(task, count, first).samples]

    assert len(set(ids)) == count
    assert ids[0].startswith(f"{task}_{first:04d}")
