"""Every published number, found by case: loads baselines/ whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from harness.baselines.reader import Reader
from harness.baselines.rows import (
    Best,
    Cell,
    Deviation,
    Erratum,
    Log,
    Ratio,
    Target,
    Times,
)
from harness.case import Case, Precision
from harness.chips import CHIPS
from harness.errors import BaselineError
from harness.vocabulary import ACCURACIES

DIRECTORY = Path(__file__).parents[2] / "baselines"
OTHERS = ("targets", "deviations", "errata")  # files that are not a model's


@dataclass(frozen=True)
class Baselines:
    """Every published number, as rows."""

    cells: tuple[Cell, ...]
    logs: tuple[Log, ...]
    times: tuple[Times, ...]
    ratios: tuple[Ratio, ...]
    bests: tuple[Best, ...]
    rows_of_targets: tuple[Target, ...]
    deviations: tuple[Deviation, ...]
    errata: tuple[Erratum, ...]
    digest: str  # sha256 over all files

    def cell(self, case: Case, metric: str) -> Cell | None:
        """The chosen figure of a case. A throughput holds for its own batch. An accuracy holds for every batch of its
        model, chip and precision: the figure of the batch itself, else one printed without a batch, else the one of
        the smallest batch printed."""
        found = [
            cell
            for cell in self.cells
            if cell.chosen
            and cell.role == "cell"
            and (cell.model, cell.chip, cell.precision, cell.metric) == (case.model, case.chip, case.precision, metric)
        ]
        if metric not in ACCURACIES:
            return next((cell for cell in found if cell.batch == case.batch), None)
        return min(found, key=lambda cell: (cell.batch != case.batch, cell.batch or 0), default=None)

    def source(self, model: str, metric: str) -> Cell | None:
        """What the model's authors published."""
        found = (c for c in self.cells if c.chosen and c.role == "source" and (c.model, c.metric) == (model, metric))
        return next(found, None)

    def best(
        self, model: str, chip: str, metric: str = "throughput", precision: Precision | None = None
    ) -> Cell | None:
        """The highest chosen figure over all batches, at one precision or at any."""
        found = (
            cell
            for cell in self.cells
            if cell.chosen
            and (cell.model, cell.chip, cell.metric) == (model, chip, metric)
            and precision in (None, cell.precision)
        )
        return max(found, key=lambda cell: cell.value, default=None)

    def targets(self, chip: str) -> tuple[Target, ...]:
        """Ratios that the chip must reach against other chips."""
        return tuple(target for target in self.rows_of_targets if target.chip == chip)

    def deviation(self, case: Case, stage: str, metric: str) -> Deviation | None:
        """The known failure that covers this case, stage and metric, or None."""
        for row in self.deviations:
            if (row.stage, row.metric) == (stage, metric) and fnmatchcase(str(case), row.case):
                return row
        return None

    def cases(self) -> set[Case]:
        """Cases with a figure of their own: model, chip, precision and batch all printed."""
        return {
            Case(cell.model, cell.chip, cell.precision, cell.batch)
            for cell in self.cells
            if cell.chosen and cell.chip is not None and cell.precision is not None and cell.batch is not None
        }


def load(
    directory: Path = DIRECTORY,
    models: Collection[str] | None = None,
    chips: Collection[str] = tuple(CHIPS),
    plugins: Sequence[Path] = (),
    cases: Collection[Case] = (),
) -> Baselines:
    """Everything in `directory`, one file a model, named like it, and in the same form in the folders `plugins` of
    installed packages. Raises BaselineError, with file and line, for whatever contradicts itself or names a model,
    chip, metric or precision that does not exist, and for a row of a plug-in about the suite's own models on the
    suite's own chips, or about none of `cases`. `models` are the names that may be used; by default those of the
    files."""
    own = [path.stem for path in sorted(Path(directory).glob("*.toml")) if path.stem not in OTHERS]
    reader = Reader(tuple(own if models is None else models), tuple(chips))
    digest = hashlib.sha256()
    _read(reader, digest, Path(directory), Path(directory).name)
    cells, targets, deviations = len(reader.cells), len(reader.rows_targets), len(reader.rows_deviations)
    for folder in plugins:
        _read(reader, digest, folder, f"{folder.parent.name}/{folder.name}")
    _check_plugins(reader.cells[cells:], reader.rows_targets[targets:], reader.rows_deviations[deviations:], own, cases)
    _check_choice(reader.cells)
    _check_deviations(reader.rows_deviations, reader.cells)
    return Baselines(
        tuple(reader.cells),
        tuple(reader.logs),
        tuple(reader.times),
        tuple(reader.ratios),
        tuple(reader.bests),
        tuple(reader.rows_targets),
        tuple(reader.rows_deviations),
        tuple(reader.rows_errata),
        digest.hexdigest(),
    )


