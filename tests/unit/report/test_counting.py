"""A sentence of one reads as one of one, and finds its translation all the same."""

import pytest

from harness.report.counting import plural, singular


@pytest.mark.parametrize(
    ("several", "one"),
    [
        ("1 images are missing", "1 image is missing"),
        ("about 1 more images would decide", "about 1 more image would decide"),
        ("ran 0 of 1 cases: 3 SKIP", "ran 0 of 1 case: 3 SKIP"),
        ("1 verdicts flipped, 1 figures moved, 1 of them for the worse",
         "1 verdict flipped, 1 figure moved, 1 of them for the worse"),
        ("1 boxes, 1 batches, 1 classes", "1 box, 1 batch, 1 class"),
        ("1 records differ; 1 windows have none", "1 record differs; 1 window has none"),
    ],
)  # fmt: skip
def test_what_is_there_once_is_told_in_the_singular_and_back(several, one):
    assert singular(several) == one
    assert plural(one) == several


@pytest.mark.parametrize(
    "text",
    ["21 images", "0.1 images", "1.1 images/s", "1 images/s", "at batch 1 images", "1 of 5 images", "device 1 outputs",
     "1 to 5 windows", "1 ms", "from 1 on", "bs1 cases", "1,001 images", "10:1 images"],
)  # fmt: skip
def test_what_is_there_several_times_or_no_number_stays(text):
    assert singular(text) == text
    assert plural(text) == text
