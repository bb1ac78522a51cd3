"""RegNetY: pictures are prepared as the authors prepare them."""

import numpy as np
import pytest

from harness.arrays import images
from harness.models import regnety
from harness.reference import golden as data


@pytest.mark.parametrize("picture", data.PICTURES)
@pytest.mark.parametrize(
    ("key", "make"),
    [
        ("regnet", lambda image: regnety.preprocess(image, False).tensor),
    ],
)
def test_preprocessing_has_the_authors_bits(key, make, picture, prepared):
    tensor = make(data.picture(picture))

    assert tensor.shape == tuple(prepared[f"{key}_{picture}/shape"])
    assert data.crc(tensor) == prepared[f"{key}_{picture}/crc32"]


def test_a_short_side_of_256_is_not_resampled():
    image = np.random.RandomState(4).randint(0, 256, (256, 300, 3), dtype=np.uint8)
    raw = regnety.preprocess(image, True).tensor

    np.testing.assert_array_equal(raw, images.middle(image, 224)[..., ::-1])
