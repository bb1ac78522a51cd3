"""GFocalV2, ResNet-50 and FPN: objects of the 80 classes of COCO, as its authors and Ascend's ModelZoo run it.

Authors: implus/GFocalV2, a fork of mmdetection 2.6. The head scores 81 classes, of which the last has no meaning. As in
mmdetection, that class takes part in the suppression and counts among the best 100; it is dropped at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.arrays import boxes, images
from harness.case import Image, Predictions, Tensors
from harness.errors import UsageError
from harness.models.base import Frame, Model, Prepared, Protocol, Weights
from harness.models.outputs import checked

if TYPE_CHECKING:
    from torch import nn

F32 = np.float32
Floats = NDArray[np.float32]
STRIDES = (8, 16, 32, 64, 128)
CHANNELS, CLASSES = 81, 80
CELLS = 1000  # the best cells of a level that are decoded
SCORE, IOU, LIMIT = 0.05, 0.6, 100
SIZE = (800, 1216)
OUTPUTS = (*(f"score_{i}" for i in range(5)), *(f"bbox_{i}" for i in range(5)))

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # red, green, blue
TABLE = (
    (np.arange(256, dtype=F32) - np.array(MEAN, F32)[:, None]) / np.array(STD, F32)[:, None]
).astype(F32)  # fmt: skip


def preprocess(image: Image, raw: bool) -> Prepared:
    """The pre-processing of Ascend's ModelZoo: float32 (3, 800, 1216), RGB.

    The image is resized bilinearly to the largest size within 1216 x 800, cut to whole pixels, and padded with zeros
    right and below after normalisation. No byte corresponds to such a zero, so no chip can normalise. Raises UsageError
    for raw."""
    if raw:
        raise UsageError(
            "gfocalv2_r50_fpn cannot be fed raw pixels: its padding is zero after normalisation",
            hint="feed it float32, normalised on the host",
        )
    height, width = image.shape[:2]
    scale = min(SIZE[1] / width, SIZE[0] / height)
    tensor = _resized(image, (int(height * scale), int(width * scale)), SIZE)
    return Prepared(tensor, Frame(width, height, (scale, scale)))


def preprocess_authors(image: Image) -> Prepared:
    """The input of the authors' evaluation, float32 (3, H, W): the largest size within 1333 x 800 or 800 x 1333,
    rounded to whole pixels, with zeros right and below up to multiples of 32."""
    height, width = image.shape[:2]
    scale = min(1333 / max(height, width), 800 / min(height, width))
    content = int(height * scale + 0.5), int(width * scale + 0.5)
    tensor = _resized(image, content, (-(-content[0] // 32) * 32, -(-content[1] // 32) * 32))
    return Prepared(tensor, Frame(width, height, (float(F32(content[1] / width)), float(F32(content[0] / height)))))


def _resized(image: Image, content: tuple[int, int], size: tuple[int, int]) -> Floats:
    resized = images.letterbox(image, content, content, (0, 0), 0)
    height, width = content
    tensor = images.unwritten((3, *size), F32)
    tensor[:, height:] = 0
    tensor[:, :height, width:] = 0
    images.normalize(resized[..., ::-1], TABLE, out=tensor[:, :height, :width])
    return tensor


def candidates(
    scores: Sequence[Floats], logits: Sequence[Floats], size: tuple[int, int], threshold: float
) -> tuple[Floats, Floats]:
    """Boxes (n, 4) in pixels of the network's input, and their scores (n, 81), before suppression.

    `scores` holds (81, h, w) and `logits` (68, h, w) for each level. Each level gives its 1,000 best cells whose best
    score is above `threshold`; boxes are clipped to `size` = (height, width).
    """
    cells, sides, classes = [], [], []
    for stride, score, logit in zip(STRIDES, scores, logits, strict=True):
        _, height, width = score.shape
        score = score.reshape(CHANNELS, -1)
        best = boxes.best_cells(score.max(axis=0), CELLS, threshold)
        sides.append(boxes.integral(logit.reshape(4 * boxes.BINS, -1).take(best, axis=1)) * F32(stride))
        cells.append(boxes.points(height, width, stride).take(best, axis=0))
        classes.append(score.take(best, axis=1))
    (left, top, right, bottom), (x, y) = np.concatenate(sides, axis=1), np.concatenate(cells).T
    wide, high = F32(size[1]), F32(size[0])
    found = np.clip(np.stack((x - left, y - top, x + right, y + bottom)), 0, [[wide], [high], [wide], [high]])
    return np.ascontiguousarray(found.T), np.concatenate(classes, axis=1).T


def postprocess(outputs: Tensors, frame: Frame, size: tuple[int, int] = SIZE) -> Predictions:
    """Objects decoded from the network's raw heads and suppressed in float32, as the authors do on a CPU: at most 100,
    minus those of the class without meaning. Boxes are clipped to the canvas, as in Ascend's program; the authors clip
    to the picture. `size`: height and width of the canvas."""
    levels = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in STRIDES]
    shapes = [(CHANNELS, *level) for level in levels] + [(4 * boxes.BINS, *level) for level in levels]
    heads = checked(outputs, dict(zip(OUTPUTS, shapes, strict=True)))
    found, scores = candidates(heads[:5], heads[5:], size, SCORE)
    return _objects(*boxes.multiclass_nms(found, scores, SCORE, IOU, LIMIT), frame)


def postprocess_suppressed(outputs: Tensors, frame: Frame) -> Predictions:
    """Objects from an engine that ends in BatchMultiClassNMS. Its outputs, in their order, are rows x1, y1, x2, y2,
    score (100, 5) and labels (100,). Padding rows have a score of 0 and are left out."""
    names = list(outputs)
    rows, labels = checked(outputs, dict(zip(names, ((LIMIT, 5), (LIMIT,)), strict=False)))
    real = rows[:, 4] > 0
    return _objects(rows[real, :4], rows[real, 4], labels[real].astype(np.int64), frame)


def _objects(found: Floats, scores: Floats, labels: NDArray[np.int64], frame: Frame) -> Predictions:
    real = labels < CLASSES
    scale = np.array((*frame.scale, *frame.scale), F32)
    return {"boxes": found[real] / scale, "scores": scores[real], "labels": labels[real]}


def _network() -> nn.Module:
    from harness.models.networks.gfocalv2 import gfocalv2_r50_fpn

    return gfocalv2_r50_fpn()


R50_FPN = Model(
    name="gfocalv2_r50_fpn",
    title="GFocalV2, ResNet-50 FPN",
    task="objects",
    dataset="coco",
    input="input.1",
    outputs=OUTPUTS,
    network=_network,
    protocols=(
        Protocol(
            "ascend",
            SIZE,
            ("ascend310", "ascend310p", "t4", "cuda", "cpu"),
            preprocess,
            postprocess,
            normalize=None,
            postprocess_suppressed=postprocess_suppressed,
            suppressed_by_chip=("ascend310", "ascend310p"),
        ),
    ),
    weights=Weights(("gfocal_r50_fpn_1x.pth",), "https://drive.google.com/file/d/1wSE9-c7tcQwIDPC6Vm_yfOokdPfmYmy7"),
    scenes=26,  # two of each kind, 325 objects: when all are found again, a loss of 1 % is excluded
    heavy=True,
    batches=(1,),
)
