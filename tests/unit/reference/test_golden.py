"""Golden answers: every protocol has some, the suite gives them, and a usual mistake does not."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from models_golden import every_protocol

from harness import metrics
from harness.arrays import boxes, images
from harness.judge.golden import difference, judge_golden
from harness.models import MODELS, gfocalv2, retinaface
from harness.reference import golden


def wrong(name, protocol=None):
    model = MODELS[name]
    found = golden.compared(name, protocol or model.protocols[0])
    return [text for text in map(difference, found) if text]


@every_protocol
def test_the_suite_gives_what_the_authors_gave(model, protocol):
    compared = golden.compared(model.name, protocol)

    assert len(compared) > 10
    assert judge_golden(compared).outcome == "PASS", wrong(model.name, protocol)


def test_a_model_of_ones_own_has_none():
    assert golden.compared("my_model", MODELS["regnety_016"].protocols[0]) == []


@pytest.mark.parametrize("name", MODELS)
def test_swapped_colours_are_seen(name):
    protocol = MODELS[name].protocols[0]
    swapped = replace(protocol, preprocess=lambda image, raw: protocol.preprocess(image[..., ::-1], raw))

    assert len(wrong(name, swapped)) >= 3


@pytest.mark.parametrize("name", ["deepmar_resnet50", "regnety_016"])
def test_a_filter_without_antialiasing_is_seen(name, monkeypatch):
    def plain(image, height, width, bicubic=False, side=None):
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC if bicubic else cv2.INTER_LINEAR)
        return resized if side is None else images.middle(resized, side)

    monkeypatch.setattr(images, "antialiased", plain)

    assert len(wrong(name)) >= 2


def test_another_threshold_is_seen(monkeypatch):
    monkeypatch.setattr(gfocalv2, "SCORE", 0.5)
    monkeypatch.setattr(retinaface, "SCORE", 0.5)

    assert wrong("gfocalv2_r50_fpn")
    assert wrong("retinaface_resnet50")


def test_another_suppression_is_seen(monkeypatch):
    monkeypatch.setattr(gfocalv2, "IOU", 0.5)
    monkeypatch.setattr(retinaface, "IOU", 0.5)

    assert wrong("gfocalv2_r50_fpn")
    assert wrong("retinaface_resnet50")


def test_boxes_cut_to_whole_pixels_are_seen(monkeypatch):
    sound = boxes.decode
    monkeypatch.setattr(boxes, "decode", lambda *given: np.float32(np.round(sound(*given), 2)))

    assert wrong("retinaface_mobilenet025")


def test_a_shifted_label_is_seen(monkeypatch):
    scorers = dict(metrics.SCORERS)
    sound = scorers["classes"]
    shifted = lambda found, truth, ids: sound(found, [(label + 1) % 1000 for label in truth], ids)  # noqa: E731
    monkeypatch.setitem(metrics.SCORERS, "classes", shifted)

    assert [text.split(":")[0] for text in wrong("regnety_016")] == [
        "top 1 of 60 answers", "top 5 of 60 answers",
        "top 1 of classes with one score", "top 5 of classes with one score"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("retinaface_mobilenet025", {"mean": (123.0, 117.0, 104.0)}),
        ("retinaface_resnet50", {"order": "RGB"}),
        ("deepmar_resnet50", {"std": (0.229, 0.224, 0.225)}),
        ("regnety_016", {"mean": (103.53, 116.28, 123.675)}),
    ],
)
def test_other_numbers_for_a_chip_that_normalises_are_seen(name, change):
    for protocol in MODELS[name].protocols:
        assert len(wrong(name, replace(protocol, normalize=replace(protocol.normalize, **change)))) == 1


@pytest.mark.parametrize("name", ["retinaface_mobilenet025", "deepmar_resnet50", "regnety_016"])
def test_pixels_and_normalised_pictures_that_differ_are_seen(name):
    for protocol in MODELS[name].protocols:

        def swapped(image, raw, protocol=protocol):
            sound = protocol.preprocess(image, raw)
            return sound if not raw else replace(sound, tensor=sound.tensor[..., ::-1])

        assert len(wrong(name, replace(protocol, preprocess=swapped))) >= 3


def test_faces_counted_in_another_way_are_seen(monkeypatch):
    monkeypatch.setattr("harness.metrics.widerface.OVERLAP", 0.4)

    assert [text.split(":")[0] for text in wrong("retinaface_resnet50")] == [
        "faces found by boxes that overlap by 0.54 and 0.43"
    ]


def test_a_mean_accuracy_of_positives_alone_is_seen(monkeypatch):
    from harness.metrics import attributes

    alone = lambda yes, no, positive, weights: (yes & positive).sum(0) / yes.sum(0)  # noqa: E731
    monkeypatch.setattr(attributes, "label_accuracy", alone)

    assert [text.split(":")[0] for text in wrong("deepmar_resnet50")] == [
        "mean_accuracy of answers 0", "mean_accuracy of answers 1", "mean_accuracy beside an unknown label"
    ]  # fmt: skip
