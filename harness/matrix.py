"""The cases: every model on every chip at what the chip runs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

from harness import baselines
from harness.backends.registry import backend, loaded, with_plugins
from harness.baselines import Baselines
from harness.baselines.registry import check_reach
from harness.case import Case, Precision
from harness.chips import CHIPS, Chip
from harness.errors import UsageError
from harness.models import MODELS
from harness.models.base import Model

T = TypeVar("T")


@cache
def chips() -> dict[str, Chip]:
    """CHIPS and the rows of entry-point group `chipproof.chips`. Raises UsageError for one that names a backend
    that does not exist."""
    rows = with_plugins(CHIPS, "chipproof.chips", Chip)
    for chip in rows.values():
        for name in chip.backends:
            try:
                backend(name)
            except UsageError as error:
                raise UsageError(f"chip {chip.name!r}: {error.fact}", hint=error.hint) from error
    return rows


@cache
def models() -> dict[str, Model]:
    """MODELS and the rows of entry-point group `chipproof.models`."""
    return with_plugins(MODELS, "chipproof.models", Model)


@cache
def figures() -> tuple[Path, ...]:
    """The folders of entry-point group `chipproof.baselines`, sorted: published figures of installed packages. Raises
    UsageError for one that is no folder."""
    found = []
    for point in entry_points(group="chipproof.baselines"):
        folder = loaded(point, "chipproof.baselines")
        if not (isinstance(folder, Path) and folder.is_dir()):
            raise UsageError(
                f"entry point {point.value} of chipproof.baselines is {folder!r}",
                hint="let it name a pathlib.Path of a folder with files as in baselines/",
            )
        found.append(folder)
    return tuple(sorted(found))


def chip(name: str) -> Chip:
    """The chip of that name. Raises UsageError, which lists the names."""
    return _row(chips(), name, "chip")


def model(name: str) -> Model:
    """The model of that name. Raises UsageError, which lists the names."""
    return _row(models(), name, "model")


def _row(rows: Mapping[str, T], name: str, kind: str) -> T:
    if name not in rows:
        raise UsageError(f"there is no {kind} {name!r}", hint=f"{kind}s: {', '.join(rows)}")
    return rows[name]


def published() -> Baselines:
    """Every published figure, of the models and chips of the tables. Raises BaselineError, also for a deviation that
    matches no case of the matrix."""
    every = cases()
    table = baselines.load(models=tuple(models()), chips=tuple(chips()), plugins=figures(), cases=set(every))
    check_reach(table.deviations, every)
    return table


def batches(model: Model, chip: Chip, precision: Precision) -> tuple[int, ...]:
    """Batches at which the chip runs the model, smallest first."""
    asked = chip.batches
    if precision is not Precision.FP32 and chip.reduced_batches is not None:
        asked = chip.reduced_batches
    if model.heavy and chip.heavy_batches is not None:
        asked = chip.heavy_batches
    return tuple(b for b in asked if model.batches is None or b in model.batches)


def least_of_eager(case: Case) -> float | None:
    """FP32 throughput / that of eager PyTorch that is asked of the case; None where it is not compared."""
    chip, model = chips()[case.chip], models().get(case.model)  # none: a model of the user's own
    heavy = model is not None and model.heavy and chip.heavy_least_of_eager is not None
    return chip.heavy_least_of_eager if heavy else chip.least_of_eager


def cases() -> list[Case]:
    """The whole matrix, in the order in which it is run: engines of one model and chip side by side."""
    return [
        Case(model.name, chip.name, precision, batch)
        for chip in chips().values()
        for model in models().values()
        for precision in chip.precisions
        for batch in batches(model, chip, precision)
    ]


def lineups() -> list[Case]:
    """One case for each model, chip and precision, at the largest batch: what best-batch figures are judged by."""
    largest: dict[tuple[str, str, Precision], Case] = {}
    for case in cases():
        largest[case.chip, case.model, case.precision] = case
    return list(largest.values())
