"""Top-k accuracies are the authors', and a set that does not fit is refused."""

import json

import numpy as np
import pytest
from metrics_logits import predicted

from harness.errors import DataError, RunError
from harness.metrics import topk
from harness.reference import golden as rules


def test_top_1_to_5_equal_the_authors(golden):
    logits, labels = rules.classes()
    printed = {entry["key"]: entry["value"] for entry in json.loads(str(golden["imagenet/json"]))["value"]}

    places = topk.ranks(predicted(logits), labels)

    for k in range(1, 6):
        assert f"{round(100 * float(np.mean(places < k)), 2)}%" == printed[f"Top{k} accuracy"]


def test_the_score_counts_right_answers():
    logits, labels = rules.classes()

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
    with pytest.raises(DataError, match=rf"a: label {label} is not 0\.\.999\n"):
        topk.score(predicted([np.zeros(1000, np.float32)]), [label], ["a"])


def test_nan_names_the_sample():
    logits = np.zeros((2, 1000), np.float32)
    logits[1, 7] = np.nan

    with pytest.raises(RunError, match="b: logits hold NaN"):
        topk.score(predicted(logits), [0, 0], ["a", "b"])


def test_a_prediction_without_logits_names_the_sample():
    with pytest.raises(RunError, match="a: the prediction has no logits"):
        topk.score([{"boxes": np.zeros((0, 4))}], [0], ["a"])


def test_the_references_best_class_is_its_label():
    logits = np.zeros((2, topk.CLASSES), np.float32)
    logits[0, 7], logits[1, 999] = 1, 2

    assert [int(label) for label in topk.truth_from_reference(predicted(logits))] == [7, 999]


def test_a_place_counts_larger_scores_and_equal_ones_before_it():
    logits = np.array([5, 7, 5, 9, 5, 8, 5], np.float32)
    found = [{"logits": logits}] * len(logits)

    assert topk.ranks(found, range(7), classes=7).tolist() == [3, 2, 4, 0, 5, 1, 6]
