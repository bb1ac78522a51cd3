"""One case from engine to figures: build, run, score, time. Each step is done when it is first needed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import date
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from harness import matrix
from harness.backends.base import Device, Health
from harness.case import Case, Precision, Predictions, Tensors
from harness.datasets.base import Dataset, Sample
from harness.errors import InvalidMeasurement
from harness.judge import stats
from harness.judge.policy import Asked
from harness.judge.verdict import FLOOR, Loss, Verdict, judge_numerics
from harness.models.base import Prepared
from harness.run import accuracy, artefacts, devices, predict, throughput
from harness.run.accuracy import Evaluation
from harness.run.card import ASKED_TWICE, Card
from harness.run.context import WITNESS_IMAGES, RunContext
from harness.run.devices import Presence
from harness.run.engine import Built, CaseEngine, Variant
from harness.run.predict import Answers
from harness.run.throughput import Measurement, Side
from harness.vocabulary import Outcome
from harness.worker.process import RemoteSession, Worker

ASKED_AGAIN = 12  # images of which a chip's kept answers are compared with today's: one wrong in ten is seen in 72 %
ASKED_OF_HEAVY = 4  # the same for a model that takes seconds an image


class CaseRun:
    """One case on its chip: worker, session and figures. Everything is started when it is first used; `close` ends
    it. With `anew` nothing that an earlier run kept of the chip is used: the engine is built and the chip asked once
    more."""

    rows = True  # every output has a row for each row of the inputs

    def __init__(self, context: RunContext, case: Case, anew: bool = False) -> None:
        self._begin(context, case, CaseEngine(context, case, anew), anew)
        self.model, self.protocol = self.engine.model, self.engine.protocol

    def _begin(self, context: RunContext, case: Case, engine: CaseEngine, anew: bool) -> None:
        self.context, self.case, self.engine, self.anew = context, case, engine, anew
        self.chip, self.variant = engine.chip, engine.variant
        self._stack = ExitStack()
        self._published: Path | None = None

    def close(self) -> None:
        """End the worker. Raises the error of unloading the engine, if there is one."""
        self._stack.close()

    def leave_device(self) -> None:
        """Release the device: in an exclusive compute mode it takes one process, and a measurement needs its memory."""
        self.close()
        for name in ("session", "worker", "held"):
            vars(self).pop(name, None)

    @property
    def sound(self) -> bool:
        """False when the worker was started and has ended; then the next test takes a new CaseRun."""
        return "worker" not in vars(self) or self.worker.alive

    @property
    def present(self) -> Presence:
        """The chip's devices. Raises DeviceError when there is none."""
        return self.engine.present

    @property
    def device(self) -> Device:
        """The first device of the chip."""
        return self.engine.device

    # ---------------------------------------------------------------- what the records say

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """Why the figures of this case are not a conformance result, apart from the images; empty if they are."""
        seeded = ("seeded",) if self.context.weights(self.model).seeded else ()
        return (*self.context.not_the_chip(self.chip), *seeded)

    @cached_property
    def data_marks(self) -> tuple[str, ...]:
        """Why figures over the data set are not a conformance result (accuracy.marks_of); empty if they are."""
        return accuracy.marks_of(self.context.dataset(self.model), self.context.settings.limit)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The facts that every record of this case holds: SDK, device, protocol, weights, calibration."""
        weights = self.context.weights(self.model)
        return {
            "backend": self.present.backend, "version": self.present.version, "device": self.device.name,
            "evidence": self.present.evidence, "protocol": self.protocol.name,
            "normalized_by_chip": self.variant.raw, "compiled": self.engine.kind, "weights": weights.source,
            "weights_digest": weights.digest, "note": self.protocol.note, **self._tuned, **self._calibrated_on,
            **self._set_by_user,
        }  # fmt: skip

    @property
    def _set_by_user(self) -> dict[str, Any]:
        return {"backend_options": dict(self.engine.options)} if self.engine.options else {}

    @property
    def _tuned(self) -> dict[str, str]:
        """{"tuned": how} with --tune, else {}."""
        told = self.engine.tuned or f"no: {self.present.backend} has no tuning for this device"
        return {"tuned": told} if self.context.settings.tune else {}

    @property
    def _calibrated_on(self) -> dict[str, Any]:
        if self.case.precision is not Precision.INT8:
            return {}
        dataset, _ = self.context.calibration(self.model)
        return {"calibration": f"{len(dataset)} images of {dataset.name}, {dataset.kind}",
                "calibration_digest": dataset.digest}  # fmt: skip

    @property
    def untold(self) -> dict[str, Any]:
        """{"untold": text} when the devices did not report all of their use during the measurement, else {}."""
        run = vars(self).get("measurement")  # cached, where it was measured
        told = devices.untold((*run.before, *run.after)) if run is not None else ""
        return {"untold": told} if told else {}

    @cached_property
    def in_int8(self) -> str:
        """How many layers are in INT8, such as "26 of 56", for an INT8 engine that records it; else ""."""
        return self.engine.layers_in_int8(self.built().path) if self.case.precision is Precision.INT8 else ""

    # ---------------------------------------------------------------- engine and session

    def onnx(self, variant: Variant | None = None) -> Path:
        """Path of the ONNX file of the model. Raises ExportError."""
        return self.engine.onnx(variant)

    def built(self, variant: Variant | None = None) -> Built:
        """The compiled engine of `variant`, by default the published one. Raises BuildError.

        The device is held meanwhile, because some compilers use it."""
        self.held  # noqa: B018
        made = self.engine.built(self.worker, variant or self.variant)
        if variant in (None, self.variant):
            self._published = made.path
        return made

    def name_engine(self) -> None:
        """Let the store name the published engine as the latest, where it is built: records name the latest, and the
        test before may have built another variant."""
        if self._published is not None:
            self.context.settings.store.latest["engine"] = self._published

    @cached_property
    def worker(self) -> Worker:
        """The process that holds the vendor's SDK."""
        return self._stack.enter_context(self.context.worker(self.chip, self.present.backend, str(self.case)))

    @cached_property
    def session(self) -> RemoteSession:
        """The engine of the published variant, loaded on the device of this process."""
        built = self.built()
        return self._stack.enter_context(self.worker.load(built.path, self.device, built.spec, self.rows))

    @cached_property
    def held(self) -> Device:
        """The device, leased until `close` or `leave_device`: shared with other runs, but one process of a run at a
        time, for two would stand in each other's way."""
        alone = self.context.settings.processes > 1
        self._stack.enter_context(self.context.lease(self.chip, self.device, str(self.case), exclusive=alone))
        return self.device

    @contextmanager
    def loaded(self, variant: Variant) -> Iterator[RemoteSession]:
        """A session of `variant`: the session of this CaseRun, or for another variant a temporary one."""
        if variant == self.variant:
            yield self.session
            return
        built = self.built(variant)
        with self.worker.load(built.path, self.device, built.spec, self.rows) as session:
            yield session

    @property
    def costs(self) -> dict[str, float | None]:
        """What the engine cost: seconds to build, MB of its file, most resident MB of the worker so far."""
        told = self.context.settings.store.told(self.built().path)
        size = round(told["bytes"] / 1e6, 3)
        return {"build_s": told["seconds"], "engine_mb": size, "worker_peak_mb": self.worker.peak_mb}

    # ---------------------------------------------------------------- numerics

    def outputs(self, variant: Variant | None = None) -> tuple[Tensors, Tensors]:
        """(chip, reference): raw outputs by ONNX name for one batch, whose rows are the first images repeated."""
        self.worker  # noqa: B018 - it starts while the reference is looked up
        wanted, variant = self.wanted, variant or self.variant
        return self.first if variant == self.variant else self._execute(variant), wanted

    def served(self) -> dict[int, tuple[Tensors, Tensors]]:
        """(chip, reference) by batch, all from one engine for every batch of the chip. A batch is the first rows of
        that of this case."""
        built = self.built(replace(self.variant, tiers=self.engine.tiers))
        given, wanted, found = self.inputs(self.variant.raw), self.wanted, {}
        for batch in self.engine.tiers:
            first, right = ({name: value[:batch] for name, value in whole.items()} for whole in (given, wanted))
            with self.worker.load(built.path, self.device, replace(built.spec, batch=batch)) as session:
                found[batch] = session.run(first, finite=False), right
        return found

    @cached_property
    def wanted(self) -> Tensors:
        """Raw outputs of the reference by ONNX name, for one batch."""
        witnesses = self.context.witnesses(self.model, self.protocol, self._different)
        rows = [i % self._different for i in range(self.case.batch)]
        return {name: value[rows] for name, value in witnesses.items()}

    def judged(self, outputs: Tensors) -> Verdict:
        """The verdict on raw outputs of the chip for one batch."""
        return judge_numerics(outputs, self.wanted, self.case.precision, self.loss)

    @property
    def loss(self) -> dict[str, Loss]:
        """What the arithmetic of the case's precision alone costs each output."""
        return self.context.loss(self.model, self.protocol, self.case.precision)

    def repeated(self) -> tuple[Tensors, Tensors]:
        """Outputs of two runs of the published variant on the same batch."""
        return self.first, self._execute(self.variant)

    def turned(self) -> tuple[Tensors, Tensors]:
        """(outputs for the batch in reverse order, outputs for the batch with their rows reversed)."""
        given = {name: np.ascontiguousarray(value[::-1]) for name, value in self.inputs(self.variant.raw).items()}
        backwards = self.session.run(given, finite=False)
        return backwards, {name: value[::-1] for name, value in self.first.items()}

    @cached_property
    def first(self) -> Tensors:
        """Raw outputs of the published variant's first execute, on one batch of the first images."""
        return self._execute(self.variant)

    def _execute(self, variant: Variant) -> Tensors:
        with self.loaded(variant) as session:
            return session.run(self.inputs(variant.raw), finite=False)

    @cached_property
    def _different(self) -> int:
        """How many different images a batch holds."""
        return min(WITNESS_IMAGES, self.case.batch, len(self.context.dataset(self.model)))

    def inputs(self, raw: bool = False) -> Tensors:
        """One batch of the first images, prepared (predict.batch_of)."""
        dataset, prepare = self.context.dataset(self.model), self._prepare(raw)
        return {self.model.input: predict.batch_of(dataset, prepare, self._different, self.case.batch)}

    def changed(self) -> Tensors | None:
        """Other inputs, on which outputs are checked between timed runs; None for the images upside down."""
        return None

    # ---------------------------------------------------------------- accuracy

    @cached_property
    def evaluation(self) -> Evaluation:
        """Scores of the published variant and of the reference on every image that it was not calibrated on."""
        return self.evaluate(self.variant)

    def evaluate(self, variant: Variant) -> Evaluation:
        """Scores of `variant` and of the reference on every image that it was not calibrated on."""
        answers = self.answers if variant == self.variant else self._answers(variant)
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
        reference = context.reference(model, self.protocol, answers.dataset)
        limit, seeded = context.settings.limit, context.weights(model).seeded
        return accuracy.evaluate(self.case, model.task, answers, reference, dataset, limit, seeded)

    @cached_property
    def answers(self) -> Answers:
        """Predictions of the published variant for every image of the data set."""
        return self._answers(self.variant)

    def _answers(self, variant: Variant) -> Answers:
        """Predictions of `variant`. For a chip that `keeps` they come from the store when the same engine has already
        answered the same images, and answers a random few of them alike today."""
        dataset = self.context.dataset(self.model)
        also: dict[str, Verdict] = {}

        def ask(images: Dataset = dataset) -> tuple[list[Predictions], float]:
            with self._card(variant) as card:
                advance, begun = self.context.settings.progress(f"{self.case}", len(images)), time.perf_counter()
                found, told = card.ask(images, advance)
                also.update({name: one for name, one in told.items() if images is dataset or name != "devices"})
                return found, time.perf_counter() - begun

        if not self.chip.keeps:
            return Answers(dataset, *ask(), False, also)
        keep = partial(
            artefacts.chip_answers, self.context.settings.store, self.built(variant).path, self.model, dataset
        )
        found, seconds, kept = keep(ask, self.anew)
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

    def _prepare(self, raw: bool) -> Callable[[Sample], Prepared]:
        return self.context.prepared.prepare(self.context.dataset(self.model).name, self.protocol, raw)

    @contextmanager
    def _card(self, variant: Variant) -> Iterator[Card]:
        """Sessions of `variant` on the devices that a card of the published figures has; where each process of the run
        has a device, on that alone."""
        with self.loaded(variant) as session, ExitStack() as stack:
            sessions = {f"device {self.device.index}": session}
            here = [device for device in self.present.devices if device.card == self.device.card]
            alone = self.context.settings.processes > 1
            for device in [] if alone else here[: self.chip.devices_per_card]:
                if device == self.device:
                    continue
                stack.enter_context(self.context.lease(self.chip, device, str(self.case), exclusive=False))
                name = f"{self.case}.device{device.index}"
                worker = stack.enter_context(self.context.worker(self.chip, self.present.backend, name))
                built = self.built(variant)
                loaded = worker.load(built.path, device, built.spec, self.rows)
                sessions[f"device {device.index}"] = stack.enter_context(loaded)
            yield Card(sessions, self.model, self.protocol, self.case, self._prepare(variant.raw), variant.nms)

    # ---------------------------------------------------------------- throughput

    @cached_property
    def measurement(self) -> Measurement:
        """Raw windows of back-to-back executes with the inputs on the device, on all devices of a card at once.

        A card with more devices than the published card is measured on as many devices as that has; the others are
        idle. Raises DeviceError when a device is in use, InvalidMeasurement when one is not idle or an answer is wrong.
        """
        return self._paired() if self.chip.timed_in_turn else self._timed(self.device.card)

    @property
    def cards(self) -> list[int]:
        """Numbers of the cards that the chip's devices here are on."""
        return sorted({device.card for device in self.present.devices})

    def on_card(self, number: int) -> Measurement:
        """As `measurement`, on another card of the host."""
        return self.measurement if number == self.device.card else self._timed(number)

    def _timed(self, number: int) -> Measurement:
        card = [d for d in self.present.devices if d.card == number]
        earlier = vars(self).get("first")  # outputs of a process that will have ended
        self.leave_device()
        with ExitStack() as stack:
            for device in card:
                stack.enter_context(self.context.lease(self.chip, device, str(self.case), exclusive=True))
            watcher = self.worker  # its engine is built, so it is idle during the measurement
            rested = [self.context.vacated(self.chip, device, partial(watcher.health, device)) for device in card]
            for device, health in zip(card, rested, strict=True):
                devices.check_idle(device, health)
            here = len(card)
            card = card[: self.chip.devices_per_card]
            before = tuple(rested[: len(card)])
            names = [str(self.case) if len(card) == 1 else f"{self.case}.device{device.index}" for device in card]
            workers = [
                stack.enter_context(self.context.worker(self.chip, self.present.backend, name)) for name in names
            ]
            inputs = self.inputs(self.variant.raw)
            built = self.engine.built(watcher, self.variant)  # not self.built: that leases the first card
            sessions = [
                stack.enter_context(w.load(built.path, d, built.spec, self.rows))
                for w, d in zip(workers, card, strict=True)
            ]
            other = self.changed()
            sides = [Side(str(self.case), session, inputs, session.run(inputs), other) for session in sessions]
            if earlier is not None:
                throughput.check_processes(sides[0], earlier)
            if number != self.device.card:
                throughput.check_right(sides, self.judged)
            if len(card) > 1:
                named = [f"device {device.index}" for device in card]
                throughput.check_devices(dict(zip(named, sides, strict=True)), self.judged)
                asked = "answers" in vars(self) and "devices" in self.answers.also  # by accuracy, on the first card
                if number != self.device.card or not asked:
                    self._check_card(dict(zip(named, sessions, strict=True)))
            during: list[list[Health]] = []

            def look() -> None:
                during.append([watcher.health(device) for device in card])

            patience = self._patience(throughput.CHIP_PATIENCE_S)
            plan = self.context.settings.plan
            blocks, effort = throughput.card_until_decided(sides, plan, self._conclude, patience, look)
            after = tuple(watcher.health(device) for device in card)
            devices.check_same(card, before, after, during)
            note = devices.incomparable(card, before, after)
        of_card = self.chip.devices_per_card
        return Measurement(blocks, (), of_card, before, after, effort, devices_here=here, note=note)

    def _check_card(self, sessions: dict[str, RemoteSession]) -> None:
        """Raises InvalidMeasurement when devices answer images of the data set differently."""
        dataset = self.context.dataset(self.model)
        few = dataset.take(sorted(random.sample(range(len(dataset)), min(ASKED_TWICE, len(dataset)))))
        card = Card(sessions, self.model, self.protocol, self.case, self._prepare(self.variant.raw), self.variant.nms)
        _, verdicts = card.ask(few, lambda done: None)
        verdict = verdicts["devices"]
        if verdict.outcome is Outcome.FAIL:
            raise InvalidMeasurement(verdict.text, hint="see what each computes: pytest -m numerics --device N")

    @cached_property
    def speed(self) -> stats.Estimate:
        """Images per second of one card."""
        return throughput.speed_of(self.measurement, self.case.batch)

    def _patience(self, default: float) -> float:
        asked = self.context.settings.patience
        return default if asked is None else asked

    @property
    def has_peer(self) -> bool:
        """Whether it is timed in turn with eager PyTorch."""
        return has_peer(self.case)

    @property
    def _conclude(self) -> throughput.Conclude | None:
        """The function that judges the blocks measured so far; None where throughput is not judged."""
        cell = self.context.settings.baselines.cell(self.case, "throughput")
        if self.context.simulated(self.chip) or (cell is None and not self.has_peer):
            return None
        return throughput.conclusion(self.case.batch, cell, self.at_least, self.chip.devices_per_card, self.floor)

    def bound(self, stage: str) -> Asked:
        """The lab's bounds for that stage of the case."""
        return self.context.settings.policy.bound(self.case, stage, date.today())

    @property
    def floor(self) -> float:
        """Share of the published throughput that is asked."""
        floor = self.bound("throughput").floor
        return FLOOR if floor is None else floor

    @property
    def at_least(self) -> float | None:
        """Ratio to eager PyTorch that is asked; None where it is not compared."""
        floor, usual = self.bound("throughput").floor, self.chip.least_of_eager
        return usual if usual is None or floor is None else floor

    def _paired(self) -> Measurement:
        """Windows of the chip and, at FP32, of eager PyTorch, in turn."""
        before = (self.worker.health(self.device),)
        sides = [Side(str(self.case), self.session, self.inputs(self.variant.raw), self.first, self.changed())]
        with ExitStack() as stack:
            if self.has_peer:
                images: Tensors = {n: v.astype(np.float32, copy=False) for n, v in self.inputs(False).items()}
                eager = stack.enter_context(self.context.peer(self.model, self.device, self.engine.plain_spec()))
                answered = eager.run(images)  # the second run: a large network allocates some of its memory only then
                sides.append(Side(f"eager PyTorch beside {self.case}", eager, images, answered))
            patience = self._patience(throughput.CPU_PATIENCE_S)
            blocks, effort, load = throughput.pairs_until_decided(sides, self._conclude, patience)
        after = (self.worker.health(self.device),)
        chip, peer = throughput.apart(blocks)
        return Measurement(chip, peer, 1, before, after, effort, load)


def has_peer(case: Case) -> bool:
    """Whether the case is timed in turn with eager PyTorch, which is a fair peer at FP32 only."""
    return matrix.chips()[case.chip].timed_in_turn and case.precision is Precision.FP32
