"""What all cases of a run share: settings, the chips that were found, data sets, weights, exports and references."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.backends import registry
from harness.backends.base import Device, Health
from harness.baselines import Baselines
from harness.case import Case, Precision, Predictions, Tensors
from harness.chips import Chip
from harness.datasets import DATASETS, scenes
from harness.datasets.base import Absent, Dataset
from harness.errors import DeviceError, InvalidMeasurement, WorkerError
from harness.export import export
from harness.export.own import OwnModel
from harness.judge.accuracy import RUINED
from harness.judge.numerics import Loss, judge_numerics, losses
from harness.judge.policy import Policy
from harness.judge.timing import Plan
from harness.metrics.changes import compared
from harness.models.base import Model, Protocol
from harness.reference import arithmetic, eager, predictions
from harness.reference.exact import NotExact
from harness.run import artefacts, devices
from harness.run.artefacts import ResolvedWeights
from harness.run.devices import Presence
from harness.run.prepared import PREPARED_GB, PreparedImages
from harness.store import Store
from harness.vocabulary import Outcome
from harness.worker.limits import Limits
from harness.worker.process import Worker

if TYPE_CHECKING:
    from torch import nn


ANSWERED_AGAIN = 2  # images that the reference answers once more when a verdict is red
OF_FP32 = 1e-4  # rms: these networks lose 1e-6 to 1e-5 in FP32; TF32, FP16 and BF16 lose from 3e-4 on
WITNESS_IMAGES = 5  # images whose raw outputs are compared with the reference's; a batch repeats them
CALIBRATION = 32  # at most so many images for the calibration of an INT8 engine
CALIBRATION_SCENE = 2000  # index of the first scene used for calibration; tests use lower ones
# how a chip is timed: 5 s of single executes give p99 up to 5 ms an execute
CHIP_PLAN = Plan(warmup_s=1.0, window_s=1.0, windows=20, latencies=10_000, latency_s=5.0)


@dataclass(frozen=True)
class Settings:
    """The user's options, fixed for the run. `environment` gives the extra environment variables of a chip's workers;
    this is the only way in which a simulated SDK is selected."""

    store: Store
    baselines: Baselines
    data: Path | None = None
    limit: int | None = None
    tune: bool = False  # compilers search longer for a faster engine
    device: int | None = None
    pythons: registry.Pythons = field(default_factory=registry.Pythons)
    backend_options: registry.BackendOptions = field(default_factory=registry.BackendOptions)
    runner: str | None = None
    environment: Callable[[Chip], Mapping[str, str] | None] = lambda chip: None
    logs: Path | None = None
    progress: Callable[[str, int], Callable[[int], None]] = lambda what, total: lambda done: None
    policy: Policy = field(default_factory=Policy)  # of the lab
    plan: Plan = CHIP_PLAN
    patience: float | None = None  # seconds a case may be timed until it is decided; None: as is usual for its chip
    limits: Callable[[Chip], Limits | None] = lambda chip: None  # of a chip's workers; None: the worker's own
    prepared_gb: float = PREPARED_GB  # GB of prepared images that are kept on disk for the run
    exact: bool = True  # compare FP32 with FP64, which takes a convolution network seconds an image
    wait: float = 0.0  # seconds to wait for a device that other runs hold
    process: int = 0  # number of this process among those of the run (pytest -n)
    processes: int = 1
    tell: Callable[[str], None] = lambda text: None  # shows a message to the user at once


class RunContext:
    """What all cases of one run share. Each thing is made once, on first use; expensive ones are kept in the store."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._present: dict[str, Presence] = {}
        self._losses: dict[tuple[str, str, Precision], dict[str, Loss]] = {}
        self._not_exact: dict[tuple[str, Precision, bool], str] = {}  # why a user's file has no FP64
        self._broken: dict[str, WorkerError] = {}  # chips whose SDK crashed when it was asked for devices
        self._weights: dict[str, ResolvedWeights] = {}
        self._datasets: dict[str, Dataset] = {}
        self._networks: dict[str, nn.Module] = {}
        self._references: dict[tuple[str, str, str], tuple[list[Predictions], float]] = {}
        self._in_vain: dict[Device, set[str]] = {}  # processes that did not leave a device within --wait
        self._peers: dict[str, Worker] = {}
        self._told: set[str] = set()
        self.first_layers: dict[Case, tuple[str, dict[str, Any]]] = {}  # that differ, by a case of batch 0
        self._stack = ExitStack()

    def tell_once(self, text: str) -> None:
        """Show a message to the user at once, unless it was shown in this run."""
        if text not in self._told:
            self._told.add(text)
            self.settings.tell(text)

    def close(self) -> None:
        """End the workers of peers, and give back the space of prepared images."""
        if "prepared" in vars(self):
            self.prepared.close()
        for worker in self._peers.values():
            worker.kill()  # PyTorch takes seconds to exit by itself
        self._stack.close()

    @cached_property
    def prepared(self) -> PreparedImages:
        """Images that were prepared in this run."""
        settings = self.settings
        return PreparedImages(settings.store.root, settings.prepared_gb * 1e9, settings.processes)

    # ---------------------------------------------------------------- chips

    def simulated(self, chip: Chip) -> bool:
        """Whether a simulated SDK is used instead of the vendor's."""
        return self.settings.environment(chip) is not None

    def not_the_chip(self, chip: Chip) -> tuple[str, ...]:
        """("simulated",) with a simulated SDK, ("emulated",) on the vendor's simulator of the chip, () on the chip: the
        mark of records whose figures are not the chip's own."""
        if self.simulated(chip):
            return ("simulated",)
        return ("emulated",) if chip.emulated else ()

    def present(self, chip: Chip) -> Presence:
        """The chip's devices, with --device only that one; without any, the evidence says what was looked for. Raises
        WorkerError when the SDK crashes."""
        if chip.name not in self._present:
            asked = chip if self.settings.runner is None else replace(chip, backends=(self.settings.runner,))
            if chip.name in self._broken:
                raise self._broken[chip.name]
            try:
                found = devices.find(asked, lambda backend: self.worker(chip, backend))
            except WorkerError as error:
                self._broken[chip.name] = error
                raise
            if self.settings.device is not None:
                found = found.only(self.settings.device)
            self._present[chip.name] = found
        return self._present[chip.name]

    def worker(self, chip: Chip, backend: str, who: str = "") -> Worker:
        """A new process for a backend of the chip. Its log is named after `who`: a case, or a case and a device."""
        log = None if self.settings.logs is None else self.settings.logs / f"{who or f'{chip.name}-{backend}'}.log"
        python = registry.backend(backend).python(self.settings.pythons, chip.name)
        own = self.settings.policy.environment.get(chip.name, {})
        environment = {**own, **(self.settings.environment(chip) or {})}
        return Worker(backend, python=python, env=environment, log=log, limits=self.settings.limits(chip))

    def lease(self, chip: Chip, device: Device, holder: str, exclusive: bool) -> AbstractContextManager[None]:
        """A context that holds a device of the chip. Raises DeviceError when others hold it longer than --wait."""
        root = devices.SIMULATED if self.simulated(chip) else devices.LEASES
        return devices.lease(
            device, chip.name, holder=holder, exclusive=exclusive, root=root, patience=self.settings.wait,
            tell=self.settings.tell,
        )  # fmt: skip

    def vacated(self, chip: Chip, device: Device, ask: Callable[[], Health]) -> Health:
        """How the device is once processes of others have left it, or after --wait seconds. Processes that were waited
        for in vain are not waited for again in this run."""
        what, known = f"{chip.name} device {device.index} ({device.name})", self._in_vain.setdefault(device, set())
        health = devices.vacated(ask, what, self.settings.wait, self.settings.tell, known)
        known.update(devices.users(health))
        return health

    def reset(self, chip: Chip) -> str:
        """Reset this process's device of the chip by the vendor's tool: the command and what it said. Its card is held
        alone meanwhile. Raises DeviceError, also when others use the card, and WorkerError."""
        present = self.present(chip)
        device = present.devices[self.settings.process % len(present.devices)]
        card = [one for one in present.devices if one.card == device.card]
        with ExitStack() as stack:
            for one in card:
                stack.enter_context(self.lease(chip, one, "--device-reset", exclusive=True))
            worker = stack.enter_context(self.worker(chip, present.backend, f"{chip.name}.reset"))
            for one in card:
                if others := devices.users(worker.health(one)):
                    raise DeviceError(
                        f"{one.name} {one.index} is not reset, for it is used by {', '.join(others)}",
                        hint="end them, then go on with --resume latest",
                    )
            return worker.reset(device)

    # ---------------------------------------------------------------- images

    def dataset(self, model: Model) -> Dataset:
        """The model's data set in --data, else scenes; a sample of it with --limit. Raises DataError when the data
        set is damaged."""
        if model.name not in self._datasets:
            dataset = scenes.dataset(model.task, model.scenes)
            if self.settings.data is not None:
                try:
                    dataset = DATASETS[model.dataset](self.settings.data)
                except Absent as absent:
                    dataset = replace(dataset, note=f"{absent.fact}; {absent.hint}")
            self._datasets[model.name] = dataset if self.settings.limit is None else dataset.sample(self.settings.limit)
        return self._datasets[model.name]

    def calibration(self, model: Model) -> tuple[Dataset, Dataset]:
        """(images to calibrate on, images to evaluate on), disjoint. From a large set the `CALIBRATION` images with the
        lowest SHA-256 of their names are held out; a small set is kept whole and scenes are drawn for calibration."""
        dataset = self.dataset(model)
        if dataset.kind == "scenes" or len(dataset) < 2 * CALIBRATION:
            return scenes.dataset(model.task, CALIBRATION // 4, first=CALIBRATION_SCENE), dataset
        ranks = sorted(range(len(dataset)), key=lambda i: hashlib.sha256(dataset.samples[i].id.encode()).digest())
        held = set(ranks[:CALIBRATION])
        return dataset.take(sorted(held)), dataset.take([i for i in range(len(dataset)) if i not in held])

    # ---------------------------------------------------------------- models

    def weights(self, model: Model) -> ResolvedWeights:
        """The published checkpoint in --data, else seeded weights. Raises WeightsError."""
        if model.name not in self._weights:
            self._weights[model.name] = artefacts.resolve_weights(self.settings.store, model, self.settings.data)
        return self._weights[model.name]

    def network(self, model: Model) -> nn.Module:
        """The reference: eager PyTorch, FP32, on the CPU. It is channels last, which takes up to a third less time; the
        peer that is timed has PyTorch's default layout."""
        if model.name not in self._networks:
            import torch

            made = eager.network(model, self.weights(model).path).to(memory_format=torch.channels_last)
            self._networks = {model.name: made}  # only the latest, because large networks take much memory
        return self._networks[model.name]

    def eager(self, model: Model, images: NDArray[np.float32]) -> Tensors:
        """Outputs of the reference for prepared images (N, 3, H, W), by ONNX name."""
        return eager.outputs(self.network(model), model.outputs, images)

    def exported(self, model: Model, protocol: Protocol) -> Path:
        """Path of the ONNX file, checked against PyTorch. Raises ExportError."""
        return self._onnx(model, protocol, nms=False)

    def exported_with_suppression(self, model: Model, protocol: Protocol) -> Path:
        """Path of the ONNX file that ends in the suppression of boxes, for chips that run it. Raises ExportError."""
        return self._onnx(model, protocol, nms=True)

    def _onnx(self, model: Model, protocol: Protocol, nms: bool) -> Path:
        return artefacts.onnx_file(
            self.settings.store, model, protocol, self.weights(model), lambda: self.network(model), nms
        )

    def traced(self, model: Model, protocol: Protocol) -> Path:
        """Path of the network as TorchScript."""
        resolved = self.weights(model)
        return artefacts.torchscript_file(
            self.settings.store, model, protocol, resolved, lambda: eager.network(model, resolved.path)
        )

    def reference(self, model: Model, protocol: Protocol, dataset: Dataset) -> tuple[list[Predictions], float]:
        """(the reference's predictions for every image of the data set, seconds they took)."""
        memo = (model.name, protocol.name, dataset.digest)
        if memo not in self._references:
            self._references[memo] = artefacts.reference_answers(
                self.settings.store,
                model,
                protocol,
                self.weights(model),
                dataset,
                lambda: self.network(model),
                self.prepared.prepare(dataset.name, protocol, False),
                lambda: self.settings.progress(f"reference {model.name}", len(dataset)),
            )
        return self._references[memo]

    def witnesses(self, model: Model, protocol: Protocol, count: int) -> Tensors:
        """The reference's raw outputs, by ONNX name, for the first `count` images of the data set."""
        images = self._prepared(model, protocol, count)
        return artefacts.witness_outputs(
            self.settings.store, model, protocol, self.weights(model), images, lambda: self.network(model)
        )

    def check_reference(self, model: Model, protocol: Protocol, count: int) -> None:
        """The reference on the first `count` images once more: as it was kept, and as ONNX Runtime computes the
        exported file. Raises InvalidMeasurement when either differs: then it is not the chip that is wrong."""
        images = self._prepared(model, protocol, count)
        today = predictions.raw_outputs(self.network(model), model, images)
        kept, file = self.witnesses(model, protocol, count), self.exported(model, protocol)
        beside: dict[str, tuple[Tensors, str]] = {
            "its kept outputs": (kept, f"delete the folder witness in {self.settings.store.root}, then run again"),
            "ONNX Runtime on the exported file": (
                dict(zip(model.outputs, export.computed(file, model.input, images), strict=True)),
                f"delete {file.parent}, then run again; if it stays, the export is wrong: report it",
            ),
        }
        for what, (found, hint) in beside.items():
            verdict = judge_numerics(found, today, Precision.FP32)
            if verdict.outcome is Outcome.FAIL:
                raise InvalidMeasurement(
                    f"eager PyTorch and {what} differ, so it is not the chip that is wrong: {verdict.text}", hint=hint
                )

    def check_answers(self, model: Model, protocol: Protocol, dataset: Dataset) -> None:
        """A few images are answered by the reference once more. Raises InvalidMeasurement when an answer is not the
        kept one: then it is not the chip that is wrong."""
        kept, _ = self.reference(model, protocol, dataset)
        places = sorted(random.sample(range(len(dataset)), min(ANSWERED_AGAIN, len(dataset))))
        prepare = self.prepared.prepare(dataset.name, protocol, False)
        today = predictions.of_the_reference(
            self.network(model), model, protocol, dataset.take(places), prepare, lambda done: None
        )
        # answers turn over at their thresholds when images have other neighbours in a batch, but not by half
        moved = compared(model.task, today, [kept[place] for place in places])
        for place, difference in zip(places, moved, strict=True):
            if difference.share > RUINED:
                raise InvalidMeasurement(
                    f"the reference answers {dataset.samples[place].id} otherwise than it was kept: it is not the chip "
                    "that is wrong",
                    hint=f"delete the folder reference in {self.settings.store.root}, then run again",
                )

    def loss(self, model: Model, protocol: Protocol, precision: Precision) -> dict[str, Loss]:
        """What the arithmetic of `precision` alone costs each output, by ONNX name, on the first images of the data
        set; {} for FP32 where `Settings.exact` is off."""
        if precision is Precision.FP32 and not self.settings.exact:
            return {}
        memo = (model.name, protocol.name, precision)
        if memo not in self._losses:
            count = arithmetic.IMAGES_OF_HEAVY if model.heavy else arithmetic.IMAGES
            images = self._prepared(model, protocol, count)
            rounded = artefacts.rounded_outputs(
                self.settings.store, model, protocol, self.weights(model), images, precision,
                lambda: self.network(model),
            )  # fmt: skip
            wanted = self.witnesses(model, protocol, count)
            plain = precision is not Precision.FP32
            found = losses(rounded, wanted) if plain else losses(wanted, rounded)
            worst = max((loss.rms for loss in found.values()), default=0.0)
            if not plain and worst > OF_FP32:
                raise InvalidMeasurement(
                    f"the reference loses {worst:.2g} (rms) against FP64; FP32 loses less than {OF_FP32:g}",
                    hint="let PyTorch compute in FP32 (no TF32, no BF16: TORCH_ALLOW_TF32_CUBLAS_OVERRIDE, "
                    "ONEDNN_DEFAULT_FPMATH_MODE), delete the folders witness and reference of the cache, run again",
                )
            self._losses[memo] = found
        return self._losses[memo]

    def exact(
        self,
        model: OwnModel,
        inputs: Tensors,
        precision: Precision = Precision.FP32,
        products_only: bool = False,
    ) -> tuple[Tensors | None, str]:
        """(outputs of a user's file in FP64, or in the arithmetic of FP16 or INT8, see reference.exact; ""), or (None,
        why there are none)."""
        if not self.settings.exact:
            return None, "the tier quick leaves FP64 out"
        of = (model.digest, precision, products_only)
        if of not in self._not_exact:
            try:
                return artefacts.exact_outputs(self.settings.store, model, inputs, precision, products_only), ""
            except NotExact as error:
                self._not_exact[of] = str(error)
        return None, self._not_exact[of]

    def _prepared(self, model: Model, protocol: Protocol, count: int) -> NDArray[np.float32]:
        dataset = self.dataset(model)
        prepare = self.prepared.prepare(dataset.name, protocol, False)
        images = np.stack([prepare(sample).tensor for sample in dataset.head(count).samples])
        return images.astype(np.float32, copy=False)

    # ---------------------------------------------------------------- peers of a chip that is timed in turn

    def peer_worker(self, backend: str, log: str) -> Worker:
        """The worker of a peer's backend, which stays until `close`, started if needed. PyTorch is imported for seconds
        in the background; call this early. `log` is its name in the folder of logs."""
        if backend not in self._peers or not self._peers[backend].alive:
            path = None if self.settings.logs is None else self.settings.logs / f"{log}.log"
            self._peers[backend] = self._stack.enter_context(Worker(backend, log=path))
        return self._peers[backend]
