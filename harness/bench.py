"""One case from engine to figures: build, run, score, time; each step made when it is first asked for."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import devices, matrix, stats
from harness.backends.base import BuildSpec, Device, Health, TensorSpec
from harness.backends.worker import RemoteSession, Worker
from harness.case import Case, Precision, Tensors
from harness.datasets.base import Dataset
from harness.devices import Presence
from harness.errors import DeviceError, InvalidMeasurement, RunError
from harness.metrics import score
from harness.metrics.base import Score
from harness.suite import PREPARATION, WITNESSES, Suite, sources
from harness.timing import Plan, Timing, Window, measure, overlap_rates

CHIP_PLAN = Plan(warmup_s=1.0, window_s=1.0, windows=10, latencies=20)
PAIR_PLAN = Plan(warmup_s=0.0, window_s=0.2, windows=1, latencies=0)
PAIRS = 8  # windows of the chip and of eager PyTorch, one after the other


@dataclass(frozen=True)
class Evaluation:
    """Chip and reference on the same images: scores, and how fast images went through end to end."""

    chip: Score
    reference: Score
    dataset: Dataset
    images_per_second: float


@dataclass(frozen=True)
class Measurement:
    """Raw windows of the devices of one card, measured at once, and what the devices said before and after.
    `peer` holds the windows of eager PyTorch between those of the chip, where that is the other side of the ratio."""

    timings: tuple[Timing, ...]
    peer: tuple[Window, ...]
    devices_of_card: int
    before: tuple[Health, ...]
    after: tuple[Health, ...]

    @property
    def scaled(self) -> float:
        """1, or what is multiplied by where not every device of the card was there to be measured."""
        return self.devices_of_card / len(self.timings)


class Bench:
    """One case on the bench: its worker, its engine, its session. Everything is made when it is first asked for."""

    def __init__(self, suite: Suite, case: Case) -> None:
        self.suite = suite
        self.case = case
        self.chip = matrix.chips()[case.chip]
        self.model = matrix.models()[case.model]
        self.protocol = self.model.protocol(case.chip)
        self.raw = self.chip.normalizes and case.chip in self.protocol.normalized_by_chip
        self._stack = ExitStack()

    def close(self) -> None:
        self._stack.close()

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
        """What keeps the figures of this case from being a conformance result."""
        dataset = self.suite.dataset(self.model)
        marks = list(self.suite.settings.marks)
        if self.suite.weights(self.model).seeded:
            marks.append("seeded")
        if dataset.kind != "whole":
            marks.append(dataset.kind)
        if self.suite.settings.limit is not None:
            marks.append("limited")
        return tuple(marks)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What every record of this case says of how it came about."""
        dataset = self.suite.dataset(self.model)
        return {
            "backend": self.present.backend, "version": self.present.version, "device": self.device.name,
            "evidence": self.present.evidence, "protocol": self.protocol.name, "normalized_by_chip": self.raw,
            "weights": self.suite.weights(self.model).source, "weights_digest": self.suite.weights(self.model).digest,
            "dataset": dataset.name, "dataset_kind": dataset.kind, "dataset_digest": dataset.digest,
        }  # fmt: skip

    # ---------------------------------------------------------------- engine and session

    @property
    def onnx(self) -> Path:
        return self.suite.exported(self.model, self.protocol)

    def spec(self, raw: bool) -> BuildSpec:
        height, width = self.protocol.size
        calibration = None
        if self.case.precision is Precision.INT8:
            calibration = str(self._calibration())
        return BuildSpec(
            precision=str(self.case.precision),
            batch=self.case.batch,
            inputs=(TensorSpec(self.model.input, "float32", (-1, 3, height, width)),),
            outputs=self.model.outputs,
            normalize=self.protocol.normalize if raw else None,
            calibration=calibration,
            target=self.device.target or self.chip.target,
            options=self._options(),
        )

    def _options(self) -> dict[str, Any]:
        """What a backend cannot find out in a worker without onnx: the nodes whose outputs ATC is to keep."""
        if self.present.backend not in ("acl", "ais_bench", "msame"):
            return {}
        import onnx

        from harness import graph

        nodes = graph.outputs_of(onnx.load(self.onnx))
        return {"out_nodes": [nodes[name] for name in self.model.outputs]}

    def _calibration(self) -> Path:
        dataset, _ = self.suite.calibration(self.model)
        key = {"protocol": self.protocol.name, "model": self.model.name, "dataset": dataset.digest,
               "code": sources(*PREPARATION)}  # fmt: skip

        def make(path: Path) -> None:
            images = [self.protocol.preprocess(sample.read(), False).tensor for sample in dataset.samples]
            with path.open("wb") as file:
                np.save(file, np.stack(images).astype(np.float32, copy=False))

        return self.suite.settings.store.get(key, make, kind="calibration", suffix=".npy")

    def engine(self, raw: bool | None = None) -> Path:
        """The compiled engine; its key holds all that went into it, the SDK's version included."""
        spec = self.spec(self.raw if raw is None else raw)
        calibration = None if spec.calibration is None else Path(spec.calibration).parent.name
        key = {
            "onnx": self.onnx.parent.name, "spec": {**asdict(spec), "calibration": calibration},
            "backend": self.present.backend, "version": self.present.version, "code": sources("backends"),
        }  # fmt: skip

        def make(path: Path) -> None:
            self.worker.build(self.onnx, path, spec)

        return self.suite.settings.store.get(key, make, kind="engine", suffix=".engine")

    @cached_property
    def worker(self) -> Worker:
        return self._stack.enter_context(self.suite.worker(self.chip, self.present.backend))

    @cached_property
    def session(self) -> RemoteSession:
        """The engine of the published variant, loaded on the first device under a shared lease."""
        engine = self.engine()
        self._stack.enter_context(devices.lease(self.device, self.chip.name, holder=str(self.case), exclusive=False))
        return self._stack.enter_context(self.worker.load(engine, self.device, self.spec(self.raw)))

    def run(self, tensors: NDArray[np.generic]) -> Tensors:
        outputs = self.session.run({self.model.input: tensors})
        for name, value in outputs.items():
            if len(value) != self.case.batch:
                raise RunError(
                    f"{self.case}: output {name} has {len(value)} rows for a batch of {self.case.batch}",
                    hint="rebuild with --cache on an empty folder; if it stays, the compiler ignored the batch",
                )
        return outputs

    # ---------------------------------------------------------------- figures

    def outputs(self, raw: bool | None = None) -> tuple[Tensors, Tensors]:
        """(chip, reference): raw outputs for one batch of the first images, row by row from different images."""
        prepared, reference = self.suite.witnesses(self.model, self.protocol)
        rows = [i % len(prepared) for i in range(self.case.batch)]
        chosen = self.raw if raw is None else raw
        tensors = self._tensors(chosen)
        if chosen == self.raw:
            outputs = self.run(tensors)
        else:
            with self.worker.load(self.engine(chosen), self.device, self.spec(chosen)) as session:
                outputs = session.run({self.model.input: tensors})
        return outputs, {name: value[rows] for name, value in reference.items()}

    def _tensors(self, raw: bool) -> NDArray[np.generic]:
        """One batch of the first images, repeated in turn to fill it."""
        dataset = self.suite.dataset(self.model).head(WITNESSES)
        rows = [self.protocol.preprocess(sample.read(), raw).tensor for sample in dataset.samples]
        return np.stack([rows[i % len(rows)] for i in range(self.case.batch)])

    @cached_property
    def evaluation(self) -> Evaluation:
        """The chip and the reference on every image of the data set."""
        dataset = self.suite.dataset(self.model)
        if self.case.precision is Precision.INT8:
            _, dataset = self.suite.calibration(self.model)
        reference = self.suite.reference(self.model, self.protocol, dataset)
        self.session  # noqa: B018  built and loaded before the clock starts
        begun = time.perf_counter()
        what = f"{self.case}"
        found = list(self.suite.predict(what, dataset, self.protocol, self.raw, self.case.batch, self.run))
        seconds = time.perf_counter() - begun
        ids, task = [sample.id for sample in dataset.samples], self.model.task
        return Evaluation(
            score(task, found, dataset.truth, ids, reference),
            score(task, reference, dataset.truth, ids, reference),
            dataset,
            len(dataset) / seconds,
        )

    @cached_property
    def measurement(self) -> Measurement:
        """Raw windows of back-to-back executes with the inputs on the device, on all devices of a card at once."""
        if self.chip.name == "cpu":
            return self._paired()
        card = [d for d in self.present.devices if d.card == self.device.card]
        with ExitStack() as stack:
            for device in card:
                stack.enter_context(devices.lease(device, self.chip.name, holder=str(self.case), exclusive=True))
            workers = [stack.enter_context(self.suite.worker(self.chip, self.present.backend)) for _ in card]
            before = tuple(w.health(d) for w, d in zip(workers, card, strict=True))
            for device, health in zip(card, before, strict=True):
                devices.check_idle(device, health)
            inputs = {self.model.input: self._tensors(self.raw)}
            engine, spec = self.engine(), self.spec(self.raw)
            sessions = [stack.enter_context(w.load(engine, d, spec)) for w, d in zip(workers, card, strict=True)]
            expected = [session.run(inputs) for session in sessions]
            for session in sessions:
                session.start(inputs, CHIP_PLAN)
            timings = tuple(session.finish() for session in sessions)
            for session, outputs in zip(sessions, expected, strict=True):
                _audit(self.case, session.read(), outputs)
            after = tuple(w.health(d) for w, d in zip(workers, card, strict=True))
            devices.check_same(card, before, after)
        return Measurement(timings, (), self.chip.devices_per_card, before, after)

    @cached_property
    def speed(self) -> stats.Estimate:
        """Images a second of one card."""
        run, factor = self.measurement, self.case.batch * self.measurement.scaled
        rates = run.timings[0].rates if len(run.timings) == 1 else overlap_rates(run.timings)
        return stats.throughput([rate * factor for rate in rates])

    @property
    def pace(self) -> float:
        """Seconds of one execute among others back to back: the median over windows."""
        return median((w.stop - w.start) / w.executes for w in self.measurement.timings[0].windows)

    @property
    def latency(self) -> float:
        """Seconds of one execute alone, on one device: the median."""
        return median(self.measurement.timings[0].latencies or [self.pace])

    def _paired(self) -> Measurement:
        """The cpu chip against eager PyTorch: window by window in turn, so that other load meets both alike."""
        import torch

        tensors = self._tensors(False)
        network = self.suite.network(self.model)
        images = torch.from_numpy(tensors.astype(np.float32, copy=False))
        inputs = {self.model.input: self._tensors(self.raw)}

        def eager(times: int) -> None:
            for _ in range(times):
                network(images)

        health = (self.worker.health(self.device),)
        expected = self.run(inputs[self.model.input])
        windows: list[Window] = []
        peer: list[Window] = []
        latencies: list[float] = []
        with torch.inference_mode():
            for _ in range(PAIRS):
                timing = self.session.measure(inputs, PAIR_PLAN)
                windows += timing.windows
                latencies += [w.stop - w.start for w in timing.warmup if w.executes == 1]
                peer += measure(eager, PAIR_PLAN).windows
        _audit(self.case, self.session.read(), expected)
        timing = Timing((), tuple(windows), tuple(latencies))
        return Measurement((timing,), tuple(peer), 1, health, (self.worker.health(self.device),))


def _audit(case: Case, timed: Tensors, untimed: Tensors) -> None:
    """What was computed while being timed must be what is computed otherwise, to rounding."""
    for name, value in untimed.items():
        if not np.allclose(
            timed[name], value, rtol=1e-3, atol=1e-3 * float(np.abs(value).max(initial=0.0)), equal_nan=True
        ):
            raise InvalidMeasurement(
                f"{case}: output {name} differs after the timed runs from before them",
                hint="the runtime reuses or skips work under load; no throughput of it can be trusted",
            )
