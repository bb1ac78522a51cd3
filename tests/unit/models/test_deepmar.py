"""DeepMAR: pictures are prepared as the authors prepare them."""

import golden_rules_data as data
import pytest

from harness.models import deepmar


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
