"""Outputs of a user's file: floats within the tolerance, whole numbers equal."""

import numpy as np
import pytest

from harness.case import Precision
from harness.judge.own import judge_own

Y = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
LABELS = np.arange(400)


def judged(ours, wanted, precision=Precision.FP32, batch=4):
    return judge_own({"y": np.asarray(ours)}, {"y": np.asarray(wanted)}, precision, batch)


def test_equal_outputs_pass_whatever_their_kind_and_rank():
    for value in (Y, LABELS, np.float32(3.5), Y > 0, Y[0]):
        assert judged(value, value).outcome == "PASS"


@pytest.mark.parametrize("wrong", [Y * 1.5, Y[::-1], Y[:3], np.full_like(Y, np.nan)])
def test_wrong_floats_fail(wrong):
    assert judged(wrong, Y).outcome == "FAIL"


def test_one_wrong_row_of_the_batch_fails():
    wrong = Y.copy()
    wrong[2] = 0

    assert judged(wrong, Y).outcome == "FAIL"


@pytest.mark.parametrize(("differing", "precision", "wanted"), [
    (1, Precision.FP32, "FAIL"), (4, Precision.FP16, "PASS"), (5, Precision.FP16, "FAIL"),
])  # fmt: skip
def test_whole_numbers_are_equal_but_for_one_in_a_hundred_at_lower_precision(differing, precision, wanted):
    ours = LABELS.copy()
    ours[:differing] += 1

    verdict = judged(ours, LABELS, precision)

    assert verdict.outcome == wanted
    assert f"y: {differing} of 400 whole numbers differ" in verdict.text
    assert "number 0 is 1 for 0" in verdict.text, "the first of them"


def test_other_outputs_and_other_shapes_fail():
    assert judge_own({"z": Y}, {"y": Y}, Precision.FP32, 4).text == "outputs z instead of y"
    assert judged(LABELS[:3], LABELS).text == "y has shape (3,), the reference (400,)"


def test_wrong_labels_fail_beside_right_numbers():
    verdict = judge_own({"y": Y, "k": LABELS + 1}, {"y": Y, "k": LABELS}, Precision.FP32, 4)

    assert verdict.outcome == "FAIL"
    assert "k: 400 of 400" in verdict.text


@pytest.mark.parametrize(("batch", "wanted"), [(4, "FAIL"), (None, "PASS"), (5, "PASS")])
def test_rows_are_judged_by_themselves_only_where_they_are_the_batch(batch, wanted):
    """A wrong row of small numbers drowns in the others when all are judged as one."""
    right = Y.copy()
    right[2] = (1e-6, 2e-6, 3e-6)
    wrong = right.copy()
    wrong[2] = (3e-6, 2e-6, 1e-6)

    assert judged(wrong, right, batch=batch).outcome == wanted
