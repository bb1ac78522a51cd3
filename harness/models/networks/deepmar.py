"""DeepMAR (Li et al., 2015): ResNet-50, one average pool, one linear layer to 35 pedestrian attributes."""

from __future__ import annotations

from torch import Tensor, nn

from harness.models.networks.resnet import trunk

ATTRIBUTES = 35  # PETA's
MAP = 7  # side of the last feature map of a 224 x 224 picture


def deepmar() -> nn.Module:
    """DeepMAR-ResNet50: (N, 3, 224, 224) -> (logits (N, 35),)."""
    return DeepMAR().eval()


class DeepMAR(nn.Module):
    """DeepMAR with ResNet-50: images (N, 3, 224, 224) to logits of 35 attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.base = trunk("layer4")
        self.classifier = nn.Linear(2048, ATTRIBUTES)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Logits (N, 35)."""
        # a fixed kernel, as in the Ascend export; the authors' dropout does nothing at inference
        pooled = nn.functional.avg_pool2d(self.base(images)["layer4"], MAP)
        return (self.classifier(pooled.flatten(1)),)
