"""Outputs of a user's file: floats within the tolerance, whole numbers equal."""

import numpy as np
import pytest

from harness.case import Precision
from harness.errors import InvalidMeasurement
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


@pytest.mark.parametrize(("differing", "precision", "wanted", "allowed"), [
    (1, Precision.FP32, "FAIL", 0), (4, Precision.FP16, "PASS", 4), (5, Precision.FP16, "FAIL", 4),
])  # fmt: skip
def test_whole_numbers_are_equal_but_for_one_in_a_hundred_at_lower_precision(differing, precision, wanted, allowed):
    ours = LABELS.copy()
    ours[:differing] += 1

    verdict = judged(ours, LABELS, precision)

    assert verdict.outcome == wanted
    assert f"y: {differing} of 400 whole numbers differ (allowed {allowed})" in verdict.text
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


# ---------------------------------------------------------------- a reference in FP64

EXACT = np.random.RandomState(0).standard_normal((4, 50))
FP32, FP16 = Precision.FP32, Precision.FP16


def beside(ours, plain, exact=EXACT, precision=FP32):
    return judge_own({"y": ours}, {"y": exact}, precision, 4, {"y": plain})


def off(share, seed):
    """EXACT with that rms error."""
    noise = np.random.RandomState(seed).standard_normal(EXACT.shape)
    return (EXACT + share * noise * np.linalg.norm(EXACT) / np.linalg.norm(noise)).astype(np.float32)


def test_the_error_is_told_in_units_of_what_fp32_loses():
    verdict = beside(off(3e-5, 1), off(1e-5, 2))

    assert verdict.outcome == "PASS"
    assert verdict.details["units"] == pytest.approx(3, rel=0.2)
    assert "x the error of ONNX Runtime in FP32)" in verdict.text


@pytest.mark.parametrize(("chip", "wanted"), [(2e-2, "PASS"), (1.5e-1, "FAIL")])
def test_a_file_that_loses_much_in_fp32_allows_as_much_and_no_more(chip, wanted):
    """FP16 in the place of FP32 loses thousands of times as much; the tolerance of FP32 would fail both."""
    assert beside(off(chip, 1), off(1e-2, 2)).outcome == wanted
    assert judged(off(chip, 1), EXACT).outcome == "FAIL"


@pytest.mark.parametrize("chip", [1e-3, 1e-2])
def test_a_file_that_loses_little_in_fp32_has_the_tolerance_of_fp32(chip):
    assert beside(off(chip, 1), off(1e-7, 2)).outcome == "FAIL"


def test_an_output_that_loses_nothing_has_no_units():
    verdict = beside(EXACT.astype(np.float32), EXACT.astype(np.float32), EXACT.astype(np.float32).astype(np.float64))

    assert verdict.outcome == "PASS"
    assert "units" not in verdict.details


def test_a_whole_number_on_which_fp32_and_fp64_differ_may_be_either():
    wanted, plain = np.arange(9), np.arange(9)
    plain[3] = 7
    for at, value, outcome in ((3, 3, "PASS"), (3, 7, "PASS"), (3, 5, "FAIL"), (4, 7, "FAIL")):
        ours = np.arange(9)
        ours[at] = value

        assert beside(ours, plain, wanted).outcome == outcome


def test_an_empty_output_is_told_as_before():
    with pytest.raises(InvalidMeasurement, match="empty"):
        beside(np.zeros((4, 0)), np.zeros((4, 0)), np.zeros((4, 0)))


def test_an_empty_output_beside_others_has_the_shape_of_the_references():
    wanted = {"y": Y, "z": np.zeros((4, 0), np.float32)}

    verdict = judge_own(wanted, wanted, Precision.FP32, 4, wanted)

    assert (verdict.outcome, verdict.text.split("; ")[0]) == ("PASS", "z: empty, as the reference's")
    assert judge_own({**wanted, "z": np.zeros((4, 1), np.float32)}, wanted, Precision.FP32, 4).outcome == "FAIL"
    assert judge_own({**wanted, "y": 2 * Y}, wanted, Precision.FP32, 4).outcome == "FAIL"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_reference_that_is_not_finite_asks_for_other_inputs(bad):
    wanted = Y.copy()
    wanted[1, 2] = bad

    with pytest.raises(InvalidMeasurement, match=r"own y has 1 of 12 values that are NaN or infinite") as told:
        judged(Y, wanted)
    assert "--onnx-input NAME=LOW:HIGH" in told.value.hint


# ---------------------------------------------------------------- what FP16 and INT8 themselves cost


def rounding(ours, rounded, precision=FP16, exact=EXACT):
    plain = exact.astype(np.float32)
    return judge_own({"y": ours}, {"y": exact}, precision, len(exact), {"y": plain}, {"y": rounded})


@pytest.mark.parametrize(("precision", "outcome"), [(FP16, "PASS"), (Precision.INT8, "FAIL")])
def test_at_lower_precision_the_error_is_told_in_units_of_what_that_costs(precision, outcome):
    verdict = rounding(off(0.3, 1), off(0.1, 2), precision)

    assert verdict.outcome == outcome, "5 x the loss is allowed at FP16, 2 x at INT8"
    assert verdict.details["units"] == pytest.approx(3, rel=0.2)
    assert f"x the error of {str(precision).upper()} itself)" in verdict.text


def test_a_file_that_overflows_in_fp16_is_said_to():
    over = EXACT.astype(np.float32)
    over[1, 3] = np.inf

    verdict = rounding(over, over)

    assert verdict.outcome == "FAIL"
    assert verdict.text.endswith("FP16 itself makes y NaN or infinite in this file")
    assert "itself makes" not in rounding(over, off(0.1, 2)).text
    assert "itself makes" not in judge_own({"y": EXACT}, {"y": EXACT}, FP16, 4, {"y": over}).text


def test_an_output_of_another_shape_in_fp16_has_no_unit():
    verdict = rounding(off(0.001, 1), np.concatenate([EXACT, EXACT]))

    assert verdict.outcome == "PASS"
    assert ("units" in verdict.details, "itself)" in verdict.text) == (False, False)


def test_a_class_that_changes_in_fp16_itself_may_change():
    wanted, other = np.array([1, 2]), np.array([1, 3])

    assert rounding(other, other, exact=wanted).outcome == "PASS"
    assert rounding(other, wanted, exact=wanted).outcome == "FAIL"
