"""A case and its id."""

import pytest

from harness import matrix
from harness.case import Case, Precision
from harness.errors import UsageError


def test_ids_read_back_as_their_case():
    for case in matrix.cases():
        assert Case.parse(str(case)) == case


@pytest.mark.parametrize("text", ["", "regnety_016-cpu-fp32", "regnety_016-cpu-fp8-bs1", "regnety_016-cpu-fp32-bs0"])
def test_what_is_no_id_is_refused(text):
    with pytest.raises(UsageError, match="is not a case"):
        Case.parse(text)


def test_an_id_names_model_chip_precision_and_batch():
    case = Case.parse("regnety_016-ascend310p-fp16-bs16")

    assert (case.model, case.chip, case.precision, case.batch) == ("regnety_016", "ascend310p", Precision.FP16, 16)
    assert str(case) == "regnety_016-ascend310p-fp16-bs16"


@pytest.mark.parametrize("text", ["a-b-fp32-bs01", "a-b-fp32-bs-1", "a-b-fp32-bs1 ", "a-b-c-fp32-bs1", "a-b-FP32-bs1"])
def test_nothing_but_an_id_is_taken_for_one(text):
    with pytest.raises(UsageError, match="is not a case") as caught:
        Case.parse(text)
    assert caught.value.hint == "write it like regnety_016-ascend310p-fp16-bs1"


def test_cases_are_sorted_by_their_batch_as_a_number():
    ids = ["a-b-fp32-bs16", "a-b-fp32-bs8", "a-b-fp16-bs64"]

    assert [str(case) for case in sorted(map(Case.parse, ids))] == [ids[2], ids[1], ids[0]]


def test_a_precision_reads_as_in_the_id():
    assert f"{Precision.INT8}" == str(Precision.INT8) == "int8"


def test_the_example_of_a_case_is_one():
    with pytest.raises(UsageError) as refused:
        Case.parse("regnety_016-cpu-fp32-b1")

    assert Case.parse(refused.value.hint.split()[-1]) in matrix.cases()
