"""What was worked out by hand holds, and a program that decides the other way is seen."""

import numpy as np
import pytest

from harness import metrics
from harness.arrays import boxes
from harness.judge.golden import difference
from harness.metrics import changes, widerface
from harness.models import MODELS, gfocalv2, regnety, retinaface
from harness.reference import golden


def wrong(model):
    return [text for text in map(difference, golden.compared(model, MODELS[model].protocols[0])) if text]


FACES, OBJECTS, PEOPLE, CLASSES = "retinaface_mobilenet025", "gfocalv2_r50_fpn", "deepmar_resnet50", "regnety_016"


@pytest.mark.parametrize(
    ("model", "where", "part", "faulty", "seen"),
    [
        (FACES, retinaface, "above", lambda conf, least: np.flatnonzero(conf[:, 1] >= least), "faces at the score"),
        (FACES, widerface, "OVERLAP", 0.5001, "threshold at which a face is found"),
        (OBJECTS, boxes, "best_cells", lambda best, keep, least: np.flatnonzero(best >= least), "cells above"),
        (OBJECTS, gfocalv2, "IOU", 0.6001, "objects left at an overlap"),
        (OBJECTS, gfocalv2, "CLASSES", 81, "labels of suppressed objects"),
        (OBJECTS, changes, "_worth", lambda ours, theirs: np.ones((len(ours), len(theirs))), "share of objects"),
        (CLASSES, changes, "FAR", 50, "share of classes"),
        (CLASSES, metrics.topk, "ranks", lambda predictions, *_: np.zeros(len(predictions), int), "top 1 of classes"),
        (PEOPLE, metrics.attributes, "UNKNOWN", 3, "right answers beside an unknown label"),
        (PEOPLE, changes, "FEW", 8, "share of attributes"),
    ],
)
def test_a_program_that_decides_otherwise_is_seen(model, where, part, faulty, seen, monkeypatch):
    monkeypatch.setattr(where, part, faulty)
    if part == "UNKNOWN":
        monkeypatch.setattr(metrics.attributes, "_labels", lambda truth, names: np.stack(truth))

    assert any(text.startswith(seen) for text in wrong(model)), wrong(model)


def test_a_size_that_is_rounded_instead_of_cut_is_seen(monkeypatch):
    monkeypatch.setattr(regnety, "int", round, raising=False)
    assert wrong(CLASSES)[0].startswith("picture B, prepared")

    monkeypatch.setattr(gfocalv2, "int", round, raising=False)
    assert any(text.startswith("picture D, prepared") for text in wrong(OBJECTS))
