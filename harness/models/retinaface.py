"""RetinaFace: faces in a picture, as its authors, Ascend's ModelZoo and Cambricon's MagicMind cloud run it.

Authors: biubug6/Pytorch_Retinaface. All three feed BGR minus (104, 117, 123), keep scores from 0.02 on and suppress at
an IoU of 0.4 with 1 added to widths and heights; they differ in the size of the input and in rounding.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.arrays import boxes, images
from harness.backends.base import Normalize
from harness.case import Image, Predictions, Tensors
from harness.errors import RunError
from harness.models.base import Frame, Model, Prepared, Protocol, Weights
from harness.models.outputs import checked

if TYPE_CHECKING:
    from torch import nn

F32 = np.float32
Floats = NDArray[np.float32]
MEAN = (104.0, 117.0, 123.0)  # blue, green, red
SCORE, IOU = 0.02, 0.4
OUTPUTS = ("output0", "output1", "output2")  # loc, conf (after softmax), landm

ASCEND = (1000, 1000)
MLU = (672, 1024)

TABLE = np.arange(256, dtype=F32) - np.array(MEAN, F32)[:, None]


def preprocess_ascend(image: Image, raw: bool) -> Prepared:
    """The image resized to a long side of 1000 pixels by nearest neighbour, padded to 1000 x 1000 right and below with
    black before the mean is subtracted; BGR."""
    height, width = image.shape[:2]
    scale = 1000.0 / max(height, width)
    canvas = images.nearest(image, scale, ASCEND)
    kept = float(F32(scale))  # the .info file holds the scale as float32
    return Prepared(canvas if raw else images.normalize(canvas, TABLE), Frame(width, height, (kept, kept)))


def preprocess_mlu(image: Image, raw: bool) -> Prepared:
    """The image centred in 672 x 1024 on grey 128, resized by area averaging when it shrinks and bilinearly when it
    grows; BGR."""
    height, width = image.shape[:2]
    scale, content, (top, left) = _mlu_layout(height, width)
    canvas = images.letterbox(image, content, MLU, (top, left), 128, area=bool(scale < 1))
    frame = Frame(width, height, (float(scale), float(scale)), float(left), float(top))
    return Prepared(canvas if raw else images.normalize(canvas, TABLE), frame)


def _mlu_layout(height: int, width: int) -> tuple[np.float32, tuple[int, int], tuple[int, int]]:
    """(scale, (height, width) of the content, (top, left)), computed in float32 like the C++ program."""
    scale = min(F32(MLU[0]) / F32(height), F32(MLU[1]) / F32(width))
    content = int(F32(height) * scale), int(F32(width) * scale)
    return scale, content, ((MLU[0] - content[0]) // 2, (MLU[1] - content[1]) // 2)


def preprocess_authors(image: Image, short: int | None = None, longest: int = 2150) -> Prepared:
    """float32 input of the authors' own evaluation: the picture as it is; or, with `short` = 1600, its short side so
    long, unless its long side would pass `longest` (bilinear on float32, whose last bits depend on OpenCV's build).
    """
    height, width = image.shape[:2]
    if short is None:
        return Prepared(images.normalize(image, TABLE), Frame(width, height, (1.0, 1.0)))
    import cv2

    scale = short / min(height, width)
    if round(scale * max(height, width)) > longest:
        scale = longest / max(height, width)
    grown = np.asarray(cv2.resize(image.astype(F32), None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR), F32)
    grown -= np.array(MEAN, F32)
    return Prepared(np.ascontiguousarray(grown.transpose(2, 0, 1)), Frame(width, height, (scale, scale)))


def postprocess(outputs: Tensors, frame: Frame, size: tuple[int, int]) -> Predictions:
    """Faces as the authors and Ascend find them; `size` is the height and width of the network's input."""
    loc, conf, landm = _checked(outputs, size)
    return faces(loc, conf, landm, size, frame.scale[0])


def faces(loc: Floats, conf: Floats, landm: Floats, size: tuple[int, int], scale: float) -> Predictions:
    """`boxes`, `scores` and `landmarks` (k, 5, 2) in pixels of the picture, neither clipped to it nor limited in
    number."""
    prior, candidates = boxes.priors(*size), above(conf, F32(SCORE))
    scores = conf.take(candidates, axis=0)[:, 1]
    # the authors sort twice, and each sort reverses equal scores: of these the first prior comes first
    order = np.argsort(-scores, kind="stable")
    candidates, scores = candidates.take(order), scores.take(order)
    pixels, divisor = np.array((size[1], size[0]), F32), F32(scale)
    with np.errstate(over="ignore"):
        found = boxes.decode(prior.take(candidates, axis=0), loc.take(candidates, axis=0))
        found = found * np.concatenate((pixels, pixels)) / divisor
    _finite(found)
    kept = boxes.survivors(found, IOU, extent=1)
    best = candidates.take(kept)
    with np.errstate(over="ignore"):
        landmarks = boxes.decode_landmarks(prior.take(best, axis=0), landm.take(best, axis=0)) * pixels / divisor
    return {"boxes": found.take(kept, axis=0), "scores": scores.take(kept), "landmarks": landmarks}


def above(conf: Floats, threshold: np.float32) -> NDArray[np.int64]:
    """Indices of the priors whose face score, the second of two in `conf` (n, 2), is above `threshold` >= 0.

    The bits of float32 numbers from 0 up have the same order as the numbers, and negative numbers are negative
    integers. Both scores are therefore compared as one int64 with the face score as the high half, which is twice as
    fast as a comparison of every second number."""
    if sys.byteorder == "big" or not conf.flags.c_contiguous:
        return np.flatnonzero(conf[:, 1] > threshold)
    bound = (int(threshold.view(np.int32)) << 32) + 0xFFFFFFFF
    return np.flatnonzero(conf.view(np.int64) > bound)


def postprocess_mlu(outputs: Tensors, frame: Frame) -> Predictions:
    """Faces as Cambricon's C++ program finds them: boxes are whole pixels before suppression, and one whose centre
    lies left of or above the picture is dropped. Also `landmarks` (k, 5, 2), whole pixels."""
    loc, conf, landm = _checked(outputs, MLU)
    prior = boxes.priors(*MLU)
    scale, _, (top, left) = _mlu_layout(frame.height, frame.width)
    side, pad = np.array((MLU[1], MLU[0]), F32), np.array((left, top), F32)
    candidates = np.flatnonzero(conf[:, 1] >= F32(SCORE))
    with np.errstate(over="ignore"):
        found = boxes.decode_centres(prior.take(candidates, axis=0), loc.take(candidates, axis=0)).T * np.tile(side, 2)
        centres, sizes = np.floor((found[:, :2] - pad) / scale), found[:, 2:] / scale
    _finite(np.concatenate((centres, sizes), axis=1))
    sizes = half_away(sizes)
    inside = np.flatnonzero((centres >= 0).all(axis=1))
    candidates, centres, sizes = candidates[inside], centres[inside], sizes[inside]
    corners = np.concatenate((centres - sizes / F32(2), centres + sizes / F32(2)), axis=1)
    kept = boxes.nms(corners, conf[candidates, 1], IOU)
    near, faces = half_away(corners[kept, :2]), candidates[kept]
    with np.errstate(over="ignore"):
        landmarks = np.floor((boxes.decode_landmarks(prior[faces], landm[faces]) * side - pad) / scale)
    found = np.concatenate((near, near + sizes[kept]), axis=1)
    return {"boxes": found, "scores": conf[faces, 1], "landmarks": landmarks}


def _checked(outputs: Tensors, size: tuple[int, int]) -> list[Floats]:
    n = len(boxes.priors(*size))
    return checked(outputs, dict(zip(OUTPUTS, ((n, 4), (n, 2), (n, 10)), strict=True)))


def _finite(found: Floats) -> None:
    finite = np.isfinite(found)
    if not finite.all():
        bad = len(found) - int(np.count_nonzero(finite.all(axis=1)))
        raise RunError(
            f"{bad} of {len(found)} faces that output {OUTPUTS[0]} describes have infinite sizes",
            hint="compare the engine's outputs with the reference's: pytest -m numerics",
        )


def half_away(values: Floats) -> Floats:
    """`values` rounded to whole numbers, halves away from zero, like C's round()."""
    whole: Floats = np.trunc(values)
    whole += np.copysign(F32(1), values) * (np.abs(values - whole) >= F32(0.5))
    return whole


def lines_ascend(found: Floats, scores: Floats) -> list[str]:
    """Result lines `x y w h score ` of the authors and of Ascend: corners cut to whole pixels towards zero, scores as
    short as float32 allows."""
    whole = found.astype(np.int64)
    whole[:, 2:] -= whole[:, :2]
    return [f"{x} {y} {w} {h} {score!s} " for (x, y, w, h), score in zip(whole.tolist(), scores, strict=True)]


def lines_mlu(found: Floats, scores: Floats) -> list[str]:
    """Result lines `x y w h score` of Cambricon's program: whole pixels, six significant digits of the score."""
    whole = found.astype(np.int64)
    whole[:, 2:] -= whole[:, :2]
    return [f"{x} {y} {w} {h} {score:g}" for (x, y, w, h), score in zip(whole.tolist(), scores, strict=True)]


def _mobilenet025() -> nn.Module:
    from harness.models.networks.retinaface import mobilenet025

    return mobilenet025()


def _resnet50() -> nn.Module:
    from harness.models.networks.retinaface import resnet50

    return resnet50()


_NORMALIZE = Normalize(MEAN, (1.0, 1.0, 1.0), "BGR")

_ASCEND = Protocol(
    "ascend", ASCEND, ("ascend310", "ascend310p", "t4", "cuda", "cpu"),
    preprocess_ascend, partial(postprocess, size=ASCEND), _NORMALIZE, ("ascend310", "ascend310p"),
)  # fmt: skip
_MLU = Protocol(
    "mlu", MLU, ("mlu370_s4", "mlu370_x4"),
    preprocess_mlu, postprocess_mlu, _NORMALIZE, ("mlu370_s4", "mlu370_x4"), traced=("mlu370_s4", "mlu370_x4"),
    note="the document's arguments confidence 0.001, IoU 0.65 and limit 1000 reach no engine: "
    "faces are decoded and suppressed on the host, at 0.02 and 0.4, without a limit",
)  # fmt: skip


def _row(
    name: str, title: str, network: Callable[[], nn.Module], weights: Weights, scenes: int, heavy: bool = False
) -> Model:
    return Model(
        name, title, "faces", "widerface", "image", OUTPUTS,
        network, (_ASCEND, _MLU), weights, scenes=scenes, heavy=heavy,
    )  # fmt: skip


MOBILENET025 = _row(
    "retinaface_mobilenet025",
    "RetinaFace, MobileNet-0.25",
    _mobilenet025,
    Weights(("mobilenet0.25_Final.pth", "Mobilenet0.25_Final.pth"), "https://github.com/biubug6/Pytorch_Retinaface"),
    scenes=36,  # enough faces: when all are found again, a loss of 1 % is excluded
)
RESNET50 = _row(
    "retinaface_resnet50",
    "RetinaFace, ResNet-50",
    _resnet50,
    Weights(("Resnet50_Final.pth",), "https://github.com/biubug6/Pytorch_Retinaface"),
    scenes=22,  # the same number of faces, because this network finds more in each picture
    heavy=True,
)
