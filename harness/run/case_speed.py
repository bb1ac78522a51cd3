"""How fast one case is: windows on a card, or in turn with its peers, until what the case is asked is decided."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np

from harness import matrix
from harness.backends import registry
from harness.backends.base import Device, Health
from harness.baselines import Cell
from harness.case import Tensors
from harness.chips import CHIP_PATIENCE_S, CPU_PATIENCE_S, EAGER
from harness.judge import stats
from harness.judge.throughput import FLOOR, Effort
from harness.judge.verdict import Verdict
from harness.run import idle, other_load, peers, side, throughput, windows
from harness.run.case_run import CaseRun
from harness.run.side import Side
from harness.run.windows import Block, Conclude, Measurement
from harness.worker.process import RemoteSession, Worker


@lru_cache(maxsize=1)
def speed_of(run: CaseRun) -> CaseSpeed:
    """The throughput of that run: tests of one case share it, so that a card is measured once."""
    return CaseSpeed(run)


class CaseSpeed:
    """The throughput of the case of a CaseRun, measured when it is first asked for."""

    def __init__(self, run: CaseRun) -> None:
        self.run, self.context, self.case, self.chip = run, run.context, run.case, run.chip

    @cached_property
    def measurement(self) -> Measurement:
        """Raw windows of back-to-back executes with the inputs on the device, on all devices of a card at once.

        A card with more devices than the published card is measured on as many devices as that has; the others are
        idle. Raises DeviceError when a device is in use, InvalidMeasurement when one is not idle or an answer is wrong.
        """
        return self._in_turn() if self.chip.timed_in_turn else self._on_card(self.run.device.card)

    @cached_property
    def estimate(self) -> stats.Estimate:
        """Images per second of one card."""
        return windows.speed_of(self.measurement, self.case.batch)

    @property
    def cards(self) -> list[int]:
        """Numbers of the cards that the chip's devices here are on."""
        return sorted({device.card for device in self.run.present.devices})

    def on_card(self, number: int) -> Measurement:
        """As `measurement`, on another card of the host."""
        return self.measurement if number == self.run.device.card else self._on_card(number)

    # ---------------------------------------------------------------- what is asked

    @property
    def floor(self) -> float:
        """Share of the published throughput that is asked."""
        floor = self.run.bound("throughput").floor
        return FLOOR if floor is None else floor

    @property
    def at_least(self) -> float | None:
        """Ratio to eager PyTorch that is asked; None where it is not compared."""
        floor, usual = self.run.bound("throughput").floor, matrix.least_of_eager(self.case)
        return usual if usual is None or floor is None else floor

    @property
    def cell(self) -> Cell | None:
        """The published throughput of the case; None where none is. Raises InvalidMeasurement for one of another."""
        cell = self.context.settings.baselines.cell(self.case, "throughput")
        return None if cell is None else cell.check_of(self.case, "throughput")

    @property
    def conclude(self) -> windows.Conclude | None:
        """The function that judges the blocks measured so far; None where throughput is not judged."""
        if self.context.simulated(self.chip) or (self.cell is None and EAGER not in self.peers):
            return None
        of_card, alone = self.chip.devices_per_card, self._launched_alone
        return windows.conclusion(self.case.batch, self.cell, self.at_least, of_card, self.floor, self.peers, alone)

    @property
    def peers(self) -> list[str]:
        """Programs that it is timed in turn with, in that order: eager PyTorch is last, see throughput.PAUSE_S."""
        return sorted(self.run.peers, key=lambda name: name == EAGER)

    @property
    def _launched_alone(self) -> bool:
        return registry.backend(self.run.present.backend).launched_whole and not self.chip.shared

    def _patience(self, default: float) -> float:
        asked = self.context.settings.patience
        return default if asked is None else asked

    def _shown(self, patience: float) -> Conclude | None:
        """What concludes, which shows at each look how many seconds of the patience are spent."""
        conclude, told = self.conclude, 0
        if conclude is None:
            return None
        advance = self.context.settings.progress("throughput " + str(self.case), round(patience))

        def look(blocks: tuple[Block, ...], effort: Effort) -> Verdict:
            nonlocal told
            advance(round(effort.seconds) - told)
            told = round(effort.seconds)
            return conclude(blocks, effort)

        return look

    # ---------------------------------------------------------------- a card

    def _on_card(self, number: int) -> Measurement:
        every = [device for device in self.run.present.devices if device.card == number]
        card = every[: self.chip.devices_per_card]
        self.run.leave_device()
        with ExitStack() as stack:
            for device in every:
                stack.enter_context(self.context.lease(self.chip, device, str(self.case), exclusive=True))
            watcher = self.run.worker  # its engine is built, so it is idle during the measurement
            rested = [self.context.vacated(self.chip, device, partial(watcher.health, device)) for device in every]
            for device, health in zip(every, rested, strict=True):
                idle.check_idle(device, health)
            before = tuple(rested[: len(card)])
            session = stack.enter_context(ExitStack())
            sides = self._sides(card, watcher, session)
            during: list[list[Health]] = []

            def look() -> None:
                during.append([watcher.health(device) for device in card])

            def renew() -> None:
                session.close()
                sides[:] = self._sides(card, watcher, session, fresh=True)

            plan, patience = self.context.settings.plan, self._patience(CHIP_PATIENCE_S)
            blocks, effort = throughput.card_until_decided(sides, plan, self._shown(patience), patience, look, renew)
            after = tuple(watcher.health(device) for device in card)
            memory = sides[0].check_flat()
            first = self.run.present.first  # where a runtime works that does not heed the number
            idle.check_same(card, before, after, during, lambda: [watcher.health(first)] if first not in card else [])
            idle.check_flat(card, during, after)
            note = idle.incomparable(card, before, after)
            if not self.context.simulated(self.chip):  # a simulated SDK shows the utilisation that a switch gives it
                idle.check_working(card, during)
                after = idle.seeing(card, after, during)
        of_card = self.chip.devices_per_card
        return Measurement(blocks, (), of_card, before, after, effort, devices_here=len(every), note=note,
                           memory=memory, numbers=tuple(device.index for device in card),
                           counters=idle.counters(during), launched_alone=self._launched_alone)  # fmt: skip

    def _sides(self, card: list[Device], watcher: Worker, stack: ExitStack, fresh: bool = False) -> list[Side]:
        """A session on each device, each in a new process, its outputs compared with the reference, an earlier process
        and one another; `fresh` ones on devices that have been compared image by image before."""
        run, earlier = self.run, self.run.earlier
        one = len(card) == 1
        names = [str(self.case) if one else f"{self.case}.device{device.index}" for device in card]
        workers = [stack.enter_context(self.context.worker(self.chip, run.present.backend, name)) for name in names]
        inputs, other = run.inputs(run.variant.raw), run.changed()
        built = run.engine.built(watcher, run.variant)  # not run.built: that leases the first card
        sessions: list[RemoteSession] = [
            stack.enter_context(worker.load(built.path, device, built.spec, run.rows))
            for worker, device in zip(workers, card, strict=True)
        ]
        stand_in = self.context.simulated(self.chip)
        timed = self.timed(inputs)
        sides = [Side(str(self.case), session, inputs, session.run(inputs), other, stand_in) for session in sessions]
        if earlier is not None:
            promise = registry.backend(run.present.backend).same_bytes(built.spec.options)
            side.check_processes(sides[0], earlier, promise)
        first = card[0].card == run.device.card
        if not first:
            side.check_right(sides, run.judged)
        if not one:
            named = [f"device {device.index}" for device in card]
            side.check_devices(dict(zip(named, sides, strict=True)), run.judged)
            if not (fresh or (first and run.devices_agreed)):
                run.compare_devices(dict(zip(named, sessions, strict=True)))
        if timed is inputs:
            return sides
        return [replace(side, inputs=timed, answered=side.session.run(timed)) for side in sides]

    def timed(self, inputs: Tensors) -> Tensors:
        """The inputs with no two rows alike, as in a server: a runtime that computes equal rows once gains nothing. A
        picture that is there several times is moved down by a pixel each time. Inputs without such rows are returned as
        they are, and those of a simulator, whose speed is not judged."""
        if self.context.simulated(self.chip) or self.run.different == self.case.batch:
            return inputs
        moved = {name: value.copy() for name, value in inputs.items()}
        for name, value in inputs.items():
            for row in range(self.run.different, self.case.batch):
                moved[name][row] = np.roll(value[row], row // self.run.different, axis=-2)
        return moved

    # ---------------------------------------------------------------- in turn with its peers

    def _in_turn(self) -> Measurement:
        """Windows of the chip and, at FP32, of its peers, in turn."""
        run = self.run
        before = (run.worker.health(run.device),)
        inputs = run.inputs(run.variant.raw)
        timed = self.timed(inputs)
        answered = run.first if timed is inputs else run.session.run(timed)
        sides = [Side(str(self.case), run.session, timed, answered, run.changed())]
        with ExitStack() as stack:
            for name in self.peers:
                images: Tensors = {n: v.astype(np.float32, copy=False) for n, v in self.timed(run.inputs()).items()}
                peer = stack.enter_context(peers.opened(self.context, name, run.engine))
                answered = peer.run(images)  # before the windows: it allocates its memory then
                sides.append(Side(f"{name} beside {self.case}", peer, images, answered))
            patience = self._patience(CPU_PATIENCE_S)
            throttles = other_load.throttles()
            blocks, effort, load = throughput.pairs_until_decided(sides, self._shown(patience), patience)
            memory = sides[0].check_flat()
            now = other_load.throttles()
        counters = {} if throttles is None or now is None else {"processor_throttles": float(now - throttles)}
        after = (run.worker.health(run.device),)
        chip, beside = windows.apart(blocks, self.peers)
        return Measurement(chip, beside.pop(EAGER, ()), 1, before, after, effort, load, memory=memory, beside=beside,
                           counters=counters, launched_alone=self._launched_alone)  # fmt: skip


def untold(*runs: Measurement) -> dict[str, Any]:
    """{"untold": text} when devices did not report all of their use during the measurements, else {}."""
    told = idle.untold([health for run in runs for health in (*run.before, *run.after)])
    return {"untold": told} if told else {}
