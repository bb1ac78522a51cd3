"""The lint: computes again what the documents computed, and lists every place where they contradict themselves.

Computed in exact decimals and compared to the last printed digit, so that a mistyped digit shows as well. What is known
stands in errata.toml, word for word; a finding without its erratum, and an erratum without its finding, are new.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from typing import TypeVar

from harness.baselines.registry import Baselines
from harness.baselines.rows import Best, Cell, Log, Ratio, Times, ulp
from harness.case import Case
from harness.chips import CHIPS
from harness.vocabulary import ACCURACIES

SLACK = Decimal("0.99")  # a chip keeps 99 % of the authors' accuracy
SLOPES = (-0.5, 0.95)  # of log(images/s) over log(batch): below, the batch was ignored; above, it was counted twice
LAUNCH_BOUND = Decimal("0.9")  # of the device's time spent enqueueing: then the host is measured
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Finding:
    """A disagreement. `why` is what errata.toml (or deviations.toml) knows of it; empty: it is new."""

    rule: str
    about: str
    says: str
    file: str
    line: int
    why: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}: {self.about}: {self.says}"


def lint(baselines: Baselines) -> list[Finding]:
    """All disagreements, known and new, in file order. New ones have no `why`."""
    known = {(e.rule, e.about, e.says): e for e in baselines.errata}
    findings = []
    met = set()
    for finding in (finding for rule in RULES for finding in rule(baselines)):
        erratum = known.get((finding.rule, finding.about, finding.says))
        if erratum is not None:
            met.add(erratum)
            finding = replace(finding, why=erratum.why)
        findings.append(finding)
    for erratum in baselines.errata:
        if erratum not in met:
            says = f"no longer occurs: {erratum.rule}: {erratum.says}"
            findings.append(Finding("erratum", erratum.about, says, erratum.file, erratum.line))
    return sorted(findings, key=lambda f: (f.file, f.line, f.rule, f.says))


def _at(row: Cell | Log | Times | Ratio | Best, rule: str, says: str) -> Finding:
    if isinstance(row, Cell):
        about = f"{row.subject} {row.metric}"
    elif isinstance(row, (Log, Times)):
        about = f"{row.model}-{row.chip}-{row.precision}-bs{row.batch}"
    else:
        about = f"{row.model}-{row.chip}-{row.precision}"
    return Finding(rule, about, says, row.file, row.line)


def _groups(rows: Iterable[V], key: Callable[[V], K]) -> dict[K, list[V]]:
    groups: dict[K, list[V]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


def _agrees(exact: Decimal, printed: Decimal) -> bool:
    """Whether `printed` is `exact`, rounded or cut to the printed digits."""
    return abs(exact - printed) <= ulp(printed) / 2


def _short(value: Decimal, places: int = 6) -> str:
    """At most so many digits after the point, without trailing zeros."""
    text = f"{value:.{places}f}".rstrip("0").rstrip(".")
    return text or "0"


def _cards(baselines: Baselines) -> list[Cell]:
    return [c for c in baselines.cells if c.metric == "throughput" and c.per == "card"]


def _measured(baselines: Baselines, cell: Cell) -> list[tuple[Decimal, Decimal]]:
    """What the cell's own section printed of the same run: (number, images/s of a card that it stands for)."""
    if cell.chip is None or cell.batch is None:
        return []
    devices = Decimal(CHIPS[cell.chip].devices_per_card) if cell.chip in CHIPS else Decimal(1)
    factor = {"device": devices, "execution": Decimal(cell.batch)}
    here = (cell.model, cell.chip, cell.precision, cell.batch, cell.document, cell.section)
    found = [
        (c.printed, c.printed * factor[c.per])
        for c in baselines.cells
        if c.per in factor and (c.model, c.chip, c.precision, c.batch, c.document, c.section) == here
    ]
    for row in baselines.times:
        place = (row.model, row.chip, row.precision, row.batch, row.document, row.section)
        if row.of == "compute" and place == here and (row.others.keys() & {"total_s", "without_first"}):
            found.append((row.mean, devices * 1000 * cell.batch / row.mean))
    return found


