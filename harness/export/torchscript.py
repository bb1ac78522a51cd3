"""PyTorch -> TorchScript, for the backend that runs PyTorch without the suite's code."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def trace(network: nn.Module, size: tuple[int, int], path: Path) -> None:
    """Write the network to `path`, traced on one image of `size` (height, width) in pixels. It runs at any batch."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, but only its files load without the suite's code
        traced = torch.jit.trace(network, torch.zeros(1, 3, *size))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, str(path))
