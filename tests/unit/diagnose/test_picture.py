"""A picture as a network is fed it: where the image lies, what its mean and deviation are, what moves with it."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from diagnose_tiny import IMAGES, MEAN, PROTOCOL, REFERENCE, SIDE, STD, canvas, content, gap_of, normalized, preprocess

from harness.diagnose import mistakes
from harness.diagnose.picture import picture
from harness.models import MODELS
from harness.models.base import Frame, Prepared


def letterboxed(image, raw, top=3, around=128.0, after=False):
    """In the middle of a grey canvas; with `after` the padding is zero after normalisation."""
    pixels = np.full((3, SIDE, SIDE), around)
    if image.shape[:2] == (SIDE, SIDE):
        return preprocess(image, raw)
    pixels[:, top : top + 18] = content(image).transpose(2, 0, 1)
    tensor = normalized(pixels)
    if after:
        tensor[:, :top] = tensor[:, top + 18 :] = 0
    return Prepared(tensor, Frame(66, 50, (24 / 66, 18 / 50), 0.0, float(top)))


def test_a_letterboxed_picture_is_moved_with_its_own_grey_around():
    seen = picture(replace(PROTOCOL, preprocess=letterboxed), IMAGES[0])

    assert seen.content == (0, 3, 24, 21)
    for left, top, at in ((0, 0, 0), (1, 1, 6), (0.5, 0.5, 3)):
        assert np.abs(seen.moved(left, top) - letterboxed(IMAGES[0], False, top=at).tensor).max() < 1e-5
    nearest = cv2.resize(IMAGES[0], (24, 18), interpolation=cv2.INTER_NEAREST)[..., ::-1].transpose(2, 0, 1)
    assert np.abs(seen.nearest(0.0)[:, 3:21] - normalized(nearest)).max() < 1e-5
    assert np.array_equal(seen.nearest(0.0)[:, :3], seen.tensor[:, :3])


def test_padding_that_no_pixel_stands_for_keeps_its_value():
    def padded_after(image, raw):
        return letterboxed(image, raw, top=0, after=True)

    seen = picture(replace(PROTOCOL, preprocess=padded_after, normalize=None), IMAGES[0])
    gap = replace(gap_of(REFERENCE), picture=seen)
    fed = [tensor for _, tensor in _tensors_fed("swapped channels", gap)]

    assert not fed[0][:, :, 18:].any()
    assert np.abs(fed[0][0, :, :18] - ((canvas(IMAGES[0])[::-1] - MEAN) / STD)[:, :18]).max() < 1e-4


def _tensors_fed(name, gap):
    """What a mistake feeds the reference."""
    mistake = next(mistake for mistake in mistakes.MISTAKES if mistake.name == name)
    return mistake.answers(replace(gap, run=lambda tensors: tensors))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_mean_and_std_are_seen_from_what_a_protocol_does(name):
    for protocol in MODELS[name].protocols:
        seen = picture(protocol, IMAGES[0])

        if protocol.normalize is not None:
            assert seen.mean.ravel() == pytest.approx(protocol.normalize.mean, abs=1e-3)
            assert seen.std.ravel() == pytest.approx(protocol.normalize.std, rel=1e-4)
            assert ("BGR" if seen.bgr else "RGB") == protocol.normalize.order
            raw = protocol.preprocess(IMAGES[0], True).tensor.transpose(2, 0, 1)
            assert np.abs(seen.pixels - raw).max() < 1e-3
        left, top, right, bottom = seen.content
        if protocol.normalize is None:
            outside = np.ones(protocol.size, bool)
            outside[top:bottom, left:right] = False
            assert not seen.tensor[:, outside].any(), "what lies outside of the picture is zero after normalisation"
