"""Loops compiled to machine code by numba. Its import takes most of a second: import modules with such loops late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Machine code for exactly the operations written: nothing is fused or put in another order. It runs without
    Python's lock. It is kept beside the function's file, or in the user's cache; where neither can be written, each
    process makes it anew."""

    def compile_(function: Callable[..., Any]) -> Callable[..., Any]:
        make: Any = njit(signature, nogil=True, error_model="numpy", cache=True)
        try:
            code: Callable[..., Any] = make(function)
        except RuntimeError:
            code = njit(signature, nogil=True, error_model="numpy")(function)
        return code

    return compile_
