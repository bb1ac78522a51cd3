"""The devices of one card share the images of a data set. They run one engine, so their outputs must agree."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from itertools import chain, cycle, islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.case import Case, Predictions, Tensors
from harness.datasets.base import Dataset, Sample
from harness.errors import DataError, RunError
from harness.judge.numerics import judge_numerics
from harness.judge.verdict import Verdict
from harness.run import predict
from harness.vocabulary import Outcome

if TYPE_CHECKING:
    from harness.models.base import Model, Protocol
    from harness.run.prepared import Ahead
    from harness.worker.process import RemoteSession

ASKED_TWICE = 64  # images that two devices answer: of 4 devices, one that is wrong on 1 image in 10 is seen in 97 %
ASKED_TWICE_OF_HEAVY = 16  # the same for a model that takes seconds an image
DRIFT = 1e-3  # relative to the largest value: a runtime may choose another kernel for a repeated run
TRACED = 2  # images beside the last one whose way from the picture to the answer is gone again
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


def _alike(twice: int, images: int, devices: int) -> Verdict:
    text = f"{twice} of {images} images were run by two of the {devices} devices each, with the same outputs"
    return Verdict(Outcome.PASS, text, {"asked_twice": twice, "asked": images, "of_devices": devices})


def together(one: Mapping[str, Verdict], other: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """Verdicts on the answers to two blocks of images as those on both: the worse one, and of two PASS the later. What
    says how many images were asked of two devices says it of both."""

    def both(earlier: Verdict, later: Verdict) -> Verdict:
        worse = min(later, earlier, key=lambda verdict: verdict.outcome.severity)
        if "asked_twice" not in worse.details:
            return worse
        twice, images = (earlier.details[name] + later.details[name] for name in ("asked_twice", "asked"))
        return _alike(twice, images, later.details["of_devices"])

    return {**one, **other, **{name: both(one[name], other[name]) for name in one.keys() & other.keys()}}


class Card:
    """Sessions of one engine, one for each device of a card, by the devices' names such as "device 2". `ahead` reads
    and prepares images as the engine takes them. `at_once` is the number of batches that a device computes at the same
    time: of a processor, one alone may leave cores idle."""

    def __init__(
        self,
        sessions: dict[str, RemoteSession],
        model: Model,
        protocol: Protocol,
        case: Case,
        ahead: Ahead,
        nms: bool = False,
        at_once: int = 1,
    ) -> None:
        self.sessions, self.model, self.protocol, self.case = sessions, model, protocol, case
        self.ahead, self.nms, self.at_once = ahead, nms, at_once

    def ask(self, images: Dataset, advance: Callable[[int], None]) -> tuple[list[Predictions], dict[str, Verdict]]:
        """(one Predictions for each image, verdicts on the answers by metric). Whole batches are dealt to the devices
        in turn, which work at once.

        "devices", of a card with several: whether a random few of the batches give like outputs on another device; an
        image that does not is then asked of all. "last batch", where that was filled up: whether its images give like
        outputs beside other images. "first batch", of several: whether the first device gives like outputs for its
        first batch at the end. Outputs are alike within the tolerance of the precision, since answers turn over at
        their thresholds; those of an engine that suppresses boxes itself do so too and are not compared."""
        size, names = self.case.batch, list(self.sessions)
        groups = [list(range(start, min(start + size, len(images)))) for start in range(0, len(images), size)]
        dealt = [[*chain.from_iterable(groups[place :: len(names)])] for place in range(len(names))]
        twice = [] if self.nms or len(names) == 1 else sorted(random.sample(range(len(groups)), self._few(len(groups))))
        filled = [len(groups) - 1] if groups and len(groups[-1]) < size and not self.nms else []
        begins = [0] if len(groups) > 1 and not self.nms else []
        wanted = {number // len(names) for number in (*twice, *filled, *begins)}
        traced = {} if self.nms else self._drawn(groups)
        runs = [
            _Recorder(
                session, size, wanted, {n // len(names): row for n, row in traced.items() if n % len(names) == place}
            )
            for place, session in enumerate(self.sessions.values())
        ]
        asked = [partial(self._by, run, images, mine, advance) for run, mine in zip(runs, dealt, strict=True)]
        parts = [asked[0]()] if len(asked) == 1 else _at_once(asked, runs)
        found: dict[int, Predictions] = {}
        for mine, part in zip(dealt, parts, strict=True):
            found.update(zip(mine, part, strict=True))
        for number, row in traced.items():
            at = groups[number][row]
            self._trace(images.samples[at], *runs[number % len(names)].seen[number // len(names)], found[at])

        def outputs(number: int) -> Tensors:
            return runs[number % len(names)].kept[number // len(names)]

        verdicts = {}
        if twice:
            verdicts["devices"] = self._devices_alike(images, {number: groups[number] for number in twice}, outputs)
        for number in filled:
            full = [*groups[number], *islice(cycle(range(len(images))), size - len(groups[number]))]
            again = self._outputs(names[number % len(names)], images, full)
            verdicts["last batch"] = self._last_batch_alike(images, groups[number], outputs(number), again)
        for number in begins:
            again = self._outputs(names[0], images, groups[number])
            verdicts["first batch"] = _as_at_first(outputs(number), again, len(images))
        return [found[place] for place in range(len(images))], verdicts

    def _drawn(self, groups: list[list[int]]) -> dict[int, int]:
        """Rows of a few batches, by the batch: the last row of the last one, and others at random."""
        last = len(groups) - 1
        drawn = {
            number: random.randrange(len(groups[number]))
            for number in random.sample(range(last + 1), min(TRACED, last + 1))
        }
        return {**drawn, last: len(groups[last]) - 1} if groups else {}

    def _trace(self, sample: Sample, fed: Tensors, outputs: Tensors, found: Predictions) -> None:
        """Go the way of an image again, from its picture. Raises DataError when the chip was fed something else, or the
        answer is not that of its outputs: then images, rows or frames were mixed up, and it is not the chip."""
        (tensor,) = fed.values()
        fresh = self.protocol.preprocess(sample.read(), tensor.dtype == np.uint8)
        fault = "this is a fault of the suite, not of the chip: report it"
        if not np.array_equal(tensor, fresh.tensor):
            raise DataError(f"{self.case}: the chip was fed another tensor instead of {sample.id}", hint=fault)
        read = self.protocol.postprocess(outputs, fresh.frame)
        if read.keys() != found.keys() or not all(
            np.array_equal(read[name], found[name], equal_nan=True) for name in read
        ):
            raise DataError(
                f"{self.case}: the answer on record for {sample.id} is not the one that its outputs give", hint=fault
            )

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
        return _alike(sum(map(len, groups.values())), len(images), len(names))

    def _blamed(self, images: Dataset, places: list[int], row: int) -> Verdict:
        answers = [_rows(self._outputs(name, images, places), row) for name in self.sessions]
        odd = unlike(answers, lambda one, other: self._unlike(one, other, 1) is None)
        wrong, sample = [list(self.sessions)[place] for place in odd], images.samples[places[row]].id
        if not wrong:
            text = f"the devices gave different outputs for {sample} when run together, and equal ones one by one"
        elif len(wrong) == len(answers):
            text = f"{', '.join(wrong)} give different outputs for {sample}: run each with --device N"
        else:
            rest = len(answers) - len(wrong)
            text = f"{', '.join(wrong)} gives other outputs for {sample} than the other {rest} devices"
        return Verdict(Outcome.FAIL, text, {"devices": wrong, "image": sample, "differing": 1})

    def _last_batch_alike(self, images: Dataset, places: list[int], alone: Tensors, full: Tensors) -> Verdict:
        row = self._unlike(alone, full, len(places))
        text = f"the last batch has {len(places)} images and is filled up to {self.case.batch}"
        if row is not None:
            sample = images.samples[places[row]].id
            return Verdict(Outcome.FAIL, f"{text}: {sample} has other outputs in a full batch", {"differing": 1})
        return Verdict(Outcome.PASS, f"{text}: its images have the same outputs in a full batch", {"differing": 0})

    def _unlike(self, one: Tensors, other: Tensors, rows: int) -> int | None:
        """The first of that many rows whose outputs are not alike; None where all are."""
        for row in range(rows):
            verdict = judge_numerics(_rows(other, row), _rows(one, row), self.case.precision)
            if verdict.outcome is Outcome.FAIL:
                return row
        return None

    def _outputs(self, name: str, images: Dataset, places: list[int]) -> Tensors:
        """Raw outputs of one batch on one device."""
        run = _Recorder(self.sessions[name], self.case.batch, {0})
        self._by(run, images, places)
        return run.kept[0]

    def _by(
        self,
        run: _Recorder,
        images: Dataset,
        places: Sequence[int],
        advance: Callable[[int], None] = lambda done: None,
    ) -> list[Predictions]:
        part = self.ahead(images.take(places).samples)
        batches = max(1, math.ceil(len(places) / self.case.batch))  # a device may have none
        rounds = math.ceil(batches / self.at_once)  # of as many batches each as can be, so that few are filled up
        rows = self.case.batch * math.ceil(batches / rounds)
        return predict.found_by(run, self.model, self.protocol, part, rows, self.nms, advance)


class _Recorder:
    """A session of batches of `size` that keeps its outputs of some batches, counted from 0, and inputs and outputs of
    one row of others."""

    def __init__(
        self, session: RemoteSession, size: int, wanted: set[int], rows: Mapping[int, int] | None = None
    ) -> None:
        self.session, self.size, self.wanted, self.rows = session, size, wanted, rows or {}
        self.kept: dict[int, Tensors] = {}
        self.seen: dict[int, tuple[Tensors, Tensors]] = {}
        self.number, self.stopped = 0, False

    def run(self, inputs: Tensors) -> Tensors:
        """Outputs of one batch, or of several that are computed at the same time, row by row."""
        if self.stopped:
            raise RunError("stopped, because another device failed", hint="see the error of that device")
        rows = range(0, len(next(iter(inputs.values()))), self.size)
        batches = [{name: value[i : i + self.size] for name, value in inputs.items()} for i in rows]
        made = self.session.together(batches) if len(batches) > 1 else [self.session.run(inputs)]
        for fed, outputs in zip(batches, made, strict=True):
            self._record(fed, outputs)
        return made[0] if len(made) == 1 else {name: np.concatenate([one[name] for one in made]) for name in made[0]}

    def _record(self, inputs: Tensors, outputs: Tensors) -> None:
        if self.number in self.wanted:
            self.kept[self.number] = outputs
        if (row := self.rows.get(self.number)) is not None:
            fed, made = ({name: value[row].copy() for name, value in one.items()} for one in (inputs, outputs))
            self.seen[self.number] = fed, made
        self.number += 1


def _at_once(asked: Sequence[Callable[[], Answer]], runs: Sequence[_Recorder]) -> list[Answer]:
    """What each gives, in their order. Where one fails, or Ctrl-C ends the wait, the others stop at their next
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


def _as_at_first(first: Tensors, again: Tensors, images: int) -> Verdict:
    """Whether a device answers its first batch at the end as at the beginning: one device, engine and input."""
    moved = {name: _moved(value, again[name]) for name, value in first.items()}
    worst = max(moved, key=lambda name: moved[name])
    if moved[worst] > DRIFT:
        text = f"output {worst} differs by {moved[worst]:.2g} of its largest value from that at the beginning"
        return Verdict(
            Outcome.FAIL, f"the first batch run again after {images} images: {text}", {"drift": moved[worst]}
        )
    return Verdict(
        Outcome.PASS,
        f"after {images} images the first batch has the same outputs as at the beginning",
        {"drift": moved[worst]},
    )


def _moved(before: NDArray[np.generic], after: NDArray[np.generic]) -> float:
    """The largest difference, relative to the largest value."""
    one, other = np.asarray(before, np.float64), np.asarray(after, np.float64)
    largest = float(np.abs(one).max(initial=0.0))
    return float(np.abs(other - one).max(initial=0.0)) / (largest or 1.0)


def _rows(outputs: Tensors, row: int) -> Tensors:
    return {name: value[row : row + 1] for name, value in outputs.items()}
