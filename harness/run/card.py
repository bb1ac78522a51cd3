"""The devices of one card answer a data set together. They run one engine, so they must answer alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from harness.case import Predictions
from harness.datasets.base import Dataset
from harness.judge.verdict import Verdict
from harness.run import predict
from harness.vocabulary import Outcome

if TYPE_CHECKING:
    from harness.models.base import Model, Protocol
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
    """Sessions of one engine, one for each device of a card, by the devices' names such as "device 2"."""

    def __init__(
        self,
        sessions: dict[str, RemoteSession],
        model: Model,
        protocol: Protocol,
        batch: int,
        raw: bool = False,
        nms: bool = False,
    ) -> None:
        self.sessions, self.model, self.protocol = sessions, model, protocol
        self.batch, self.raw, self.nms = batch, raw, nms

    def ask(self, images: Dataset, advance: Callable[[int], None]) -> list[Predictions]:
        """One Predictions for each image. Whole batches are dealt to the devices in turn, which work at once."""
        dealt = [self._places(images, device) for device in range(len(self.sessions))]
        with ThreadPoolExecutor(len(self.sessions)) as pool:
            parts = list(pool.map(lambda name, places: self._by(name, images, places, advance), self.sessions, dealt))
        found: dict[int, Predictions] = {}
        for places, part in zip(dealt, parts, strict=True):
            found.update(zip(places, part, strict=True))
        return [found[place] for place in sorted(found)]

    def check(self, images: Dataset, found: Sequence[Predictions]) -> dict[str, Verdict]:
        """Verdicts on the answers that `ask` gave, by metric.

        "devices", of a card with several: whether a random few of the images, in the batches in which they were, are
        answered alike by another device; an image that is not is then asked of all. "last batch", where that was filled
        up: whether its images are answered alike in a full batch."""
        return {**self._devices_alike(images, found), **self._last_batch_alike(images, found)}

    def _devices_alike(self, images: Dataset, found: Sequence[Predictions]) -> dict[str, Verdict]:
        names, batches = list(self.sessions), -(-len(images) // self.batch)
        if len(names) == 1:
            return {}
        few = -(-(ASKED_TWICE_OF_HEAVY if self.model.heavy else ASKED_TWICE) // self.batch)
        seen = 0
        for number in sorted(random.sample(range(batches), min(few, batches))):
            places = [place for place in range(len(images)) if place // self.batch == number]
            again = self._by(names[(number + 1) % len(names)], images, places)
            seen += len(places)
            for place, one in zip(places, again, strict=True):
                if not predict.alike(found[place], one):
                    return {"devices": self._blamed(images, places, place)}
        text = f"{seen} of {len(images)} images were answered by two of the {len(names)} devices each, and alike"
        return {"devices": Verdict(Outcome.PASS, text, {"asked_twice": seen})}

    def _blamed(self, images: Dataset, places: Sequence[int], place: int) -> Verdict:
        answers = [self._by(name, images, places)[places.index(place)] for name in self.sessions]
        wrong = [list(self.sessions)[number] for number in unlike(answers, predict.alike)]
        sample = images.samples[place].id
        if not wrong:
            text = f"devices answered {sample} differently, and alike when it was asked again"
        elif len(wrong) == len(answers):
            text = f"{', '.join(wrong)} answer {sample} differently: run each with --device N"
        else:
            text = f"{', '.join(wrong)} answers {sample} differently from the other {len(answers) - len(wrong)} devices"
        return Verdict(Outcome.FAIL, text, {"devices": wrong, "image": sample})

    def _last_batch_alike(self, images: Dataset, found: Sequence[Predictions]) -> dict[str, Verdict]:
        alone = len(images) % self.batch
        if not alone:
            return {}
        places = list(range(len(images) - alone, len(images)))
        full = [*places, *places[-1:] * (self.batch - alone)]
        name = list(self.sessions)[len(images) // self.batch % len(self.sessions)]
        again = self._by(name, images, full)
        pairs = zip(places, again, strict=False)
        wrong = [images.samples[place].id for place, one in pairs if not predict.alike(found[place], one)]
        text = f"the last batch has {alone} images and is filled up to {self.batch}"
        if wrong:
            return {"last batch": Verdict(Outcome.FAIL, f"{text}: {wrong[0]} is answered differently in a full batch")}
        return {"last batch": Verdict(Outcome.PASS, f"{text}: its images are answered alike in a full batch")}

    def _places(self, images: Dataset, device: int) -> list[int]:
        return [place for place in range(len(images)) if place // self.batch % len(self.sessions) == device]

    def _by(
        self,
        name: str,
        images: Dataset,
        places: Sequence[int],
        advance: Callable[[int], None] = lambda done: None,
    ) -> list[Predictions]:
        part = images.take(places)
        session = self.sessions[name]
        return predict.found_by(session, self.model, self.protocol, part, self.batch, self.raw, self.nms, advance)
