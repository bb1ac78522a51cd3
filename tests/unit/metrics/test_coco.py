"""COCO AP is that of pycocotools, whole and resampled."""

from pathlib import Path

import golden_rules_metrics
import numpy as np
import pytest

from harness.errors import DataError, RunError
from harness.metrics import coco
from harness.metrics.coco import Objects


@pytest.fixture(scope="module")
def golden():
    """Computed with the authors' programs."""
    with np.load(Path(__file__).parents[2] / "support" / "golden" / "metrics.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def drawn():
    return golden_rules_metrics.objects()


def thing(x, y, w, h, label=0, crowd=False):
    return (np.array([x, y, w, h], float), label, crowd)


def truth_of(*things):
    boxes = np.array([t[0] for t in things]).reshape(-1, 4)
    labels, crowd = np.array([t[1] for t in things], np.int64), np.array([t[2] for t in things], bool)
    return Objects(boxes, labels, boxes[:, 2] * boxes[:, 3], crowd)


def found(*things, scores):
    boxes = np.array([t[0] for t in things]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return {
        "boxes": boxes.astype(np.float32),
        "scores": np.array(scores, np.float32),
        "labels": np.array([t[1] for t in things], np.int64),
    }


def test_the_twelve_numbers_equal_those_of_the_authors(drawn, golden):
    truth, predictions = drawn

    np.testing.assert_allclose(coco.statistics(predictions, truth), golden["coco/stats"], rtol=0, atol=1e-12)


def test_the_score_is_the_first_of_the_twelve_numbers(drawn, golden):
    truth, predictions = drawn

    score = coco.score(predictions, truth)

    assert score.values["ap"] == pytest.approx(golden["coco/stats"][0], abs=1e-12)
    assert score.samples == 12


@pytest.mark.parametrize("seed", range(4))
def test_resampling_with_whole_weights_equals_a_set_with_repeated_pictures(drawn, seed):
    truth, predictions = drawn
    weights = np.random.RandomState(seed).poisson(1, len(truth))
    places = np.repeat(np.arange(len(truth)), weights)
    repeated = coco.statistics([predictions[i] for i in places], [truth[i] for i in places])

    resampled = coco.score(predictions, truth).resample(weights)

    assert resampled["ap"] == pytest.approx(repeated[0], abs=1e-12)


def test_resampling_keeps_to_repeated_pictures_where_scores_are_equal(drawn):
    truth, predictions = drawn
    coarse = [p | {"scores": np.sort(np.round(p["scores"], 1))[::-1]} for p in predictions]
    weights = np.arange(len(truth)) % 3
    places = np.repeat(np.arange(len(truth)), weights)
    repeated = coco.statistics([coarse[i] for i in places], [truth[i] for i in places])

    resampled = coco.score(coarse, truth).resample(weights)

    assert resampled["ap"] == pytest.approx(repeated[0], abs=1e-12)


def test_a_hand_worked_case():
    truth = [truth_of(thing(0, 0, 10, 10), thing(50, 50, 10, 10))]
    predictions = [found(thing(0, 0, 10, 10), thing(90, 90, 5, 5), thing(50, 50, 10, 10), scores=[0.9, 0.8, 0.7])]

    ap = coco.score(predictions, truth).values["ap"]

    # 51 of the 101 recalls are at most 1/2, where the precision is 1; beyond it is 2/3
    assert ap == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)


def test_a_crowd_takes_detections_without_counting_them():
    objects = (thing(0, 0, 10, 10), thing(50, 50, 40, 40, crowd=True))
    predictions = [found(thing(55, 55, 10, 10), thing(0, 0, 10, 10), scores=[0.9, 0.8])]

    assert coco.score(predictions, [truth_of(*objects)]).values["ap"] == pytest.approx(1)


def test_a_set_without_objects_has_no_figure():
    score = coco.score([found(thing(0, 0, 5, 5), scores=[0.5])], [truth_of()])

    assert np.isnan(score.values["ap"])


def test_no_detection_scores_nothing():
    score = coco.score([found(scores=[])], [truth_of(thing(0, 0, 5, 5))])

    assert score.values["ap"] == 0


def test_the_81st_class_is_refused():
    with pytest.raises(RunError, match=r"a: labels are not one of 0\.\.79"):
        coco.score([found(thing(0, 0, 5, 5, label=80), scores=[0.5])], [truth_of()], ["a"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.array([np.nan], np.float32)}, "b: scores hold NaN"),
        ({"boxes": np.array([[0, 0, np.inf, 1]], np.float32)}, "b: boxes hold NaN"),
        ({"boxes": np.array([[5, 5, 1, 9]], np.float32)}, "b: a box has negative"),
        ({"boxes": np.zeros((2, 4), np.float32)}, "b: boxes are"),
        ({"labels": np.zeros(3, np.int64)}, "b: labels are not"),
    ],
)
def test_an_unusable_prediction_names_the_picture(change, message):
    good = found(thing(0, 0, 5, 5), scores=[0.5])

    with pytest.raises(RunError, match=message):
        coco.score([good, good | change], [truth_of(thing(0, 0, 5, 5))] * 2, ["a", "b"])


def test_doubled_names_are_refused():
    good = found(thing(0, 0, 5, 5), scores=[0.5])

    with pytest.raises(DataError, match="more than one result, first a"):
        coco.score([good, good], [truth_of()] * 2, ["a", "a"])


def test_the_reference_scores_one_against_itself(drawn):
    _, predictions = drawn

    truth = coco.truth_from_reference(predictions)

    assert coco.score(predictions, truth).values["ap"] == pytest.approx(1)
    assert sum(len(objects.labels) for objects in truth) >= 2 * len(predictions)


def test_the_category_ids_are_80_in_rising_order_up_to_90():
    ids = coco.CATEGORY_IDS

    assert len(ids) == 80
    assert list(ids) == sorted(set(ids))
    assert (ids[0], ids[-1]) == (1, 90)
    assert not {12, 26, 29, 30, 45, 66, 68, 69, 71, 83} & set(ids)
