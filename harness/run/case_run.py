"""One case from engine to figures: build, run, score, time; each step made when it is first asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import matrix
from harness.backends.base import BuildSpec, Device, TensorSpec
from harness.backends.registry import backend
from harness.case import Case, Precision, Predictions, Tensors
from harness.datasets.base import Dataset
from harness.errors import DataError, DeviceError, UsageError
from harness.export.export import NMS_OUTPUTS
from harness.judge import stats
from harness.metrics import score
from harness.metrics.base import Score
from harness.run import devices, throughput
from harness.run.context import PREPARATION, WITNESSES, Suite, own_code, pack, sources, unpack
from harness.run.devices import Presence
from harness.run.throughput import Measurement, Side
from harness.worker.process import RemoteSession, Worker


@dataclass(frozen=True)
class Answers:
    """What the chip finds in every image, and the seconds that took. `kept`: in an earlier run."""

    dataset: Dataset
    found: list[Predictions]
    seconds: float
    kept: bool


@dataclass(frozen=True)
class Evaluation:
    """Chip and reference on the same images: scores, and how fast images went through end to end."""

    chip: Score
    reference: Score
    dataset: Dataset
    images_per_second: float
    marks: tuple[str, ...]  # of the images, and "kept": answers of an earlier run of the same engine on the same images

    @property
    def facts(self) -> dict[str, Any]:
        """What the records of these figures say of the images."""
        data = self.dataset
        return {"dataset": data.name, "dataset_kind": data.kind, "dataset_digest": data.digest, "images": len(data),
                "dataset_note": data.note, "end_to_end": self.images_per_second}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """What the engine does beside the network: normalise raw pixels, suppress overlapping boxes."""

    raw: bool
    nms: bool = False


class Bench:
    """One case on the bench: its worker, its engine, its session. Everything is made when it is first asked for."""

    def __init__(self, suite: Suite, case: Case) -> None:
        for name, known in ((case.model, matrix.models()), (case.chip, matrix.chips())):
            if name not in known:
                raise UsageError(f"{case}: there is no {name}", hint=f"there are {', '.join(known)}")
        self.suite = suite
        self.case = case
        self.chip = matrix.chips()[case.chip]
        self.model = matrix.models()[case.model]
        self.protocol = self.model.protocol(case.chip)
        self.variant = Variant(raw=self.chip.normalizes and case.chip in self.protocol.normalized_by_chip)
        self._stack = ExitStack()

    def close(self) -> None:
        self._stack.close()

    def _leave(self) -> None:
        """Let go of the device: in an exclusive mode it takes one process, and its memory is for what is measured."""
        self.close()
        for name in ("session", "worker"):
            vars(self).pop(name, None)

    @property
    def sound(self) -> bool:
        """Whether its worker, if it was ever started, still lives: after a crash the next test takes a new bench."""
        return "worker" not in vars(self) or self.worker.alive

    @cached_property
    def present(self) -> Presence:
        present = self.suite.present(self.chip)
        if not present.devices:
            raise DeviceError(f"{self.chip.title} is absent: {present.evidence}", hint=self.chip.hint)
        return present

    @property
    def device(self) -> Device:
        return self.present.devices[0]

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """What keeps the figures of this case from being a conformance result, whatever the images."""
        seeded = ("seeded",) if self.suite.weights(self.model).seeded else ()
        return (*(("simulated",) if self.suite.simulated(self.chip) else ()), *seeded)

    @cached_property
    def data_marks(self) -> tuple[str, ...]:
        """What keeps figures over the data set from being a conformance result."""
        return self._data_marks(self.suite.dataset(self.model))

    def _data_marks(self, dataset: Dataset) -> tuple[str, ...]:
        kind = dataset.kind
        limited = ("limited",) if self.suite.settings.limit is not None else ()
        return (*(() if kind == "whole" else (kind,)), *limited)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What every record of this case says of how it came about."""
        return {
            "backend": self.present.backend, "version": self.present.version, "device": self.device.name,
            "evidence": self.present.evidence, "protocol": self.protocol.name, "normalized_by_chip": self.variant.raw,
            "weights": self.suite.weights(self.model).source, "weights_digest": self.suite.weights(self.model).digest,
            "note": self.protocol.note, **self._calibrated_on,
        }  # fmt: skip

    @property
    def _calibrated_on(self) -> dict[str, Any]:
        if self.case.precision is not Precision.INT8:
            return {}
        dataset, _ = self.suite.calibration(self.model)
        return {"calibration": f"{len(dataset)} images of {dataset.name}, {dataset.kind}",
                "calibration_digest": dataset.digest}  # fmt: skip

    # ---------------------------------------------------------------- engine and session

    def onnx(self, variant: Variant | None = None) -> Path:
        return self.suite.exported(self.model, self.protocol, nms=(variant or self.variant).nms)

    def spec(self, variant: Variant) -> BuildSpec:
        return replace(
            self._plain_spec(),
            outputs=self._outputs_of(variant),
            normalize=self.protocol.normalize if variant.raw else None,
            options=self._options(variant),
        )

    def _plain_spec(self) -> BuildSpec:
        height, width = self.protocol.size
        int8 = self.case.precision is Precision.INT8
        return BuildSpec(
            precision=str(self.case.precision),
            batch=self.case.batch,
            inputs=(TensorSpec(self.model.input, "float32", (-1, 3, height, width)),),
            outputs=self.model.outputs,
            calibration=str(self._calibration()) if int8 else None,
            target=self.device.target or self.chip.target,
        )

    def _options(self, variant: Variant) -> dict[str, Any]:
        """What a backend needs beside the graph and cannot make in a worker that has only the vendor's SDK."""
        return dict(backend(self.present.backend).needs(_Beside(self, variant)))

    def _outputs_of(self, variant: Variant) -> tuple[str, ...]:
        return NMS_OUTPUTS if variant.nms else self.model.outputs

    def _rounded(self) -> Path:
        """The ONNX file in the case's precision, for compilers that take precision from the graph."""
        from harness.backends.cpu import ort

        spec = replace(self._plain_spec(), tiers=(self.case.batch,))
        key = {"onnx": self.onnx().parent.name, "spec": {**asdict(spec), "calibration": _kept(spec.calibration)},
               "code": sources("backends", "worker"), "onnxruntime": version("onnxruntime")}  # fmt: skip

        def make(path: Path) -> None:
            ort.build(self.onnx(), path, spec, symmetric=True)

        return self.suite.settings.store.get(key, make, kind="rounded", suffix=".onnx")

    def _calibration(self) -> Path:
        dataset, _ = self.suite.calibration(self.model)
        key = {"protocol": self.protocol.name, "model": self.model.name, "dataset": dataset.digest,
               "code": sources(*PREPARATION) + own_code(self.model)}  # fmt: skip

        def make(path: Path) -> None:
            images = [self.protocol.preprocess(sample.read(), False).tensor for sample in dataset.samples]
            with path.open("wb") as file:
                np.save(file, np.stack(images).astype(np.float32, copy=False))

        return self.suite.settings.store.get(key, make, kind="calibration", suffix=".npy")

    def engine(self, variant: Variant | None = None) -> Path:
        """The compiled engine; its key holds all that went into it, the SDK's version included."""
        variant = variant or self.variant
        spec, unkeyed = self.spec(variant), backend(self.present.backend).unkeyed
        options = {name: _kept(value) for name, value in spec.options.items() if name not in unkeyed}
        key = {
            "onnx": self.onnx(variant).parent.name,
            "spec": {**asdict(spec), "calibration": _kept(spec.calibration), "options": options},
            "backend": self.present.backend,
            "version": self.present.version,
            "device": self.device.name,
            "code": sources("backends", "worker"),
        }

        def make(path: Path) -> None:
            self.worker.build(self.onnx(variant), path, spec)

        return self.suite.settings.store.get(key, make, kind="engine", suffix=".engine")

    @cached_property
    def in_int8(self) -> str:
        """How many layers are in INT8, "26 of 56", where the engine is a graph that says so; else nothing."""
        if self.case.precision is not Precision.INT8 or not backend(self.present.backend).engine_is_onnx:
            return ""
        import onnx

        told = {entry.key: entry.value for entry in onnx.load(self.engine()).metadata_props}
        return str(told.get("layers_in_int8", ""))

    @cached_property
    def worker(self) -> Worker:
        return self._stack.enter_context(self.suite.worker(self.chip, self.present.backend))

    @cached_property
    def session(self) -> RemoteSession:
        """The engine of the published variant, loaded on the first device under a shared lease."""
        engine = self.engine()
        self._stack.enter_context(devices.lease(self.device, self.chip.name, holder=str(self.case), exclusive=False))
        return self._stack.enter_context(self.worker.load(engine, self.device, self.spec(self.variant)))

    @contextmanager
    def loaded(self, variant: Variant) -> Iterator[RemoteSession]:
        """A session of that variant: the one that is kept, or another for a while."""
        if variant == self.variant:
            yield self.session
            return
        engine = self.engine(variant)
        with self.worker.load(engine, self.device, self.spec(variant)) as session:
            yield session

    # ---------------------------------------------------------------- figures

    def outputs(self, variant: Variant | None = None) -> tuple[Tensors, Tensors]:
        """(chip, reference): raw outputs for one batch of the first images, row by row from different images."""
        self.worker  # noqa: B018 - it starts while the reference is looked up
        witnesses = self.suite.witnesses(self.model, self.protocol, self._different)
        rows = [i % self._different for i in range(self.case.batch)]
        variant = variant or self.variant
        outputs = self.first if variant == self.variant else self._execute(variant)
        return outputs, {name: value[rows] for name, value in witnesses.items()}

    def repeated(self) -> tuple[Tensors, Tensors]:
        """Outputs of two runs of the published variant on the same batch."""
        return self.first, self._execute(self.variant)

    @cached_property
    def first(self) -> Tensors:
        """Raw outputs of the published variant's first execute, on one batch of the first images."""
        return self._execute(self.variant)

    def _execute(self, variant: Variant) -> Tensors:
        with self.loaded(variant) as session:
            return session.run({self.model.input: self._tensors(variant.raw)}, finite=False)

    @cached_property
    def _different(self) -> int:
        """How many different images there are in a batch."""
        return min(WITNESSES, self.case.batch, len(self.suite.dataset(self.model)))

    def _tensors(self, raw: bool) -> NDArray[np.generic]:
        """One batch of the first images, repeated in turn to fill it."""
        samples = self.suite.dataset(self.model).head(self._different).samples
        rows = [self.protocol.preprocess(sample.read(), raw).tensor for sample in samples]
        return np.stack([rows[i % len(rows)] for i in range(self.case.batch)])

    @cached_property
    def evaluation(self) -> Evaluation:
        """The published variant on every image of the data set that it was not calibrated on, beside the reference."""
        return self.evaluate(self.variant)

    def evaluate(self, variant: Variant) -> Evaluation:
        answers = self.answers if variant == self.variant else self._answers(variant)
        int8 = self.case.precision is Precision.INT8
        return self._scored(answers, self.suite.calibration(self.model)[1] if int8 else answers.dataset)

    @cached_property
    def on_the_whole_set(self) -> Evaluation:
        """The published variant on every image of the data set, as published figures are meant."""
        dataset = self.answers.dataset
        return self.evaluation if self.evaluation.dataset is dataset else self._scored(self.answers, dataset)

    def _scored(self, answers: Answers, dataset: Dataset) -> Evaluation:
        """`dataset` is the one that was answered, or a part of it."""
        ids = [sample.id for sample in dataset.samples]
        place = {sample.id: i for i, sample in enumerate(answers.dataset.samples)}
        if len(answers.found) != len(place):
            raise DataError(
                f"{self.case}: {len(answers.found)} answers for {len(place)} images",
                hint="this is a fault of the suite: report it",
            )
        reference = self.suite.reference(self.model, self.protocol, answers.dataset)
        theirs, ours = ([found[place[name]] for name in ids] for found in (reference, answers.found))
        task = self.model.task
        truth = None if self.suite.weights(self.model).seeded else dataset.truth  # of which nobody taught it anything
        return Evaluation(
            score(task, ours, truth, ids, theirs),
            score(task, theirs, truth, ids, theirs),
            dataset,
            len(answers.found) / answers.seconds,
            (*self._data_marks(dataset), *(("kept",) if answers.kept else ())),
        )

    @cached_property
    def answers(self) -> Answers:
        """What the published variant finds in every image of the data set."""
        return self._answers(self.variant)

    def _answers(self, variant: Variant) -> Answers:
        """Of a chip that `keeps` they come from the store when the same engine gave them for the same images."""
        dataset = self.suite.dataset(self.model)
        interpret = self.protocol.postprocess
        if variant.nms:
            assert self.protocol.postprocess_suppressed is not None
            interpret = self.protocol.postprocess_suppressed
        made: list[tuple[list[Predictions], float]] = []

        def ask() -> tuple[list[Predictions], float]:
            with self.loaded(variant) as session:
                begun = time.perf_counter()
                found = list(
                    self.suite.predict(
                        f"{self.case}",
                        dataset,
                        lambda image: self.protocol.preprocess(image, variant.raw),
                        lambda tensors: session.run({self.model.input: tensors}),
                        interpret,
                        self.case.batch,
                    )
                )
                return found, time.perf_counter() - begun

        if not self.chip.keeps:
            return Answers(dataset, *ask(), False)

        def make(path: Path) -> None:
            made.append(ask())
            found, seconds = made[0]
            with path.open("wb") as file:
                np.savez(file, allow_pickle=False, **pack(found), seconds=np.array([seconds]))

        key = {"engine": self.engine(variant).parent.name, "dataset": dataset.digest,
               "code": sources("run/context", "run/case_run", *PREPARATION) + own_code(self.model)}  # fmt: skip
        path = self.suite.settings.store.get(key, make, kind="answers", suffix=".npz")
        if made:
            return Answers(dataset, *made[0], False)
        with np.load(path) as arrays:
            kept = dict(arrays)
        found = unpack({name: kept[name] for name in kept if name != "seconds"})
        return Answers(dataset, found, float(kept["seconds"][0]), True)

    @cached_property
    def measurement(self) -> Measurement:
        """Raw windows of back-to-back executes with the inputs on the device, on all devices of a card at once."""
        if self.chip.eager is not None:
            return self._paired()
        card = [d for d in self.present.devices if d.card == self.device.card]
        self._leave()
        with ExitStack() as stack:
            for device in card:
                stack.enter_context(devices.lease(device, self.chip.name, holder=str(self.case), exclusive=True))
            workers = [stack.enter_context(self.suite.worker(self.chip, self.present.backend)) for _ in card]
            before = tuple(devices.rested(partial(w.health, d)) for w, d in zip(workers, card, strict=True))
            for device, health in zip(card, before, strict=True):
                devices.check_idle(device, health)
            inputs = {self.model.input: self._tensors(self.variant.raw)}
            engine, spec = self.engine(), self.spec(self.variant)
            sessions = [stack.enter_context(w.load(engine, d, spec)) for w, d in zip(workers, card, strict=True)]
            sides = [Side(str(self.case), session, inputs, session.run(inputs)) for session in sessions]
            patience = self._patience(throughput.CHIP_PATIENCE_S)
            blocks, effort = throughput.card_until_decided(sides, self.suite.settings.plan, self._conclude, patience)
            after = tuple(w.health(d) for w, d in zip(workers, card, strict=True))
            devices.check_same(card, before, after)
        return Measurement(blocks, (), self.chip.devices_per_card, before, after, effort)

    @cached_property
    def speed(self) -> stats.Estimate:
        """Images a second of one card."""
        return throughput.speed_of(self.measurement, self.case.batch)

    def _patience(self, default: float) -> float:
        asked = self.suite.settings.patience
        return default if asked is None else asked

    @property
    def _conclude(self) -> throughput.Conclude | None:
        """The verdict on what has been measured so far; None where no figure is judged."""
        cell = self.suite.settings.baselines.cell(self.case, "throughput")
        if self.suite.simulated(self.chip) or (cell is None and not has_peer(self.case)):
            return None
        return throughput.conclusion(self.case.batch, cell, self.chip.eager, self.chip.devices_per_card)

    def _paired(self) -> Measurement:
        """The chip and, at FP32, eager PyTorch."""
        before = (self.worker.health(self.device),)
        sides = [Side(str(self.case), self.session, {self.model.input: self._tensors(self.variant.raw)}, self.first)]
        with ExitStack() as stack:
            if has_peer(self.case):
                images: Tensors = {self.model.input: self._tensors(False).astype(np.float32, copy=False)}
                eager = stack.enter_context(self.suite.peer(self.model, self.device, self._plain_spec()))
                answered = eager.run(images)  # for the second time: a large one takes some of its memory only then
                sides.append(Side(f"eager PyTorch beside {self.case}", eager, images, answered))
            patience = self._patience(throughput.CPU_PATIENCE_S)
            blocks, effort, load = throughput.pairs_until_decided(sides, self._conclude, patience)
        after = (self.worker.health(self.device),)
        chip, peer = throughput.apart(blocks)
        return Measurement(chip, peer, 1, before, after, effort, load)


