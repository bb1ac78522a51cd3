"""RegNetY-1.6GF (Radosavovic et al., 2020): timm's definition, for which the weights were published."""

from __future__ import annotations

from typing import Any

import timm
from torch import Tensor, nn


def regnety_016() -> nn.Module:
    """timm's `regnety_016`, random weights: (N, 3, H, W) -> (logits (N, 1000),)."""
    network: nn.Module = timm.create_model("regnety_016", pretrained=False)
    network.register_forward_hook(_as_tuple)  # as every network here; a wrapper would rename the keys
    return network.eval()


def _as_tuple(_network: nn.Module, _inputs: Any, logits: Tensor) -> tuple[Tensor]:
    return (logits,)
