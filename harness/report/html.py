"""A run as one HTML page: verdicts, tables and charts, with nothing to fetch."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment

from harness.report import tables
from harness.report.records import Record, Run, ran
from harness.vocabulary import MARKS, Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("page.html.j2")
INK, GRID = "#1f2933", "#d9dee4"
SERIES = ("#2563a8", "#c8641b", "#2f855a", "#8a3ea8", "#b02a4c", "#5b6770")


def page(run: Run) -> str:
    """The page as text: UTF-8, charts inside as SVG."""
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        TEMPLATE.read_text(encoding="utf-8")
    )
    records = run.records
    marks = sorted({mark for record in records if ran(record) for mark in record.marks})
    return template.render(
        head=run.head_line,
        header=run.header,
        outcomes=[(name, count) for name in Outcome if (count := Counter(r.outcome for r in records)[name])],
        marks=[(mark, MARKS.get(mark, "")) for mark in marks],
        tables=tables.sections(records),
        charts=[(title, _svg(figure)) for title, figure in _charts(records)],
        numeric=tables.NUMERIC,
        skips=[(f"{', '.join(chips)}: {reason}", count) for chips, reason, count in tables.skips(records)],
        facts=[(str(r.case), r) for r in records if ran(r) and r.facts],
    )


def _charts(records: Sequence[Record]) -> list[tuple[str, Figure]]:
    charts = []
    timed = [r for r in records if r.stage == "throughput" and r.values.get("measured")]
    if timed:
        charts.append(
            ("Throughput by batch: measured with its interval, published as a dashed line", _throughput(timed))
        )
    scored = [r for r in records if r.stage == "accuracy" and r.values.get("drop") is not None]
    if scored:
        charts.append(("Relative drop in accuracy: the interval must stay left of the line", _drops(scored)))
    return charts


def _throughput(timed: Sequence[Record]) -> Figure:
    """One panel a model: images a second over the batch, one line a chip and precision."""
    models = sorted({r.case.model for r in timed})
    figure, panels = _figure(len(models), 3.1)
    for model, axes in zip(models, panels, strict=False):
        lines = sorted({(r.case.chip, str(r.case.precision)) for r in timed if r.case.model == model})
        for colour, (chip, precision) in zip(SERIES * 3, lines, strict=False):
            rows = sorted(
                (r for r in timed if (r.case.model, r.case.chip, str(r.case.precision)) == (model, chip, precision)),
                key=lambda r: r.case.batch,
            )
            x = [r.case.batch for r in rows]
            y = [_value(r, "measured") for r in rows]
            error = [[v - (r.values.get("low") or v) for v, r in zip(y, rows, strict=True)],
                     [(r.values.get("high") or v) - v for v, r in zip(y, rows, strict=True)]]  # fmt: skip
            axes.errorbar(
                x, y, yerr=error, marker="o", ms=4, lw=1.4, capsize=3, color=colour, label=f"{chip} {precision}"
            )
            known = [(r.case.batch, r.values["published"]) for r in rows if r.values.get("published")]
            if known:
                axes.plot(*zip(*known, strict=True), ls="--", lw=1.2, color=colour, alpha=0.7)
        axes.set_title(model, fontsize=10, loc="left", color=INK)
        axes.set_xscale("log", base=2)
        ticks = sorted({r.case.batch for r in timed if r.case.model == model})
        axes.set_xticks(ticks, [str(b) for b in ticks])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("batch", fontsize=8)
        axes.legend(fontsize=7, frameon=False)
    return figure


def _drops(scored: Sequence[Record]) -> Figure:
    """One row a case and metric: the drop and its one-sided bounds, in percent."""
    from matplotlib.figure import Figure as Blank

    figure = Blank(figsize=(10, 0.6 + 0.26 * len(scored)), layout="constrained")
    axes = figure.subplots()
    _plain(axes)
    for row, record in enumerate(reversed(scored)):
        drop = 100 * _value(record, "drop")
        low, high = (100 * (record.values.get(end) or 0.0) if end in record.values else drop for end in ("low", "high"))
        bad = record.outcome in (Outcome.FAIL, Outcome.INVALID)
        colour = SERIES[4] if bad else SERIES[1] if record.outcome is Outcome.INCONCLUSIVE else SERIES[0]
        axes.plot([low, high], [row, row], color=colour, lw=1.6)
        axes.plot([drop], [row], "o", ms=4, color=colour)
    axes.axvline(1.0, color=INK, lw=1, ls="--")
    axes.set_yticks(range(len(scored)), [f"{r.case}  {r.metric}" for r in reversed(scored)], fontsize=7)
    if max(map(abs, axes.get_xlim())) > 2:  # within its linear part symlog has no ticks but the limits
        axes.set_xscale("symlog", linthresh=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("relative drop against the reference, %  (dashed: what is allowed)", fontsize=8)
    return figure


def _figure(panels: int, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure as Blank

    across = min(panels, 3)
    down = -(-panels // across)
    figure = Blank(figsize=(10, height * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    flat = [axes for row in grid for axes in row]
    for axes in flat[:panels]:
        _plain(axes)
    for axes in flat[panels:]:
        axes.set_axis_off()
    return figure, flat[:panels]


def _plain(axes: Axes) -> None:
    axes.grid(color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7, colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _svg(figure: Figure) -> str:
    """The chart as the address of an image, so that its text cannot meddle with the page's."""
    text = io.BytesIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(text.getvalue()).decode()


def _value(record: Record, name: str) -> float:
    value: Any = record.values[name]
    return float(value)
