"""Eager PyTorch as a backend: the peer of the embedded chip, timed in a worker by the loop that times the chip.

It is loaded and run, never built or looked for: an "engine" is a plain state dict, whose model `spec.options["model"]`
names. A network too large for the memory costs one case. What models are made of is imported as the worker starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import timm  # noqa: F401
import torch
import torchvision  # noqa: F401
from torch import nn

from harness import eager, matrix
from harness.backends.base import BuildSpec, Device
from harness.backends.torch_cuda import TorchSession


@contextmanager
def load(engine: Path, device: Device, spec: BuildSpec) -> Iterator[TorchSession]:
    """The model of `spec.options`, as a backend loads an engine, on the CPU: it has run once and has most of its
    memory."""
    with torch.inference_mode():
        yield TorchSession(torch, _network(spec.options["model"], engine), torch.device("cpu"), spec)


@lru_cache(maxsize=1)  # the batches of a model come one after the other
def _network(name: str, weights: Path) -> nn.Module:
    return eager.network(matrix.models()[name], weights)
