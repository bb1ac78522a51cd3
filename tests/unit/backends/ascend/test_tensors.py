"""What an Ascend engine is fed, worked out by hand, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from ascend_tiny import NORMALIZE, spec

from harness.backends.ascend._tensors import checked, fed, shown
from harness.backends.base import TensorSpec
from harness.errors import RunError

TALL = replace(spec(batch=2), inputs=(TensorSpec("image", "float32", (-1, 3, 5, 7)),))


def test_floats_are_fed_as_the_graph_takes_them_at_the_batch_of_the_case():
    assert fed(TALL) == (TensorSpec("image", "float32", (2, 3, 5, 7)),)


def test_where_the_chip_normalises_it_is_fed_pixels_with_channels_last():
    assert fed(replace(TALL, normalize=NORMALIZE)) == (TensorSpec("image", "uint8", (2, 5, 7, 3)),)


def test_inputs_that_fit_come_back_as_arrays():

    arrays = checked({"image": np.ones((2, 3, 5, 7), np.float32)}, fed(TALL))

    assert list(arrays) == ["image"]
    assert arrays["image"].sum() == 210


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, r"the inputs are none, the engine takes image float32\[2, 3, 5, 7\]"),
        ({"picture": np.zeros((2, 3, 5, 7), np.float32)}, "the inputs are picture"),
        ({"image": np.zeros((2, 3, 5, 7))}, r"image float64\[2, 3, 5, 7\]"),
        ({"image": np.zeros((2, 3, 7, 5), np.float32)}, r"image float32\[2, 3, 7, 5\]"),
        ({"image": np.zeros((2, 3, 5, 7), np.float32), "more": np.zeros(1)}, r"more float64\[1\]"),
    ],
    ids=["none", "name", "dtype", "shape", "more"],
)
def test_inputs_of_another_name_type_or_shape_are_refused(inputs, words):
    with pytest.raises(RunError, match=words):
        checked(inputs, fed(TALL))


def test_tensors_are_shown_with_name_type_and_shape():
    assert shown([TensorSpec("a", "int64", (1, 2)), TensorSpec("b", "uint8", ())]) == "a int64[1, 2], b uint8[]"
