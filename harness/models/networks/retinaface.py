"""RetinaFace (Deng et al., 2019) as published in biubug6/Pytorch_Retinaface, on either of two trunks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.models.networks.resnet import trunk


def mobilenet025() -> nn.Module:
    """RetinaFace on MobileNetV1-0.25: (N, 3, H, W) -> loc (N, n, 4), conf (N, n, 2), landm (N, n, 10).

    conf is after softmax; column 1 is the face."""
    return RetinaFace(MobileNetV1(), ("stage1", "stage2", "stage3"), (64, 128, 256), 64, slope=0.1).eval()


def resnet50(leaky_slope: float = 0.0) -> nn.Module:
    """RetinaFace on ResNet-50; inputs and outputs as above.

    The authors leak 0.1 in FPN and SSH up to 64 channels and 0 above, so the published weights want 0.0;
    0.1 is the variant that other exports of this network carry."""
    taps = ("layer2", "layer3", "layer4")
    return RetinaFace(trunk(*taps), taps, (512, 1024, 2048), 256, slope=float(leaky_slope)).eval()


class RetinaFace(nn.Module):
    """Trunk, FPN, one SSH context module a level, and three 1x1 heads a level.

    Rows of the outputs run over levels (strides 8, 16, 32), then y, x and the two anchors of a cell:
    n = 2 * sum(ceil(H / s) * ceil(W / s))."""

    def __init__(
        self, body: nn.Module, taps: tuple[str, ...], widths: tuple[int, ...], channels: int, slope: float
    ) -> None:
        super().__init__()
        self.taps = taps
        self.body = body
        self.fpn = FPN(widths, channels, slope)
        self.ssh1 = SSH(channels, slope)
        self.ssh2 = SSH(channels, slope)
        self.ssh3 = SSH(channels, slope)
        self.ClassHead = nn.ModuleList(Head(channels, 2) for _ in taps)
        self.BboxHead = nn.ModuleList(Head(channels, 4) for _ in taps)
        self.LandmarkHead = nn.ModuleList(Head(channels, 10) for _ in taps)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Box offsets (N, K, 4), class scores (N, K, 2) and landmarks (N, K, 10) of all K priors."""
        maps = self.body(images)
        levels = self.fpn([maps[tap] for tap in self.taps])
        levels = [ssh(level) for ssh, level in zip((self.ssh1, self.ssh2, self.ssh3), levels, strict=True)]

        def rows(heads: nn.ModuleList) -> Tensor:
            return torch.cat([head(level) for head, level in zip(heads, levels, strict=True)], dim=1)

        return rows(self.BboxHead), nn.functional.softmax(rows(self.ClassHead), dim=-1), rows(self.LandmarkHead)


class MobileNetV1(nn.Module):
    """MobileNetV1 at a quarter of its width; returns the maps of strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(
            nn.Sequential(*conv3x3(3, 8, 2), nn.LeakyReLU(0.1)),
            depthwise(8, 16, 1),
            depthwise(16, 32, 2),
            depthwise(32, 32, 1),
            depthwise(32, 64, 2),
            depthwise(64, 64, 1),
        )
        self.stage2 = nn.Sequential(depthwise(64, 128, 2), *(depthwise(128, 128, 1) for _ in range(5)))
        self.stage3 = nn.Sequential(depthwise(128, 256, 2), depthwise(256, 256, 1))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps of strides 8, 16 and 32, by stage."""
        stage1 = self.stage1(images)
        stage2 = self.stage2(stage1)
        return {"stage1": stage1, "stage2": stage2, "stage3": self.stage3(stage2)}


class FPN(nn.Module):
    """Top-down feature pyramid; the coarsest level is not merged."""

    def __init__(self, widths: tuple[int, ...], channels: int, slope: float) -> None:
        super().__init__()
        self.output1, self.output2, self.output3 = (
            nn.Sequential(*conv1x1(width, channels), nn.LeakyReLU(slope)) for width in widths
        )
        self.merge1 = nn.Sequential(*conv3x3(channels, channels), nn.LeakyReLU(slope))
        self.merge2 = nn.Sequential(*conv3x3(channels, channels), nn.LeakyReLU(slope))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Three maps of equal width, finest first."""
        fine, middle, coarse = self.output1(maps[0]), self.output2(maps[1]), self.output3(maps[2])
        # to the finer map's exact size, not twice the coarser: 63 -> 125 at 1000 pixels
        middle = self.merge2(middle + nn.functional.interpolate(coarse, size=middle.shape[2:], mode="nearest"))
        fine = self.merge1(fine + nn.functional.interpolate(middle, size=fine.shape[2:], mode="nearest"))
        return [fine, middle, coarse]


class SSH(nn.Module):
    """Receptive fields of 3, 5 and 7 side by side. The letter case of the names is the authors'."""

    def __init__(self, channels: int, slope: float) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.conv3X3 = nn.Sequential(*conv3x3(channels, half))
        self.conv5X5_1 = nn.Sequential(*conv3x3(channels, quarter), nn.LeakyReLU(slope))
        self.conv5X5_2 = nn.Sequential(*conv3x3(quarter, quarter))
        self.conv7X7_2 = nn.Sequential(*conv3x3(quarter, quarter), nn.LeakyReLU(slope))
        self.conv7x7_3 = nn.Sequential(*conv3x3(quarter, quarter))

    def forward(self, level: Tensor) -> Tensor:
        """Context of three window sizes, side by side."""
        shared = self.conv5X5_1(level)
        context = self.conv3X3(level), self.conv5X5_2(shared), self.conv7x7_3(self.conv7X7_2(shared))
        return nn.functional.relu(torch.cat(context, dim=1))


class Head(nn.Module):
    """1x1 convolution to `values` numbers for each of the two anchors of a cell, as rows."""

    def __init__(self, channels: int, values: int) -> None:
        super().__init__()
        self.values = values
        self.conv1x1 = nn.Conv2d(channels, 2 * values, 1)

    def forward(self, level: Tensor) -> Tensor:
        """One row for each prior: (N, h * w * 2, values)."""
        cells: Tensor = self.conv1x1(level).permute(0, 2, 3, 1)
        return cells.reshape(cells.shape[0], -1, self.values)


def conv3x3(wide: int, to: int, stride: int = 1, groups: int = 1) -> tuple[nn.Module, nn.Module]:
    """A 3x3 convolution and its batch norm."""
    return nn.Conv2d(wide, to, 3, stride, padding=1, groups=groups, bias=False), nn.BatchNorm2d(to)


def conv1x1(wide: int, to: int) -> tuple[nn.Module, nn.Module]:
    """A 1x1 convolution and its batch norm."""
    return nn.Conv2d(wide, to, 1, bias=False), nn.BatchNorm2d(to)


def depthwise(wide: int, to: int, stride: int) -> nn.Sequential:
    """Depth-wise 3x3, then 1x1: the block MobileNet is made of."""
    return nn.Sequential(
        *conv3x3(wide, wide, stride, groups=wide), nn.LeakyReLU(0.1), *conv1x1(wide, to), nn.LeakyReLU(0.1)
    )
