"""chipproof baselines: the published figures with the place where each was read, and the lint of their arithmetic."""

from __future__ import annotations

import json
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tools.language import reader, say, show

if TYPE_CHECKING:
    from harness.baselines import Baselines, Cell
    from harness.baselines.arithmetic import Finding

COLUMNS = {
    "model": 23, "chip": 10, "precision": 9, "batch": 5, "metric": 18, "printed": 18, "unit": 19, "role": 6,
    "chosen": 6,
}  # name -> width, so that the tables of all sections line up  # fmt: skip


class Action(str, Enum):
    """What the verb does."""

    SHOW = "show"
    LINT = "lint"


def command(
    action: Annotated[Action, typer.Argument(help="show the figures, or compute the documents' arithmetic again")] = (
        Action.SHOW
    ),
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="folder of the figures; default: the suite's and those of installed packages"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one array, an object a figure or finding")] = False,
) -> None:
    """Show every published figure, or lint them. Exit status of lint: 1 when it finds what is not a known erratum."""
    from harness import matrix
    from harness.baselines import load
    from harness.baselines.arithmetic import lint

    registry = matrix.published() if directory is None else load(directory)
    if action is Action.SHOW:
        _show(registry, as_json)
        return
    findings = lint(registry)
    new = [finding for finding in findings if not finding.why]
    if as_json:
        print(json.dumps([{**vars(f), "known": bool(f.why)} for f in findings], ensure_ascii=False))
    else:
        for finding in findings:
            say(f"{'known' if finding.why else 'NEW'}: {finding}" + _reason(finding))
        say(f"{len(findings)} disagreements: {len(findings) - len(new)} known, {len(new)} new")
    if new:
        raise typer.Exit(1)


def figure(cell: Cell) -> dict[str, Any]:
    """A figure as JSON values; accuracies are fractions, null is what the document does not say."""
    return {
        "model": cell.model,
        "chip": cell.chip,
        "precision": None if cell.precision is None else cell.precision.value,
        "batch": cell.batch,
        "metric": cell.metric,
        "value": cell.value,
        "unit": cell.unit,
        "role": cell.role,
        "document": cell.document,
        "section": cell.section,
        "chosen": cell.chosen,
    }


def _reason(finding: Finding) -> str:
    return f"\n      {finding.why}" if finding.why else "\n      next: repair the row, or add it to errata.toml"


def _show(registry: Baselines, as_json: bool) -> None:
    from rich import box
    from rich.table import Table

    if as_json:
        print(json.dumps([figure(cell) for cell in registry.cells], ensure_ascii=False))
        return
    t = reader()
    yes = t("yes")
    for (document, section), cells in groupby(registry.cells, key=lambda cell: (cell.document, cell.section)):
        table = Table(box=box.SIMPLE_HEAD)
        for name, width in COLUMNS.items():
            right = name in ("batch", "printed")
            table.add_column(name, min_width=width, no_wrap=True, justify="right" if right else "left")
        for cell in cells:
            row = (
                cell.model,
                cell.chip,
                cell.precision,
                cell.batch,
                cell.metric,
                cell.printed,
                t(_unit(cell)),
                cell.role,
            )
            table.add_row(*("" if v is None else str(v) for v in row), yes if cell.chosen else "")
        print(f"{document}, {section}")
        show(table, least=145)
    chosen = sum(cell.chosen for cell in registry.cells)
    say(f"{len(registry.cells)} figures, {chosen} chosen; to check their arithmetic: chipproof baselines lint")


def _unit(cell: Cell) -> str:
    """The unit as printed."""
    return "%" if cell.scale != 1 else cell.unit
