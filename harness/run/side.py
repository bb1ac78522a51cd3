"""One session that is timed, and the checks that what is timed computes: on changed inputs, on repeated ones, together,
in another process, without growing, on every device of a card."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.case import Tensors
from harness.errors import InvalidMeasurement
from harness.judge.timing import Plan
from harness.judge.verdict import Verdict
from harness.run.card import unlike
from harness.vocabulary import Outcome
from harness.worker.process import RemoteSession

LOOKS = 3  # at most so many checks of outputs on changed inputs before each block of windows
FRESH_PLAN = Plan(warmup_s=0.0, window_s=1e-9, windows=2, latencies=0)  # one execute of new inputs, then one more
FRESH, FRESH_ENOUGH = 15, (1, 0.5)  # times that it is run at most; times and seconds that are enough
FRESH_SURE = (3, 2.0)  # that are enough to accuse a runtime: one stall of a CPU is no proof
COLD = 200e-6  # seconds that new inputs may cost beside, in cold caches; published executes take 1.5 ms or more
REMEMBERED = 0.6  # allowed ratio of a repeated execute to one of new inputs; caches of a host give 0.8 and more
NEARLY = 0.75, 14, 500e-6  # the same where so many of `FRESH` pairs are below it, and seconds that are gained at least
NEARLY_S = 5.0  # for so many seconds pairs are added where that may be
GROWTH_MB = 4.0  # MB in a stretch of executes: in a thousand, a buffer of 4 KB, the smallest piece of memory, each
ROUNDING = 1e-3  # relative to the largest value: a runtime may choose another kernel for a repeated run


@dataclass(frozen=True)
class Side:
    """One measured session: its name, its inputs, and its outputs for them before the measurement; `changed` are other
    inputs, by default the images upside down. `simulated`: its times are those of a simulator, which does keep outputs.
    """

    who: str
    session: RemoteSession
    inputs: Tensors
    answered: Tensors
    changed: Tensors | None = None
    simulated: bool = False
    noted: list[tuple[int, float]] = field(default_factory=list)
    took: list[float] = field(default_factory=list)  # seconds of the first execute of the other inputs

    def note(self) -> None:
        """Note how many executes there were so far, and the process's resident memory after them, for check_flat."""
        resident = None if self.simulated else self.session.resident_mb
        if resident is not None:
            self.noted.append((self.session.executes, resident))

    def audit(self) -> None:
        """Raises InvalidMeasurement when the outputs after the timed runs differ from those before, beyond rounding."""
        name = _unlike(self.session.read(), self.answered)
        if name:
            raise InvalidMeasurement(
                f"{self.who}: output {name} differs after the timed runs from before them",
                hint="the runtime reuses or skips work under load; its throughput cannot be trusted",
            )

    @cached_property
    def turned(self) -> tuple[Tensors, Tensors]:
        """(other inputs, outputs for them). Raises InvalidMeasurement when these equal the outputs for the usual
        inputs."""
        inputs = self.changed
        if inputs is None:
            inputs = {name: np.ascontiguousarray(np.flip(value, axis=-2)) for name, value in self.inputs.items()}
        begun = time.perf_counter()
        answered = self.session.run(inputs)
        self.took.append(time.perf_counter() - begun)
        if not _unlike(answered, self.answered):
            raise InvalidMeasurement(
                f"{self.who}: {'images upside down' if self.changed is None else 'other inputs'} give the same outputs",
                hint="the runtime returns cached outputs, or the outputs are constant; run: pytest -m numerics",
            )
        return inputs, answered

    def look(self, draw: random.Random) -> tuple[float, ...]:
        """Run a random number of single executes, each on one of two inputs chosen at random, and compare the outputs
        with the earlier ones; the seconds of each, writing and reading with it.

        A runtime that skips an execute returns the outputs of the other input. The number of executes is random, so
        that a runtime which skips at a fixed period is found too. Raises InvalidMeasurement when an output differs."""
        pairs, took = ((self.inputs, self.answered), self.turned), []
        for _ in range(draw.randint(1, LOOKS)):
            inputs, answered = pairs[draw.randrange(2)]
            begun = time.perf_counter()
            found = self.session.run(inputs)
            took.append(time.perf_counter() - begun)
            name = _unlike(found, answered)
            if name:
                raise InvalidMeasurement(
                    f"{self.who}: output {name} is not that of the inputs which were just written",
                    hint="the runtime skips executes or returns cached outputs; its throughput cannot be trusted",
                )
        return tuple(took)

    def check_fresh(self, timed: Sequence[float] = ()) -> None:
        """Time executes of inputs that were never written before (`unseen`) and repeated ones in turn: a runtime that
        keeps outputs by their inputs, of the last ones or of all, computes the first of each pair only.

        `timed` are the seconds of windows of one execute each, or of one of each that are in flight together, which
        repeat the usual inputs: where the first execute of the other inputs took no longer, nothing else is run.

        Raises InvalidMeasurement when the repeated ones are quicker, beyond `REMEMBERED`, or beyond `NEARLY` in nearly
        all of `FRESH` pairs."""
        if self.simulated:
            return
        new, again = list(self.took), list(timed)

        def below(ratio: float, gain: float) -> bool:
            return median(again) < ratio * median(new) and median(new) - median(again) > gain

        if new and again and not below(REMEMBERED, COLD):
            return
        new, again = [], []
        begun = time.perf_counter()
        while True:
            windows = self.session.measure(self.unseen(len(new)), FRESH_PLAN).windows
            first, second = (1 / window.rate for window in windows[:2])
            new.append(first)
            again.append(second)
            fewest, seconds = FRESH_ENOUGH
            if below(REMEMBERED, COLD):
                fewest, seconds = FRESH_SURE
            elif below(NEARLY[0], NEARLY[2]):
                seconds = NEARLY_S
            if len(new) == FRESH or (len(new) >= fewest and time.perf_counter() >= begun + seconds):
                break
        quicker = sum(second < NEARLY[0] * first for first, second in zip(new, again, strict=True))
        if below(REMEMBERED, COLD) or (quicker >= NEARLY[1] and below(NEARLY[0], NEARLY[2])):
            raise InvalidMeasurement(
                f"{self.who}: an execute takes {1e3 * median(new):.3g} ms with new inputs and "
                f"{1e3 * median(again):.3g} ms when it is repeated",
                hint="the runtime keeps outputs of inputs that it has seen; its throughput cannot be trusted",
            )

    def unseen(self, number: int) -> Tensors:
        """Inputs that the engine has not met: the images, each moved by another number of pixels. Of a user's model,
        whose inputs may have to fit one another, the usual and the other ones in turn."""
        if self.changed is not None:
            return self.inputs if number % 2 else self.turned[0]
        return {
            name: np.stack([np.roll(row, 1 + number + place, axis=-2) for place, row in enumerate(value)])
            for name, value in self.inputs.items()
        }

    def check_together(self, draw: random.Random) -> None:
        """Give as many executes as can be in flight together two inputs in a random order: each must give the outputs
        that its inputs give alone. Raises InvalidMeasurement when one does not."""
        if self.session.places == 1:
            return
        pairs = ((self.inputs, self.answered), self.turned)
        order = [0, 1, *draw.choices((0, 1), k=self.session.places - 2)]  # both are there
        draw.shuffle(order)
        found = self.session.together([pairs[one][0] for one in order])
        wrong = [place for place, one in enumerate(order) if _unlike(found[place], pairs[one][1])]
        if wrong:
            raise InvalidMeasurement(
                f"{self.who}: of {len(order)} executes in flight together, {len(wrong)} give other outputs than alone: "
                f"number {', '.join(str(place + 1) for place in wrong)}",
                hint="executes share a buffer: measure with one at a time (intel_*: --backend-option streams=1), and "
                "report it to the vendor",
            )

    def check_flat(self) -> dict[str, float]:
        """Compare the growth of memory with the executes between the notes, over the measurement and over what came
        after it: {"memory_growth_mb": MB by which the process grew in the last stretch, "memory_executes": its
        executes}; {} where the system does not report it.

        Raises InvalidMeasurement when it grew by more than `GROWTH_MB` in each: in the first a runtime may fill its
        pools, in the last it may not."""
        stretches = [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(self.noted)]
        if not stretches:
            return {}
        if min(grown for _, grown in stretches) > GROWTH_MB:
            (before, first), (after, last) = stretches[0], stretches[-1]
            raise InvalidMeasurement(
                f"{self.who}: the process grew by {first:.3g} MB in {before} executes, "
                f"then by {last:.3g} MB in {after}",
                hint="the runtime or its backend keeps memory at each execute: a server would run out of it; report it",
            )
        executes, grown = stretches[-1]
        return {"memory_growth_mb": round(grown, 3), "memory_executes": float(executes)}


