"""Weights for an untrained network: drawn at random, then calibrated on pictures so that its answers vary.

Such a network is a stricter test than a trained one: few of its answers have a wide margin, so a wrong mean, swapped
channels or a lossy kernel change them. Convolutions are drawn as by He et al., batch norm takes the statistics of the
pictures, and the last layers are scaled and shifted until their outputs are distributed like a trained model's."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from harness.models.networks.gfocalv2 import BINS, GFocalV2
from harness.models.networks.retinaface import RetinaFace

# With these values rounding is not amplified from layer to layer until FP16 gives other answers, while a mean that is
# off by one grey level is still detected. Found by trial on the five models. Classes: FP16 changes 27 % of RegNetY's
# answers with branch 1 and bias 0, 2.6 % with 0.3 and 0.6, 1 % with these. Detectors have steeper scores: FP16 moves a
# score of RetinaFace-ResNet50 by 0.07 with 0.5 and 0.4, by 0.04 with these.
BRANCH, BIAS = 0.5, 0.4  # weight of a residual branch against its shortcut; mean bias: the larger, the fewer signs flip
DETECTOR_BRANCH, DETECTOR_BIAS = 0.3, 0.6
BIAS_WITHOUT_SHORTCUTS = 1.0
BRANCH_ENDS = ("bn3.weight", "conv3.bn.weight")  # the norm before the sum, as torchvision and timm name it
WINDOW = 416  # pixels: side of the windows on which a detector is calibrated

Settle: TypeAlias = Callable[[list[Any], list[list[Tensor]]], None]
"""A function that rescales the given layers; its second argument holds the inputs of every call of each layer."""


@torch.inference_mode()
def calibrated(name: str, task: str, network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """State dict of `network`, seeded by `name` and calibrated on (N, 3, H, W) prepared images. Equal arguments give
    equal weights; other releases of torch give other roundings of the calibration, which is run channels last, a sixth
    to a third quicker."""
    state = network.state_dict()
    detector = isinstance(network, RetinaFace | GFocalV2)
    branch, bias = (DETECTOR_BRANCH, DETECTOR_BIAS) if detector else (BRANCH, BIAS)
    if not any(key.endswith(BRANCH_ENDS) for key in state):
        bias = BIAS_WITHOUT_SHORTCUTS
    network.load_state_dict({key: drawn(name, key, old, branch, bias) for key, old in state.items()})
    if detector:
        images = _windows(images)
    settle, heads = _heads(network.to(memory_format=torch.channels_last), task)
    settle(heads, _settle_batch_norm(network, images, heads))
    plain = torch.contiguous_format
    return {key: value.clone(memory_format=plain) for key, value in network.state_dict().items()}


def drawn(name: str, key: str, old: Tensor, branch: float, bias: float) -> Tensor:
    """One entry of the state dict before calibration. The generator is NumPy's, seeded by model and key, so that every
    release of torch gives the same values."""
    kind = key.rsplit(".", 1)[-1]
    if not old.is_floating_point() or kind in ("running_mean", "running_var", "scale", "project"):
        return old
    random = np.random.Generator(np.random.Philox(zlib.crc32(f"{name}/{key}".encode())))
    values = random.standard_normal(tuple(old.shape))
    if old.ndim > 1:
        values *= math.sqrt(2 / math.prod(old.shape[1:]))
    elif kind == "bias":
        values = bias + 0.3 * values
    else:
        values = 1 + 0.1 * values
        if key.endswith(BRANCH_ENDS):
            values *= branch
    return torch.from_numpy(values.astype(np.float32))


def _windows(images: Tensor) -> Tensor:
    """A window of each picture: in turn its top left corner, its centre, and its bottom right corner with padding."""
    height, width = images.shape[2:]
    cuts = []
    for i, image in enumerate(images):
        top = max(0, height - WINDOW) * (i % 3) // 2
        left = max(0, width - WINDOW) * (i % 3) // 2
        cuts.append(image[:, top : top + WINDOW, left : left + WINDOW])
    return torch.stack(cuts)


def _settle_batch_norm(network: nn.Module, images: Tensor, heads: Sequence[nn.Module]) -> list[list[Tensor]]:
    """Give every batch norm the statistics of its input on these images, in one pass from first to last.

    Returns what each of `heads` was fed in that pass, once for every time it was called."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the plain mean over all inputs
        norm.reset_running_stats()
        norm.train()
    fed: dict[nn.Module, list[Tensor]] = {head: [] for head in heads}
    hooks = [head.register_forward_pre_hook(lambda module, given: fed[module].append(given[0])) for head in heads]
    network(images)
    for hook in hooks:
        hook.remove()
    for norm in norms:
        norm.eval()
    return [fed[head] for head in heads]


