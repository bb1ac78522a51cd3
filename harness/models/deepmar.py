"""DeepMAR: 35 attributes of a pedestrian (PETA), as its authors and Ascend's ModelZoo run it.

Authors: dangweili/pedestrian-attribute-recognition-pytorch. An attribute is present when its logit is 0 or more. The
sigmoid is not needed; in float32 it would round tiny negative logits to a positive answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.arrays import images
from harness.backends.base import Normalize
from harness.case import Image, Predictions, Tensors
from harness.models.base import Frame, Model, Prepared, Protocol, Weights
from harness.models.outputs import checked

if TYPE_CHECKING:
    from torch import nn

SIDE = 224
ATTRIBUTES = 35
OUTPUT = "output1"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # red, green, blue, of ImageNet, for values 0..1

TABLE = (
    (np.arange(256, dtype=np.float32) / np.float32(255) - np.array(MEAN, np.float32)[:, None])
    / np.array(STD, np.float32)[:, None]
).astype(np.float32)

NORMALIZE = Normalize(tuple(255 * m for m in MEAN), tuple(255 * s for s in STD), "RGB")


def preprocess(image: Image, raw: bool) -> Prepared:
    """The image resized to 224 x 224 without keeping its aspect ratio, by Pillow's antialiased bilinear filter; RGB."""
    height, width = image.shape[:2]
    bgr = images.antialiased(image, SIDE, SIDE)
    frame = Frame(width, height, (SIDE / width, SIDE / height))
    return Prepared(images.rgb(bgr) if raw else images.normalize(bgr[..., ::-1], TABLE), frame)


def postprocess(outputs: Tensors, frame: Frame) -> Predictions:
    """{"logits": float32 (35,)}. Raises RunError (outputs.checked)."""
    (logits,) = checked(outputs, {OUTPUT: (ATTRIBUTES,)})
    return {"logits": logits}


def _network() -> nn.Module:
    from harness.models.networks.deepmar import deepmar

    return deepmar()


RESNET50 = Model(
    name="deepmar_resnet50",
    title="DeepMAR, ResNet-50",
    task="attributes",
    dataset="peta",
    input="actual_input_1",
    outputs=(OUTPUT,),
    network=_network,
    protocols=(
        Protocol(
            "ascend", (SIDE, SIDE), ("ascend310", "ascend310p", "t4", "cuda", "cpu"), preprocess, postprocess, NORMALIZE
        ),
    ),
    weights=Weights(("checkpoint.pth.tar",), "https://github.com/dangweili/pedestrian-attribute-recognition-pytorch"),
    scenes=32,
)
