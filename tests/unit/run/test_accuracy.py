"""Chip and reference are scored on the same images, and what limits their figures is said."""

from dataclasses import replace

import numpy as np
import pytest

from harness.case import Case
from harness.datasets.base import Dataset, Sample
from harness.errors import DataError, InvalidMeasurement
from harness.judge.sampled import Sampled
from harness.run.accuracy import check_apart, evaluate, marks_of
from harness.run.predict import Answers

CASE = Case.parse("regnety_016-cpu-fp32-bs1")


def classes(*numbers):
    """Answers of a classifier that is sure of these."""
    return [{"logits": np.eye(1000, dtype=np.float32)[number]} for number in numbers]


def dataset(truth, kind="whole"):
    samples = [Sample(f"n{i}", lambda: None) for i in range(len(truth))]
    return Dataset("imagenet", kind, samples, len(truth), truth, "digest", note="none")


WHOLE = dataset([1, 2, 3, 4])


def judged(found, reference, data=WHOLE, answered=WHOLE, limit=None, seeded=False, kept=False, whole=None):
    answers = Answers(answered, found, 2.0, kept)
    other = [{name: np.float32(0.9) * value for name, value in one.items()} for one in reference]  # other last bits
    return evaluate(CASE, "classes", answers, other, data, whole or data, Sampled(), seeded, limit)


def test_scores_are_those_of_one_case():
    done = judged(classes(1, 2, 9, 9), classes(1, 2, 3, 9))
    other = replace(CASE, batch=4)

    assert done.check_of(CASE) is done
    with pytest.raises(DataError, match=r"regnety_016-cpu-fp32-bs4 would be judged by the answers of .*-fp32-bs1"):
        done.check_of(other)


def test_both_sides_are_scored_by_the_labels():
    done = judged(classes(1, 2, 9, 9), classes(1, 2, 3, 9))

    assert (done.chip.values["top1"], done.reference.values["top1"]) == (0.5, 0.75)
    assert done.images_per_second == 2.0
    assert done.marks == ()


def test_a_seeded_network_is_scored_by_what_the_reference_says():
    done = judged(classes(7, 7, 8, 9), classes(7, 7, 7, 7), seeded=True)

    assert (done.chip.values["top1"], done.reference.values["top1"]) == (0.5, 1.0)


def test_of_a_part_the_answers_of_its_own_images_are_scored():
    """By name, whatever the order; end to end is of all images that went through."""
    part = WHOLE.take([3, 1])

    done = judged(classes(9, 2, 9, 9), classes(9, 2, 9, 4), data=part)

    assert done.chip.hits["top1"].tolist() == [False, True]
    assert done.reference.values["top1"] == 1.0
    assert done.images_per_second == 2.0
    assert done.marks == ("partial",)


def test_a_missing_answer_is_an_error_and_no_lower_score():
    with pytest.raises(DataError, match=f"{CASE}: 3 answers for 4 images"):
        judged(classes(1, 2, 3), classes(1, 2, 3, 4))


@pytest.mark.parametrize(
    ("kind", "limit", "marks"),
    [
        ("whole", None, ()), ("partial", None, ("partial",)), ("scenes", None, ("scenes",)),
        ("whole", 4, ("limited",)), ("scenes", 1, ("scenes", "limited")),
    ],
)  # fmt: skip
def test_what_limits_a_figure_is_said(kind, limit, marks):
    assert marks_of(replace(WHOLE, kind=kind), limit) == marks


def test_answers_of_an_earlier_run_are_marked():
    assert judged(classes(1, 2, 3, 4), classes(1, 2, 3, 4), kept=True).marks == ("kept",)


def test_images_that_were_drawn_are_marked_and_are_of_the_kind_of_their_set():
    drawn = judged(classes(1, 2, 3, 4), classes(1, 2, 3, 4), data=WHOLE.take([0, 2]), whole=WHOLE)

    assert drawn.marks == ("sampled",)
    assert (drawn.facts["images"], drawn.facts["dataset_kind"]) == (2, "whole")
    assert drawn.facts["dataset_digest"] != WHOLE.digest


def test_a_record_says_which_images_were_looked_at():
    facts = judged(classes(1, 2, 3, 4), classes(1, 2, 3, 4)).facts

    assert facts == {
        "dataset": "imagenet", "dataset_kind": "whole", "dataset_digest": "digest", "images": 4, "dataset_note": "none",
        "end_to_end": 2.0,
    }  # fmt: skip


def test_a_reference_that_is_scored_in_the_place_of_the_chip_is_seen():
    answers = classes(1, 2, 3, 4)

    with pytest.raises(InvalidMeasurement, match="all 4000 numbers of the chip's answers equal the reference's"):
        evaluate(CASE, "classes", Answers(WHOLE, answers, 2.0, False), answers, WHOLE, WHOLE, Sampled(), False, None)


def test_a_few_numbers_may_be_the_references_in_every_bit():
    few = [{"logits": np.where(np.arange(12) == number, 1.0, -1.0)} for number in range(4)]
    done = evaluate(CASE, "attributes", Answers(WHOLE, few, 2.0, False), few, WHOLE, WHOLE, Sampled(), True, None)

    assert done.chip.values["instance_accuracy"] == 1.0


def test_images_that_were_calibrated_on_are_not_scored():
    check_apart(WHOLE.take([0, 1]), WHOLE.take([2, 3]))

    with pytest.raises(DataError, match="1 calibration images are scored as well, such as n1"):
        check_apart(WHOLE.take([0, 1]), WHOLE.take([1, 2]))
