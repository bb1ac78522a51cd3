"""A case and its id."""

import pytest

from harness import matrix
from harness.case import Case
from harness.errors import UsageError


def test_ids_read_back_as_their_case():
    for case in matrix.cases():
        assert Case.parse(str(case)) == case


@pytest.mark.parametrize("text", ["", "regnety_016-cpu-fp32", "regnety_016-cpu-fp8-bs1", "regnety_016-cpu-fp32-bs0"])
def test_what_is_no_id_is_refused(text):
    with pytest.raises(UsageError, match="is not a case"):
        Case.parse(text)
