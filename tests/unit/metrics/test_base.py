"""What every scorer keeps to: whole sets, resampling by weights, one sample after the other."""

import numpy as np
import pytest
from metrics_logits import predicted

from harness.errors import DataError, UsageError
from harness.metrics import SCORERS, TRUTHS, score
from harness.metrics.base import check_order, confident


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
        (["a", "b", "c", "d"], "of no sample, first d"),
        (["a", "c", "b"], "result 1 is of c, the data set has b there"),
    ):
        with pytest.raises(DataError, match=fact):
            check_order(ids, got)


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
