"""How much of what is found in an image changed; drawing and ranking: tests/unit/report/test_pictures.py."""

import numpy as np
import pytest

from harness.metrics.changes import compared

FACE, OTHER, THIRD = (10, 10, 60, 60, 0.9), (100, 10, 160, 80, 0.9), (200, 10, 240, 90, 0.9)


def boxes(*rows):
    rows = np.array(rows, np.float32).reshape(-1, 5)
    return {"boxes": rows[:, :4], "scores": rows[:, 4]}


def logits(*values):
    return {"logits": np.array(values, np.float32)}


def share(task, found, wanted, others=3):
    """Beside it lie images that do not differ, so that the reference is sure of enough boxes."""
    return compared(task, [found] + [wanted] * others, [wanted] * (others + 1))[0].share


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((FACE, OTHER), 0.0),
        ((FACE,), 0.5),
        ((), 1.0),
        ((FACE, OTHER, THIRD), 1 / 3),
        (((10, 10, 60, 60, 0.85), OTHER), 0.0),  # rounding
        (((10, 10, 50, 60, 0.9), OTHER), 0.2),  # four fifths of the box: the rest is lacking on both sides
        (((400, 400, 450, 450, 0.9), OTHER), 1.0),  # one is lost and one invented: as much as there was
    ],
)
def test_boxes_that_one_side_does_not_have_count_by_their_scores(found, expected):
    assert share("faces", boxes(*found), boxes(FACE, OTHER)) == pytest.approx(expected, abs=1e-6)


def test_a_box_of_another_class_is_another_object():
    one, other = ({**boxes(FACE, OTHER), "labels": np.array(labels)} for labels in ([3, 5], [3, 6]))

    assert share("objects", one, one) == 0
    assert share("objects", other, one) == pytest.approx(1.0), "one is lost and one invented"


def test_two_sides_without_a_box_are_alike():
    assert compared("faces", [boxes(), boxes()], [boxes(), boxes(FACE)])[0].share == 0


@pytest.mark.parametrize(("place", "expected"), [(0, 0.0), (1, 0.2), (4, 0.8), (5, 1.0), (9, 1.0)])
def test_a_class_counts_by_the_place_to_which_it_fell(place, expected):
    wanted = logits(*range(10))  # the last class is the best
    found = wanted["logits"].copy()
    found[9] = found[9 - place] - 0.5 if place else found[9]

    assert share("classes", {"logits": found}, wanted) == pytest.approx(expected)


def test_of_a_class_that_fell_the_three_best_of_each_side_are_told():
    found, wanted = logits(1, 9, 8, 7, 6), logits(9, 8, 7, 6, 5)
    difference = compared("classes", [found], [wanted])[0]

    assert (difference.chip, difference.reference) == ([1, 2, 3], [0, 1, 2])


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        ((1, 1, 1, 1, -1), (1, 1, 1, 1, -1), 0.0),
        ((1, 1, 1, -1, -1), (1, 1, 1, 1, -1), 0.25),
        ((-1, -1, -1, -1, -1), (1, 1, 1, 1, -1), 1.0),
        ((1, -1, -1, -1, -1), (-1, -1, -1, -1, -1), 0.25),  # one of none: no half of anything
        ((0.5, 0, 1, 1, -0.5), (1, 1, 1, 1, -1), 0.0),  # positive from 0 on
        ((1, 1, 1, -1, -1, -1), (-1, -1, -1, 1, 1, 1), 1.0),  # six of three
    ],
)
def test_attributes_count_by_those_that_turned_over(found, wanted, expected):
    assert share("attributes", logits(*found), logits(*wanted)) == expected


