"""Each kind of a line is told what its values must be, and what no row names is left alone."""

import pytest

from harness.report.journal_lines import figure, wrong


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"kind": "header", "asked": 3, "resumes": ["a.jsonl"], "what": object()}, ""),
        ({"kind": "header", "asked": True}, ""),
        ({"kind": "header", "asked": -1}, "asked must be a count"),
        ({"kind": "header", "resumes": [".."]}, "resumes must be a list of file names"),
        ({"kind": "header", "resumes": ["a/b"]}, "resumes must be a list of file names"),
        ({"kind": "record", "values": {"a": None, "b": 1e99}}, ""),
        ({"kind": "record", "values": {"a": float("inf")}}, "values must be an object of numbers"),
        ({"kind": "record", "facts": {"attempt": None, "hint": 5}}, ""),
        ({"kind": "record", "facts": {"images": "many"}}, "images must be a number"),
        ({"kind": "record", "facts": []}, "facts must be an object"),
        ({"kind": ["record"], "values": 5}, ""),
        ({"values": 5}, ""),
    ],
)
def test_a_value_of_another_kind_is_named_with_what_it_must_be(line, said):
    assert wrong(line) == said


def test_a_figure_that_could_not_be_read_back_is_none_and_infinity_stays_for_the_journal_to_refuse():
    assert [figure(value) for value in (1e200, -1e200, 1e99, None, 3)] == [None, None, 1e99, None, 3]
    assert figure(float("inf")) == float("inf")
