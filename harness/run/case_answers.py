"""What one case answers to the images of its data set, and the scores of that beside the reference's."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, cached_property, lru_cache

from harness.baselines import Cell
from harness.case import Precision, Predictions
from harness.datasets.base import Dataset
from harness.errors import DataError
from harness.judge.accuracy import SLACK, images_decide, judge_agreement, judge_tail
from harness.judge.drops import looks
from harness.judge.sampled import Sampled
from harness.judge.verdict import Verdict
from harness.run import accuracy, artefacts, predict
from harness.run.accuracy import Evaluation
from harness.run.card import Card, together
from harness.run.case_run import CaseRun
from harness.run.engine import Variant
from harness.run.predict import Answers

ASKED_AGAIN = 12  # images of which a chip's kept answers are compared with today's: one wrong in ten is seen in 72 %
ASKED_OF_HEAVY = 4  # the same for a model that takes seconds an image


@lru_cache(maxsize=1)
def answers_of(run: CaseRun) -> CaseAnswers:
    """The answers of that run: tests of one case share them."""
    return CaseAnswers(run)


class _Stale(Exception):  # noqa: N818 - no fault: the chip is asked again
    """Kept answers to a block of images are not those that the engine gives today."""

    def __init__(self, block: Dataset) -> None:
        super().__init__()
        self.block = block


class CaseAnswers:
    """Answers and scores of the case of a CaseRun, asked when they are first needed.

    Images are asked in blocks of growing size, in a random order that is the same everywhere, until agreement with the
    reference is decided. Where published accuracy is judged, all are asked."""

    def __init__(self, run: CaseRun) -> None:
        self.run, self.context, self.case, self.model = run, run.context, run.case, run.model

    # ---------------------------------------------------------------- what is asked

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """Why figures over the data set are not a conformance result (accuracy.marks_of); empty if they are."""
        return accuracy.marks_of(self.context.dataset(self.model), self.context.settings.limit)

    @cached_property
    def published(self) -> dict[str, tuple[Cell | None, Cell | None]]:
        """The authors' figure and the chip's, by metric, of the metrics that have one."""
        table = self.context.settings.baselines
        pairs = {m: (table.source(self.case.model, m), table.cell(self.case, m)) for m in self.model.metrics}
        return {metric: pair for metric, pair in pairs.items() if any(pair)}

    @property
    def not_published(self) -> tuple[str, ...]:
        """The marks of weights and chip for which no published accuracy holds."""
        return tuple(mark for mark in self.run.marks if mark != "emulated")

    @property
    def all_asked(self) -> bool:
        """Whether every image is asked, because published accuracy is judged on them."""
        return bool(self.published) and not self.not_published and not self.marks

    # ---------------------------------------------------------------- scores

    @property
    def evaluation(self) -> Evaluation:
        """Scores of the published variant and of the reference, on images that it was not calibrated on: on as many as
        decide whether they agree, or on all of them (`all_asked`)."""
        return self._of_published[1]

    @property
    def answers(self) -> Answers:
        """Predictions of the published variant for the images that were asked."""
        return self._of_published[0]

    @cached_property
    def _of_published(self) -> tuple[Answers, Evaluation]:
        answers, evaluation = self._asked(self.run.variant, self.all_asked)
        self.run.devices_agreed = "devices" in answers.also
        return answers, evaluation

    def evaluate(self, variant: Variant) -> Evaluation:
        """As `evaluation`, of another variant, of which nothing is published."""
        return self._asked(variant, False)[1]

    @cached_property
    def on_the_whole_set(self) -> Evaluation:
        """Scores of the published variant on every image of the data set, as for the published figures. Raises
        DataError when not all were asked."""
        answers, evaluation = self._of_published
        whole = self.context.dataset(self.model)
        if answers.dataset is not whole:
            raise DataError(
                f"{self.case}: {len(answers.dataset)} of {len(whole)} images were asked",
                hint="this is a fault of the suite: report it",
            )
        return evaluation if evaluation.dataset is whole else self._scored(answers, 1, calibrated=True)

    def verdicts(self, scored: Evaluation) -> dict[str, Verdict]:
        """The verdict on each metric, by the bounds of the lab where it has any, and on the tail."""
        row, metrics = self.run.bound("accuracy"), self.model.metrics
        slack = SLACK if row.drop is None else row.drop
        found = {m: row.told(judge_agreement(scored.chip, scored.reference, m, slack, scored.sampled)) for m in metrics}
        shares = {sample.id: one.share for sample, one in zip(scored.dataset.samples, scored.changes, strict=True)}
        return {**found, "tail": judge_tail(shares, self.case.precision, scored.sampled)}

    def _scored(self, answers: Answers, look: int, calibrated: bool = False) -> Evaluation:
        """Scores on the images that were answered; on those that an INT8 engine was calibrated on only if `calibrated`
        images are wanted too."""
        context, model, limit = self.context, self.model, self.context.settings.limit
        held_out = self.case.precision is Precision.INT8 and not calibrated
        whole = context.calibration(model)[1] if held_out else context.dataset(model)
        if held_out:
            accuracy.check_apart(context.calibration(model)[0], whole)
        if self.run.anew:
            context.references.check_reference(model, self.run.protocol, 1)
        answered = {sample.id for sample in answers.dataset.samples}
        dataset = whole.take([i for i, sample in enumerate(whole.samples) if sample.id in answered])
        reference, seconds = self._reference(answers.dataset)
        if self.run.anew:
            context.references.check_answers(model, self.run.protocol, answers.dataset, reference)
        image_s = (answers.seconds + seconds) / len(answers.dataset)
        cut = limit if limit == len(context.dataset(model)) else None
        sampled, seeded = Sampled(look, len(whole), cut, image_s), context.references.weights(model).seeded
        return accuracy.evaluate(self.case, model.task, answers, reference, dataset, whole, sampled, seeded, limit)

    def _reference(self, images: Dataset) -> tuple[list[Predictions], float]:
        """The reference's predictions for the first blocks, which are `images`, and the seconds they took. Cases that
        need fewer blocks or more share them."""
        parts, seconds, left = [], 0.0, len(images)
        for block in self._blocks:
            if left <= 0:
                break
            found, took = self.context.references.answers(self.model, self.run.protocol, block)
            parts.append((block, found))
            seconds, left = seconds + took, left - len(block)
        return predict.in_order(images, parts), seconds

    # ---------------------------------------------------------------- asking

    @cached_property
    def _blocks(self) -> list[Dataset]:
        """The images that are asked for the first look at the verdict, and for each further one."""
        dataset = self.context.dataset(self.model)
        return dataset.parts(looks(len(dataset)))

    def _asked(self, variant: Variant, every: bool) -> tuple[Answers, Evaluation]:
        """Answers of `variant` with their scores: block by block until the verdicts are decided, or of `every` image at
        once."""
        blocks = [self.context.dataset(self.model)] if every else self._blocks
        try:
            return self._until_decided(variant, blocks, self.run.anew)
        except _Stale as stale:
            least = next(look for look, block in enumerate(blocks, 1) if block is stale.block)
            return self._until_decided(variant, blocks, anew=True, least=least)

    def _until_decided(
        self, variant: Variant, blocks: list[Dataset], anew: bool, least: int = 1
    ) -> tuple[Answers, Evaluation]:
        """`least` is the number of blocks that are asked in any case. Raises _Stale."""
        with ExitStack() as stack:
            card = cache(lambda: stack.enter_context(self._card(variant)))
            answers = self._answers(variant, blocks[0], card, anew)
            scored = self._scored(answers, 1)
            for look, block in enumerate(blocks[1:], 2):
                if look > least and images_decide(self.verdicts(scored)):
                    break
                answers = self._joined(answers, self._answers(variant, block, card, anew))
                scored = self._scored(answers, look)
        return answers, scored

    def _joined(self, one: Answers, more: Answers) -> Answers:
        """Answers of the first blocks, and those of the next one, in the order of the data set."""
        images = self.context.dataset(self.model).sample(len(one.dataset) + len(more.dataset))
        found = predict.in_order(images, [(part.dataset, part.found) for part in (one, more)])
        also = together(one.also, more.also)
        return Answers(images, found, one.seconds + more.seconds, one.kept or more.kept, also)

    def _answers(self, variant: Variant, images: Dataset, card: Callable[[], Card], anew: bool) -> Answers:
        """Predictions of `variant` for a block of images. For a chip that `keeps` they come from the store when the
        same engine has already answered the same images, and answers a random few of them alike today. Raises _Stale
        when it does not."""
        also: dict[str, Verdict] = {}

        def ask(few: Dataset = images) -> tuple[list[Predictions], float]:
            opened, advance = card(), self.context.settings.progress("accuracy " + str(self.case), len(few))
            begun = time.perf_counter()
            found, told = opened.ask(few, advance)
            also.update({name: one for name, one in told.items() if few is images or name != "devices"})
            return found, time.perf_counter() - begun

        if not self.run.chip.keeps:
            return Answers(images, *ask(), False, also)
        engine = self.run.built(variant).path
        found, seconds, kept = artefacts.chip_answers(
            self.context.settings.store, engine, self.model, images, ask, anew
        )
        if kept:
            places = self._asked_again(len(images))
            today, _ = ask(images.take(places))
            if not all(predict.alike(found[place], one) for place, one in zip(places, today, strict=True)):
                raise _Stale(images)
        return Answers(images, found, seconds, kept, also)

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
            ahead = run.ahead(variant.raw, len(sessions))
            at_once = session.places if run.chip.shared else 1
            yield Card(sessions, self.model, run.protocol, self.case, ahead, variant.nms, at_once)
