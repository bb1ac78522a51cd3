"""Greedy suppression keeps what the authors' programs keep, at thresholds, at ties, and of ten thousand boxes."""

import golden_rules_data as data
import numpy as np
import pytest

from harness.arrays import boxes
from harness.arrays.suppression import greedy


@pytest.mark.parametrize("i", range(20))
def test_the_keep_list_is_the_authors_with_ties(i, faces):
    found, scores = data.crowd(i)

    assert boxes.nms(found, scores, 0.4).tolist() == faces[f"nms/{i:02d}_keep"].tolist()


def test_iou_at_the_threshold_survives_and_the_next_float_does_not():
    """10 x 10 pixels each, 4 columns apart: 60 of 140 in common with the far pixel counted."""
    found = np.array([[0, 0, 9, 9], [4, 0, 13, 9]], np.float32)
    scores = np.array([0.9, 0.8], np.float32)
    iou = np.float32(60) / np.float32(140)

    assert boxes.nms(found, scores, float(iou)).tolist() == [0, 1]
    assert boxes.nms(found, scores, float(np.nextafter(iou, np.float32(0)))).tolist() == [0]


@pytest.mark.parametrize("limit", [None, 3])
def test_nothing_is_kept_of_nothing(limit):
    assert boxes.survivors(np.empty((0, 4), np.float32), 0.4, 1, limit).tolist() == []


def test_ten_thousand_copies_of_a_box_leave_one():
    found = np.tile(np.array([[3, 4, 30, 40]], np.float32), (10_000, 1))

    assert boxes.nms(found, np.linspace(0, 1, 10_000, dtype=np.float32), 0.4).tolist() == [9999]


def test_ten_thousand_faces_apart_are_all_kept_in_order():
    y, x = np.divmod(np.arange(10_000, dtype=np.float32), 100)
    found = np.stack((10 * x, 10 * y, 10 * x + 8, 10 * y + 8), axis=1)
    scores = np.random.RandomState(5).permutation(10_000).astype(np.float32)

    assert boxes.nms(found, scores, 0.4).tolist() == np.argsort(-scores).tolist()


@pytest.mark.parametrize("far", [1e9, 1e18, 1e30])
def test_boxes_absurdly_far_away_cost_neither_memory_nor_the_others(far):
    near = np.array([[0, 0, 10, 10], [1, 1, 11, 11]], np.float32).repeat(300, axis=0)
    absurd = near + np.float32(far)
    found = np.vstack((near, absurd, -absurd[:, [2, 3, 0, 1]]))
    kept = boxes.nms(found, np.arange(len(found), dtype=np.float32), 0.4)

    assert kept[kept < len(near)].tolist() == [599]


def test_boxes_that_are_no_numbers_overlap_nothing():
    found = np.array([[0, 0, 9, 9], [0, 0, np.nan, 9], [0, 0, np.inf, 9], [np.nan, 0, 9, 9], [0, 0, 9, 9]], np.float32)

    for order in ([0, 1, 2, 3, 4], [1, 2, 3, 0, 4], [3, 1, 0, 4, 2]):
        kept = np.array(order)[boxes.survivors(found[order], 0.4, 1)]
        assert sorted(kept) == sorted(set(range(5)) - {4})


def test_a_thousand_faces_one_above_the_other_are_all_kept():
    y = 10 * np.arange(1000, dtype=np.float32)
    found = np.stack((0 * y, y, 0 * y + 300, y + 8), axis=1)

    assert len(boxes.nms(found, y, 0.4)) == 1000


@pytest.mark.parametrize("corners", [(0, 0, 10, -0.5), (0, 0, -0.5, 10), (0, 0, -0.5, -0.5), (0, 0, -20, -20)])
def test_boxes_turned_round_overlap_nothing_not_even_their_like(corners):
    found = np.array([corners, corners, (0, 0, 9, 9), (-20, -20, 9, 9)], np.float32)

    assert boxes.survivors(found, 0.1, 0).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("limit", [200, 3])
def test_the_loops_stay_within_their_arrays(limit):
    """Compiled, a place too many would be read and written unseen; as Python it is an IndexError."""
    found, _ = data.crowd(0)
    corners = np.array(found[:60].T, np.float32, order="C")

    kept = greedy.py_func(corners, np.float32(0.4), np.float32(1), limit)

    assert kept.tolist() == greedy(corners, np.float32(0.4), np.float32(1), limit).tolist()