def card_figures(baselines: Baselines) -> Iterator[Finding]:
    """Images per second of a card: devices x device, batch x executions/s, or batch / latency."""
    for cell in _cards(baselines):
        measured = _measured(baselines, cell)
        if cell.formula:
            yield from _formula(cell, [printed for printed, _ in measured])
        elif measured and not any(_agrees(card, cell.printed) for _, card in measured):
            cards = ", ".join(f"{printed} gives {_short(card)}" for printed, card in measured)
            yield _at(cell, "card", f"{cards}, printed {cell.printed}")


def _formula(cell: Cell, measured: list[Decimal]) -> Iterator[Finding]:
    """A printed computation: its result, and that its numbers are the measured one, the devices, the batch, 1000."""
    result = evaluate(cell.formula)
    if not _agrees(result, cell.printed):
        yield _at(cell, "formula", f"{cell.formula} is {_short(result)}, printed {cell.printed}")
    devices = CHIPS[cell.chip].devices_per_card if cell.chip in CHIPS else 1
    allowed = {*measured, *(Decimal(known) for known in (devices, cell.batch, 1000) if known)}
    strange = [n for n in re.findall(r"[\d.]+", cell.formula) if Decimal(n) not in allowed]
    if strange or not any(Decimal(n) in measured for n in re.findall(r"[\d.]+", cell.formula)):
        near = ", ".join(str(m) for m in measured) or "nothing"
        yield _at(cell, "operand", f"{cell.formula} is not made of what was measured: {near}")


def evaluate(formula: str) -> Decimal:
    """Products and quotients from left to right, such as `4*1000/223.21` or `106.197x4`. Raises ValueError."""
    tokens = re.findall(r"[\d.]+|\S", formula.replace("x", "*"))
    result = Decimal(tokens[0])
    for sign, number in zip(tokens[1::2], tokens[2::2], strict=True):
        if sign not in "*/":
            raise ValueError(f"{formula!r} has a {sign!r}")
        result = result * Decimal(number) if sign == "*" else result / Decimal(number)
    return result


def agreement(baselines: Baselines) -> Iterator[Finding]:
    """A number printed at several places is one number, to the digits of the coarser print."""
    cells = [c for c in baselines.cells if c.role == "cell"]
    for group in _groups(
        cells, lambda c: (c.model, c.chip, c.precision, c.batch, c.metric, c.per, c.document)
    ).values():
        first = next((c for c in group if c.chosen), group[0])
        for cell in group:
            step = max(ulp(first.printed) * first.scale, ulp(cell.printed) * cell.scale)
            if abs(cell.printed * cell.scale - first.printed * first.scale) > step / 2:
                yield _at(cell, "agreement", f"{cell.printed} in {cell.section}, {first.printed} in {first.section}")
    # an accuracy printed with a batch beside one printed without
    for cell in cells:
        if cell.metric not in ACCURACIES or cell.batch is None or cell.chosen:
            continue
        for other in cells:
            if (
                other.batch is None
                and (other.model, other.chip, other.precision, other.metric)
                == (cell.model, cell.chip, cell.precision, cell.metric)
                and not _agrees(cell.printed * cell.scale / other.scale, other.printed)
            ):
                yield _at(cell, "agreement", f"{cell.printed} in {cell.section}, {other.printed} in {other.section}")


def labels(baselines: Baselines) -> Iterator[Finding]:
    """Figures whose label in the document gives another batch."""
    for cell in baselines.cells:
        if cell.labelled is not None:
            yield _at(cell, "label", f"{cell.printed} of batch {cell.batch} is labelled batch {cell.labelled}")


def bests(baselines: Baselines) -> Iterator[Finding]:
    """The best of all batches is the highest figure of the same table."""
    for row in baselines.bests:
        highest = max(_table(baselines, row, row.chip, None), default=Decimal(0))
        if highest != row.value:
            yield _at(row, "best", f"the highest figure is {highest}, printed {row.value}")


def _table(baselines: Baselines, row: Best | Ratio, chip: str, batch: int | None) -> list[Decimal]:
    """Card figures of the row's own table: of one batch, or of all."""
    return [
        cell.printed
        for cell in _cards(baselines)
        if (cell.model, cell.chip, cell.precision, cell.document, cell.section)
        == (row.model, chip, row.precision, row.document, row.section)
        and batch in (None, cell.batch)
    ]


