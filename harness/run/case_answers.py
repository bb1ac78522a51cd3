"""What one case answers to the images of its data set, and the scores of that beside the reference's."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property, lru_cache, partial

from harness.case import Precision, Predictions
from harness.datasets.base import Dataset
from harness.judge.verdict import Verdict
from harness.run import accuracy, artefacts, predict
from harness.run.accuracy import Evaluation
from harness.run.card import Card
from harness.run.case_run import CaseRun
from harness.run.engine import Variant
from harness.run.predict import Answers

ASKED_AGAIN = 12  # images of which a chip's kept answers are compared with today's: one wrong in ten is seen in 72 %
ASKED_OF_HEAVY = 4  # the same for a model that takes seconds an image


@lru_cache(maxsize=1)
def answers_of(run: CaseRun) -> CaseAnswers:
    """The answers of that run: tests of one case share them."""
    return CaseAnswers(run)


class CaseAnswers:
    """Answers and scores of the case of a CaseRun, asked when they are first needed."""

    def __init__(self, run: CaseRun) -> None:
        self.run, self.context, self.case, self.model = run, run.context, run.case, run.model

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """Why figures over the data set are not a conformance result (accuracy.marks_of); empty if they are."""
        return accuracy.marks_of(self.context.dataset(self.model), self.context.settings.limit)

    @cached_property
    def evaluation(self) -> Evaluation:
        """Scores of the published variant and of the reference on every image that it was not calibrated on."""
        return self.evaluate(self.run.variant)

    def evaluate(self, variant: Variant) -> Evaluation:
        """Scores of `variant` and of the reference on every image that it was not calibrated on."""
        answers = self.answers if variant == self.run.variant else self._answers(variant)
        int8 = self.case.precision is Precision.INT8
        return self._scored(answers, whole=not int8)

    @cached_property
    def on_the_whole_set(self) -> Evaluation:
        """Scores of the published variant on every image of the data set, as for the published figures."""
        whole = self.evaluation.dataset is self.answers.dataset
        return self.evaluation if whole else self._scored(self.answers, whole=True)

    def _scored(self, answers: Answers, whole: bool) -> Evaluation:
        context, model = self.context, self.model
        dataset = answers.dataset if whole else context.calibration(model)[1]
        reference = context.reference(model, self.run.protocol, answers.dataset)
        limit, seeded = context.settings.limit, context.weights(model).seeded
        return accuracy.evaluate(self.case, model.task, answers, reference, dataset, limit, seeded)

    @cached_property
    def answers(self) -> Answers:
        """Predictions of the published variant for every image of the data set."""
        answers = self._answers(self.run.variant)
        self.run.devices_agreed = "devices" in answers.also
        return answers

    def _answers(self, variant: Variant) -> Answers:
        """Predictions of `variant`. For a chip that `keeps` they come from the store when the same engine has already
        answered the same images, and answers a random few of them alike today."""
        run, dataset = self.run, self.context.dataset(self.model)
        also: dict[str, Verdict] = {}

        def ask(images: Dataset = dataset) -> tuple[list[Predictions], float]:
            with self._card(variant) as card:
                advance, begun = self.context.settings.progress(f"{self.case}", len(images)), time.perf_counter()
                found, told = card.ask(images, advance)
                also.update({name: one for name, one in told.items() if images is dataset or name != "devices"})
                return found, time.perf_counter() - begun

        if not run.chip.keeps:
            return Answers(dataset, *ask(), False, also)
        keep = partial(
            artefacts.chip_answers, self.context.settings.store, run.built(variant).path, self.model, dataset
        )
        found, seconds, kept = keep(ask, run.anew)
        if kept:
            places = self._asked_again(len(dataset))
            today, _ = ask(dataset.take(places))
            if not all(predict.alike(found[place], one) for place, one in zip(places, today, strict=True)):
                found, seconds, kept = keep(ask, True)
        return Answers(dataset, found, seconds, kept, also)

    def _asked_again(self, images: int) -> list[int]:
        """Places of the images whose kept answers are asked again: whole batches drawn at random, and the last one
        where it was filled up, so that the verdict on it is of every run."""
        size, rest = self.case.batch, images % self.case.batch
        few = -(-(ASKED_OF_HEAVY if self.model.heavy else ASKED_AGAIN) // size) * size
        drawn = random.sample(range(images - rest), min(few, images - rest))
        return [*sorted(drawn), *range(images - rest, images)]

    @contextmanager
    def _card(self, variant: Variant) -> Iterator[Card]:
        """Sessions of `variant` on the devices that a card of the published figures has; where each process of the run
        has a device, on that alone."""
        run = self.run
        with run.loaded(variant) as session, ExitStack() as stack:
            sessions = {f"device {run.device.index}": session}
            here = [device for device in run.present.devices if device.card == run.device.card]
            alone = self.context.settings.processes > 1
            for device in [] if alone else here[: run.chip.devices_per_card]:
                if device == run.device:
                    continue
                stack.enter_context(self.context.lease(run.chip, device, str(self.case), exclusive=False))
                name = f"{self.case}.device{device.index}"
                worker = stack.enter_context(self.context.worker(run.chip, run.present.backend, name))
                built = run.built(variant)
                loaded = worker.load(built.path, device, built.spec, run.rows)
                sessions[f"device {device.index}"] = stack.enter_context(loaded)
            yield Card(sessions, self.model, run.protocol, self.case, run.prepare(variant.raw), variant.nms)