class _Beside:
    """What the backend's row may ask for beside the ONNX file of one variant."""

    def __init__(self, bench: Bench, variant: Variant) -> None:
        self._bench, self._variant = bench, variant
        self.precision = str(bench.case.precision)
        self.version = bench.present.version
        self.device = bench.device

    def out_nodes(self) -> list[str]:
        bench = self._bench
        return bench.suite.out_nodes(bench.onnx(self._variant), bench._outputs_of(self._variant))

    def out_specs(self) -> list[list[object]]:
        bench = self._bench
        return bench.suite.out_specs(bench.onnx(self._variant), bench._outputs_of(self._variant))

    def torchscript(self) -> str:
        return str(self._bench.suite.traced(self._bench.model, self._bench.protocol))

    def rounded(self) -> str:
        return str(self._bench._rounded())

    def timing_cache(self) -> str:
        return str(self._bench.suite.settings.store.root / "timing" / "trt.cache")


def has_peer(case: Case) -> bool:
    """Whether the case is timed in turn with eager PyTorch, which is as quick at FP32 only."""
    return matrix.chips()[case.chip].eager is not None and case.precision is Precision.FP32


def _kept(value: Any) -> Any:
    """A file of the store by its key, for it may stand elsewhere tomorrow; anything else as it is."""
    return Path(value).parent.name if isinstance(value, str) and "/" in value else value
