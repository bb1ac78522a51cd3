"""Scenes are the same bytes everywhere, differ from each other, and meet every kind a task has."""

import zlib

import numpy as np
import pytest

from harness.datasets import scenes
from harness.errors import UsageError
from harness.metrics import SCORERS


def crc(image):
    return zlib.crc32(np.ascontiguousarray(image).tobytes())


CRCS = {  # of scenes 0 to 25, by version
    "faces": (1, 0xAF66A396),
    "objects": (1, 0x623C9ABD),
    "classes": (1, 0x749E037C),
    "attributes": (1, 0xD6409556),
}


@pytest.mark.parametrize("task", list(scenes.KINDS))
def test_the_bytes_of_the_scenes_are_those_of_this_version(task):
    found = 0
    for i in range(26):
        found = zlib.crc32(scenes.draw(task, i).tobytes(), found)

    assert (scenes.VERSION, found) == CRCS[task], "the drawings changed: raise VERSION, so that records are not mixed"


def test_every_task_has_scenes():
    assert set(scenes.KINDS) == set(SCORERS)


@pytest.mark.parametrize("task", list(scenes.KINDS))
def test_every_picture_is_another(task):
    assert len({crc(scenes.draw(task, i)) for i in range(60)}) == 60


@pytest.mark.parametrize("task", list(scenes.KINDS))
def test_figures_lie_inside_the_picture_and_have_labels(task):
    for i in range(len(scenes.KINDS[task]) * 2):
        scene = scenes.scene(task, i)
        height, width = scene.image.shape[:2]

        assert scene.image.dtype == np.uint8
        assert scene.image.shape[2] == 3
        assert (scene.boxes[:, :2] >= 0).all()
        assert (scene.boxes[:, 2:] <= (width, height)).all()
        assert (scene.boxes[:, 2:] > scene.boxes[:, :2]).all()
        assert len(scene.labels) == len(scene.boxes)
        assert ((scene.labels >= 0) & (scene.labels < 80)).all()


def test_a_round_of_face_scenes_meets_every_branch():
    round_ = [scenes.scene("faces", i) for i in range(len(scenes.KINDS["faces"]))]
    heights = np.concatenate([s.boxes[:, 3] - s.boxes[:, 1] for s in round_])
    shapes = [s.image.shape[:2] for s in round_]

    assert heights.min() < 12  # tiny
    assert any(np.ptp(s.boxes[:, 1::2]) >= s.image.shape[0] for s in round_ if len(s.boxes) == 1)  # huge
    assert min(len(s.boxes) for s in round_) == 0  # none
    assert max(len(s.boxes) for s in round_) >= 40  # crowded
    assert any(h > w for h, w in shapes)
    assert any(w > h for h, w in shapes)
    assert any((s.image[..., 0] == s.image[..., 2]).all() for s in round_)  # grey
    border = next(s for s in round_ if s.kind == "border")
    edges = np.concatenate([border.boxes[:, :2].ravel() == 0, border.boxes[:, 2:].ravel() == 480])
    assert edges.sum() >= len(border.boxes)


def test_a_figure_changes_the_pixels_of_its_box():
    scene = scenes.scene("faces", 0)

    for x1, y1, x2, y2 in scene.boxes.astype(int):
        assert len(np.unique(scene.image[y1:y2, x1:x2].reshape(-1, 3) // 16, axis=0)) > 4


def test_a_data_set_of_scenes_reads_what_is_drawn():
    dataset = scenes.dataset("objects", 3, first=5)

    assert (dataset.kind, len(dataset), dataset.truth) == ("scenes", 3, None)
    assert len({s.id for s in dataset.samples}) == 3
    assert np.array_equal(dataset.samples[1].read(), scenes.draw("objects", 6))


def test_other_scenes_have_another_digest():
    digests = {
        scenes.dataset(*key).digest for key in (("faces", 3, 0), ("faces", 3, 1), ("faces", 4, 0), ("objects", 3, 0))
    }

    assert len(digests) == 4


def test_part_of_the_scenes_are_scenes():
    assert scenes.dataset("faces", 5).head(2).kind == "scenes"


@pytest.mark.parametrize(("task", "count"), [("poses", 3), ("faces", 0)])
def test_unknown_tasks_and_empty_sets_are_refused(task, count):
    with pytest.raises(UsageError):
        scenes.dataset(task, count)
