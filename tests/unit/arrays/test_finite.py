from __future__ import annotations

import numpy as np
import pytest

from harness.arrays.finite import not_finite


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [(0, 0, 0), (4, 0, 1), (4, 2, 6)])
def test_each_value_that_is_not_finite_is_counted(dtype, bad, at):
    values = np.ones((5, 3, 7), dtype)
    values[at] = bad
    assert not_finite(values) == 1

    values[2, 1] = bad
    assert not_finite(values) == 8


def test_infinities_that_cancel_are_counted():
    assert not_finite(np.array([np.inf, 1, -np.inf], np.float32)) == 2


@pytest.mark.parametrize("values", [
    np.full(1000, 65504, np.float16), np.full(9, 3e38, np.float32), np.array([1e308, 1e308, -1e308]),
    np.arange(6, dtype=np.int64).reshape(2, 3), np.array([True, False]), np.zeros((0, 3), np.float32), np.float32(2.5),
    np.ones((4, 6), np.float32)[:, ::2], np.full((3, 3), 127, np.int8),
])  # fmt: skip
def test_finite_values_are_never_counted_though_their_sum_overflows(values):
    assert not_finite(np.asarray(values)) == 0