def _unlike(found: Tensors, wanted: Tensors) -> str:
    """Name of the first output that differs beyond rounding, or "". NaN equals NaN, because numerics judges NaN."""
    for name, value in wanted.items():
        largest = float(np.abs(value).max(initial=0.0))
        if not np.isfinite(largest):
            largest = float(np.abs(value[np.isfinite(value)]).max(initial=0.0))
        near = ROUNDING * largest
        if not np.allclose(found[name], value, rtol=ROUNDING, atol=near, equal_nan=True):
            return name
    return ""


def check_processes(side: Side, earlier: Tensors, promise: str = "") -> None:
    """Raises InvalidMeasurement when the outputs of another process, for the same inputs, differ beyond rounding; where
    there is a `promise` (BackendRow.same_bytes), when a bit of them does."""
    name = _unlike(side.answered, earlier)
    if name:
        raise InvalidMeasurement(
            f"{side.who}: output {name} differs from that of an earlier process with the same engine and inputs",
            hint="load the engine twice and compare: pytest -m numerics, two times",
        )
    for name, value in earlier.items() if promise else ():
        other = np.count_nonzero(_bits(side.answered[name]) != _bits(value))
        if other:
            raise InvalidMeasurement(
                f"{side.who}: {other} of {value.size} values of output {name} differ in their last bits from those of "
                f"an earlier process with the same engine and inputs, and {promise} promises equal ones",
                hint="load the engine twice and compare, and report it to the vendor: pytest -m numerics, two times",
            )


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    """The values as whole numbers, so that -0 is not 0, and NaN is NaN."""
    return np.ascontiguousarray(values).view(f"u{values.itemsize}")


