"""One case from engine to outputs: build, load, run. Each step is done when it is first needed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import matrix
from harness.backends.base import Device
from harness.case import Case, Precision, Tensors
from harness.datasets.base import Sample
from harness.errors import HarnessError, InvalidMeasurement
from harness.judge.numerics import Loss, in_half, judge_numerics
from harness.judge.policy import Asked
from harness.judge.verdict import Verdict
from harness.models.base import Prepared
from harness.run import predict
from harness.run.card import ASKED_TWICE, Card
from harness.run.context import WITNESS_IMAGES, RunContext
from harness.run.devices import Presence
from harness.run.engine import Built, CaseEngine, Variant
from harness.run.prepared import Ahead
from harness.vocabulary import Outcome
from harness.worker.process import RemoteSession, Worker

OF_PIXELS = 1e-4  # relative to the largest value: the order of operations costs 1e-7, a mean off by one level 4e-3


class CaseRun:
    """One case on its chip: worker, session and outputs. Everything is started when it is first used; `close` ends
    it. With `anew` nothing that an earlier run kept of the chip is used: the engine is built and the chip asked once
    more."""

    another_program = True  # the reference is computed by another program than any chip's
    rows = True  # every output has a row for each row of the inputs
    wide = True  # the network computes in FP32 where the case says so
    devices_agreed = False  # whether accuracy has compared the devices of the card of this process

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
        seeded = ("seeded",) if self.context.references.weights(self.model).seeded else ()
        return (*self.context.not_the_chip(self.chip), *seeded)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The facts that every record of this case holds: SDK, device, protocol, weights, calibration."""
        weights = self.context.references.weights(self.model)
        return {
            "backend": self.present.backend, "version": self.present.version, "device": self.device.name,
            "evidence": self.present.evidence, "protocol": self.protocol.name,
            **self.variant.facts, "weights": weights.source, "weights_digest": weights.digest,
            "note": self.protocol.note, **self._tuned, **self._calibrated_on, **self._set_by_user,
        }  # fmt: skip

    @property
    def _set_by_user(self) -> dict[str, Any]:
        variables = dict(self.engine.environment)
        return {
            **({"backend_options": dict(self.engine.options)} if self.engine.options else {}),
            **({"environment": variables} if variables else {}),
        }

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
        """What the engine cost: seconds to build, MB of its file, most resident MB of the worker so far; where the
        device tells it, MB of its memory that the suite holds with the engine loaded and run; and where the runtime
        tells it, the share of the graph's nodes that run on the device."""
        store, built = self.context.settings.store, self.built()
        told, first = store.told(built.path), built.spec.options.get("quantised")
        build = told["seconds"] + (store.told(Path(first))["seconds"] if first else 0.0)
        return {"build_s": round(build, 3), "engine_mb": round(told["bytes"] / 1e6, 3),
                "worker_peak_mb": self.worker.peak_mb, **self._on_device, **self._placed}  # fmt: skip

    @property
    def _placed(self) -> dict[str, float | None]:
        share = self.session.on_chip
        return {} if share is None else {"on_chip": round(share, 4)}

    @property
    def _on_device(self) -> dict[str, float | None]:
        held = None
        with suppress(HarnessError):  # a vendor's tool that fails costs no verdict
            held = self.worker.health(self.device).own_mb
        return {} if held is None else {"device_peak_mb": round(held, 1)}

    # ---------------------------------------------------------------- numerics

    def outputs(self, variant: Variant | None = None) -> tuple[Tensors, Tensors]:
        """(chip, reference): raw outputs by ONNX name for one batch, whose rows are the first images repeated."""
        self.worker  # noqa: B018 - it starts while the reference is looked up
        wanted, variant = self.wanted, variant or self.variant
        found = self.first if variant == self.variant else self._execute(variant)
        if self.another_program and all(
            np.array_equal(found[name], value) for name, value in wanted.items() if name in found
        ):
            raise InvalidMeasurement(
                "every output equals the reference's bit by bit: the reference was compared with itself, "
                "not with the chip",
                hint="sums in another order always differ in their last bits; this is a fault of the suite: report it",
            )
        narrow = in_half(found, wanted) if self.wide and self.case.precision is Precision.FP32 else ""
        # outside of the tolerance it is a FAIL, which says more; BF16 numbers are numbers of FP16 too
        if narrow and judge_numerics(found, wanted, Precision.FP32).outcome is Outcome.PASS:
            raise InvalidMeasurement(
                f"every value of {narrow} is a number that FP16 has: it was computed, or handed on, in FP16",
                hint="see which data type the engine's outputs have; else the backend or the suite narrows them",
            )
        return found, wanted

    @property
    def dynamic(self) -> Variant:
        """One engine for every batch of the chip."""
        return replace(self.variant, tiers=self.engine.tiers)

    def served(self) -> dict[int, tuple[Tensors, Tensors]]:
        """(chip, reference) by batch, all from the `dynamic` engine. A batch is the first rows of that of this case."""
        built = self.built(self.dynamic)
        given, wanted, found = self.inputs(self.variant.raw), self.wanted, {}
        for batch in self.engine.tiers:
            first, right = ({name: value[:batch] for name, value in whole.items()} for whole in (given, wanted))
            with self.worker.load(built.path, self.device, replace(built.spec, batch=batch)) as session:
                found[batch] = session.run(first, finite=False), right
        return found

    @cached_property
    def wanted(self) -> Tensors:
        """Raw outputs of the reference by ONNX name, for one batch. Raises InvalidMeasurement, in a second measurement,
        when the reference itself or the exported file is wrong, and when they are not of the images that the chip gets.
        """
        rows = [i % self.different for i in range(self.case.batch)]
        if self.anew:
            self.context.references.check_reference(self.model, self.protocol, self.different)
            images = self.context.references.images(self.model, self.protocol, self.different)
            if not np.array_equal(self.inputs()[self.model.input], images[rows]):
                raise InvalidMeasurement(
                    "the reference is asked about other images than the chip, or in another order: it is not the chip "
                    "that is wrong",
                    hint="this is a fault of the suite: report it",
                )
            self._check_pixels(images)
        witnesses = self.context.references.witnesses(self.model, self.protocol, self.different)
        return {name: value[rows] for name, value in witnesses.items()}

    def _check_pixels(self, images: NDArray[np.float32]) -> None:
        """Raises InvalidMeasurement when pixels, normalised as a chip is told to, are not the `images` that the
        reference gets (N, 3, H, W): a chip that does as it is told is not wrong."""
        normalize = self.protocol.normalize
        if normalize is None or not self.chip.normalizes:
            return
        dataset, prepare = self.context.dataset(self.model), self.prepare(raw=True)
        mean, std = (np.array(values, np.float32) for values in (normalize.mean, normalize.std))
        for sample, image in zip(dataset.head(len(images)).samples, images, strict=True):
            told = ((np.asarray(prepare(sample).tensor, np.float32) - mean) / std).transpose(2, 0, 1)
            if not np.allclose(told, image, rtol=0, atol=OF_PIXELS * float(np.abs(image).max())):
                raise InvalidMeasurement(
                    f"{self.model.name}: pixels that are normalised as the chip is told to are not what the reference "
                    "gets: it is not the chip that is wrong",
                    hint="see `normalize` of the model's protocol: mean and deviation of pixels 0..255, in the order "
                    "in which their channels are fed",
                )

    def judged(self, outputs: Tensors) -> Verdict:
        """The verdict on raw outputs of the chip for one batch."""
        return judge_numerics(outputs, self.wanted, self.case.precision, self.loss)

    @property
    def loss(self) -> dict[str, Loss]:
        """What the arithmetic of the case's precision alone costs each output."""
        return self.context.references.loss(self.model, self.protocol, self.case.precision)

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
    def different(self) -> int:
        """How many different images a batch holds."""
        return min(WITNESS_IMAGES, self.case.batch, len(self.context.dataset(self.model)))

    def inputs(self, raw: bool = False) -> Tensors:
        """One batch of the first images, prepared (predict.batch_of)."""
        dataset, prepare = self.context.dataset(self.model), self.prepare(raw)
        return {self.model.input: predict.batch_of(dataset, prepare, self.different, self.case.batch)}

    def prepare(self, raw: bool = False) -> Callable[[Sample], Prepared]:
        """A function that reads and prepares an image as the engine takes it; with `raw` the chip normalises."""
        return self.context.prepared.prepare(self.context.dataset(self.model).name, self.protocol, raw)

    def ahead(self, raw: bool = False, streams: int = 1) -> Ahead:
        """The same for many images, ahead of their use, for one of that many devices at once."""
        return self.context.prepared.ahead(self.context.dataset(self.model).name, self.protocol, raw, streams)

    def changed(self) -> Tensors | None:
        """Other inputs, on which outputs are checked between timed runs; None for the images upside down."""
        return None

    # ---------------------------------------------------------------- what throughput asks of it

    @property
    def earlier(self) -> Tensors | None:
        """Outputs of `first`, where that ran; without the engine's process, if that has ended."""
        return vars(self).get("first")

    def compare_devices(self, sessions: dict[str, RemoteSession]) -> None:
        """Raises InvalidMeasurement when sessions, by the names of their devices, answer images of the data set
        differently."""
        dataset = self.context.dataset(self.model)
        few = dataset.take(sorted(random.sample(range(len(dataset)), min(ASKED_TWICE, len(dataset)))))
        ahead = self.ahead(self.variant.raw, len(sessions))
        card = Card(sessions, self.model, self.protocol, self.case, ahead, self.variant.nms)
        _, verdicts = card.ask(few, lambda done: None)
        verdict = verdicts["devices"]
        if verdict.outcome is Outcome.FAIL:
            raise InvalidMeasurement(verdict.text, hint="see what each computes: pytest -m numerics --device N")

    @property
    def peers(self) -> tuple[str, ...]:
        """Programs that it is timed in turn with."""
        return peers_of(self.case)

    def bound(self, stage: str) -> Asked:
        """The lab's bounds for that stage of the case."""
        return self.context.settings.policy.bound(self.case, stage, date.today())


def peers_of(case: Case) -> tuple[str, ...]:
    """Programs that the case is timed in turn with. They compute in FP32, so they are fair peers there only."""
    chip = matrix.chips()[case.chip]
    return chip.peers if chip.timed_in_turn and case.precision is Precision.FP32 else ()