@pytest.mark.parametrize(("score", "share", "counts"), [
    (0.46, 1 - 0.46 / 0.9, (1, 0, 1, 0)), (0.44, 1.0, (0, 0, 1, 1)),
])  # fmt: skip
def test_a_box_that_the_chip_is_less_sure_of_is_lost_by_what_it_lacks(score, share, counts):
    """The reference's boxes have 0.9: less than half of that is no box, the rest is told beside the sure one."""
    wanted = boxes(FACE)
    found = compared("faces", [boxes((*FACE[:4], score)), *[wanted] * 3], [wanted] * 4)[0]

    assert found.share == pytest.approx(share, abs=1e-6)
    assert found.counts == counts
    assert (len(found.chip), len(found.reference)) == counts[::2]


def test_the_counterpart_of_a_sure_box_is_told_though_the_chip_is_not_sure_of_it():
    """0.5 is sure of the faces of four images with two each; 0.46 is not, but more than half of 0.9."""
    wanted = boxes(FACE, (*OTHER[:4], 0.6))
    unsure = boxes((*FACE[:4], 0.46), (*OTHER[:4], 0.6))

    assert compared("faces", [unsure, *[wanted] * 3], [wanted] * 4)[0].counts == (2, 0, 2, 0)


def test_an_unsure_box_that_is_no_counterpart_is_not_told():
    wanted = boxes(FACE, OTHER)
    lost = boxes(OTHER, (*THIRD[:4], 0.3))

    assert compared("faces", [lost, *[wanted] * 3], [wanted] * 4)[0].counts == (1, 0, 2, 1)
    lost = boxes((*THIRD[:4], 0.3))
    assert compared("faces", [lost, *[wanted] * 3], [wanted] * 4)[0].counts == (0, 0, 2, 2)


def test_of_many_boxes_120_are_told_and_those_that_stand_alone_first():
    many = [(20 * n, 0, 20 * n + 10, 10, 0.9) for n in range(150)]
    told = compared("faces", [boxes(*many[:140]), boxes(*many)], [boxes(*many)] * 2)[0]

    assert told.counts == (140, 0, 150, 10)
    assert (len(told.chip), len(told.reference)) == (120, 120)
    assert told.reference[:11, 5].tolist() == [1] * 10 + [0]


@pytest.mark.parametrize("scale", [1, 1 / 1024])
def test_what_is_told_of_two_sides_is_the_same_in_any_unit_of_length(scale):
    """The chip lost `OTHER`, invented `THIRD`, is less sure of `FACE`, and has the fourth. Alone stands first."""
    fourth = (300, 10, 340, 90, 0.75)
    wanted = boxes(FACE, fourth, (*OTHER[:4], 0.625))
    found = boxes(fourth, (*THIRD[:4], 0.5), (*FACE[:4], 0.46))
    for side in (wanted, found):
        side["boxes"] = side["boxes"] * np.float32(scale)

    told = compared("faces", [found, *[wanted] * 3], [wanted] * 4)[0]

    assert told.counts == (3, 1, 3, 1)
    for side, rows in ((told.chip, (THIRD, fourth, FACE)), (told.reference, (OTHER, FACE, fourth))):
        assert side[:, :4].tolist() == (np.array(rows)[:, :4] * scale).tolist()
        assert side[:, 5].tolist() == [1, 0, 0]
    assert told.chip[:, 4] == pytest.approx([0.5, 0.75, 0.46])
    assert told.reference[:, 4] == pytest.approx([0.625, 0.9, 0.75])
    assert told.size == pytest.approx(0.5 + 0.625 + (0.9 - 0.46))
    assert told.share == pytest.approx(told.size / (0.9 + 0.75 + 0.625))


@pytest.mark.parametrize(("task", "sure"), [("faces", 0.5), ("objects", 0.3)])
def test_a_box_counts_from_the_score_on_that_makes_it_truth(task, sure):
    for score, lost in ((sure - 0.01, 0), (sure, 1)):
        wanted, found = boxes(FACE, OTHER, (*THIRD[:4], score)), boxes(FACE, OTHER)

        assert share(task, found, wanted) == pytest.approx(lost * score / (0.9 + 0.9 + score))