def check_right(sides: Sequence[Side], judge: Callable[[Tensors], Verdict]) -> None:
    """Raises InvalidMeasurement when outputs of a device are wrong: of a card on which no other stage ran."""
    for side in sides:
        verdict = judge(side.answered)
        if verdict.outcome is Outcome.FAIL:
            raise InvalidMeasurement(f"{side.who}: wrong outputs: {verdict.text}", hint="pytest -m numerics --device N")


def check_devices(sides: Mapping[str, Side], judge: Callable[[Tensors], Verdict]) -> None:
    """The devices of a card have answered the same inputs, and must have given the right outputs: those that `judge`
    passes, and alike.

    Raises InvalidMeasurement with the names of the devices that differ. Where all fail, the engine is wrong and no
    device is to blame: the stage numerics says so."""
    verdicts = {name: judge(side.answered) for name, side in sides.items()}
    failed = {name: verdict.text for name, verdict in verdicts.items() if verdict.outcome is Outcome.FAIL}
    of, alone = f"of the {len(sides)} devices measured", "run each with --device N: pytest -m numerics --device N"
    if 0 < len(failed) < len(sides):
        text = "; ".join(f"{name}: {why}" for name, why in failed.items())
        raise InvalidMeasurement(
            f"{', '.join(failed)} {of} computes wrong outputs, the rest right ones; {text}", hint=alone
        )
    answered = [side.answered for side in sides.values()]
    odd = [list(sides)[place] for place in unlike(answered, lambda one, other: not _unlike(other, one))]
    if odd:
        raise InvalidMeasurement(f"{', '.join(odd)} {of}: outputs differ", hint=alone)
