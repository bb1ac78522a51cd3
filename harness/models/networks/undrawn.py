"""Networks that are made to take a state dict: to draw their first weights takes longer than all the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

DRAW = {torch.Tensor.normal_, torch.Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_}


def undrawn(make: Callable[[], nn.Module]) -> nn.Module:
    """The network that `make` makes, without random weights: its state dict must be loaded strictly. One with tensors
    that no state dict has is made as usual, because these may be drawn, too."""
    with _Undrawn():
        made = make()
    kept = made.state_dict().keys()
    buffers = any(name not in kept for name, _ in made.named_buffers())
    plain = any(isinstance(value, torch.Tensor) for module in made.modules() for value in vars(module).values())
    return make() if buffers or plain else made


class _Undrawn(TorchFunctionMode):
    """A context in which random numbers are not drawn into tensors: these hold whatever lay in their memory."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if function in DRAW:
            return args[0] if args else given["tensor"]
        return function(*args, **given)
