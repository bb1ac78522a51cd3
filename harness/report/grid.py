"""The run as a grid: a row a chip, precision and model, a cell a stage and batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.report.records import Record
from harness.vocabulary import STAGES, Outcome

SIGNS: dict[Outcome, str] = {
    Outcome.PASS: ".",
    Outcome.FAIL: "F",
    Outcome.INVALID: "!",
    Outcome.ERROR: "E",
    Outcome.INCONCLUSIVE: "?",
    Outcome.SKIP: "-",
}
"""One ASCII character an outcome, so that they differ without colour and on a dumb terminal."""


@dataclass(frozen=True)
class Row:
    """Worst outcome by (stage, batch). `models` has several names when their cells are the same."""

    chip: str
    precision: str
    models: tuple[str, ...]
    cells: Mapping[tuple[str, int], Outcome]


@dataclass(frozen=True)
class Grid:
    """`columns`: the stages on record, in their order, each with its batches; a stage that is judged once a row, over
    all batches, has none."""

    columns: tuple[tuple[str, tuple[int, ...]], ...]
    rows: tuple[Row, ...]
    outcomes: tuple[Outcome, ...]

    def cell(self, row: Row, stage: str, batch: int | None) -> Outcome | None:
        """Outcome at that place; `batch` None: of a stage without batches."""
        if batch is not None:
            return row.cells.get((stage, batch))
        return next((outcome for (name, _), outcome in row.cells.items() if name == stage), None)


def grid(records: Sequence[Record]) -> Grid:
    """Rows in the order of the run; models of one chip and precision that look the same share a row when all do."""
    cells: dict[tuple[str, str], dict[str, dict[tuple[str, int], Outcome]]] = {}
    for record in records:
        case = record.case
        row = cells.setdefault((case.chip, str(case.precision)), {}).setdefault(case.model, {})
        place = (record.stage, case.batch)
        row[place] = min(row.get(place, record.outcome), record.outcome, key=lambda outcome: outcome.severity)
    rows = [
        Row(chip, precision, models, row)
        for (chip, precision), block in cells.items()
        for models, row in _merged(block)
    ]
    seen = {stage for row in rows for stage, _ in row.cells}
    stages = [name for name in STAGES if name in seen] + sorted(seen - set(STAGES))
    every = tuple(sorted({batch for row in rows for _, batch in row.cells}))
    columns = tuple((stage, every if _by_batch(stage, rows) and len(every) > 1 else ()) for stage in stages)
    found = {outcome for row in rows for outcome in row.cells.values()}
    return Grid(columns, tuple(rows), tuple(outcome for outcome in SIGNS if outcome in found))


def _by_batch(stage: str, rows: Sequence[Row]) -> bool:
    """Whether some row has several batches of the stage, or its one batch is the only one of the row."""
    for row in rows:
        here = [batch for name, batch in row.cells if name == stage]
        if len(here) > 1:
            return True
    return False


def _merged(
    block: Mapping[str, Mapping[tuple[str, int], Outcome]],
) -> list[tuple[tuple[str, ...], Mapping[tuple[str, int], Outcome]]]:
    rows = list(block.items())
    if len(rows) > 2 and all(_signs(row) == _signs(rows[0][1]) for _, row in rows):
        return [(tuple(block), max((row for _, row in rows), key=len))]
    return [((model,), row) for model, row in rows]


def _signs(row: Mapping[tuple[str, int], Outcome]) -> set[tuple[str, Outcome]]:
    """Stages with their outcomes; with batches where a stage has several outcomes: models differ in batches."""
    uniform = {(stage, outcome) for (stage, _), outcome in row.items()}
    mixed = len({stage for stage, _ in uniform}) < len(uniform)
    return {(f"{stage} {batch}", outcome) for (stage, batch), outcome in row.items()} if mixed else uniform