def ratios(baselines: Baselines) -> Iterator[Finding]:
    """Printed quotients, and claims that one chip is so many times another."""
    for row in baselines.ratios:
        over = max(_table(baselines, row, row.chip, row.batch), default=None)
        under = max(_table(baselines, row, row.other, row.other_batch), default=None)
        batch = "best batch" if row.batch is None else f"batch {row.batch}"
        if over is None or under is None:
            yield _at(row, "ratio", f"{batch} of {row.chip} or {row.other} is not in the table of {row.section}")
            continue
        exact = over / under
        if row.formula and row.formula != f"{over}/{under}":
            yield _at(row, "ratio", f"{batch}: {row.formula} is not {over}/{under}")
        if row.value is not None and not _agrees(exact, row.value):
            yield _at(row, "ratio", f"{batch}: {over}/{under} is {_short(exact, 9)}, printed {row.value}")
        if row.at_least is not None and exact < row.at_least:
            claim = f"claimed to be at least {row.at_least} x {row.other}"
            yield _at(row, "claim", f"{batch}: {claim}, {over}/{under} is {_short(exact, 3)}")


def slopes(baselines: Baselines) -> Iterator[Finding]:
    """Throughput against batch, from each batch to the next, within one table."""
    key = lambda c: (c.model, c.chip, c.precision, c.document, c.section)  # noqa: E731
    for group in _groups(_cards(baselines), key).values():
        series = {cell.batch: cell for cell in group if cell.batch is not None}
        for small, large in pairwise(sorted(series)):
            slope = math.log(series[large].value / series[small].value) / math.log(large / small)
            if not SLOPES[0] <= slope <= SLOPES[1]:
                figures = f"{series[small].printed} at batch {small}, {series[large].printed} at batch {large}"
                yield _at(series[large], "slope", f"{figures}: log-log slope {slope:.3f}")


def sources(baselines: Baselines) -> Iterator[Finding]:
    """A chip's published accuracy keeps 99 % of the authors', or a deviation says why not; and none says so idly."""
    for cell in baselines.cells:
        if not cell.chosen or cell.role != "cell" or cell.metric not in ACCURACIES:
            continue
        assert cell.chip is not None  # a chosen cell has a chip and a precision
        assert cell.precision is not None
        case = Case(cell.model, cell.chip, cell.precision, cell.batch or 1)
        deviation = baselines.deviation(case, "published", cell.metric)
        source = baselines.source(cell.model, cell.metric)
        ours = cell.printed * cell.scale
        theirs = Decimal(0) if source is None else source.printed * source.scale
        if ours < SLACK * theirs:
            drop = (theirs - ours) / theirs * 100
            says = f"{_short(theirs * 100)} % -> {_short(ours * 100)} % is a drop of {drop:.2f} %"
            yield replace(_at(cell, "source", says), why="" if deviation is None else deviation.reason)
        elif deviation is not None:
            says = f"not needed: {cell.subject} keeps 99 % of the authors' {cell.metric}"
            yield Finding("deviation", deviation.case, says, deviation.file, deviation.line)


def rates(baselines: Baselines) -> Iterator[Finding]:
    """A benchmark log: rate x latency is one thousand ms in its serial stages, and the whole run is the data set."""
    for log in baselines.logs:
        images = log.e2e[0] * log.e2e[1] / 1000
        if abs(images - log.images) > images * Decimal("1e-4"):
            says = f"{log.e2e[0]} images/s for {log.e2e[1]} ms are {images:.0f} images, the data set has {log.images}"
            yield _at(log, "images", says)
        stages = {"read": log.read, "preprocess": log.preprocess, "post": log.post}
        wrong = [
            f"{name} {rate} x {latency} = {rate * latency:.1f}"
            for name, (rate, latency) in stages.items()
            if abs(rate * latency - 1000) > 1
        ]
        if wrong:
            yield _at(log, "rates", f"rate x latency is 1000 ms: {', '.join(wrong)}")


