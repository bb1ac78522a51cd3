"""Eager PyTorch as a backend: the peer of the embedded chip, timed in a worker by the loop that times the chip.

It is loaded and run, never built or looked for: an "engine" is a plain state dict, whose model `spec.options["model"]`
names. A network too large for the memory costs one case. PyTorch is imported as the worker starts, what some models are
made of when the first session is gone: each takes seconds, while others work.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Thread

import torch
from torch import nn

from harness import matrix
from harness.backends.base import BuildSpec, Device
from harness.backends.nvidia.torch_cuda import TorchSession
from harness.reference import eager

_rest = Thread(target=importlib.import_module, args=["timm"], daemon=True)  # which imports torchvision


@contextmanager
def load(engine: Path, device: Device, spec: BuildSpec) -> Iterator[TorchSession]:
    """The model of `spec.options`, as a backend loads an engine, on the CPU: it has run once and has most of its
    memory."""
    if _rest.ident is not None:
        _rest.join()  # nothing else goes on while a session is measured
    with torch.inference_mode():
        yield TorchSession(torch, _network(spec.options["model"], engine), torch.device("cpu"), spec)
    if _rest.ident is None:
        _rest.start()


@lru_cache(maxsize=1)  # the batches of a model come one after the other
def _network(name: str, weights: Path) -> nn.Module:
    return eager.network(matrix.models()[name], weights)
