"""Interpolated precision against curves worked out by hand, and against the definition, point by point."""

import numpy as np
import pytest

from harness.metrics.interpolation import FALSE, IGNORED, TRUE, average_precision

RECALLS = np.linspace(0, 1, 11)


def ap(marks, objects, weights=None, image=None, recalls=RECALLS):
    """Of one class with one curve; `objects` is their number in image 0, or the image of each."""
    return curves([marks], objects, weights, image, recalls)[0]


def curves(rows, objects, weights=None, image=None, recalls=RECALLS):
    image = np.zeros(len(rows[0]), np.int32) if image is None else np.array(image, np.int32)
    weights = np.ones(image.max(initial=0) + 1) if weights is None else np.array(weights, float)
    objects = np.array([0] * objects if isinstance(objects, int) else objects, np.int32)
    events = [[place if mark == TRUE else ~place for place, mark in enumerate(row) if mark != FALSE] for row in rows]
    ends = np.cumsum([0, *map(len, events)])
    return average_precision(
        weights, image, np.array([0, len(image)]), objects, np.array([0, len(objects)]), np.array([0, len(rows)]),
        np.array([e for row in events for e in row], np.int32), ends, recalls,
    )  # fmt: skip


def defined(marks, weight, objects):
    """The mean over recalls of the highest precision at or beyond each, straight from the definition."""
    points, true, counted = [], 0.0, 0.0
    for mark, w in zip(marks, weight, strict=True):
        if mark == IGNORED:
            continue
        counted += w
        true += w * (mark == TRUE)
        if counted:
            points.append((true / objects, true / counted))
    return np.mean([max((p for r, p in points if r >= recall), default=0.0) for recall in RECALLS])


@pytest.mark.parametrize(
    ("marks", "objects", "wanted"),
    [
        ([TRUE, TRUE], 2, 1.0),
        ([FALSE, FALSE], 2, 0.0),
        ([TRUE, FALSE], 2, 6 / 11),  # recall 0.5 at precision 1: the points 0 .. 0.5
        ([FALSE, TRUE], 1, 0.5),
        ([FALSE, TRUE, TRUE], 2, 2 / 3),  # the later precision 2/3 is above the earlier 1/2
        ([IGNORED, TRUE, IGNORED], 1, 1.0),
        ([], 3, 0.0),
    ],
)
def test_a_curve_worked_out_by_hand(marks, objects, wanted):
    assert ap(marks, objects) == pytest.approx(wanted, abs=1e-12)


def test_the_divisor_of_a_precision_is_larger_by_the_spacing_of_1_as_in_pycocotools():
    assert ap([TRUE], 1, recalls=np.ones(1)) == 1 - 2**-52


def test_weights_count_an_image_so_many_times():
    doubled = ap([TRUE, FALSE, TRUE], [0, 2], weights=[2, 1, 1], image=[0, 1, 2])

    assert doubled == pytest.approx(ap([TRUE, TRUE, FALSE, TRUE], 3), abs=1e-12)
    assert ap([FALSE, TRUE], [1], weights=[0, 1], image=[0, 1]) == pytest.approx(1.0, abs=1e-12)


def test_drawn_curves_follow_the_definition():
    state = np.random.RandomState(0)
    for _ in range(50):
        marks = state.choice([FALSE, TRUE, IGNORED], 30, p=[0.4, 0.5, 0.1])
        weights = state.randint(1, 4, 5).astype(float)
        image = state.randint(0, 5, 30)
        objects = [*image[marks == TRUE], *state.randint(0, 5, state.randint(0, 3))]

        found = ap(marks, objects, weights, image)

        assert found == pytest.approx(defined(marks, weights[image], weights[objects].sum()), abs=1e-9)


def test_each_row_is_a_curve_of_its_own():
    assert curves([[TRUE, FALSE], [FALSE, TRUE]], 1).tolist() == pytest.approx([1.0, 0.5])


def test_a_class_without_an_object_has_no_curve():
    assert np.isnan(ap([FALSE], 0))