def copies(baselines: Baselines) -> Iterator[Finding]:
    """Measured numbers of five digits do not come twice: two logs that share a line share a hand."""
    for group in _groups(baselines.logs, lambda log: (log.model, log.chip, log.precision, log.section)).values():
        seen: dict[Decimal, Log] = {}
        for log in group:
            numbers = [n for pair in (log.e2e, log.read, log.preprocess, log.infer, log.post) for n in pair]
            shared = [n for n in dict.fromkeys(numbers) if n in seen and len(n.as_tuple().digits) >= 5]
            if shared:
                batches = sorted({seen[n].batch for n in shared})
                first = " and ".join(str(batch) for batch in batches)
                says = f"{', '.join(map(str, shared))} stand in the log of batch {first} too"
                yield _at(log, "copy", says)
            seen.update({n: log for n in numbers if n not in seen})


def latencies(baselines: Baselines) -> Iterator[Finding]:
    """Lines of latencies: ordered, made of whole executes, parts adding up, and the device being the one measured."""
    key = lambda t: (t.model, t.chip, t.precision, t.batch, t.section)  # noqa: E731
    for group in _groups(baselines.times, key).values():
        lines = {row.of: row for row in group}
        for row in group:
            ordered = [(n, row.others[n]) for n in ("min", "median", "p99", "max") if n in row.others]
            if any(a > b for (_, a), (_, b) in pairwise(ordered)) or not (
                row.others.get("min", row.mean) <= row.mean <= row.others.get("max", row.mean)
            ):
                printed = ", ".join(f"{name} {value}" for name, value in ordered)
                yield _at(row, "order", f"{row.of}: {printed}, mean {row.mean}")
            if "total_s" in row.others:
                executes = row.others["total_s"] * 1000 / row.mean
                if abs(executes - round(executes)) > Decimal("0.03"):
                    yield _at(
                        row, "executes", f"{row.others['total_s']} s of {row.mean} ms are {executes:.2f} executes"
                    )
        parts = [lines[name].mean for name in ("to device", "compute", "from device") if name in lines]
        if len(parts) == 3 and "latency" in lines:
            whole = lines["latency"]
            if abs(sum(parts, Decimal(0)) - whole.mean) > 2 * ulp(whole.mean):
                yield _at(whole, "parts", f"the parts' means add up to {sum(parts, Decimal(0))}, printed {whole.mean}")
        if "enqueue" in lines and "compute" in lines:
            share = lines["enqueue"].mean / lines["compute"].mean
            if share > LAUNCH_BOUND:
                says = f"enqueueing takes {lines['enqueue'].mean} of {lines['compute'].mean} ms: the host is measured"
                yield _at(lines["compute"], "launch", says)


def accuracies(baselines: Baselines) -> Iterator[Finding]:
    """F1 from precision and recall, errors that complete an accuracy to 100 %, top-1 to top-5 in order."""
    groups = _groups(
        (c for c in baselines.cells if c.metric in ACCURACIES),
        lambda c: (c.model, c.chip, c.precision, c.batch, c.document, c.section),
    )
    for group in groups.values():
        by_metric = {cell.metric: cell for cell in group}
        parts = [by_metric.get(f"instance_{name}") for name in ("precision", "recall", "f1")]
        if all(parts):
            p, r, f1 = (cell for cell in parts if cell is not None)
            exact = 2 * p.printed * r.printed / (p.printed + r.printed)
            if abs(exact - f1.printed) > Decimal("4e-16"):  # two rounding steps of a double
                yield _at(f1, "f1", f"{p.printed} and {r.printed} give {exact:.16f}, printed {f1.printed}")
        for cell in group:
            if cell.complement is not None and cell.printed + cell.complement != 100:
                yield _at(cell, "complement", f"{cell.printed} and {cell.complement} are not 100")
            ladder = [cell.printed, *cell.then, by_metric.get("top5", cell).printed]
            if cell.then and any(a > b for a, b in pairwise(ladder)):
                yield _at(cell, "order", f"top-1 to top-5 fall: {', '.join(map(str, ladder))}")


RULES: tuple[Callable[[Baselines], Iterable[Finding]], ...] = (
    card_figures, agreement, labels, bests, ratios, slopes, sources, rates, copies, latencies, accuracies,
)  # fmt: skip
