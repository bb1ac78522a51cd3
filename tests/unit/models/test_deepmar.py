"""DeepMAR: pictures are prepared as the authors prepare them."""

import numpy as np
import pytest

from harness.models import deepmar
from harness.reference import golden as data


@pytest.mark.parametrize("picture", data.PICTURES)
@pytest.mark.parametrize(
    ("key", "make"),
    [
        ("deepmar", lambda image: deepmar.preprocess(image, False).tensor),
        ("deepmar_up", lambda image: deepmar.preprocess(image, False).tensor),
    ],
)
def test_preprocessing_has_the_authors_bits(key, make, picture, prepared):
    tensor = make(data.picture(picture))

    assert tensor.shape == tuple(prepared[f"{key}_{picture}/shape"])
    assert data.crc(tensor) == prepared[f"{key}_{picture}/crc32"]


@pytest.mark.parametrize("size", [(1, 1), (448, 112), (100, 300)])
def test_a_person_is_resized_whatever_the_shape(size):
    """Nothing is cropped or padded: the frame has a scale for each side."""
    height, width = size
    frame = deepmar.preprocess(np.zeros((height, width, 3), np.uint8), True).frame

    assert frame.scale == (224 / width, 224 / height)
    assert (frame.left, frame.top) == (0, 0)


def test_a_grey_picture_is_its_level_less_the_mean_by_the_deviation():
    tensor = deepmar.preprocess(np.full((50, 20, 3), 51, np.uint8), False).tensor

    for plane, mean, std in zip(tensor, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True):
        assert plane.min() == plane.max() == pytest.approx((0.2 - mean) / std, abs=1e-6)
