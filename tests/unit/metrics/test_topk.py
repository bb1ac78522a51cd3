"""Top-k and attribute metrics are the authors', and a set that does not fit is refused."""

import json
from pathlib import Path

import golden_rules_metrics
import numpy as np
import pytest

from harness.errors import DataError, RunError, UsageError
from harness.metrics import SCORERS, TRUTHS, attributes, score, topk
from harness.metrics.base import check_order, confident
from harness.vocabulary import METRICS


@pytest.fixture(scope="module")
def golden():
    """Computed with the authors' programs."""
    with np.load(Path(__file__).parents[2] / "support" / "golden" / "metrics.npz") as file:
        return dict(file)


def predicted(logits):
    return [{"logits": row} for row in logits]


# ---------------------------------------------------------------- classes


def test_top_1_to_5_equal_the_authors(golden):
    logits, labels = golden_rules_metrics.classes()
    printed = {entry["key"]: entry["value"] for entry in json.loads(str(golden["imagenet/json"]))["value"]}

    places = topk.ranks(predicted(logits), labels)

    for k in range(1, 6):
        assert f"{round(100 * float(np.mean(places < k)), 2)}%" == printed[f"Top{k} accuracy"]


def test_the_score_counts_right_answers():
    logits, labels = golden_rules_metrics.classes()

    result = topk.score(predicted(logits), labels)

    assert result.values == {"top1": 5 / 60, "top5": 26 / 60}
    assert result.samples == 60
    assert result.hits["top5"].sum() == 26


def test_of_equal_scores_the_lower_class_comes_first():
    flat = np.zeros(topk.CLASSES, np.float32)

    assert topk.ranks(predicted([flat] * 3), [0, 4, 999]).tolist() == [0, 4, 999]


@pytest.mark.parametrize("classes", [999, 1001])
def test_another_number_of_classes_is_refused_and_never_shifts_labels(classes):
    with pytest.raises(DataError, match=f"a: {classes} scores for 1000 classes") as error:
        topk.score(predicted([np.zeros(classes, np.float32)]), [3], ["a"])

    assert "background" in error.value.hint


@pytest.mark.parametrize("label", [-1, 1000])
def test_a_label_out_of_range_is_refused(label):
    with pytest.raises(DataError, match=f"a: label {label} is not"):
        topk.score(predicted([np.zeros(1000, np.float32)]), [label], ["a"])


def test_nan_names_the_sample():
    logits = np.zeros((2, 1000), np.float32)
    logits[1, 7] = np.nan

    with pytest.raises(RunError, match="b: logits hold NaN"):
        topk.score(predicted(logits), [0, 0], ["a", "b"])


def test_a_prediction_without_logits_names_the_sample():
    with pytest.raises(RunError, match="a: the prediction has no logits"):
        topk.score([{"boxes": np.zeros((0, 4))}], [0], ["a"])


# ---------------------------------------------------------------- attributes


@pytest.mark.parametrize("number", [0, 1, 2])
def test_attribute_metrics_equal_the_authors(golden, number):
    labels, logits = golden_rules_metrics.attributes(number)

    values = attributes.score(predicted(logits), labels).values

    assert values["instance_accuracy"] == pytest.approx(golden[f"deepmar{number}/instance_acc"], abs=1e-12)
    assert values["instance_precision"] == pytest.approx(golden[f"deepmar{number}/instance_precision"], abs=1e-12)
    assert values["instance_recall"] == pytest.approx(golden[f"deepmar{number}/instance_recall"], abs=1e-12)
    assert values["instance_f1"] == pytest.approx(golden[f"deepmar{number}/instance_F1"], abs=1e-12)
    assert values["mean_accuracy"] == pytest.approx(golden[f"deepmar{number}/label_acc"].mean(), abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_accuracy_of_each_attribute_equals_the_authors(golden, number):
    labels, logits = golden_rules_metrics.attributes(number)

    each = attributes.label_accuracy(labels == 1, labels == 0, logits >= 0, np.ones(len(labels), np.int64))

    np.testing.assert_allclose(each, golden[f"deepmar{number}/label_acc"], rtol=0, atol=1e-12)


def test_a_logit_of_zero_is_positive():
    result = attributes.score(predicted([np.array([0.0, -1e-30])]), [np.array([1, 0])])

    assert result.values["instance_accuracy"] == 1


def test_an_unknown_label_counts_neither_way():
    logits = np.array([1.0, 1.0, -1.0])

    result = attributes.score(predicted([logits]), [np.array([1, attributes.UNKNOWN, attributes.UNKNOWN])])

    # found and not labelled: one of two
    assert result.values["instance_precision"] == 0.5
    assert result.values["instance_recall"] == 1
    assert result.hits["answers"].tolist() == [True]


def test_answers_stand_sample_by_sample():
    logits = np.array([[1.0, -1.0], [1.0, 1.0]])

    result = attributes.score(predicted(logits), [np.array([1, 1]), np.array([0, 1])])

    assert result.hits["answers"].tolist() == [True, False, False, True]


def test_wrong_labels_are_refused():
    with pytest.raises(DataError, match="b: labels are not 2 values"):
        attributes.score(predicted(np.zeros((2, 2))), [np.array([0, 1]), np.array([0, 3])], ["a", "b"])


def test_another_number_of_attributes_is_refused():
    with pytest.raises(DataError, match="a: 3 scores for 2 attributes"):
        attributes.score(predicted(np.zeros((1, 3))), [np.array([0, 1])], ["a"])


# ---------------------------------------------------------------- all


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


def test_every_metric_row_is_whole():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.title
        assert metric.unit in ("fraction", "images/s")


def test_the_cut_of_a_reference_lies_in_the_widest_gap_when_few_detections_are_sure():
    scores = np.array([0.4, 0.39, 0.38, 0.2, 0.19], np.float32)

    assert confident([scores], 0.5) == pytest.approx(0.38)


def test_the_cut_of_a_sure_reference_is_the_given_one():
    assert confident([np.array([0.9, 0.8, 0.1])], 0.5) == 0.5
