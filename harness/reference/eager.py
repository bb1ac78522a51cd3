"""Eager PyTorch on the CPU in FP32: the reference for the outputs of every chip, the peer of `cpu` and `intel_cpu`."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.case import Tensors
from harness.models.base import Model

if TYPE_CHECKING:
    from torch import nn

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def network(model: Model, weights: Path) -> nn.Module:
    """The model's network with the state dict at `weights`, in eval mode. Raises RuntimeError when its keys are not the
    model's."""
    import torch

    from harness.models.networks.undrawn import undrawn

    _keep_memory()
    made = undrawn(model.network)
    made.load_state_dict(torch.load(weights, weights_only=True), strict=True)
    return made.eval()


def outputs(network: nn.Module, names: Sequence[str], images: NDArray[np.float32]) -> Tensors:
    """Outputs of the network by name, in the order of `names`. `images` is float32 (N, 3, H, W)."""
    import torch

    with torch.inference_mode():
        made = network(torch.from_numpy(images))
    listed = [made] if isinstance(made, torch.Tensor) else list(made)
    return {name: np.ascontiguousarray(value.numpy()) for name, value in zip(names, listed, strict=True)}


def _keep_memory() -> None:
    """Keep freed memory in this process (glibc: mallopt(3)), where the C library supports it. Otherwise every large
    tensor of eager PyTorch is returned to the kernel and the next one is mapped page by page. A large network loses a
    third to half of its time that way, by a varying amount, and a chip would be compared with too slow a peer."""
    with suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
