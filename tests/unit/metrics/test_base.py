"""What every scorer keeps to: whole sets, resampling by weights, one sample after the other."""

import numpy as np
import pytest
from metrics_logits import predicted

from harness.errors import DataError, RunError, UsageError
from harness.metrics import SCORERS, TRUTHS, score
from harness.metrics.base import Score, check_count, check_order, confident, detections


@pytest.mark.parametrize("task", ["classes", "attributes"])
def test_resampling_equals_a_set_with_repeated_samples(task):
    state = np.random.RandomState(0)
    width = {"classes": 1000, "attributes": 35}[task]
    predictions = predicted(state.standard_normal((30, width)))
    labels = state.randint(0, 2, (30, 35)) if task == "attributes" else state.randint(0, 1000, 30)
    weights = state.poisson(1, 30)
    places = np.repeat(np.arange(30), weights)

    resampled = SCORERS[task](predictions, labels).resample(weights)

    again = SCORERS[task]([predictions[i] for i in places], [labels[i] for i in places])
    assert resampled == pytest.approx(dict(again.values), abs=1e-12)


@pytest.mark.parametrize("task", ["classes", "attributes"])
def test_without_truth_the_reference_is_right(task):
    predictions = predicted(np.random.RandomState(1).standard_normal((20, {"classes": 1000, "attributes": 35}[task])))

    values = score(task, predictions, None, reference=predictions).values

    assert set(values.values()) == {1.0}


@pytest.mark.parametrize("task", list(SCORERS))
def test_a_short_set_is_refused_by_every_scorer(task):
    with pytest.raises(DataError, match="0 predictions for 1 samples"):
        SCORERS[task]([], [None])


@pytest.mark.parametrize("task", list(SCORERS))
def test_an_empty_set_is_refused_by_every_scorer(task):
    with pytest.raises(DataError, match="no sample to score"):
        SCORERS[task]([], [])


def test_results_of_a_set_are_each_there_once_and_in_order():
    ids = ["a", "b", "c"]

    check_order(ids, ids)
    for got, fact in (
        (["a", "b"], "1 of 3 samples have no result, first c"),
        (["a", "b", "b"], "more than one result, first b"),
        (["a", "b", "c", "d"], "belong to no sample, first d"),
        (["a", "c", "b"], "result 1 is for c, the data set has b there"),
    ):
        with pytest.raises(DataError, match=fact):
            check_order(ids, got)


def test_names_of_samples_are_each_there_once():
    assert list(check_count([{}] * 2, [0, 0], None)) == ["sample 0", "sample 1"]
    assert list(check_count([{}] * 2, [0, 0], ["b", "a"])) == ["b", "a"]
    for ids, fact in ((["a"], "1 names for 2 samples"), (["a", "a"], "more than one result, first a")):
        with pytest.raises(DataError, match=fact):
            check_count([{}] * 2, [0, 0], ids)


def test_every_task_has_a_scorer_and_a_way_to_make_truth():
    assert set(SCORERS) == set(TRUTHS) == {"faces", "attributes", "classes", "objects"}


def test_a_task_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="no task 'poses'"):
        score("poses", [], [])


def test_neither_truth_nor_reference_is_refused():
    with pytest.raises(UsageError, match="neither truth nor a reference"):
        score("classes", [], None)


def test_the_cut_of_a_reference_lies_in_the_widest_gap_when_few_detections_are_sure():
    scores = np.array([0.4, 0.39, 0.38, 0.2, 0.19], np.float32)

    assert confident([scores], 0.5) == pytest.approx(0.38)


def test_the_cut_of_a_sure_reference_is_the_given_one():
    assert confident([np.array([0.9, 0.8, 0.1])], 0.5) == 0.5


BOX, SURE = np.array([[10, 20, 30, 40]], np.float32), np.array([0.5], np.float32)


@pytest.mark.parametrize(
    ("boxes", "scores", "fact"),
    [
        ([[10, 20, 30, 15]], [0.5], "cat: a box has negative width or height"),
        ([[10, 20, 5, 40]], [0.5], "cat: a box has negative width or height"),
        ([[10, 20, 30, np.inf]], [0.5], "cat: boxes hold NaN or infinity"),
        ([[10, 20, 30, 40]], [np.nan], "cat: scores hold NaN or infinity"),
        ([[10, 20, 30, 40]], [0.5, 0.4], r"cat: boxes are \(1, 4\) and scores \(2,\)"),
        ([[10, 20, 30]], [0.5], r"cat: boxes are \(1, 3\) and scores \(1,\)"),
        ([[10, 20, 30, 40]], [[0.5]], r"cat: boxes are \(1, 4\) and scores \(1, 1\)"),
        (None, [0.5], "cat: the prediction has no boxes"),
        ([[10, 20, 30, 40]], None, "cat: the prediction has no scores"),
    ],
)
def test_detections_that_cannot_be_scored_are_named(boxes, scores, fact):
    given = {"boxes": boxes, "scores": scores}

    with pytest.raises(RunError, match=fact):
        detections({key: np.array(value) for key, value in given.items() if value is not None}, "cat")


def test_detections_are_float32_and_may_be_points():
    boxes, scores = detections({"boxes": np.array([[3, 4, 3, 4]]), "scores": np.array([0.1])}, "cat")

    assert (boxes.dtype, scores.dtype) == (np.float32, np.float32)
    assert (boxes.tolist(), scores.tolist()) == ([[3, 4, 3, 4]], [np.float32(0.1)])


def test_a_score_computes_equal_draws_once():
    asked = []

    def resample(weights):
        asked.append(weights.tolist())
        return {"x": float(weights.sum())}

    score = Score({}, 2, resample)
    found = [score.resample(np.array(weights))["x"] for weights in ([1, 1], [2, 0], [1, 1], [0, 2])]

    assert found == [2, 2, 2, 2]
    assert asked == [[1, 1], [2, 0], [0, 2]]


@pytest.mark.parametrize(
    ("scores", "cut"),  # two images: four detections are enough, the gap is looked for between the 4th and the 8th
    [
        ([0.9, 0.8, 0.7, 0.5, 0.1], 0.5),  # four of them are sure
        ([0.9, 0.8, 0.7, 0.49, 0.48, 0.47, 0.3, 0.29], 0.47),  # widest gap 0.47 .. 0.3
        ([0.9, 0.8, 0.7, 0.49, 0.48, 0.47, 0.46, 0.45, 0.1], 0.49),  # of equal gaps the first; 0.45 .. 0.1 is the 9th's
        ([0.9, 0.3, 0.2, 0.1], 0.1),  # no more than four: all
        ([0.9, 0.3, 0.2], 0.2),
        ([0.9, 0.3, 0.2, 0.19, 0.1], 0.19),
    ],
)
def test_the_cut_of_a_reference(scores, cut):
    scores = np.array(scores)

    assert confident([scores[::2], scores[1::2]], 0.5) == pytest.approx(cut)
