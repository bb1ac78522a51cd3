"""RegNetY-1.6GF: one of the 1,000 classes of ImageNet, as timm and Ascend's ModelZoo run it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.arrays import images
from harness.case import Image, Predictions, Tensors
from harness.models.base import Frame, Model, Prepared, Protocol, Weights
from harness.models.deepmar import NORMALIZE, TABLE
from harness.models.outputs import checked

if TYPE_CHECKING:
    from torch import nn

SHORT, SIDE = 256, 224
CLASSES = 1000
OUTPUT = "class"


def preprocess(image: Image, raw: bool) -> Prepared:
    """The central 224 x 224 of the image resized to a short side of 256 pixels (Pillow's antialiased bicubic; the long
    side is cut to whole pixels); RGB."""
    height, width = image.shape[:2]
    if width < height:
        new_height, new_width = int(SHORT * height / width), SHORT
    else:
        new_height, new_width = SHORT, int(SHORT * width / height)
    bgr = images.antialiased(image, new_height, new_width, bicubic=True, side=SIDE)
    top, left = images.corner(new_height, new_width, SIDE)
    frame = Frame(width, height, (new_width / width, new_height / height), -float(left), -float(top))
    return Prepared(images.rgb(bgr) if raw else images.normalize(bgr[..., ::-1], TABLE), frame)


def postprocess(outputs: Tensors, frame: Frame) -> Predictions:
    """{"logits": float32 (1000,)}. Raises RunError (outputs.checked)."""
    (logits,) = checked(outputs, {OUTPUT: (CLASSES,)})
    return {"logits": logits}


def _network() -> nn.Module:
    from harness.models.networks.regnety import regnety_016

    return regnety_016()


REGNETY_016 = Model(
    name="regnety_016",
    title="RegNetY-1.6GF",
    task="classes",
    dataset="imagenet",
    input="image",
    outputs=(OUTPUT,),
    network=_network,
    protocols=(
        Protocol(
            "ascend", (SIDE, SIDE), ("ascend310", "ascend310p", "t4", "cuda", "cpu"), preprocess, postprocess, NORMALIZE
        ),
    ),
    weights=Weights(
        ("regnety_016-54367f74.pth",),
        "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-regnet/regnety_016-54367f74.pth",
        md5="fb4fc8ffd7cbf1a209d66a5ca621b451",
    ),
    scenes=304,  # with none of 300 answers lost, 1 % is excluded
)