def _heads(network: nn.Module, task: str) -> tuple[Settle, list[Any]]:
    """(function that calibrates the last layers, the last layers). A plug-in's detector stays as drawn."""
    if isinstance(network, RetinaFace):
        return _faces, [*network.ClassHead, *network.BboxHead, *network.LandmarkHead]
    if isinstance(network, GFocalV2):
        return _objects, [network.bbox_head.gfl_cls, network.bbox_head.gfl_reg, network.bbox_head]
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    settle = {"classes": _classes, "attributes": _attributes}.get(task)
    return (settle, linear[-1:]) if settle and linear else (lambda heads, fed: None, [])


def _classes(heads: list[Any], fed: list[list[Tensor]]) -> None:
    """Give every logit mean 0 and standard deviation 3 over the pictures, so that no class is preferred."""
    logits = heads[0](fed[0][0])
    _rescale(heads[0], 3 / logits.std(0), logits.mean(0))


def _attributes(heads: list[Any], fed: list[list[Tensor]]) -> None:
    """Make every attribute positive on a third of the pictures; logits get a standard deviation of 2."""
    logits = heads[0](fed[0][0])
    _rescale(heads[0], 2 / logits.std(0), logits.quantile(2 / 3, dim=0))


def _faces(heads: list[Any], fed: list[list[Tensor]]) -> None:
    """Make a few priors in a thousand score above 0.02, some of them high; offsets get a standard deviation of 1."""
    for conv, (level,), share in zip([head.conv1x1 for head in heads[:3]], fed, (0.002, 0.006, 0.02), strict=False):
        logits = conv(level).movedim(1, 0).flatten(1)
        faceness = logits[1::2] - logits[0::2]  # rows: the two anchors of a cell
        low, high = faceness.quantile(torch.tensor([1 - share, 1 - share / 10]), dim=1)
        factor = (_logit(0.9) - _logit(0.02)) / (high - low)
        centre = torch.stack([torch.zeros(2), low - _logit(0.02) / factor], dim=1).flatten()
        _rescale(conv, factor.repeat_interleave(2), centre)
    for head, (level,) in zip(heads[3:], fed[3:], strict=True):
        offsets = head.conv1x1(level).movedim(1, 0).flatten(1)
        _rescale(head.conv1x1, 1 / offsets.std(1), offsets.mean(1))


def _objects(heads: list[Any], fed: list[list[Tensor]]) -> None:
    """Make one (cell, class) in 6,000 score above 0.05 and sides about four cells long; class 81 never scores."""
    classes, sides, head = heads

    def outputs(conv: nn.Module, levels: Sequence[Tensor]) -> Tensor:
        return torch.cat([conv(level).movedim(1, 0).flatten(1) for level in levels], dim=1)

    logits = outputs(sides, fed[1])
    factor = 1.5 / logits.std(1)
    wanted = (-((torch.arange(BINS) - 4.0) ** 2) / 12).repeat(4)
    _rescale(sides, factor, logits.mean(1) - wanted / factor)

    quality = head.reg_conf[2]
    seen: list[Tensor] = []
    hook = quality.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    for level in fed[1]:
        head.quality(sides(level))
    hook.remove()
    logits = outputs(quality, seen)
    _rescale(quality, 1 / logits.std(1), logits.mean(1) - 0.5 * logits.std(1))

    logits = outputs(classes, fed[0])
    _rescale(classes, 1 / logits.std(1), logits.mean(1))
    logits = torch.sort(outputs(classes, fed[0])[:-1].flatten(), descending=True).values
    low, high = logits[len(logits) // 6_000], logits[len(logits) // 80_000]
    factor = (_logit(0.8) - _logit(0.08)) / (high - low)
    _rescale(classes, factor, low - _logit(0.08) / factor)
    classes.weight[-1] = 0
    classes.bias[-1] = -20


def _rescale(layer: Any, factor: Tensor, centre: Tensor) -> None:
    """Change the layer so that its output becomes (output - centre) * factor, per channel or with one value for all."""
    layer.weight.mul_(factor.reshape(-1, *[1] * (layer.weight.ndim - 1)))
    layer.bias.sub_(centre).mul_(factor)


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))
