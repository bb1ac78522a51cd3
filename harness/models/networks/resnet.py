"""The ResNet-50 trunk of RetinaFace, DeepMAR and GFocalV2: torchvision's, without its classifier."""

from __future__ import annotations

from torch import nn


def trunk(*stages: str) -> nn.Module:
    """ResNet-50 v1.5 (stride on the 3x3 convolution) up to the last of `stages` ("layer1" .. "layer4").

    Called on (N, 3, H, W) it returns their outputs by name. Its 318 state-dict keys are those of the three
    published checkpoints. Weights are random; nothing is downloaded."""
    from torchvision.models import resnet50  # takes as long as PyTorch itself, and not every model needs it
    from torchvision.models._utils import IntermediateLayerGetter

    taps: nn.Module = IntermediateLayerGetter(resnet50(weights=None), {stage: stage for stage in stages})
    return taps
