"""What verdicts rest on reads back as it was written, or not at all."""

import numpy as np
import pytest

from harness.case import Case
from harness.errors import DataError
from harness.metrics.base import Score
from harness.report.samples import read_answers, write_answers

CASE = Case.parse("regnety_016-cpu-fp32-bs1")


def score(*hits):
    return Score({"top1": float(np.mean(hits))}, len(hits), lambda weights: {}, {"top1": np.array(hits)})


@pytest.fixture
def line(tmp_path):
    found = [{"logits": np.eye(100, dtype=np.float32)[i]} for i in range(3)]
    return write_answers(tmp_path / "run", "case", CASE, "", found, score(True, True, False), score(True, False, True))


def test_who_was_right_and_the_five_best_classes_are_kept(tmp_path, line):
    arrays = read_answers(tmp_path, line)

    assert arrays["hits/top1/chip"].tolist() == [True, True, False]
    assert arrays["hits/top1/reference"].tolist() == [True, False, True]
    assert arrays["best5"].reshape(3, 5)[:, 0].tolist() == [0, 1, 2]
    assert line["file"] == "run/case.npz"


@pytest.mark.parametrize(
    ("change", "says"), [({"file": "run/none.npz"}, "cannot be read"), ({"sha256": "0"}, "changed")]
)
def test_answers_that_are_missing_or_others_are_refused(tmp_path, line, change, says):
    with pytest.raises(DataError, match=says):
        read_answers(tmp_path, {**line, **change})


def test_a_pickle_is_not_read(tmp_path, line):
    body = tmp_path / "run" / "case.npz"
    np.savez(body, evil=np.array([object()]))
    import hashlib

    changed = {**line, "sha256": hashlib.sha256(body.read_bytes()).hexdigest()}
    with pytest.raises(DataError, match="cannot be read"):
        read_answers(tmp_path, changed)
