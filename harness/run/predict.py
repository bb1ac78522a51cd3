"""The chip's answers: the input batch for raw outputs, and predictions for every image of a data set."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol as Typed

import numpy as np
from numpy.typing import NDArray

from harness.case import Predictions, Tensors
from harness.datasets.base import Dataset, Sample
from harness.judge.verdict import Verdict
from harness.models.base import Model, Prepared, Protocol
from harness.reference.predictions import predict


class Answering(Typed):
    """A session, as far as this module needs one."""

    def run(self, inputs: Tensors, /) -> Tensors: ...


@dataclass(frozen=True)
class Answers:
    """One Predictions for each image of `dataset`, and the seconds they took. `kept`: they are from an earlier run."""

    dataset: Dataset
    found: list[Predictions]
    seconds: float
    kept: bool
    also: Mapping[str, Verdict] = field(default_factory=dict)  # verdicts on the answers themselves (Card.ask)


def in_order(dataset: Dataset, parts: Sequence[tuple[Dataset, Sequence[Predictions]]]) -> list[Predictions]:
    """The predictions for the images of `dataset`, in its order, from (data set, predictions) of its parts."""
    found = {sample.id: one for part, answers in parts for sample, one in zip(part.samples, answers, strict=True)}
    return [found[sample.id] for sample in dataset.samples]


def alike(one: Predictions, other: Predictions) -> bool:
    """Whether two answers to one image are the same but for rounding (1e-3 of the largest value): the batch in which an
    image lies may choose another kernel."""
    return one.keys() == other.keys() and all(
        value.shape == other[name].shape
        and np.allclose(value, other[name], rtol=1e-3, atol=1e-3 * float(np.abs(value).max(initial=0.0)))
        for name, value in one.items()
    )


def batch_of(dataset: Dataset, prepare: Callable[[Sample], Prepared], different: int, size: int) -> NDArray[np.generic]:
    """One batch of `size` rows: the first `different` images, repeated in turn. `prepare` reads and prepares one."""
    rows = [prepare(sample).tensor for sample in dataset.head(different).samples]
    return np.stack([rows[i % len(rows)] for i in range(size)])


def found_by(
    session: Answering,
    model: Model,
    protocol: Protocol,
    images: Generator[Prepared, None, None],
    batch: int,
    nms: bool,
    advance: Callable[[int], None],
) -> list[Predictions]:
    """One Predictions for each image, prepared as the engine takes it, from the loaded engine."""
    interpret = protocol.postprocess
    if nms:
        assert protocol.postprocess_suppressed is not None
        interpret = protocol.postprocess_suppressed
    return list(
        predict(
            images,
            lambda tensors: session.run({model.input: tensors}),
            interpret,
            batch,
            advance,
        )
    )
