"""What the chip answers: its batch and its variant."""

from types import SimpleNamespace

import numpy as np
import pytest

from harness.datasets.base import Dataset, Sample
from harness.models.base import Frame, Prepared
from harness.run.predict import alike, batch_of, found_by

MODEL = SimpleNamespace(input="image")


def images(count):
    samples = [Sample(str(i), lambda i=i: np.full((2, 2, 3), i, np.uint8)) for i in range(count)]
    return Dataset("numbers", "whole", samples, count, None, "digest")


def preprocess(image, raw):
    tensor = image if raw else image.transpose(2, 0, 1).astype(np.float32)
    return Prepared(tensor, Frame(2, 2, (1.0, 1.0)))


PROTOCOL = SimpleNamespace(
    preprocess=preprocess,
    postprocess=lambda outputs, frame: {"by": np.array([0]), "value": outputs["y"].ravel()[:1]},
    postprocess_suppressed=lambda outputs, frame: {"by": np.array([1]), "value": outputs["y"].ravel()[:1]},
)


@pytest.mark.parametrize(("raw", "shape", "dtype"), [(True, (2, 2, 3), np.uint8), (False, (3, 2, 2), np.float32)])
def test_a_batch_repeats_the_first_images_in_turn(raw, shape, dtype):
    batch = batch_of(images(9), lambda one: preprocess(one.read(), raw), 3, 7)

    assert (batch.shape, batch.dtype) == ((7, *shape), dtype)
    assert [row.max() for row in batch] == [0, 1, 2, 0, 1, 2, 0]


def test_a_set_smaller_than_what_is_asked_for_is_repeated_as_it_is():
    assert [row.max() for row in batch_of(images(2), lambda one: preprocess(one.read(), True), 5, 4)] == [0, 1, 0, 1]


@pytest.mark.parametrize("nms", [False, True])
def test_every_image_goes_through_the_session_and_the_variants_own_interpretation(nms):
    fed, done = [], []

    def run(inputs):
        (tensors,) = inputs.values()
        fed.append((list(inputs), tensors.dtype, len(tensors)))
        return {"y": tensors.astype(np.float32)}

    session = SimpleNamespace(run=run)
    prepared = (preprocess(one.read(), True) for one in images(5).samples)
    found = found_by(session, MODEL, PROTOCOL, prepared, 2, nms, done.append)

    assert fed == [(["image"], np.uint8, 2)] * 3
    assert [answer["value"].tolist() for answer in found] == [[0], [1], [2], [3], [4]]
    assert {int(answer["by"][0]) for answer in found} == {int(nms)}
    assert sum(done) == 5


def test_answers_are_alike_but_for_rounding():
    one = {"boxes": np.array([[0.0, 0.0, 10.0, 20.0]]), "scores": np.array([0.9])}

    assert alike(one, {name: value * 1.0005 for name, value in one.items()})
    assert not alike(one, {name: value * 1.01 for name, value in one.items()})
    assert not alike(one, {"boxes": np.zeros((0, 4)), "scores": np.zeros(0)})
    assert not alike(one, {"scores": one["scores"]})
