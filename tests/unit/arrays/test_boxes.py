"""Priors, decoding and the choice of boxes against numbers computed with the authors' programs."""

import golden_rules_data as data
import numpy as np
import pytest

from harness.arrays import boxes
from harness.reference.golden import FOLDER, crc
from harness.reference.golden import faces as drawn_faces

SIZES = [(1000, 1000), (672, 1024), (375, 500), (683, 451), (160, 160)]


@pytest.fixture(scope="module")
def objects():
    with np.load(FOLDER / "gfocal_post.npz") as file:
        return dict(file)


@pytest.mark.parametrize("table", [lambda: boxes.priors(64, 96), lambda: boxes.points(8, 12, 8)])
def test_a_table_is_made_once_for_all_images_of_a_size_and_nobody_writes_it(table):
    assert table() is table()
    assert not table().flags.writeable


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_priors_have_the_authors_bits(height, width, faces):
    priors = boxes.priors(height, width)

    np.testing.assert_array_equal(priors.ravel()[::101], faces[f"priors_{height}x{width}/every101"])
    assert crc(priors) == faces[f"priors_{height}x{width}/crc32"]


def test_priors_cannot_be_changed_by_a_caller():
    with pytest.raises(ValueError, match="read-only"):
        boxes.priors(160, 160)[0] = 0


def test_decoded_boxes_and_landmarks_are_the_authors(faces):
    loc, _, landm = drawn_faces(1050, 2021, 5)
    priors = boxes.priors(160, 160)

    np.testing.assert_allclose(boxes.decode(priors, loc), faces["decode160/boxes"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(boxes.decode_landmarks(priors, landm).reshape(-1, 10), faces["decode160/landm"])


@pytest.mark.parametrize("transposed", [False, True])
def test_decoding_leaves_its_arguments_alone(transposed):
    loc = drawn_faces(1050, 1)[0]
    priors = np.array(boxes.priors(160, 160))
    given = np.asfortranarray(priors) if transposed else priors
    boxes.decode(given, loc)

    np.testing.assert_array_equal(given, boxes.priors(160, 160))


def test_of_equal_scores_the_later_goes_first():
    assert boxes.best_first(np.array([0.5, 0.7, 0.5, 0.5], np.float32)).tolist() == [1, 3, 2, 0]


@pytest.mark.parametrize("level", range(5))
def test_points_have_the_authors_bits(level, objects):
    stride = 8 << level
    points = boxes.points(-(-800 // stride), -(-1216 // stride), stride)

    assert crc(points) == objects[f"centers_800x1216/{level}_crc32"]


def test_the_integral_is_the_authors(objects):
    distances = boxes.integral(np.ascontiguousarray(data.distributions().T)).T

    np.testing.assert_allclose(distances, objects["integral"], rtol=0, atol=1e-5)


def test_the_integral_of_huge_logits_is_finite():
    logits = np.full((68, 1), -3e38, np.float32)
    logits[::17] = 3e38

    assert boxes.integral(logits).ravel().tolist() == [0, 0, 0, 0]


def test_best_cells_come_in_order_only_where_some_are_left_out():
    best = np.array([0.1, 0.3, 0.04, 0.3, 0.2], np.float32)

    assert boxes.best_cells(best, 5, 0.05).tolist() == [0, 1, 3, 4]
    assert boxes.best_cells(best, 3, 0.05).tolist() == [1, 3, 4]


def test_classes_do_not_suppress_one_another_and_none_is_left_without_candidates():
    found = np.array([[0, 0, 10, 10], [1, 0, 11, 10]], np.float32)
    scores = np.array([[0.9, 0.1, 0.05], [0.8, 0.3, 0.05]], np.float32)
    kept, values, labels = boxes.multiclass_nms(found, scores, 0.05, 0.6, 100)

    assert labels.tolist() == [0, 1]
    assert values.tolist() == pytest.approx([0.9, 0.3])
    np.testing.assert_array_equal(kept, found)
    assert [len(part) for part in boxes.multiclass_nms(found, scores, 0.95, 0.6, 100)] == [0, 0, 0]


def test_the_places_of_two_classes_do_not_meet_at_their_borders():
    found = np.array([[90, 90, 100, 100], [0, 0, 10, 10]], np.float32)
    scores = np.array([[0.9, 0], [0, 0.8]], np.float32)

    assert boxes.multiclass_nms(found, scores, 0.05, 0.1, 100)[2].tolist() == [0, 1]


def test_objects_at_the_threshold_go_as_on_a_cpu():
    """IoU 0.6 = 6 / 10 exactly: mmcv's CPU program suppresses at equality."""
    found = np.array([[0, 0, 8, 1], [2, 0, 10, 1]], np.float32)
    scores = np.array([[0.9], [0.8]], np.float32)

    assert len(boxes.multiclass_nms(found, scores, 0.05, 0.6, 100)[0]) == 1
    assert len(boxes.multiclass_nms(found, scores, 0.05, 0.601, 100)[0]) == 2


def test_the_operator_of_ascend_rounds_to_float16_and_limits_each_class():
    x = 40 * np.arange(60, dtype=np.float32) + np.float32(0.4)
    found = np.stack((x, 0 * x, x + 30, 0 * x + 30), axis=1)
    scores = np.stack((np.linspace(0.9, 0.5, 60), np.linspace(0.8, 0.1, 60)), axis=1).astype(np.float32)
    kept, values, labels = boxes.batch_multiclass_nms(found, scores, 0.05, 0.6, 25, 40)

    assert len(kept) == 40
    assert np.bincount(labels).tolist() == [25, 15]
    assert (np.diff(values) <= 0).all()
    np.testing.assert_array_equal(values, values.astype(np.float16))
    np.testing.assert_array_equal(kept, kept.astype(np.float16))
    assert (found.max(axis=1) > 1024).any()


def test_classes_are_moved_apart_by_a_pixel_more_than_the_largest_coordinate():
    """A box that begins a pixel before the edge just touches the same box of the next class: 1.5 wide, 1.5 apart."""
    found = np.array([[-1, -1, 0.5, 0.5]], np.float32)

    kept, _, labels = boxes.multiclass_nms(found, np.array([[0.9, 0.8, 0.7]], np.float32), 0.05, 0.2, 100)

    assert labels.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(kept, np.repeat(found, 3, axis=0))
