"""The devices of one card answer a data set together. They run one engine, so they must answer alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from harness.case import Case, Predictions, Tensors
from harness.datasets.base import Dataset, Sample
from harness.errors import RunError
from harness.judge.numerics import judge_numerics
from harness.judge.verdict import Verdict
from harness.run import predict
from harness.vocabulary import Outcome

if TYPE_CHECKING:
    from harness.models.base import Model, Prepared, Protocol
    from harness.worker.process import RemoteSession

ASKED_TWICE = 64  # images that two devices answer: of 4 devices, one that is wrong on 1 image in 10 is seen in 97 %
ASKED_TWICE_OF_HEAVY = 16  # the same for a model that takes seconds an image
Answer = TypeVar("Answer")


def unlike(answers: Sequence[Answer], alike: Callable[[Answer, Answer], bool]) -> tuple[int, ...]:
    """Places of the answers that are not those of the majority; all places when no majority is alone the largest; none
    when all are alike."""
    groups: list[list[int]] = []
    for place, answer in enumerate(answers):
        for group in groups:
            if alike(answers[group[0]], answer):
                group.append(place)
                break
        else:
            groups.append([place])
    groups.sort(key=len, reverse=True)
    if len(groups) == 1:
        return ()
    tie = len(groups[0]) == len(groups[1])
    return tuple(range(len(answers))) if tie else tuple(sorted(chain.from_iterable(groups[1:])))


class Card:
    """Sessions of one engine, one for each device of a card, by the devices' names such as "device 2". `prepare` reads
    and prepares an image as the engine takes it."""

    def __init__(
        self,
        sessions: dict[str, RemoteSession],
        model: Model,
        protocol: Protocol,
        case: Case,
        prepare: Callable[[Sample], Prepared],
        nms: bool = False,
    ) -> None:
        self.sessions, self.model, self.protocol, self.case = sessions, model, protocol, case
        self.prepare, self.nms = prepare, nms

    def ask(self, images: Dataset, advance: Callable[[int], None]) -> tuple[list[Predictions], dict[str, Verdict]]:
        """(one Predictions for each image, verdicts on the answers by metric). Whole batches are dealt to the devices
        in turn, which work at once.

        "devices", of a card with several: whether a random few of the batches give like outputs on another device; an
        image that does not is then asked of all. "last batch", where that was filled up: whether its images give like
        outputs in a full batch. Outputs are alike within the tolerance of the precision, since answers turn over at
        their thresholds; those of an engine that suppresses boxes itself do so too and are not compared."""
        size, names = self.case.batch, list(self.sessions)
        groups = [list(range(start, min(start + size, len(images)))) for start in range(0, len(images), size)]
        dealt = [[*chain.from_iterable(groups[place :: len(names)])] for place in range(len(names))]
        twice = [] if self.nms or len(names) == 1 else sorted(random.sample(range(len(groups)), self._few(len(groups))))
        filled = [len(groups) - 1] if groups and len(groups[-1]) < size and not self.nms else []
        wanted = {number // len(names) for number in (*twice, *filled)}
        runs = [_Recorder(session, wanted) for session in self.sessions.values()]
        asked = [partial(self._by, run, images, mine, advance) for run, mine in zip(runs, dealt, strict=True)]
        parts = [asked[0]()] if len(asked) == 1 else _at_once(asked, runs)
        found: dict[int, Predictions] = {}
        for mine, part in zip(dealt, parts, strict=True):
            found.update(zip(mine, part, strict=True))

        def outputs(number: int) -> Tensors:
            return runs[number % len(names)].kept[number // len(names)]

        verdicts = {}
        if twice:
            verdicts["devices"] = self._devices_alike(images, {number: groups[number] for number in twice}, outputs)
        for number in filled:
            full = [*groups[number], *groups[number][-1:] * (size - len(groups[number]))]
            again = self._outputs(names[number % len(names)], images, full)
            verdicts["last batch"] = self._last_batch_alike(images, groups[number], outputs(number), again)
        return [found[place] for place in range(len(images))], verdicts

    def _few(self, batches: int) -> int:
        few = ASKED_TWICE_OF_HEAVY if self.model.heavy else ASKED_TWICE
        return min(-(-few // self.case.batch), batches)

    def _devices_alike(self, images: Dataset, groups: dict[int, list[int]], first: Callable[[int], Tensors]) -> Verdict:
        names = list(self.sessions)
        for number, places in groups.items():
            other = names[(number + 1) % len(names)]
            row = self._unlike(first(number), self._outputs(other, images, places), len(places))
            if row is not None:
                return self._blamed(images, places, row)
        seen = sum(map(len, groups.values()))
        text = f"{seen} of {len(images)} images were answered by two of the {len(names)} devices each, and alike"
        return Verdict(Outcome.PASS, text, {"asked_twice": seen})

    def _blamed(self, images: Dataset, places: list[int], row: int) -> Verdict:
        answers = [_rows(self._outputs(name, images, places), row) for name in self.sessions]
        odd = unlike(answers, lambda one, other: self._unlike(one, other, 1) is None)
        wrong, sample = [list(self.sessions)[place] for place in odd], images.samples[places[row]].id
        if not wrong:
            text = f"devices answered {sample} differently, and alike when it was asked again"
        elif len(wrong) == len(answers):
            text = f"{', '.join(wrong)} answer {sample} differently: run each with --device N"
        else:
            text = f"{', '.join(wrong)} answers {sample} differently from the other {len(answers) - len(wrong)} devices"
        return Verdict(Outcome.FAIL, text, {"devices": wrong, "image": sample})

    def _last_batch_alike(self, images: Dataset, places: list[int], alone: Tensors, full: Tensors) -> Verdict:
        row = self._unlike(alone, full, len(places))
        text = f"the last batch has {len(places)} images and is filled up to {self.case.batch}"
        if row is not None:
            sample = images.samples[places[row]].id
            return Verdict(Outcome.FAIL, f"{text}: {sample} is answered differently in a full batch")
        return Verdict(Outcome.PASS, f"{text}: its images are answered alike in a full batch")

    def _unlike(self, one: Tensors, other: Tensors, rows: int) -> int | None:
        """The first of that many rows whose outputs are not alike; None where all are."""
        for row in range(rows):
            verdict = judge_numerics(_rows(other, row), _rows(one, row), self.case.precision)
            if verdict.outcome is Outcome.FAIL:
                return row
        return None

    def _outputs(self, name: str, images: Dataset, places: list[int]) -> Tensors:
        """Raw outputs of one batch on one device."""
        run = _Recorder(self.sessions[name], {0})
        self._by(run, images, places)
        return run.kept[0]

    def _by(
        self,
        run: _Recorder,
        images: Dataset,
        places: Sequence[int],
        advance: Callable[[int], None] = lambda done: None,
    ) -> list[Predictions]:
        part = images.take(places)
        return predict.found_by(run, self.model, self.protocol, part, self.prepare, self.case.batch, self.nms, advance)


class _Recorder:
    """A session that keeps its outputs of some batches, counted from 0."""

    def __init__(self, session: RemoteSession, wanted: set[int]) -> None:
        self.session, self.wanted = session, wanted
        self.kept: dict[int, Tensors] = {}
        self.number, self.stopped = 0, False

    def run(self, inputs: Tensors) -> Tensors:
        if self.stopped:
            raise RunError("given up, because another device broke off", hint="see the error of that device")
        outputs = self.session.run(inputs)
        if self.number in self.wanted:
            self.kept[self.number] = outputs
        self.number += 1
        return outputs


def _at_once(asked: Sequence[Callable[[], Answer]], runs: Sequence[_Recorder]) -> list[Answer]:
    """What each gives, in their order. Where one breaks off, or Ctrl-C ends the wait, the others stop at their next
    batch. Raises the first error."""
    with ThreadPoolExecutor(len(asked)) as pool:
        waiting = [pool.submit(one) for one in asked]
        try:
            ended, _ = wait(waiting, return_when=FIRST_EXCEPTION)
            failed = [one for one in ended if one.exception() is not None]
            return [one.result() for one in failed or waiting]
        finally:
            for run in runs:
                run.stopped = True


def _rows(outputs: Tensors, row: int) -> Tensors:
    return {name: value[row : row + 1] for name, value in outputs.items()}
