"""What a fault is: a function that plants it, where it is looked for, and what must catch it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.run import sources
from tests.faults.tiny import World

UNTIMED = "not throughput and not targets"


@dataclass(frozen=True)
class Fault:
    """`caught` holds the outcome of every stage that must not pass in the case at `batch`. Other batches that `marks`
    select must stay clean, so that a fault of one case does not spill over."""

    plant: Callable[[Plant], None]
    caught: dict[str, str]
    model: str
    batch: int | None  # None: the worst of all batches
    marks: str
    names: str
    other: bool = False  # whether the function is listed for another model already

    @property
    def name(self) -> str:
        return f"{self.plant.__name__}__{self.model.removeprefix('tiny_')}" if self.other else self.plant.__name__

    @property
    def field(self) -> str:
        """How it shows in the field."""
        return " ".join((self.plant.__doc__ or "").split())


FAULTS: list[Fault] = []


def fault(
    caught: str, model: str = "classes", batch: int | None = 4, marks: str = "", names: str = "", also: str = ""
) -> Callable[[Callable[[Plant], None]], Callable[[Plant], None]]:
    """List a function as a fault: `caught` is "numerics FAIL, accuracy ERROR"; `also` names the other models in which
    it is planted too and must be caught at the same stages."""
    outcomes = dict(pair.split(" ") for pair in caught.split(", "))
    selected = marks or f"fp32 and bs{batch} and {UNTIMED}"

    def listed(plant: Callable[[Plant], None]) -> Callable[[Plant], None]:
        for name in (model, *also.split()):
            chosen = f"tiny_{name} and {selected}"
            FAULTS.append(
                Fault(plant, outcomes, f"tiny_{name}", batch, chosen, names, any(plant is f.plant for f in FAULTS))
            )
        return plant

    return listed


def timed(caught: str, batch: int | None = 4) -> Callable[[Callable[[Plant], None]], Callable[[Plant], None]]:
    """The same for faults of time: throughput at batch 4, or with `batch` None both batches against each other."""
    stage = "(throughput or targets)" if batch is None else f"bs{batch} and throughput"
    return fault(caught, batch=batch, marks=f"fp32 and {stage}")


@dataclass
class Plant:
    """Where faults are planted: the chip, the suite's own code, the data folder."""

    world: World
    monkeypatch: pytest.MonkeyPatch
    folder: Path  # for what the fault needs
    conform: Callable[..., Any]  # runs the conformance tests, for what has to be there before the fault
    data: Path
    cache: Path

    def chip(self, fault: str) -> None:
        self.monkeypatch.setenv("TESTBED", fault)

    def code(self, where: Any, name: str, faulty: Callable[..., Any]) -> None:
        """Put `faulty(sound, *arguments)` in the place of a function of the suite."""
        sound = getattr(where, name)
        self.monkeypatch.setattr(where, name, lambda *arguments, **more: faulty(sound, *arguments, **more))

    def anew(self, source: str) -> None:
        """What this module, or package, decides is computed anew, as after any change of its source."""
        sound = sources.code_digest

        def anew(modules: tuple[str, ...]) -> str:
            decides = any(f"{name}.".startswith(f"harness.{source}.") for name in sources.closure(modules))
            return sound(modules) + (self.folder.name if decides else "")

        self.monkeypatch.setattr(sources, "code_digest", anew)

    def preparation(self, where: Any, name: str, faulty: Callable[..., Any]) -> None:
        """The same for a function that decides what the reference finds."""
        self.code(where, name, faulty)
        self.anew("models")

    def own_data(self) -> Path:
        """A copy of the data folder, to be spoilt."""
        self.data = shutil.copytree(self.data, self.folder / "data")
        return self.data

    def own_cache(self) -> None:
        """A store that nothing was put into."""
        self.cache = self.folder / "cache"
