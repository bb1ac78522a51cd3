"""Eager PyTorch as a backend: the peer of the embedded chip, timed in a worker by the loop that times the chip.

It is loaded and run, never built or looked for: an "engine" is a plain state dict, whose model `spec.options["model"]`
names. A network too large for the memory costs one case. What models are made of is imported as the worker starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import timm  # noqa: F401
import torchvision  # noqa: F401
from torch import nn

from harness import eager, matrix
from harness.backends.base import BuildSpec, Device, TensorSpec, check
from harness.case import Tensors


@contextmanager
def load(engine: Path, device: Device, spec: BuildSpec) -> Iterator[_Session]:
    """The model of `spec.options`, as a backend loads an engine, run once on zeros: its outputs have shapes then, and
    it has most of its memory."""
    yield _Session(_network(spec.options["model"], engine), spec)


@lru_cache(maxsize=1)  # the batches of a model come one after the other
def _network(name: str, weights: Path) -> nn.Module:
    return eager.network(matrix.models()[name], weights)


class _Session:
    def __init__(self, network: nn.Module, spec: BuildSpec) -> None:
        (fed,) = spec.inputs
        self.inputs = (TensorSpec(fed.name, fed.dtype, (spec.batch, *fed.shape[1:])),)
        self._network = network
        self._names = spec.outputs
        self._fed = np.zeros(self.inputs[0].shape, np.float32)
        self.execute(1)
        self.outputs = tuple(TensorSpec(name, value.dtype.name, value.shape) for name, value in self._made.items())

    def write(self, inputs: Tensors) -> None:
        check(inputs, self.inputs, "input")
        self._fed = inputs[self.inputs[0].name].astype(np.float32)  # a copy: the worker's memory is not ours

    def execute(self, times: int = 1) -> None:
        self._made: Tensors = eager.outputs(self._network, self._names, self._fed, times)

    def read(self) -> Tensors:
        return dict(self._made)
