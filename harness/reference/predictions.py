"""Images through a network: decoding, running and interpreting overlap; and the reference's predictions."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.case import Predictions, Tensors
from harness.models.base import Frame, Model, Prepared, Protocol
from harness.reference import eager

if TYPE_CHECKING:
    from torch import nn

SMALL = 256  # pixels a side up to which the reference takes 8 images at once


def predict(
    images: Generator[Prepared, None, None],
    run: Callable[[NDArray[np.generic]], Tensors],
    interpret: Callable[[Tensors, Frame], Predictions],
    batch: int,
    advance: Callable[[int], None] = lambda done: None,
) -> Iterator[Predictions]:
    """One Predictions for each image, in their order, with few images in memory.

    `run` gets `batch` prepared images (N, ...). The last batch is padded with its last image, and the outputs of the
    padding are dropped. `advance` is called with the number of images that are done."""
    with closing(images), ThreadPoolExecutor(1) as interpreter:
        waiting: list[Future[list[Predictions]]] = []
        for group in _batched(images, batch):
            tensors = np.stack([p.tensor for p in group] + [group[-1].tensor] * (batch - len(group)))
            outputs = run(tensors)
            frames = [p.frame for p in group]
            waiting.append(interpreter.submit(_interpret, interpret, outputs, frames))
            while len(waiting) > 2 or (waiting and waiting[0].done()):
                yield from waiting.pop(0).result()
            advance(len(group))
        for future in waiting:
            yield from future.result()


def of_the_reference(
    network: nn.Module,
    model: Model,
    protocol: Protocol,
    images: Generator[Prepared, None, None],
    advance: Callable[[int], None],
) -> list[Predictions]:
    """Predictions of eager PyTorch in FP32 for every image, prepared, normalised by the host."""
    return list(
        predict(
            images,
            lambda tensors: eager.outputs(network, model.outputs, tensors.astype(np.float32, copy=False)),
            protocol.postprocess,
            8 if max(protocol.size) <= SMALL else 1,
            advance,
        )
    )


def raw_outputs(network: nn.Module, model: Model, images: NDArray[np.float32]) -> Tensors:
    """Outputs of eager PyTorch in FP32, by ONNX name, for float32 images (N, 3, H, W), which are run one by one."""
    parts = [eager.outputs(network, model.outputs, images[i : i + 1]) for i in range(len(images))]
    return {name: np.concatenate([part[name] for part in parts]) for name in model.outputs}


def pack(predictions: Sequence[Predictions]) -> dict[str, NDArray[np.generic]]:
    """Predictions as a few arrays: for each name the concatenated values, and under `name#` the count of each image."""
    if not predictions:
        return {}
    packed: dict[str, NDArray[np.generic]] = {}
    for name in predictions[0]:
        packed[name] = np.concatenate([p[name] for p in predictions])
        packed[f"{name}#"] = np.array([len(p[name]) for p in predictions], np.int64)
    return packed


def unpack(packed: Mapping[str, NDArray[np.generic]]) -> list[Predictions]:
    """The predictions that `pack` packed."""
    names = [name for name in packed if not name.endswith("#")]
    parts = {name: np.split(packed[name], np.cumsum(packed[f"{name}#"])[:-1]) for name in names}
    return [{name: parts[name][i] for name in names} for i in range(len(parts[names[0]]))] if names else []


def _interpret(
    interpret: Callable[[Tensors, Frame], Predictions], outputs: Tensors, frames: Sequence[Frame]
) -> list[Predictions]:
    return [interpret({name: value[i] for name, value in outputs.items()}, frame) for i, frame in enumerate(frames)]


def _batched(items: Iterable[Prepared], size: int) -> Iterator[list[Prepared]]:
    group: list[Prepared] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
