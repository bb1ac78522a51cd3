"""The description of a model: network, protocols under which its figures were published, and source of its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.backends.base import Normalize
from harness.case import Image, Predictions, Tensors
from harness.vocabulary import METRICS

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Frame:
    """The mapping from the original image to the network's input, in pixels: network = image * scale + (left, top)."""

    width: int  # of the original image, pixels
    height: int
    scale: tuple[float, float]  # x, y: network pixels per image pixel
    left: float = 0.0
    top: float = 0.0


@dataclass(frozen=True)
class Prepared:
    """One image prepared for the network: float32 (C, H, W), normalised; or uint8 (H, W, C) for an engine that
    normalises itself. Channels are in the network's order."""

    tensor: NDArray[np.generic]
    frame: Frame


@dataclass(frozen=True)
class Protocol:
    """Input size, pre-processing and post-processing under which figures were published."""

    name: str
    size: tuple[int, int]  # height, width of the network's input
    chips: tuple[str, ...]  # chips whose figures were published under it
    preprocess: Callable[[Image, bool], Prepared]  # (image, raw): raw asks for uint8 H x W x C
    postprocess: Callable[[Tensors, Frame], Predictions]  # outputs of one image, batch axis removed
    normalize: Normalize | None  # what a chip must do when it is fed raw; None: the chip cannot take it over
    normalized_by_chip: tuple[str, ...] = ()  # chips whose published figures were measured fed raw
    traced: tuple[str, ...] = ()  # chips whose published figures are of one TorchScript engine for all batches
    postprocess_suppressed: Callable[[Tensors, Frame], Predictions] | None = None  # of an engine that ends in NMS
    note: str = ""  # a fact about the protocol for readers of a record
    suppressed_by_chip: tuple[str, ...] = ()  # chips whose compiler knows the NMS node


@dataclass(frozen=True)
class Weights:
    """A published checkpoint: its known file names, its URL, and its digest where one was published."""

    files: tuple[str, ...]
    url: str
    md5: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Model:
    """One row of MODELS. `network` imports torch only when it is called."""

    name: str
    title: str
    task: str  # of harness.vocabulary.TASKS
    dataset: str  # key of harness.datasets.DATASETS
    input: str  # ONNX name
    outputs: tuple[str, ...]  # ONNX names, in the order of the network's tuple
    network: Callable[[], nn.Module]  # the authors' state-dict keys, in their order; eval mode
    protocols: tuple[Protocol, ...]  # the first is the default
    weights: Weights
    metrics: tuple[str, ...] = ()  # of harness.vocabulary.METRICS; by default all of its task
    scenes: int = 8  # pictures drawn for a machine without the data set
    heavy: bool = False  # takes seconds an image on a CPU, where only one batch is tested
    batches: tuple[int, ...] | None = None  # when the published model runs at some batches only

    def __post_init__(self) -> None:
        if not self.metrics:
            named = tuple(metric.name for metric in METRICS.values() if metric.task == self.task)
            object.__setattr__(self, "metrics", named)

    def protocol(self, chip: str) -> Protocol:
        """The protocol of the chip's published figures; the default for a chip without any."""
        return next((p for p in self.protocols if chip in p.chips), self.protocols[0])
