"""Attribute metrics are the authors', and a set that does not fit is refused."""

import numpy as np
import pytest
from metrics_logits import predicted

from harness.errors import DataError
from harness.metrics import attributes
from harness.reference import golden as rules


@pytest.mark.parametrize("number", [0, 1, 2])
def test_attribute_metrics_equal_the_authors(golden, number):
    labels, logits = rules.attributes(number)

    values = attributes.score(predicted(logits), labels).values

    assert values["instance_accuracy"] == pytest.approx(golden[f"deepmar{number}/instance_acc"], abs=1e-12)
    assert values["instance_precision"] == pytest.approx(golden[f"deepmar{number}/instance_precision"], abs=1e-12)
    assert values["instance_recall"] == pytest.approx(golden[f"deepmar{number}/instance_recall"], abs=1e-12)
    assert values["instance_f1"] == pytest.approx(golden[f"deepmar{number}/instance_F1"], abs=1e-12)
    assert values["mean_accuracy"] == pytest.approx(golden[f"deepmar{number}/label_acc"].mean(), abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_accuracy_of_each_attribute_equals_the_authors(golden, number):
    labels, logits = rules.attributes(number)

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


def test_a_set_without_a_positive_label_has_no_instance_metric():
    values = attributes.score(predicted(np.ones((2, 3))), [np.zeros(3, int)] * 2).values

    assert all(np.isnan(values[f"instance_{name}"]) for name in ("accuracy", "precision", "recall"))


def test_a_reference_that_finds_none_of_the_labels_has_an_f1_of_nothing():
    values = attributes.score(predicted([np.array([-1.0, 1.0])]), [np.array([1, 0])]).values

    assert (values["instance_precision"], values["instance_recall"], values["instance_f1"]) == (0, 0, 0)


def test_the_references_positive_logits_are_its_labels():
    truth = attributes.truth_from_reference(predicted([np.array([-1.0, 0.0, 2.0]), np.array([3.0, -0.1, -5.0])]))

    assert [labels.tolist() for labels in truth] == [[0, 1, 1], [1, 0, 0]]


def test_a_score_says_of_how_many_known_labels_it_is():
    result = attributes.score(predicted(np.ones((2, 3))), [np.array([1, 0, 2]), np.array([1, 2, 2])])

    assert result.samples == 2
    assert set(result.answers.values()) == {3}
    assert set(result.answers) == set(result.values)


@pytest.mark.parametrize(("place", "name"), [(1, "b"), (2, "c")])
def test_a_row_of_labels_unlike_the_first_is_named(place, name):
    labels = [np.array([0, 1])] * 3
    labels[place] = np.array([0, 1, 1])

    with pytest.raises(DataError, match=f"{name}: labels are not 2 values of 0, 1 or 2"):
        attributes.score(predicted(np.zeros((3, 2))), labels, ["a", "b", "c"])
