"""GFocalV2 (Li et al., 2021) with ResNet-50 and FPN: raw heads, before integral, decoding and NMS."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from harness.models.networks.resnet import trunk

CLASSES = 81  # 80 of COCO, and one that the published head carries and never trained towards anything but 0
BINS = 17  # a side's distance is a distribution over 0..16 strides
STRIDES = (8, 16, 32, 64, 128)
CHANNELS = 256
TOP = 4  # most likely bins that the quality branch looks at


def gfocalv2_r50_fpn() -> nn.Module:
    """GFocalV2: (N, 3, H, W) -> five maps of scores (N, 81, h, w), then five of logits (N, 68, h, w).

    Levels have strides 8 .. 128. A score is sigmoid(class) * quality. Channel of a distance logit = side * 17 + bin,
    the sides being left, top, right, bottom."""
    return GFocalV2().eval()


class GFocalV2(nn.Module):
    """GFocalV2 with ResNet-50 and FPN: images (N, 3, H, W) to class scores and box distributions of five levels."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = trunk("layer2", "layer3", "layer4")
        self.neck = FPN()
        self.bbox_head = Head()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Five score maps (N, 81, h, w), then five distribution maps (N, 68, h, w), strides 8 to 128."""
        scores, logits = self.bbox_head(self.neck(list(self.backbone(images).values())))
        return (*scores, *logits)


class FPN(nn.Module):
    """Top-down pyramid of three levels; two coarser ones are convolved from its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(Conv(nn.Conv2d(width, CHANNELS, 1)) for width in (512, 1024, 2048))
        self.fpn_convs = nn.ModuleList(
            Conv(nn.Conv2d(CHANNELS, CHANNELS, 3, stride, padding=1)) for stride in (1, 1, 1, 2, 2)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Five maps of 256 channels, finest first, of the backbone's last three."""
        fine, middle, coarse = (lateral(m) for lateral, m in zip(self.lateral_convs, maps, strict=True))
        middle = middle + nn.functional.interpolate(coarse, size=middle.shape[2:], mode="nearest")
        fine = fine + nn.functional.interpolate(middle, size=fine.shape[2:], mode="nearest")
        levels = [conv(m) for conv, m in zip(self.fpn_convs, (fine, middle, coarse), strict=False)]
        for conv in self.fpn_convs[3:]:
            levels.append(conv(levels[-1]))
        return levels


class Head(nn.Module):
    """Two towers shared by all levels; a cell's quality is read from the shape of its distributions."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_convs = nn.ModuleList(Tower() for _ in range(4))
        self.reg_convs = nn.ModuleList(Tower() for _ in range(4))
        self.gfl_cls = nn.Conv2d(CHANNELS, CLASSES, 3, padding=1)
        self.gfl_reg = nn.Conv2d(CHANNELS, 4 * BINS, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in STRIDES)
        self.reg_conf = nn.Sequential(
            nn.Conv2d(4 * (TOP + 1), 64, 1), nn.ReLU(inplace=True), nn.Conv2d(64, 1, 1), nn.Sigmoid()
        )
        self.integral = Integral()

    def forward(self, levels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Scores and distributions of each level."""
        pairs = [self.level(level, scale) for level, scale in zip(levels, self.scales, strict=True)]
        return [scores for scores, _ in pairs], [logits for _, logits in pairs]

    def level(self, level: Tensor, scale: nn.Module) -> tuple[Tensor, Tensor]:
        """Scores (N, 81, h, w) and distributions (N, 68, h, w) of one level."""
        classes, sides = level, level
        for conv in self.cls_convs:
            classes = conv(classes)
        for conv in self.reg_convs:
            sides = conv(sides)
        logits = scale(self.gfl_reg(sides))
        return self.gfl_cls(classes).sigmoid() * self.quality(logits), logits

    def quality(self, logits: Tensor) -> Tensor:
        """(N, 68, h, w) -> (N, 1, h, w) in 0..1, of each side's four largest probabilities and their mean."""
        batch, _, height, width = logits.shape
        # bins last: chips sort along the last axis
        bins = logits.reshape(batch, 4, BINS, height, width).permute(0, 3, 4, 1, 2).softmax(4)
        top = bins.topk(TOP, dim=4).values
        statistics = torch.cat([top, top.mean(4, keepdim=True)], dim=4).flatten(3).permute(0, 3, 1, 2)
        quality: Tensor = self.reg_conf(statistics)
        return quality


class Candidates(nn.Module):
    """GFocalV2 and its decoding, up to NMS, for one image: what the BatchMultiClassNMS node of the Ascend export is
    fed, before the casts. (1, 3, H, W) -> boxes (m, 4) x1, y1, x2, y2 in pixels of the network's input, clipped to
    it, and scores (m, 81). m is the sum over levels of min(h * w, 1000)."""

    KEPT = 1000  # cells a level, the ones with the largest score in any class

    def __init__(self, network: GFocalV2) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (K, 4) in pixels and scores (K, 81) of the best places of all levels, for one image."""
        maps = self.network(images)
        levels = zip(STRIDES, maps[: len(STRIDES)], maps[len(STRIDES) :], strict=True)
        found = [self.level(stride, scores, logits) for stride, scores, logits in levels]
        boxes, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
        height, width = images.shape[2:]
        x = boxes[:, 0::2].clamp(0, int(width))
        y = boxes[:, 1::2].clamp(0, int(height))
        return torch.stack([x, y], dim=2).flatten(1), scores

    def level(self, stride: int, scores: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes and scores of the best places of one level."""
        height, width = (int(side) for side in scores.shape[2:])
        rows = scores[0].permute(1, 2, 0).reshape(-1, CLASSES)
        bins = logits[0].permute(1, 2, 0).reshape(-1, 4, BINS)
        # points are the cells' top left corners; the anchors of this head are centred there
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        points = (torch.stack([x, y], dim=2).reshape(-1, 2) * stride).float()
        if height * width > self.KEPT:
            best = rows.amax(1).topk(self.KEPT).indices
            rows, bins, points = rows[best], bins[best], points[best]
        sides = self.network.bbox_head.integral(bins) * stride
        return torch.cat([points - sides[:, :2], points + sides[:, 2:]], dim=1), rows


class Conv(nn.Module):
    """A convolution under the name `conv`, which is all that is left of the authors' module without norm."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, maps: Tensor) -> Tensor:
        """Convolution, group norm, ReLU."""
        out: Tensor = self.conv(maps)
        return out


class Tower(nn.Sequential):
    """One step of a tower: convolution, group norm, ReLU."""

    def __init__(self) -> None:
        conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        parts: list[tuple[str, nn.Module]] = [("conv", conv), ("gn", nn.GroupNorm(32, CHANNELS))]
        super().__init__(OrderedDict([*parts, ("activate", nn.ReLU(inplace=True))]))


class Scale(nn.Module):
    """A learnt factor, one a level."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, maps: Tensor) -> Tensor:
        """The maps times one learned factor."""
        return maps * self.scale


class Integral(nn.Module):
    """Holds the bin centres 0..16, which are in the published state dict; decoding sums bins against them."""

    project: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("project", torch.arange(BINS, dtype=torch.float32))

    def forward(self, logits: Tensor) -> Tensor:
        """Expected distance in strides: (..., 17) -> (...)."""
        return (logits.softmax(-1) * self.project).sum(-1)
