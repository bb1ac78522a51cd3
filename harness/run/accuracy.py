"""Scores of chip and reference on the same images, and marks that say why they are not a conformance result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from harness.case import Case, Predictions
from harness.datasets.base import Dataset
from harness.errors import DataError, InvalidMeasurement
from harness.judge.sampled import Sampled
from harness.judge.verdict import Verdict
from harness.metrics import score
from harness.metrics.base import Score
from harness.metrics.changes import Difference, compared
from harness.run.predict import Answers

TELLING = 1000  # numbers: of so many, those of a network in FP32 never equal another program's in every bit


@dataclass(frozen=True)
class Evaluation:
    """Scores of chip and reference on the images of `dataset`, what each answered (`found` by the chip, `wanted` by
    the reference, in the order of the images), and the chip's end-to-end images per second."""

    case: Case
    chip: Score
    reference: Score
    found: Sequence[Predictions]
    wanted: Sequence[Predictions]
    dataset: Dataset
    images_per_second: float
    also: Mapping[str, Verdict]  # verdicts on the chip's answers themselves, by metric
    task: str  # of the model
    marks: tuple[str, ...]  # of the images, and "kept": answers of an earlier run of the same engine on the same images
    whole: Dataset  # of which the images were drawn, or the same
    sampled: Sampled
    truth: Sequence[Any] | None  # what both were scored against, an image each; None: what the reference answered

    def check_of(self, case: Case) -> Evaluation:
        """The same. Raises DataError when these are scores of another case."""
        if case != self.case:
            raise DataError(
                f"{case} would be judged by the answers of {self.case}", hint="this is a fault of the suite: report it"
            )
        return self

    @cached_property
    def changes(self) -> list[Difference]:
        """How far the chip's answer to each image is from the reference's."""
        return compared(self.task, self.found, self.wanted)

    @property
    def facts(self) -> dict[str, Any]:
        """Facts about the images for the records of these figures; `end_to_end` is images per second."""
        data, kind = self.dataset, self.whole.kind
        return {"dataset": data.name, "dataset_kind": kind, "dataset_digest": data.digest, "images": len(data),
                "dataset_note": data.note, "end_to_end": self.images_per_second}  # fmt: skip


def marks_of(dataset: Dataset, limit: int | None) -> tuple[str, ...]:
    """Why figures over these images are not a conformance result: "partial", "scenes", "limited"; empty if they are."""
    return (*(() if dataset.kind == "whole" else (dataset.kind,)), *(("limited",) if limit is not None else ()))


def check_apart(calibrated: Dataset, scored: Dataset) -> None:
    """Raises DataError when an image that the engine was calibrated on is scored."""
    both = {sample.id for sample in calibrated.samples} & {sample.id for sample in scored.samples}
    if both:
        raise DataError(
            f"{len(both)} calibration images are scored as well, such as {min(both)}",
            hint="this is a fault of the suite: report it",
        )


def _same(one: Predictions, other: Predictions) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def evaluate(
    case: Case,
    task: str,
    answers: Answers,
    reference: Sequence[Predictions],
    dataset: Dataset,
    whole: Dataset,
    sampled: Sampled,
    seeded: bool,
    limit: int | None,
) -> Evaluation:
    """Scores of the chip's answers and the reference's on `dataset`: what was answered, or a part of it. It was drawn
    from `whole`, unless it is the same. `reference` has the order of `answers.dataset`.

    A seeded network was never trained, so the reference's own answers serve as its labels. Raises DataError when an
    answer is missing, InvalidMeasurement when all answers are the reference's bit by bit."""
    ids = [sample.id for sample in dataset.samples]
    place = {sample.id: i for i, sample in enumerate(answers.dataset.samples)}
    if len(answers.found) != len(place):
        raise DataError(
            f"{case}: {len(answers.found)} answers for {len(place)} images",
            hint="this is a fault of the suite: report it",
        )
    theirs, ours = ([found[place[name]] for name in ids] for found in (reference, answers.found))
    values = sum(np.size(value) for answer in ours for value in answer.values())
    if values >= TELLING and all(map(_same, ours, theirs)):
        raise InvalidMeasurement(
            f"all {values} numbers of the chip's answers equal the reference's bit by bit: it was scored twice",
            hint="sums in another order always differ in their last bits; this is a fault of the suite: report it",
        )
    truth = None if seeded else dataset.truth
    drawn = ("sampled",) if dataset is not whole else ()
    return Evaluation(
        case,
        score(task, ours, truth, ids, theirs),
        score(task, theirs, truth, ids, theirs),
        ours,
        theirs,
        dataset,
        len(answers.found) / answers.seconds,
        answers.also,
        task,
        (*marks_of(whole, limit), *drawn, *(("kept",) if answers.kept else ())),
        whole,
        sampled,
        truth,
    )