def _read(reader: Reader, digest: Any, folder: Path, shown: str) -> None:
    """Read the files of a folder into `reader`, and their names and bytes into `digest`."""
    files = sorted(folder.glob("*.toml"))
    if not files:
        raise BaselineError(f"no .toml file in {folder}", hint="reinstall, or give the directory of the baselines")
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
        read = getattr(reader, path.stem) if path.stem in OTHERS else reader.model
        read(path, f"{shown}/{path.name}")


def _check_plugins(
    cells: Sequence[Cell],
    targets: Sequence[Target],
    deviations: Sequence[Deviation],
    models: Collection[str],
    cases: Collection[Case],
) -> None:
    """A package speaks of its own chips and models: what judges those of the suite (`models`, CHIPS) stands in the
    suite."""
    hint = "a package brings rows of its own chips and models; those of the suite are in its baselines/"
    there = {(case.model, case.chip, case.precision) for case in cases}
    for cell in cells:
        if cell.model in models and (cell.chip is None or cell.chip in CHIPS):
            raise BaselineError(f"{cell.place}: {cell.subject} is the suite's own", hint=hint)
        timed = cell.metric not in ACCURACIES
        if cell.chip is None or cell.precision is None or not cell.chosen:
            continue
        case = Case(cell.model, cell.chip, cell.precision, cell.batch or 1)
        if (case not in cases) if timed else (case.model, case.chip, case.precision) not in there:
            raise BaselineError(f"{cell.place}: the figure belongs to no case of the matrix: {cell.subject}",
                                hint="name a precision and a batch of the chip's row")  # fmt: skip
    for target in targets:
        if target.chip in CHIPS:
            raise BaselineError(f"{target.file}:{target.line}: {target.chip} is the suite's own", hint=hint)
    for row in deviations:
        for case in cases:
            if case.model in models and case.chip in CHIPS and fnmatchcase(str(case), row.case):
                raise BaselineError(
                    f"{row.file}:{row.line}: the deviation covers {case}, which is the suite's own", hint=hint
                )


def _check_choice(cells: list[Cell]) -> None:
    """One figure of each key is chosen, and none stands twice."""
    chosen: dict[Any, Cell] = {}
    seen: dict[Any, Cell] = {}
    for cell in cells:
        key = (cell.role, cell.model, cell.chip, cell.precision, cell.batch, cell.metric)
        place = (*key, cell.per, cell.document, cell.section, cell.printed)
        if place in seen:
            raise BaselineError(
                f"{cell.place}: {cell.subject} {cell.metric} = {cell.printed} is already at {seen[place].place}",
                hint="delete one of the two lines",
            )
        seen[place] = cell
        if cell.chosen and key in chosen:
            raise BaselineError(
                f"{cell.place}: a second {cell.metric} of {cell.subject} is chosen, {cell.printed} beside "
                f"{chosen[key].printed} at {chosen[key].place}",
                hint="set chosen = false on one of them and note the reason",
            )
        if cell.chosen:
            chosen[key] = cell
    for cell in cells:
        key = (cell.role, cell.model, cell.chip, cell.precision, cell.batch, cell.metric)
        # an accuracy printed without a batch speaks for all of them
        if cell.per == "card" and key not in chosen and (*key[:4], None, cell.metric) not in chosen:
            raise BaselineError(
                f"{cell.place}: no {cell.metric} of {cell.subject} is chosen", hint="delete chosen = false on one line"
            )


def _check_deviations(deviations: list[Deviation], cells: list[Cell]) -> None:
    for row in deviations:
        published = (cell for cell in cells if cell.chosen and cell.metric == row.metric)
        if row.stage == "published" and not any(covers(row, cell) for cell in published):
            raise BaselineError(
                f"{row.file}:{row.line}: the deviation matches no published {row.metric}: {row.case}",
                hint="repair the pattern, or delete the row",
            )


def check_reach(deviations: Iterable[Deviation], cases: Collection[Case]) -> None:
    """Raises BaselineError, with file and line, for a deviation whose pattern matches none of the cases: a chip, a
    model or a batch was renamed, and the row would excuse nothing without a word."""
    for row in deviations:
        if not any(fnmatchcase(str(case), row.case) for case in cases):
            raise BaselineError(
                f"{row.file}:{row.line}: the deviation matches no case of the matrix: {row.case}",
                hint="repair the pattern, or delete the row",
            )


def covers(deviation: Deviation, cell: Cell) -> bool:
    """Whether the deviation's pattern takes in the cell's case; a cell without a batch stands for batch 1."""
    if cell.role != "cell":
        return False
    return fnmatchcase(f"{cell.model}-{cell.chip}-{cell.precision}-bs{cell.batch or 1}", deviation.case)
