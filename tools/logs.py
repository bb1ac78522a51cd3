"""chipproof logs: what the vendors' tools printed, judged like a measurement: per card, against cell and targets."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.case import Case, Precision
from harness.errors import DataError, UsageError
from harness.vendor import logs
from harness.vendor.logs import Throughput
from harness.vocabulary import Outcome
from tools.language import say

if TYPE_CHECKING:
    from harness.baselines import Baselines
    from harness.chips import Chip
    from harness.judge.verdict import Verdict
    from harness.models.base import Model
    from harness.report.records import Record

BAD = (Outcome.FAIL, Outcome.INVALID)
Figures = Mapping[int, Sequence[Throughput]]  # by batch


def command(
    files: Annotated[list[Path], typer.Argument(help="logs of one model on one chip: one a device and batch")],
    chip: Annotated[str, typer.Option(help="the chip that was measured")],
    model: Annotated[str, typer.Option(help="the model that ran")],
    batch: Annotated[int | None, typer.Option(help="the batch, where a log does not say it itself")] = None,
    precision: Annotated[Precision | None, typer.Option(help="default: the one that was published")] = None,
    tool: Annotated[
        str | None, typer.Option(help=f"{', '.join(logs.TOOLS)}; default: recognised from the text")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the judged records as JSON")] = False,
) -> None:
    """Judge the throughput that benchmark, msame, ais_bench, mm_run or trtexec printed in FILES.

    Exit status: 1 when a figure fails or cannot be trusted, 2 when a log is cut off, of another batch or contradicts
    itself, or when nothing was published to judge it by."""
    from harness import matrix

    product, network = matrix.chip(chip), matrix.model(model)
    published = matrix.published()
    figures = read(files, batch, tool)
    records = judge(published, product, network, precision or _published_precision(published, chip, model), figures)
    if as_json:
        print(json.dumps([record.as_json() for record in records], ensure_ascii=False, indent=1))
    else:
        for record in records:
            say(_shown(record))
    if any(record.outcome in BAD for record in records):
        raise typer.Exit(1)


def read(files: Sequence[Path], batch: int | None = None, tool: str | None = None) -> Figures:
    """Figures of all logs by batch, smallest first. Raises DataError: a log is damaged, two are the same log, of the
    same device and batch, or of different tools."""
    figures = [figure for path in files for figure in logs.read(path, tool, batch)]
    texts: dict[str, Path] = {}
    for path in files:
        text = logs.read_text(path)
        if text in texts:
            raise DataError(f"{path} and {texts[text]} are the same log", hint="give each log once")
        texts[text] = path
    logs.once_a_device(figures)
    kinds = sorted({f"{figure.tool}: {figure.statistic}" for figure in figures})
    if len(kinds) > 1:
        raise DataError(f"the logs measure different things ({'; '.join(kinds)})", hint="give logs of one tool")
    by_batch: dict[int, list[Throughput]] = defaultdict(list)
    for figure in figures:
        by_batch[figure.batch].append(figure)
    return dict(sorted(by_batch.items()))


def _published_precision(published: Baselines, chip: str, model: str) -> Precision:
    found = {
        cell.precision
        for cell in published.cells
        if (cell.chip, cell.model, cell.metric) == (chip, model, "throughput") and cell.precision is not None
    }
    if len(found) != 1:
        names = ", ".join(sorted(map(str, found))) or "no precision"
        raise UsageError(f"{model} on {chip} was published at {names}", hint="state the one measured: --precision")
    return found.pop()


def judge(published: Baselines, chip: Chip, model: Model, precision: Precision, figures: Figures) -> list[Record]:
    """A throughput record for each batch, and one for each target of the chip.

    Raises DataError when nothing was published for any of the batches."""
    from harness.judge.stats import exact
    from harness.judge.throughput import judge_batches, judge_floor
    from harness.judge.verdict import Verdict

    cards = {batch: per_card(found, chip) for batch, found in figures.items()}
    odd = judge_batches({batch: found[0].latency_ms / 1e3 for batch, found in figures.items()})
    records = []
    for batch, found in figures.items():
        case = Case(model.name, chip.name, precision, batch)
        cell = published.cell(case, "throughput")
        value, arithmetic = cards[batch]
        verdict = judge_floor(exact(value), cell) if cell is not None else None
        doubts = [doubt for figure in found for doubt in figure.doubts]
        if odd.outcome is Outcome.INVALID:
            doubts.append(odd.text)
        if doubts:
            alone = f"the figure alone would be {verdict}" if verdict is not None else "nothing was published"
            verdict = Verdict(Outcome.INVALID, "; ".join([*dict.fromkeys(doubts), alone]))
        records.append(_record(case, found, value, arithmetic, verdict, None if cell is None else cell.value, chip))
    if all(record.outcome is Outcome.SKIP for record in records):
        raise DataError(f"no throughput of {records[0].case} was published", hint="see what was: chipproof baselines")
    return records + _targets(published, chip, model, precision, {batch: card for batch, (card, _) in cards.items()})


def per_card(found: Sequence[Throughput], chip: Chip) -> tuple[float, str]:
    """Images/s of a card, and how it was computed: all devices of a card added up, or their mean times as many."""
    rates = [figure.per_device for figure in found]
    count = chip.devices_per_card
    if count == 1 and len(rates) == 1:
        return rates[0], "one device a card"
    if _whole(found, chip):
        return sum(rates), " + ".join(f"{rate:g}" for rate in rates)
    mean = sum(rates) / len(rates)
    whose = "one device" if len(rates) == 1 else f"the mean of {len(rates)} logs"
    return mean * count, f"{mean:g} x {count}: {whose} is scaled to a card of {count}"


def _whole(found: Sequence[Throughput], chip: Chip) -> bool:
    """Whether the logs are those of all devices of a card: as many, and each says of which device it is. Logs that do
    not may be several runs of one."""
    return len(found) == chip.devices_per_card and all(figure.device is not None for figure in found)


def _record(
    case: Case, found: Sequence[Throughput], value: float, arithmetic: str, verdict: Verdict | None,
    published: float | None, chip: Chip,
) -> Record:  # fmt: skip
    from harness.report.records import Record

    outcome, text = Outcome.SKIP, "nothing was published at this batch"
    if verdict is not None:
        outcome, text = verdict.outcome, f"{verdict.text}; the tool printed one figure, without an interval"
    names = [f"log {i}" if f.device is None else f"device {f.device}" for i, f in enumerate(found, 1)]
    per_device = {name: figure.per_device for name, figure in zip(names, found, strict=True)}
    return Record(
        case, "throughput", outcome, text, "throughput",
        {"measured": value, "published": published, "ratio": value / published if published else None},
        ("x4",) if chip.devices_per_card > 1 and not _whole(found, chip) else (),
        {
            "against": "published",
            "tool": found[0].tool,
            "statistic": found[0].statistic,
            "per_device": per_device,
            "per_card": arithmetic,
            "latency_ms": [figure.latency_ms for figure in found],
            "logs": [f"{figure.source}:{figure.lines[0]}" for figure in found],
            "notes": list(dict.fromkeys(note for figure in found for note in figure.notes)),
        },
    )  # fmt: skip


def _targets(
    published: Baselines, chip: Chip, model: Model, precision: Precision, cards: Mapping[int, float]
) -> list[Record]:
    """Best batch against best batch, once every batch that was published is there."""
    from harness.judge.stats import exact
    from harness.judge.throughput import judge_target
    from harness.report.records import Record

    wanted = {
        cell.batch
        for cell in published.cells
        if cell.chosen and cell.batch is not None
        and (cell.chip, cell.model, cell.precision, cell.metric) == (chip.name, model.name, precision, "throughput")
    }  # fmt: skip
    missing = sorted(wanted - set(cards))
    best = max(cards, key=lambda batch: cards[batch])
    records = []
    for target in published.targets(chip.name):
        case = Case(model.name, chip.name, precision, best)
        other = published.best(model.name, target.other)
        metric = f"{target.ratio:g}x {target.other}"
        if missing:
            text = f"best batch against best batch needs all batches; not given: {', '.join(map(str, missing))}"
            records.append(Record(case, "targets", Outcome.SKIP, text, metric))
            continue
        if other is None:
            records.append(Record(case, "targets", Outcome.SKIP, f"nothing was published on {target.other}", metric))
            continue
        verdict = judge_target(exact(cards[best]), other, target)
        values = {"measured": cards[best], "published": other.value, "ratio": cards[best] / other.value}
        records.append(Record(case, "targets", verdict.outcome, verdict.text, metric, values))
    return records


def _shown(record: Record) -> str:
    """One record for a person: the figures with their lines, the card's arithmetic, the verdict."""
    if record.stage == "targets":
        return f"{record.case.model}-{record.case.chip} target {record.metric}\n  {record.outcome}: {record.text}"
    facts = record.facts
    lines = [str(record.case)]
    for (device, rate), place in zip(facts["per_device"].items(), facts["logs"], strict=True):
        lines.append(f"  {device}: {rate:g} images/s ({facts['tool']}, {facts['statistic']}, {place})")
    lines.append(f"  card: {record.values['measured']:.6g} images/s ({facts['per_card']})")
    lines += [f"  note: {note}" for note in facts["notes"]]
    return "\n".join([*lines, f"  {record.outcome}: {record.text}"])
