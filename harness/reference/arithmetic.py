"""What a network loses by its arithmetic alone: eager PyTorch, each operator rounded as at that precision.

A chip's error is given in units of this loss. FP16 rounds weights, inputs and the result of every operator to 11 bits,
BF16 to 8; results of convolutions and matrix products are rounded only with what follows them (batch norm, bias,
activation), as engines do that fuse them. INT8 rounds what convolutions and matrix products multiply: weights to 8 bits
a channel, symmetric, and inputs to 8 bits a tensor, between the tensor's own least and largest value, which is what a
perfect calibration of that image gives (Jacob et al. 2018, arXiv:1712.05877, section 2). FP32 is compared with FP64.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.case import Precision, Tensors

if TYPE_CHECKING:
    import torch
    from torch import nn

IMAGES, IMAGES_OF_HEAVY = 2, 1  # images that the loss is taken from; a model that takes seconds an image has fewer


def outputs(network: nn.Module, names: Sequence[str], images: NDArray[np.float32], precision: Precision) -> Tensors:
    """Outputs by name of `network` (FP32) in the arithmetic of `precision`, FP64 for FP32. `images` is float32
    (N, 3, H, W); each image is run by itself."""
    import torch

    parts: list[list[torch.Tensor]] = []
    exact = precision is Precision.FP32
    used = network
    if exact:  # channels last takes an eighth longer in FP64, twice as long where convolutions are by channel
        used = copy.deepcopy(network).double().to(memory_format=torch.contiguous_format)
    with torch.inference_mode():
        for image in images:
            given = torch.from_numpy(image[None])
            if exact:
                made = used(given.double())
            else:
                with _rounding(precision):
                    made = used(given)
            parts.append([made] if isinstance(made, torch.Tensor) else list(made))
    return {name: torch.cat([part[place] for part in parts]).numpy() for place, name in enumerate(names)}


def _rounding(precision: Precision) -> Any:
    """A context in which PyTorch's operators round."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    aten = torch.ops.aten
    kind = {Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}.get(precision)
    # operator: (places of what is multiplied: input and weight; axis of the weight's output channels)
    products = {
        aten.conv2d.default: (0, 1, 0), aten.convolution.default: (0, 1, 0), aten.linear.default: (0, 1, 0),
        aten.addmm.default: (1, 2, 1), aten.mm.default: (0, 1, 1), aten.matmul.default: (0, 1, -1),
        aten.bmm.default: (0, 1, -1),
    }  # fmt: skip

    class Rounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, operator: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
        ) -> Any:
            given = list(args)
            if operator in products:
                first, second, axis = products[operator]
                if precision is Precision.INT8:
                    given[first], given[second] = to_eight_bits(given[first]), to_eight_bits(given[second], axis)
                else:
                    given = [_narrowed(value, kind) for value in given]
            result = operator(*given, **(kwargs or {}))
            if precision is Precision.INT8 or operator in products:
                return result
            if isinstance(result, (tuple, list)):
                return type(result)(_narrowed(value, kind) for value in result)
            return _narrowed(result, kind)

    return Rounding()  # type: ignore[no-untyped-call]


def _narrowed(value: Any, kind: torch.dtype | None) -> Any:
    """An FP32 tensor on the numbers that a narrower type has; anything else as it is."""
    import torch

    if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
        return value
    return value.to(kind).to(torch.float32)


def to_eight_bits(value: torch.Tensor, axis: int | None = None) -> torch.Tensor:
    """`value` on 256 levels between its extremes and 0; with `axis` on 255 levels around 0, for each place of it."""
    import torch

    if axis is None:
        low, high = min(float(value.min()), 0.0), max(float(value.max()), 0.0)
        step = (high - low) / 255 or 1.0
        return torch.fake_quantize_per_tensor_affine(value, step, round(-low / step), 0, 255)
    axis %= value.ndim
    others = [place for place in range(value.ndim) if place != axis]
    steps = (value.abs().amax(dim=others) / 127).clamp_min(1e-30)
    middle = torch.zeros(len(steps), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(value, steps, middle, axis, -127, 127)
