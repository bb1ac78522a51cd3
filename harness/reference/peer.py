"""Eager PyTorch as a backend: the peer of `cpu` and `intel_cpu`, timed in a worker by the loop that times the chip.

It is only loaded and run, never built or searched for. Its "engine" is a plain state dict of the model named in
`spec.options["model"]`. In a worker, a network too large for the memory fails one case only. PyTorch is imported when
the worker starts, timm after the first session: each import takes seconds, during which other processes work.
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

_rest = Thread(target=importlib.import_module, args=["timm"], daemon=True)  # timm imports torchvision


@contextmanager
def load(engine: Path, device: Device, spec: BuildSpec) -> Iterator[TorchSession]:
    """A session on the CPU of the model that `spec.options["model"]` names, as a backend loads an engine. It has run
    once, unless it is told the shapes of its outputs."""
    if _rest.ident is not None:
        _rest.join()  # no import may run while a session is measured
    with torch.inference_mode():
        yield TorchSession(torch, _network(spec.options["model"], engine), torch.device("cpu"), spec)
    if _rest.ident is None:
        _rest.start()


@lru_cache(maxsize=1)  # the batches of a model come one after the other
def _network(name: str, weights: Path) -> nn.Module:
    return eager.network(matrix.models()[name], weights)
