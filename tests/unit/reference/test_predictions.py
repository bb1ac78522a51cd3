"""Images through a network: every image once and in order, whatever the batch, and answers packed without loss."""

from types import SimpleNamespace

import numpy as np
import pytest

from harness.datasets.base import Dataset, Sample
from harness.errors import DataError
from harness.models.base import Frame, Prepared
from harness.reference.predictions import pack, predict, raw_outputs, unpack


def images(count):
    """Pictures of one pixel, the number of the picture."""
    samples = [Sample(str(i), lambda i=i: np.full((1, 1, 3), i, np.uint8)) for i in range(count)]
    return Dataset("numbers", "whole", samples, count, None, "digest")


def prepared(dataset):
    for sample in dataset.samples:
        image = sample.read()
        yield Prepared(image[:, :, 0].astype(np.float32), Frame(int(image[0, 0, 0]), 1, (1.0, 1.0)))


def answered(outputs, frame):
    return {"found": outputs["y"].ravel(), "frame": np.array([frame.width])}


@pytest.mark.parametrize("batch", [1, 3, 4, 16])
def test_every_image_is_answered_once_and_in_order_with_its_own_frame(batch):
    fed, done = [], []

    def run(tensors):
        fed.append(tensors[:, 0, 0].tolist())
        return {"y": tensors * 10}

    found = list(predict(prepared(images(10)), run, answered, batch, done.append))

    assert [answer["found"].tolist() for answer in found] == [[10.0 * i] for i in range(10)]
    assert [int(answer["frame"][0]) for answer in found] == list(range(10))
    assert {len(group) for group in fed} == {batch}, "an engine is always given whole batches"
    assert sum(done) == 10


def test_the_last_batch_is_filled_up_with_its_last_image():
    fed = []
    list(predict(prepared(images(6)), lambda t: fed.append(t[:, 0, 0].tolist()) or {"y": t}, answered, 4))

    assert fed == [[0, 1, 2, 3], [4, 5, 5, 5]]


def test_an_image_that_cannot_be_read_ends_the_run_and_is_no_lower_score():
    dataset = images(6)
    broken = Sample("4", lambda: (_ for _ in ()).throw(DataError("4 is truncated", "copy it again")))
    samples = [*dataset.samples[:4], broken, dataset.samples[5]]

    with pytest.raises(DataError, match="4 is truncated"):
        list(predict(prepared(Dataset("n", "whole", samples, 6, None, "d")), lambda t: {"y": t}, answered, 2))


def test_what_cannot_be_interpreted_is_an_error_of_the_run():
    def interpret(outputs, frame):
        if frame.width == 3:
            raise ValueError("three")
        return answered(outputs, frame)

    with pytest.raises(ValueError, match="three"):
        list(predict(prepared(images(6)), lambda t: {"y": t}, interpret, 2))


def test_predictions_come_back_as_they_were_packed():
    boxes = [np.arange(4 * n, dtype=np.float32).reshape(n, 4) for n in (2, 0, 3)]
    before = [{"boxes": b, "scores": b[:, 0]} for b in boxes]

    after = unpack(pack(before))

    assert len(after) == 3
    for one, other in zip(before, after, strict=True):
        for name, value in one.items():
            np.testing.assert_array_equal(other[name], value)
            assert (other[name].dtype, other[name].shape) == (value.dtype, value.shape)
    assert unpack(pack([])) == []


def test_raw_outputs_are_of_one_image_at_a_time():
    """A network that looks at its whole batch would answer otherwise."""
    network = lambda x: (x - x.mean(dim=0, keepdim=True), x + 1)  # noqa: E731
    values = np.arange(6, dtype=np.float32).reshape(3, 2)

    found = raw_outputs(network, SimpleNamespace(outputs=("a", "b")), values)

    np.testing.assert_array_equal(found["a"], np.zeros((3, 2)))
    np.testing.assert_array_equal(found["b"], values + 1)
