"""What verdicts rest on reads back as it was written, or not at all."""

import hashlib
import os
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from harness.case import Case
from harness.errors import DataError
from harness.metrics.base import Score
from harness.report import samples
from harness.report.samples import read_answers, write_answers

CASE = Case.parse("regnety_016-cpu-fp32-bs1")


def score(*hits):
    return Score({"top1": float(np.mean(hits))}, len(hits), lambda weights: {}, {"top1": np.array(hits)})


def evaluated(found, chip, reference):
    """What of an Evaluation is kept."""
    return SimpleNamespace(case=CASE, task="classes", found=found, chip=chip, reference=reference)


@pytest.fixture
def line(tmp_path):
    found = [{"logits": np.eye(100, dtype=np.float32)[i]} for i in range(3)]
    run = evaluated(found, score(True, True, False), score(True, False, True))
    return write_answers(tmp_path / "run", "case", "", run)


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


def packed(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)


def test_what_hangs_explodes_or_is_damaged_is_refused(tmp_path, line, monkeypatch):
    monkeypatch.setattr(samples, "MOST", 1 << 16)
    packed(tmp_path / "bomb.npz", x=bytes(1 << 17))
    packed(tmp_path / "damaged.npz", x=bytes(range(256)))
    body = bytearray((tmp_path / "damaged.npz").read_bytes())
    body[31:60] = bytes(29)
    (tmp_path / "damaged.npz").write_bytes(body)
    (tmp_path / "cut.npz").write_bytes(b"PK\3\4")
    (tmp_path / "large.npz").write_bytes(bytes(1 << 17))
    os.mkfifo(tmp_path / "pipe.npz")
    with (tmp_path / "array.npz").open("wb") as alone:  # under that name it is no archive
        np.save(alone, np.zeros(3))

    for name in ("bomb", "damaged", "cut", "large", "pipe", "array"):
        path = tmp_path / f"{name}.npz"
        sha256 = "" if name == "pipe" else hashlib.sha256(path.read_bytes()).hexdigest()
        with pytest.raises(DataError, match=name):
            read_answers(tmp_path, {**line, "file": path.name, "sha256": sha256})


def test_a_pickle_is_not_read(tmp_path, line):
    body = tmp_path / "run" / "case.npz"
    np.savez(body, evil=np.array([object()]))

    changed = {**line, "sha256": hashlib.sha256(body.read_bytes()).hexdigest()}
    with pytest.raises(DataError, match="cannot be read"):
        read_answers(tmp_path, changed)
