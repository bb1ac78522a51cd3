"""Antialiased resampling has Pillow's bytes, whatever array it is given."""

import numpy as np
import PIL.Image
import pytest

from harness.arrays import images


@pytest.mark.parametrize("method", ["BILINEAR", "BICUBIC"])
@pytest.mark.parametrize("size", [(683, 451), (40, 300), (300, 40), (224, 224), (100, 224), (1, 5), (5, 1)])
def test_antialiased_resizing_has_pillows_bytes(size, method):
    """Two calls fix the order: that of Pillow 13 depends on the shape, and results then differ by a level here and
    there."""
    image = np.random.RandomState(3).randint(0, 256, (*size, 3), dtype=np.uint8)
    filter_ = PIL.Image.Resampling[method]
    across = PIL.Image.fromarray(image).resize((224, size[0]), filter_)

    done = images.antialiased(image, 224, 224, bicubic=method == "BICUBIC")
    np.testing.assert_array_equal(done, np.asarray(across.resize((224, 224), filter_)))


def test_antialiased_resizing_takes_views_and_what_may_not_be_written():
    image = np.random.RandomState(3).randint(0, 256, (40, 30, 3), dtype=np.uint8)
    kept = image.copy()
    kept.flags.writeable = False

    expected = images.antialiased(image, 24, 24)
    np.testing.assert_array_equal(images.antialiased(kept, 24, 24), expected)
    np.testing.assert_array_equal(images.antialiased(image[..., ::-1], 24, 24), expected[..., ::-1])
