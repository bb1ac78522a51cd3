"""Outputs are held against the reference at the boundaries, and the texts explain."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from harness.baselines import load
from harness.case import Precision
from harness.errors import InvalidMeasurement
from harness.judge.numerics import (
    TOLERANCES,
    Loss,
    in_half,
    in_precision,
    judge_numerics,
    losses,
    tolerance_again,
    tolerance_of,
    within_engine,
)
from harness.vocabulary import Outcome

PASS, FAIL, INCONCLUSIVE, INVALID = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.INVALID
ANY_CELL = load().best("gfocalv2_r50_fpn", "t4")
FP32, FP16, BF16, INT8 = Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8


def tensors(batch=4, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "output0": rng.standard_normal((batch, 50, 4)).astype(np.float32),
        "output1": rng.uniform(0, 1, (batch, 50, 2)).astype(np.float32),
    }


def changed(outputs, name, at, value):
    copy = {key: array.copy() for key, array in outputs.items()}
    copy[name][at] = value
    return copy


@pytest.mark.parametrize("precision", list(Precision))
def test_equal_outputs_pass(precision):
    verdict = judge_numerics(tensors(), tensors(), precision)

    assert verdict.outcome is PASS
    assert verdict.details["largest"] == 0
    assert "cosine 1.000000" in verdict.text


def test_equal_outputs_pass_whatever_a_lab_asks():
    asked = {"cosine": 1 - 2**-53, "largest": 1e-300, "rms": 1e-300}
    verdict = judge_numerics(tensors(), tensors(), FP32, None, asked)

    assert (verdict.outcome, verdict.details["cosine"], verdict.details["rms"]) == (PASS, 1, 0)


@pytest.mark.parametrize(
    ("precision", "loss", "cosine", "largest", "rms"),
    [
        (INT8, Loss(0.04, 0.06), math.sqrt(1 - 0.08**2), 0.12, 0.08),  # twice the loss
        (FP16, Loss(0.001, 0.002), math.sqrt(1 - 0.005**2), 0.01, 0.005),  # five times
        (INT8, Loss(0.3, 0.6), 0.97, 0.5, 0.25),  # not more than of another engine
    ],
)
def test_an_engine_may_differ_from_itself_by_what_rounding_in_another_order_costs(
    precision, loss, cosine, largest, rms
):
    bounds = within_engine(precision, {"x": Loss(0.0, 0.0), "y": loss})

    assert bounds == pytest.approx({"cosine": cosine, "largest": largest, "rms": rms}, rel=1e-12)


@pytest.mark.parametrize(("precision", "loss"), [(FP32, {"x": Loss(1e-6, 1e-6)}), (INT8, {})])
def test_at_fp32_and_without_a_loss_an_engine_is_held_against_itself_as_against_another(precision, loss):
    assert within_engine(precision, loss) == {}


def test_all_that_a_verdict_rests_on_is_told():
    """By hand: the second row of y is off by 0.5 in one of two values of 1: 0.5 of the largest, 0.5 / sqrt(2) rms, and
    a cosine of 2.5 / sqrt(2 x 3.25)."""
    reference = {"x": np.ones((2, 2)), "y": np.ones((2, 2))}
    loss = {"x": Loss(0.1, 0.1), "y": Loss(0.1, 0.2)}
    verdict = judge_numerics(changed(reference, "y", (1, 0), 1.5), reference, FP32, loss)
    cosine, rms = 2.5 / math.sqrt(6.5), math.sqrt(0.125)

    assert verdict.text == (
        "cosine 0.980581, largest error 0.5, rms error 0.354 (3.54 x the error of PyTorch in this arithmetic); asked "
        "cosine >= 0.99999, largest error <= 0.001, rms error <= 0.0005; would pass with cosine >= 0.98058, largest "
        "error <= 0.5, rms error <= 0.36; worst of 2 outputs of 2 rows at fp32: y[1, 0] is 1.5, reference 1, rms error "
        "of that row 0.354"
    )
    figures = {"cosine": pytest.approx(cosine), "largest": 0.5, "rms": pytest.approx(rms)}
    differences = verdict.details.pop("differences")
    assert (differences["output"], differences["sample"]) == ("y", 1)
    assert verdict.details == {
        **figures, "tolerance": {"cosine": 0.99999, "largest": 1e-3, "rms": 5e-4}, "units": pytest.approx(rms / 0.1),
        "arithmetic_rms": 0.1, "loss": {"cosine": 0.1, "largest": 0.2, "rms": 0.1},
        "worst": {"output": "y", "element": [1, 0], "chip": 1.5, "reference": 1.0, **figures},
    }  # fmt: skip


@pytest.mark.parametrize(("share", "said"), [(0.099, True), (0.101, False)])
def test_a_row_is_misplaced_that_errs_a_tenth_as_much_against_another(share, said):
    """Rows at right angles err by sqrt(2) against each other; INT8 allows 0.25."""
    reference = {"y": np.array([[1.0, 0, 0], [0, 1, 0]])}
    chip = {"y": np.array([[0, 1, 0.0], [0, 1, 0]])}
    chip["y"][0, 2] = share * math.sqrt(2 / (1 - share**2))  # further away from both

    assert ("it holds what row 1 of y should" in judge_numerics(chip, reference, INT8).text) is said


def test_outputs_rounded_to_half_precision_pass_as_fp16_and_fail_as_fp32():
    reference = tensors()
    chip = {name: array.astype(np.float16).astype(np.float32) for name, array in reference.items()}

    assert judge_numerics(chip, reference, FP16).outcome is PASS
    assert judge_numerics({n: a * np.float32(1.002) for n, a in chip.items()}, reference, FP32).outcome is FAIL


def test_outputs_of_which_every_value_is_a_number_of_fp16_are_named():
    reference = tensors()
    rounded = {**reference, "output1": reference["output1"].astype(np.float16).astype(np.float32)}
    one = changed(rounded, "output1", (0, 0, 0), reference["output1"][0, 0, 0])

    assert in_half(rounded, reference) == "output1"
    assert in_half(one, reference) == in_half(reference, reference) == ""


def test_outputs_that_hold_whole_numbers_or_few_ones_are_not_narrow():
    whole, few = {"y": np.arange(64, dtype=np.float32)}, {"y": np.array([0.1], np.float32)}

    assert in_half(whole, whole) == ""
    assert in_half({"y": few["y"].astype(np.float16).astype(np.float32)}, few) == ""
    assert in_half({}, tensors()) == ""


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_a_dropped_row_fails_however_large_the_batch(batch):
    reference = tensors(batch)
    verdict = judge_numerics(changed(reference, "output1", batch - 1, 0.0), reference, FP16)

    assert verdict.outcome is FAIL
    assert f"output1[{batch - 1}, " in verdict.text
    assert verdict.details["cosine"] == 0


@pytest.mark.parametrize("batch", [4, 64])
def test_two_rows_that_changed_places_fail(batch):
    reference = tensors(batch)
    chip = changed(reference, "output0", [0, 1], reference["output0"][[1, 0]])

    assert judge_numerics(chip, reference, INT8).outcome is FAIL


@pytest.mark.parametrize("precision", list(Precision))
def test_a_row_in_the_wrong_place_is_named(precision):
    reference = tensors()
    noisy = reference["output0"] * np.float32(1 + 1e-4)
    repeated = judge_numerics(changed(reference, "output0", 3, noisy[2]), reference, precision)
    alike = {"boxes": reference["output0"], "scores": reference["output0"] + 9}
    exchanged = judge_numerics({"boxes": alike["scores"], "scores": alike["boxes"]}, alike, precision)
    elsewhere = judge_numerics(changed(reference, "output0", 3, 5 * noisy[2]), reference, precision)

    assert repeated.text.endswith("; it holds what row 2 of output0 should")
    assert re.search(r"boxes\[(\d), .*; it holds what row \1 of scores should$", exchanged.text)
    assert "it holds" not in elsewhere.text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_fails_and_is_named(value):
    reference = tensors(64)
    verdict = judge_numerics(changed(reference, "output1", (63, 7, 1), value), reference, INT8)

    assert verdict.outcome is FAIL
    assert "output1 has 1 of 6400 values not finite" in verdict.text
    assert "[63, 7, 1]" in verdict.text


def test_the_worst_element_is_named_with_both_values():
    reference = tensors()
    verdict = judge_numerics(changed(reference, "output0", (2, 31, 3), 77.5), reference, FP32)

    assert verdict.outcome is FAIL
    assert "output0[2, 31, 3] is 77.5, reference" in verdict.text
    assert verdict.details["worst"]["element"] == [2, 31, 3]
    how = verdict.details["differences"]
    assert (how["output"], how["sample"], how["plane"]) == ("output0", 2, [50, 4])
    assert [row for row, levels in enumerate(how["heat"]) if "5" in levels] == [25]  # of 50 rows in 40: row 31 of 50


@pytest.mark.parametrize(("off", "bin_"), [(3.0, -1), (-3.0, 0)])
def test_what_is_drawn_of_a_deviation_is_the_chips_value_less_the_references(off, bin_):
    wanted = tensors()
    at = (2, 17, 3)
    told = judge_numerics(changed(wanted, "output0", at, wanted["output0"][at] + off), wanted, FP16).details

    assert told["worst"]["element"] == list(at)
    assert [place for place, n in enumerate(told["differences"]["counts"]) if n == 1] == [bin_ % 41]
    assert (told["differences"]["output"], told["differences"]["sample"]) == ("output0", 2)


def test_no_cosine_is_more_than_one():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((300, 1, 7))

    seen = [judge_numerics({"y": 1.1 * row}, {"y": row}, FP32).details["cosine"] for row in rows]

    assert max(seen) == 1.0
    assert min(seen) > 1 - 1e-12


@pytest.mark.parametrize(
    ("precision", "asked"), [(FP16, (0.999, 1.5, 0.5)), (BF16, (0.979796, 0.6, 0.2)), (INT8, (0.97, 0.6, 0.25))]
)
def test_an_output_may_err_five_times_its_loss_at_fp16_and_twice_at_bf16_and_int8(precision, asked):
    told = tolerance_of(precision, Loss(0.1, 0.3))

    assert (told.largest, told.rms) == pytest.approx(asked[1:])
    assert told.cosine == pytest.approx(math.sqrt(1 - 0.5**2) if precision is FP16 else asked[0], abs=1e-6)
    assert tolerance_of(precision, None) == TOLERANCES[precision]


def test_the_worst_output_is_that_which_takes_most_of_its_own_limit():
    """x may err by 1 and errs by 0.9; y by 0.05 and errs by 0.04."""
    right = {"x": np.ones((1, 100)), "y": np.ones((1, 100))}
    chip = changed(changed(right, "x", (0, 7), 1.9), "y", (0, 9), 1.04)

    told = judge_numerics(chip, right, FP16, {"x": Loss(0.2, 0.2)}).details

    assert told["largest"] == pytest.approx(0.9)
    assert told["tolerance"]["largest"] == 1.0


def test_what_passes_has_no_differences_to_draw():
    assert "differences" not in judge_numerics(tensors(), tensors(), FP32).details


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_the_tolerance_that_would_have_passed_is_printed_and_would_have(precision, scale, monkeypatch):
    reference = tensors()
    noise = tensors(seed=9)
    chip = {n: (a + scale * noise[n]).astype(np.float32) for n, a in reference.items()}
    verdict = judge_numerics(chip, reference, precision)

    assert verdict.outcome is FAIL
    would = verdict.text.split("would pass with ")[1].split(";")[0]
    words = [float(word.rstrip(",")) for word in would.split() if word[0].isdigit() or word[:2] == "-0"]
    seen = [verdict.details[name] for name in ("cosine", "largest", "rms")]
    assert 0 <= seen[0] - words[0] < 1e-6, "nor is more than this given away"
    assert all(at <= said < 1.11 * at for at, said in zip(seen[1:], words[1:], strict=True))
    loose = replace(TOLERANCES[precision], cosine=words[0], largest=words[1], rms=words[2])
    monkeypatch.setitem(TOLERANCES, precision, loose)
    assert judge_numerics(chip, reference, precision).outcome is PASS


@pytest.mark.parametrize("precision", list(Precision))
def test_errors_are_judged_at_their_boundary(precision):
    reference = {"y": np.ones((1, 1000))}
    limit = TOLERANCES[precision].rms

    def at(error):
        return judge_numerics({"y": np.ones((1, 1000)) + error}, reference, precision).outcome

    assert at(0.999 * min(limit, TOLERANCES[precision].largest)) is PASS
    assert at(1.001 * limit) is FAIL


def off(rows, size=10_000, largest=0.0, rms=0.0):
    """(chip, reference) of that many rows, of which only the last is off: one value by `largest` of the largest, or all
    by `rms` of the root mean square."""
    reference = np.ones((rows, size))
    chip = reference.copy()
    chip[-1, 0] += largest
    chip[-1] += rms * np.where(np.arange(size) % 2, 1, -1)
    return {"y": chip}, {"y": reference}


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
    ("precision", "largest", "rms"),
    [(FP32, 1e-3, 5e-4), (FP16, 5e-2, 2e-2), (BF16, 4e-1, 1.6e-1), (INT8, 5e-1, 2.5e-1)],
)
def test_the_worst_row_is_held_to_these_tolerances(precision, largest, rms, rows):
    """The figures themselves: BF16 has an rms error of 4.6e-2 on RetinaFace, and is not FP16."""
    for name, limit in (("largest", largest), ("rms", rms)):
        under, over = (judge_numerics(*off(rows, **{name: times * limit}), precision) for times in (0.99, 1.01))

        assert under.outcome is PASS
        assert over.outcome is FAIL
        assert over.details[name] == pytest.approx(1.01 * limit, rel=1e-3)
        assert over.details["worst"]["element"][0] == rows - 1
    assert [TOLERANCES[p].cosine for p in (FP32, FP16, BF16, INT8)] == [0.99999, 0.999, 0.987, 0.97]


# what the arithmetic itself loses

LOSS = {"y": Loss(rms=0.01, largest=0.03), "z": Loss(rms=0.001, largest=0.2)}


def beside(rms, output="y", precision=FP16, loss=LOSS):
    """The verdict on outputs y and z of which one is off by an error of that size, orthogonal to the reference."""
    reference = {name: np.tile([1.0, 1.0], (1, 500)) for name in ("y", "z")}
    chip = {**reference, output: reference[output] + rms * np.tile([1.0, -1.0], (1, 500))}
    return judge_numerics(chip, reference, precision, loss)


@pytest.mark.parametrize(
    ("rms", "output", "expected"),
    [(0.0499, "y", PASS), (0.0501, "y", FAIL), (0.0199, "z", PASS), (0.0201, "z", FAIL)],
)
def test_an_output_may_err_so_many_times_what_its_arithmetic_costs_but_at_least_the_tolerance(rms, output, expected):
    assert beside(rms, output).outcome is expected


@pytest.mark.parametrize("loss", [0.36, 0.54, 3.0])
def test_an_output_of_zeros_or_of_a_quarter_of_its_size_fails_whatever_the_arithmetic_costs(loss):
    reference = {"y": np.tile([1.0, 0.2], (1, 500))}
    costs = {"y": Loss(loss, loss)}

    assert judge_numerics({"y": 0 * reference["y"]}, reference, INT8, costs).outcome is FAIL
    assert judge_numerics({"y": 0.29 * reference["y"]}, reference, INT8, costs).outcome is FAIL
    assert judge_numerics({"y": 0.31 * reference["y"]}, reference, INT8, costs).outcome is PASS


def test_the_error_in_units_of_the_arithmetic_is_told_and_on_record():
    verdict = beside(0.03)

    assert "(3 x the error of PyTorch in this arithmetic)" in verdict.text
    assert verdict.details["units"] == pytest.approx(3)
    assert verdict.details["arithmetic_rms"] == 0.01


def test_the_worst_output_is_the_nearest_to_its_own_limit():
    """Both are off by 0.03; z may lose 1e-3 of its cosine, y 1.25e-3."""
    reference = {name: np.tile([1.0, 1.0], (1, 500)) for name in ("y", "z")}
    chip = {name: value + 0.03 * np.tile([1.0, -1.0], (1, 500)) for name, value in reference.items()}

    verdict = judge_numerics(chip, reference, FP16, LOSS)

    assert verdict.details["tolerance"]["cosine"] == 0.999
    assert verdict.details["tolerance"]["rms"] == pytest.approx(0.02)


def test_the_worst_cosine_is_by_its_own_limit_too():
    """y is off by a little more than z, and may lose a quarter more of its cosine."""
    reference = {name: np.tile([1.0, 1.0], (1, 500)) for name in ("y", "z")}
    sign = np.tile([1.0, -1.0], (1, 500))
    chip = {name: reference[name] + off * sign for name, off in (("y", 0.031), ("z", 0.03))}

    verdict = judge_numerics(chip, reference, FP16, LOSS)

    assert verdict.details["tolerance"]["cosine"] == 0.999
    assert verdict.details["cosine"] == pytest.approx(1 / math.sqrt(1 + 0.03**2))


def test_fp32_is_told_in_units_and_judged_by_its_tolerance():
    loss = {name: Loss(1e-3, 1e-3) for name in "yz"}

    assert beside(1e-3, precision=FP32, loss=loss).outcome is FAIL
    assert beside(1e-3, precision=FP32, loss=loss).details["units"] == pytest.approx(1)


@pytest.mark.parametrize("rms", [0.001, 0.03, 0.06])
def test_the_tolerance_comes_out_again_of_the_record(rms):
    details = beside(rms).details

    assert vars(tolerance_again(FP16, details["loss"])) == details["tolerance"]
    assert tolerance_again(INT8, None) is TOLERANCES[INT8]


def test_a_loss_is_that_of_the_worst_image_and_none_where_it_is_not_finite():
    reference = {"y": np.array([[3.0, 4.0], [6.0, 8.0]]), "z": np.ones((2, 2))}
    rounded = {"y": np.array([[3.0, 4.5], [6.0, 8.0]]), "z": np.array([[1.0, np.inf], [1.0, 1.0]])}

    assert losses(rounded, reference) == {"y": Loss(rms=0.1, largest=0.125)}


def test_other_outputs_or_shapes_fail():
    reference = tensors()

    assert (
        "output0 instead of output0, output1" in judge_numerics({"output0": reference["output0"]}, reference, FP32).text
    )
    short = {name: array[:3] for name, array in reference.items()}
    verdict = judge_numerics(short, reference, FP32)
    assert verdict.outcome is FAIL
    assert "(3, 50, 4), the reference (4, 50, 4)" in verdict.text


def test_zeros_are_equal_to_zeros_and_to_nothing_else():
    zeros = {"y": np.zeros((2, 3))}

    assert judge_numerics(zeros, zeros, FP32).outcome is PASS
    verdict = judge_numerics({"y": np.full((2, 3), 1e-9)}, zeros, INT8)
    assert verdict.outcome is FAIL
    json.dumps(verdict.details, allow_nan=False)


@pytest.mark.parametrize("broken", [{}, {"y": np.full((1, 2), math.nan)}, {"y": np.zeros((0, 2))}])
def test_a_reference_that_is_no_reference_is_refused(broken):
    with pytest.raises(InvalidMeasurement):
        judge_numerics(broken, broken, FP32)


def test_an_output_that_is_all_zeros_in_the_reference_has_no_loss_and_its_record_is_json():
    reference = {"y": np.zeros((1, 4)), "z": np.ones((1, 4))}
    loss = losses({"y": np.full((1, 4), 1e-6), "z": np.ones((1, 4))}, reference)

    assert list(loss) == ["z"]
    verdict = judge_numerics({"y": np.ones((1, 4)), "z": np.ones((1, 4))}, reference, FP16, loss)
    assert verdict.outcome is FAIL
    json.dumps(verdict.details, allow_nan=False)


def test_each_figure_decides_alone_and_at_its_bound():
    right = {"y": np.random.default_rng(0).standard_normal((2, 50))}
    chip = {"y": right["y"] + 0.01 * np.random.default_rng(1).standard_normal((2, 50))}
    seen = judge_numerics(chip, right, FP32, None, dict(BOUNDLESS)).details
    assert 0.999 < seen["cosine"] < 1

    for figure, worse in (("cosine", 2.0), ("largest", 0.0), ("rms", 0.0)):
        at = judge_numerics(chip, right, FP32, None, {**BOUNDLESS, figure: seen[figure]})
        beyond = judge_numerics(chip, right, FP32, None, {**BOUNDLESS, figure: np.nextafter(seen[figure], worse)})
        assert (figure, at.outcome, beyond.outcome) == (figure, PASS, FAIL)


BOUNDLESS = {"cosine": -1.0, "largest": math.inf, "rms": math.inf}


def test_bounds_of_a_lab_take_the_place_of_single_figures():
    reference = {"y": np.tile([1.0, 1.0], (1, 500))}
    chip = {"y": reference["y"] + 0.418 * np.tile([1.0, -1.0], (1, 500))}
    loss = {"y": Loss(0.3, 0.3)}

    assert judge_numerics(chip, reference, INT8, loss).outcome is PASS
    assert judge_numerics(chip, reference, INT8, loss, {"cosine": 0.9}).outcome is PASS, "rms stays 2 x 0.3"
    assert judge_numerics(chip, reference, INT8, loss, {"rms": 0.4}).outcome is FAIL


def test_details_travel_as_json():
    verdicts = [
        judge_numerics(tensors(), tensors(), FP32),
        judge_numerics(changed(tensors(), "output0", 0, 0), tensors(), FP32),
    ]

    for verdict in verdicts:
        assert json.loads(json.dumps(verdict.details, allow_nan=False)) == verdict.details
        assert str(verdict).startswith(verdict.outcome.value + ": ")


@pytest.mark.parametrize(
    ("precision", "error", "wanted"),
    [(INT8, 0.1, PASS), (INT8, 0.004, INVALID), (FP16, 0.004, PASS), (FP16, 1e-6, INVALID), (BF16, 0.05, PASS),
     (BF16, 1e-6, INVALID), (FP32, 1.2e-7, PASS)],
)  # fmt: skip
def test_an_engine_more_exact_than_its_precision_computes_in_another(precision, error, wanted):
    """The arithmetic costs 0.15 in INT8, 0.04 in BF16, 0.005 in FP16. None is higher than FP32, however exact it is."""
    reference = tensors()
    chip = {name: value * np.float32(1 + error) for name, value in reference.items()}
    loss = dict.fromkeys(reference, Loss({INT8: 0.15, BF16: 0.04, FP16: 0.005, FP32: 3e-6}[precision], 0.2))

    verdict = in_precision(judge_numerics(chip, reference, precision, loss), precision)

    assert verdict.outcome is wanted
    assert (f"a higher precision than {precision}" in verdict.text) == (wanted is INVALID)
    assert in_precision(judge_numerics(chip, reference, precision), precision).outcome is PASS, "its loss is not known"


def test_a_failure_is_not_too_exact():
    reference = tensors()
    chip = {name: -value for name, value in reference.items()}
    loss = dict.fromkeys(reference, Loss(1e3, 1e3))

    assert in_precision(judge_numerics(chip, reference, FP16, loss), FP16).outcome is FAIL
