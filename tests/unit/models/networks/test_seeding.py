"""Seeded weights are the same every time, and make outputs that tell a mistake from rounding."""

import numpy as np
import pytest
import torch

from harness.datasets import scenes
from harness.models import MODELS
from harness.models.networks import seeding
from harness.reference import weights

FACES, CLASSES = MODELS["retinaface_mobilenet025"], MODELS["regnety_016"]


def prepared(model, indices):
    return [model.protocols[0].preprocess(scenes.draw(model.task, i), False).tensor for i in indices]


def run(model, state, images):
    network = model.network()
    network.load_state_dict(state, strict=True)
    with torch.inference_mode():
        return [output.numpy() for output in network(torch.from_numpy(np.stack(images)))]


def halved(state):
    return {key: value.half().to(value.dtype) for key, value in state.items()}


@pytest.fixture(scope="module")
def faces():
    return weights.seeded(FACES)


@pytest.fixture(scope="module")
def classes():
    return weights.seeded(CLASSES, prepared(CLASSES, range(2000, 2016)))


def test_seeded_weights_are_the_same_every_time(faces):
    again = weights.seeded(FACES)

    assert list(again) == list(FACES.network().state_dict())
    for key, value in faces.items():
        assert torch.equal(value, again[key]), key
        assert value.is_contiguous(), f"{key} is kept in the layout in which it was calibrated"


@pytest.mark.slow
def test_every_tensor_is_drawn_apart_and_finite(classes):
    drawn = [value for key, value in classes.items() if key.endswith("weight") and value.ndim > 1]

    assert all(value.isfinite().all() for value in classes.values())
    assert len({float(value.flatten()[0]) for value in drawn}) == len(drawn)


@pytest.mark.slow
def test_a_plausible_number_of_faces_is_seen_with_scores_of_every_height(faces):
    counts, scores = [], []
    for image in prepared(FACES, range(6)):
        score = run(FACES, faces, [image])[1][0, :, 1]
        counts.append(int((score > 0.02).sum()))
        scores.extend(score[score > 0.02])

    assert all(5 <= count <= 600 for count in counts), counts
    low, middle, high = np.quantile(scores, [0.25, 0.5, 0.9])
    assert low < 0.1 < middle < 0.5 < high, (low, middle, high)


@pytest.mark.slow
def test_classes_differ_from_picture_to_picture(classes):
    (logits,) = run(CLASSES, classes, prepared(CLASSES, range(12)))

    assert len(set(logits.argmax(1))) >= 7, logits.argmax(1)


@pytest.mark.slow
def test_a_third_of_the_attributes_is_positive_and_not_the_same_ones():
    model = MODELS["deepmar_resnet50"]
    state = weights.seeded(model, prepared(model, range(2000, 2012)))

    (logits,) = run(model, state, prepared(model, range(6)))

    positive = logits >= 0
    assert 0.2 < positive.mean() < 0.5
    assert len({row.tobytes() for row in positive}) == len(positive)


@pytest.mark.slow
def test_objects_of_many_classes_are_seen_and_the_81st_never():
    model = MODELS["gfocalv2_r50_fpn"]
    windows = [image[:, :224, :224] for image in prepared(model, range(2000, 2004))]
    state = weights.seeded(model, windows)

    outputs = run(model, state, [image[:, :224, :320] for image in prepared(model, range(2))])

    scores = np.concatenate([level.transpose(0, 2, 3, 1).reshape(2, -1, 81) for level in outputs[:5]], axis=1)
    cells = scores.shape[1]
    seen = scores > 0.05
    assert scores[:, :, 80].max() < 1e-6
    assert 1e-5 < seen.mean() < 1e-3, f"{seen.sum()} of {2 * cells * 81}"
    assert len(set(np.nonzero(seen)[2])) >= 8
    bins = np.concatenate([level.transpose(0, 2, 3, 1).reshape(-1, 17) for level in outputs[5:]])
    odds = np.exp(bins - bins.max(1, keepdims=True))
    sides = (odds / odds.sum(1, keepdims=True)) @ np.arange(17)
    assert 3 < sides.mean() < 6, "cells"
    assert sides.std() > 0.5


@pytest.mark.slow
def test_a_mean_off_by_one_grey_level_shows_and_half_precision_weights_do_not(faces, classes):
    images = prepared(CLASSES, range(10))
    (right,) = run(CLASSES, classes, images)

    (half,) = run(CLASSES, halved(classes), images)
    (mean,) = run(CLASSES, classes, [image + np.float32(1 / 255 / 0.229) for image in images])
    (swapped,) = run(CLASSES, classes, [image[::-1].copy() for image in images])

    error = {name: np.abs(other - right).mean() for name, other in (("half", half), ("mean", mean))}
    assert (half.argmax(1) == right.argmax(1)).mean() >= 0.9
    assert error["mean"] > 4 * error["half"], error
    assert (swapped.argmax(1) == right.argmax(1)).mean() < 0.3

    image = prepared(FACES, [0])
    score = run(FACES, faces, image)[1][0, :, 1]
    found = score > 0.02
    drift = {
        name: np.abs(run(FACES, state, [image[0] + np.float32(shift)])[1][0, found, 1] - score[found]).mean()
        for name, state, shift in (("half", halved(faces), 0), ("mean", faces, 1))
    }
    assert drift["half"] < 0.02
    assert drift["mean"] > 2 * drift["half"], drift


def test_a_window_sees_the_corners_and_the_middle_of_a_large_picture():
    side = seeding.WINDOW
    image = torch.arange(3.0 * (side + 10) * (side + 20)).reshape(1, 3, side + 10, side + 20)

    windows = seeding._windows(image.repeat(3, 1, 1, 1))

    assert windows.shape == (3, 3, side, side)
    assert torch.equal(windows[0], image[0, :, :side, :side])
    assert torch.equal(windows[1], image[0, :, 5:-5, 10:-10])
    assert torch.equal(windows[2], image[0, :, -side:, -side:])


def test_a_network_of_someone_else_gets_its_norms_settled_and_its_head_left():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten()).eval()
    images = torch.from_numpy(np.random.RandomState(0).standard_normal((4, 3, 8, 8)).astype(np.float32))

    state = seeding.calibrated("mine", "faces", network, images)

    with torch.inference_mode():
        fed = network[0](images)
    assert torch.allclose(state["1.running_mean"], fed.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(state["1.running_var"], fed.var((0, 2, 3)), rtol=1e-4)
