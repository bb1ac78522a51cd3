"""What all cases of a run share: settings, the chips that were found, data sets, references, workers of peers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import cached_property
from typing import Any

from harness.backends import registry
from harness.backends.base import Device, Health
from harness.case import Case
from harness.chips import Chip
from harness.datasets import DATASETS, scenes
from harness.datasets.base import Absent, Dataset
from harness.errors import DeviceError, WorkerError
from harness.models.base import Model
from harness.run import devices, idle, leases
from harness.run.devices import Presence
from harness.run.prepared import PreparedImages
from harness.run.references import References
from harness.run.settings import Settings
from harness.worker.process import Worker

WITNESS_IMAGES = 5  # images whose raw outputs are compared with the reference's; a batch repeats them
CALIBRATION = 32  # at most so many images for the calibration of an INT8 engine
CALIBRATION_SCENE = 2000  # index of the first scene used for calibration; tests use lower ones


class RunContext:
    """What all cases of one run share. Each thing is made once, on first use; expensive ones are kept in the store."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.references = References(settings, self.dataset, lambda: self.prepared)
        self._present: dict[str, Presence] = {}
        self._broken: dict[str, WorkerError] = {}  # chips whose SDK crashed when it was asked for devices
        self._datasets: dict[str, Dataset] = {}
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
        """End the workers of peers, give back the space of prepared images, and remove what killed runs noted of their
        leases: a run that resumed one may have needed no device."""
        if "prepared" in vars(self):
            self.prepared.close()
        for worker in self._peers.values():
            worker.kill()  # PyTorch takes seconds to exit by itself
        self._stack.close()
        for root in (leases.LEASES, leases.SIMULATED):
            leases.tidy(root)

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
        root = leases.SIMULATED if self.simulated(chip) else leases.LEASES
        return leases.lease(
            device, chip.name, holder=holder, exclusive=exclusive, root=root, patience=self.settings.wait,
            tell=self.settings.tell,
        )  # fmt: skip

    def vacated(self, chip: Chip, device: Device, ask: Callable[[], Health]) -> Health:
        """How the device is once processes of others have left it, or after --wait seconds. Processes that were waited
        for in vain are not waited for again in this run."""
        what, known = f"{chip.name} device {device.index} ({device.name})", self._in_vain.setdefault(device, set())
        health = idle.vacated(ask, what, self.settings.wait, self.settings.tell, known)
        known.update(idle.users(health))
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
                if others := idle.users(worker.health(one)):
                    raise DeviceError(
                        f"{one.name} {one.index} is not reset, because it is used by {', '.join(others)}",
                        hint="end them, then continue with --resume latest",
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

    # ---------------------------------------------------------------- peers of a chip that is timed in turn

    def peer_worker(self, backend: str, log: str) -> Worker:
        """The worker of a peer's backend, which stays until `close`, started if needed. PyTorch is imported for seconds
        in the background; call this early. `log` is its name in the folder of logs."""
        if backend not in self._peers or not self._peers[backend].alive:
            path = None if self.settings.logs is None else self.settings.logs / f"{log}.log"
            self._peers[backend] = self._stack.enter_context(Worker(backend, log=path))
        return self._peers[backend]
