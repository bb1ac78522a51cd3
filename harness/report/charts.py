"""Charts of a report as SVG text: small, without a library, coloured by the page's style sheet so that they follow
its light and dark colours."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from harness.report.history import Trend
from harness.report.messages import Translate
from harness.report.records import Record
from harness.report.tables import metric_name
from harness.vocabulary import Outcome

SERIES = 6  # colours in the style sheet: s0 to s5; each has a shape of its own too
WIDTH = 340  # of every chart: two or more stand beside each other at a desk, one on a phone
LETTER = 6.6  # width of a letter of a chart, a digit's of the widest fonts with its share of commas
NAMED = 36  # letters of what changed beside a line over time
ALLOWED = 0.01  # relative drop that is drawn as allowed where a record names none: judge.accuracy.SLACK
PERCENTILES = (("latency_p50_us", "p50"), ("latency_p90_us", "p90"), ("latency_p99_us", "p99"),
               ("latency_p999_us", "p99.9"))  # fmt: skip

Chart = tuple[str, str]
"""Title and SVG."""


def of_models(records: Sequence[Record], t: Translate) -> list[tuple[str, list[Chart]]]:
    """Model -> charts of each of its chips: throughput by batch, latencies, and drops of accuracy, as far as there are
    figures."""
    timed = [r for r in records if r.stage == "throughput" and r.values.get("measured")]
    waited = [r for r in timed if r.values.get("latency_p50_us")]
    scored = [r for r in records if r.stage == "accuracy" and r.values.get("drop") is not None]
    found: dict[str, list[Chart]] = {}
    for model, chip in dict.fromkeys((r.case.model, r.case.chip) for r in records):

        def mine(some: Sequence[Record], of: tuple[str, str] = (model, chip)) -> list[Record]:
            return [r for r in some if (r.case.model, r.case.chip) == of]

        targets = [
            (r.values["bound"] * r.values["other"], r.metric)  # type: ignore[operator]
            for r in mine(records)
            if r.stage == "targets" and r.values.get("other") and r.values.get("bound")
        ]
        if rows := mine(timed):
            title = t("{chip}: images/s by batch", chip=chip)
            found.setdefault(model, []).append((title, _panel(title, rows, targets, t)))
        if rows := mine(waited):
            title = t("{chip}: latency, microseconds", chip=chip)
            found.setdefault(model, []).append((title, _latencies(title, rows)))
        if rows := mine(scored):
            title = t("{chip}: drop of accuracy", chip=chip)
            found.setdefault(model, []).append((title, _drops(title, rows, t)))
    return list(found.items())


def margins(records: Sequence[Record], t: Translate) -> Chart | None:
    """How many times what is asked each throughput is, with its interval, on a logarithmic axis: of a model, chip and
    precision the batch with the least. None where nothing is asked."""
    every = {r.case: found for r in records if (found := _margin(r)) is not None}
    if not every:
        return None
    timed = sorted((r for r in records if _margin(r)), key=lambda r: every[r.case][0])
    least = {(r.case.model, r.case.chip, r.case.precision): r for r in reversed(timed)}
    rows = sorted(least.values(), key=lambda r: (r.outcome.severity, every[r.case][0]))
    ends = [value for found in every.values() for value in found]
    edges = min(*ends, 0.8) / 1.05, max(*ends, 1.25) * 1.05

    def told(r: Record) -> str:
        return f"{r.case.model} {r.case.chip} {r.case.precision} bs{r.case.batch}"

    def draw(r: Record, x: Callable[[float], float], y: float) -> Iterable[str]:
        value, low, high = every[r.case]
        yield f'<path class="{_colour(r)} l" d="M{x(low):.1f} {y}H{x(high):.1f}"/>'
        yield _shape(_kind(r), x(value), y, _colour(r), f"{told(r)}: {value:.3g} ({low:.3g} .. {high:.3g}) {r.outcome}")

    ticks = [(v, f"{v:g} x") for v in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0) if edges[0] <= v <= edges[1]]
    title = t("throughput as a multiple of what is asked")
    return title, _strip(title, {told(r): [r] for r in rows}, draw, edges, math.log, ticks, 1.0)


def _margin(record: Record) -> tuple[float, float, float] | None:
    """(value, low, high) of a throughput, divided by the bound that it is compared with."""
    values = record.values
    names = ("ratio", "ratio_low", "ratio_high") if "ratio_low" in values else ("measured", "low", "high")
    figures = [values.get(name) for name in names]
    asked = values.get("bound")
    if record.stage != "throughput" or record.metric or not asked or not all(figures):
        return None
    value, low, high = (_of(record, name) / asked for name in names)
    return value, low, high


def _panel(title: str, rows: Sequence[Record], targets: Sequence[tuple[float, str]], t: Translate) -> str:
    width, height, left, right, top, bottom = WIDTH, 220, 52, 12, 24, 56
    batches = sorted({r.case.batch for r in rows})
    figures = [v for r in rows for name in ("measured", "high", "published") if (v := r.values.get(name))]
    ticks = _ticks(max(*figures, *(value for value, _ in targets), 1e-9))
    ceiling = ticks[-1]

    def x(batch: int) -> float:
        place = batches.index(batch) / (len(batches) - 1) if len(batches) > 1 else 0.5
        return left + 14 + place * (width - left - right - 28)

    def y(value: float) -> float:
        return height - bottom - value / ceiling * (height - top - bottom)

    parts = [_text(8, 14, title, "t")]
    for tick in ticks:
        parts.append(f'<path class="g" d="M{left} {y(tick):.1f}H{width - right}"/>')
        parts.append(_text(left - 5, y(tick) + 4, f"{tick:,.10g}", "e"))
    parts += [_text(x(batch), height - bottom + 15, str(batch), "m") for batch in batches]
    parts.append(_text((left + width - right) / 2, height - bottom + 29, t("batch"), "m"))
    for value, other in targets:
        parts.append(f'<path class="target" d="M{left} {y(value):.1f}H{width - right}"/>')
        parts.append(_text(left + 3, y(value) + 11, t("target against {chip}", chip=other)))
    at = left
    for number, precision in enumerate(dict.fromkeys(str(r.case.precision) for r in rows)):
        line = sorted((r for r in rows if str(r.case.precision) == precision), key=lambda r: r.case.batch)
        colour = f"s{number % SERIES}"
        points = [(x(r.case.batch), y(_of(r, "measured"))) for r in line]
        known = [(x(r.case.batch), y(_of(r, "published"))) for r in line if r.values.get("published")]
        if known:
            parts.append(f'<path class="{colour} p" d="{_path(known)}"/>')
            parts += [f'<circle class="{colour} h" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in known]
        parts.append(f'<path class="{colour} l" d="{_path(points)}"/>')
        for r, (a, b) in zip(line, points, strict=True):
            low, high = r.values.get("low"), r.values.get("high")
            if low is not None and high is not None:
                parts.append(f'<path class="{colour} l" d="M{a:.1f} {y(low):.1f}V{y(high):.1f}"/>')
            parts.append(_shape(number, a, b, colour, f"bs{r.case.batch}: {_of(r, 'measured'):,.2f}"))
        parts.append(_shape(number, at + 5, height - 14, colour, ""))
        parts.append(_text(at + 14, height - 10, precision))
        at += 60
    if any(r.values.get("published") for r in rows):
        parts.append(f'<path class="p" d="M{at} {height - 14}h22"/>' + _text(at + 27, height - 10, t("published")))
    return _svg(width, height, title, parts)


def _drops(title: str, rows: Sequence[Record], t: Translate) -> str:
    """The relative drop of each case of a chip with its bounds, a line a precision and metric; what is allowed is a
    dashed line. The axis is linear within 1 % and logarithmic beyond."""
    lines: dict[str, list[Record]] = {}
    for r in sorted(rows, key=lambda r: (r.outcome.severity, str(r.case.precision))):
        lines.setdefault(f"{r.case.precision} {metric_name(r.metric, t)}", []).append(r)
    ends = [_of(r, name) for r in rows for name in ("drop", "low", "high") if r.values.get(name) is not None]
    edges = min(*ends, -0.005), max(*ends, 0.02)

    def bend(value: float) -> float:
        return math.asinh(value / ALLOWED)

    marks = [v for v in (-1, -0.1, -0.01, 0, 0.01, 0.1, 1) if edges[0] <= v <= edges[1]]

    def draw(r: Record, x: Callable[[float], float], y: float) -> Iterable[str]:
        colour = _colour(r)
        low, high = r.values.get("low"), r.values.get("high")
        if low is not None and high is not None:
            yield f'<path class="{colour} l" d="M{x(low):.1f} {y}H{x(high):.1f}"/>'
        told = f"{r.case.precision} bs{r.case.batch} {metric_name(r.metric, t)}: {100 * _of(r, 'drop'):.3g} %"
        yield _shape(_kind(r), x(_of(r, "drop")), y, colour, f"{told} {r.outcome}")

    allowed = next((v for r in rows if (v := r.values.get("slack"))), ALLOWED)
    ticks = [(v, f"{100 * v:g} %") for v in marks]
    return _strip(title, lines, draw, edges, bend, ticks, allowed)


def _latencies(title: str, rows: Sequence[Record]) -> str:
    """Microseconds of one execute of each case of a chip: p50, p90, p99 and p99.9 on a logarithmic axis."""
    every = [v for r in rows for name, _ in PERCENTILES if (v := r.values.get(name))]
    first, last = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))
    edges = 10.0**first, 10.0 ** max(last, first + 1)

    def told(r: Record) -> str:
        return f"{r.case.precision} bs{r.case.batch}"

    def draw(r: Record, x: Callable[[float], float], y: float) -> Iterable[str]:
        known = [(v, name) for key, name in PERCENTILES if (v := r.values.get(key))]
        yield f'<path class="s0 l" d="M{x(known[0][0]):.1f} {y}H{x(known[-1][0]):.1f}"/>'
        for number, (value, name) in enumerate(known):
            yield _shape(number, x(value), y, "s0", f"{told(r)} {name}: {value:,.0f} us")

    ticks = [(10.0**power, f"{10**power:,}") for power in range(first, int(math.log10(edges[1])) + 1)]
    return _strip(title, {told(r): [r] for r in rows}, draw, edges, math.log10, ticks, None)


def trend(found: Trend, t: Translate) -> Chart:
    """A figure over runs, evenly spaced: a dashed line where what is on record of the case changed, the newest of them
    named; a dotted one and a diamond where the level did."""
    case = found.case
    figure = found.stage, metric_name(found.metric, t)
    title = " ".join(filter(None, (case.chip, str(case.precision), f"bs{case.batch}", *figure)))
    rates = found.stage == "throughput"
    values = [point.value * (1 if rates else 100) for point in found.points]
    left, right, top, bottom = 8, 262, 24, 74
    low, high = min(values), max(values)

    def x(place: float) -> int:
        return round(left + place / (len(values) - 1) * (right - left))

    def y(value: float) -> int:
        return round((top + bottom) / 2 if high == low else bottom - (value - low) / (high - low) * (bottom - top))

    def told(value: float) -> str:
        return f"{value:,.4g}" if rates else f"{value:.2f} %"

    def day(place: int) -> str:
        return str(found.points[place].run.header.get("time", ""))[:10]

    parts = [_text(8, 13, f"{title}, img/s" if rates else title, "t")]
    for place, noted in found.marks.items():
        names = "\n".join(f"{what}: {before} -> {after}" for what, before, after in noted)
        parts.append(
            f'<path class="p" d="M{x(place - 0.5)} {top - 4}V{bottom + 4}">'
            f"<title>{escape(f'{day(place)}{chr(10)}{names}')}</title></path>"
        )
    if found.marks:
        place = max(found.marks)
        what, _, after = found.marks[place][0]
        half = place > len(values) / 2
        parts.append(_text(x(place - 0.5), bottom + 16, f"{what}: {after}"[:NAMED], "e" if half else ""))
    line = "L".join(f"{x(place)} {y(value)}" for place, value in enumerate(values))  # whole pixels: there are many
    parts.append(f'<path class="s0 l" d="M{line}"/>')
    for change in found.changes:
        place = found.points.index(change.first)
        said = f"{t('since {time}', time=day(place))}: {100 * change.relative:+.3g} %"
        parts.append(f'<path class="bound" d="M{x(place)} {top - 4}V{bottom + 4}"/>')
        parts.append(_shape(3, x(place), y(values[place]), "FAIL" if change.relative < 0 else "PASS", said))
    ends = [high] if high == low else [high, low]
    parts += [_text(right + 6, y(value) + 4, told(value)) for value in ends]
    parts += [_text(left, bottom + 32, day(0)), _text(right, bottom + 32, day(-1), "e")]
    said = ", ".join((title, t("{n} runs", n=len(values)), f"{told(values[0])} -> {told(values[-1])}"))
    return title, _svg(WIDTH, 112, said, parts)


def differences(seen: Mapping[str, Any], t: Translate) -> list[Chart]:
    """How an output differs (judge.differences): the histogram with counts on a logarithmic axis, and the map."""
    rows, columns = (f"{length:,}" for length in seen["plane"])
    size = t("{rows} rows x {columns} columns", rows=rows, columns=columns)
    if seen["wrapped"]:
        size = t("{rows} rows x {columns} columns, in reading order", rows=rows, columns=columns)
    titles = t("chip minus reference: number of values"), t("largest difference by place")
    drawn = _histogram(seen["counts"], seen["largest"]), [_text(8, 29, size), *_map(seen["heat"], seen["largest"])]
    return [
        (title, _svg(WIDTH, 260, title, [_text(8, 14, title, "t"), *parts]))
        for title, parts in zip(titles, drawn, strict=True)
    ]


def _histogram(counts: Sequence[int], largest: float) -> Iterable[str]:
    left, right, top, bottom = 66.0, 328.0, 30.0, 232.0
    decades = max(1, math.ceil(math.log10(max(counts) + 1)))

    def y(count: float) -> float:
        return bottom - (math.log10(count) + 0.3) / (decades + 0.3) * (bottom - top)

    for power in range(decades + 1):
        yield f'<path class="g" d="M{left} {y(10**power):.1f}H{right}"/>'
        yield _text(left - 5, y(10**power) + 4, f"{10**power:,}", "e")
    step = (right - left) / len(counts)
    for place, count in enumerate(counts):
        if count:
            low, high = (largest * (2 * (place + more) / len(counts) - 1) for more in (0, 1))
            told = f"<title>{low:.3g} .. {high:.3g}: {count:,}</title>"
            box = f"M{left + step * place:.1f} {bottom}V{y(count):.1f}h{step - 1:.1f}V{bottom}z"
            yield f'<path class="s0 f" d="{box}">{told}</path>'
    yield f'<path class="g" d="M{left} {bottom}H{right}"/>'
    for share, value, align in ((0.0, -largest, ""), (0.5, 0.0, "m"), (1.0, largest, "e")):
        yield _text(left + share * (right - left), bottom + 16, f"{value:.3g}", align)


def _map(heat: Sequence[str], largest: float) -> Iterable[str]:
    """One path a level, of the runs of cells that have it; below them each level with the least of its differences."""
    wide, high = min(324 / len(heat[0]), 60), min(190 / len(heat), 60)
    yield f'<path class="g" d="M8 36h{wide * len(heat[0]):.1f}v{high * len(heat):.1f}h{-wide * len(heat[0]):.1f}z"/>'
    for place, level in enumerate("54321"):
        runs = [
            f"M{8 + wide * run.start():.1f} {36 + high * row:.1f}h{wide * len(run[0]):.1f}v{high:.1f}"
            f"h{-wide * len(run[0]):.1f}z"
            for row, cells in enumerate(heat)
            for run in re.finditer(f"{level}+", cells)
        ]
        yield f'<path class="h{level}" d="{"".join(runs)}M{8 + 66 * place} 238h12v12h-12z"/>'
        bound = largest / 10 ** (place + 1)
        yield _text(24 + 66 * place, 248, f"> {bound:.1g}" if bound >= 1e-3 else f"> {bound:.0e}")


def _strip(
    title: str,
    lines: Mapping[str, Sequence[Record]],
    draw: Callable[[Record, Callable[[float], float], float], Iterable[str]],
    edges: tuple[float, float],
    bend: Callable[[float], float],
    ticks: Sequence[tuple[float, str]],
    bound: float | None,
) -> str:
    """Lines under each other, each with its name above it and its records on it, values along a bent axis."""
    left, right, top, step = 14, 14, 40, 27
    width, height = WIDTH, top + step * len(lines) + 4
    low, high = bend(edges[0]), bend(edges[1])

    def x(value: float) -> float:
        return left + (bend(value) - low) / (high - low) * (width - left - right)

    parts = [_text(8, 14, title, "t")]
    placed = []
    for value, name in ticks:
        at = x(value)
        edge = "" if at < left + 20 else "e" if at > width - right - 20 else "m"
        begin = at - {"": 0, "m": 0.5, "e": 1}[edge] * LETTER * len(name)
        placed.append((at, name, edge, begin, begin + LETTER * len(name)))
    for number, (at, name, edge, begin, end) in enumerate(placed):
        parts.append(f'<path class="g" d="M{at:.1f} {top}V{height - 4}"/>')
        free = begin > placed[0][4] + LETTER and all(end + LETTER < after[3] for after in placed[number + 1 :])
        if number in (0, len(ticks) - 1) or free:
            parts.append(_text(at, top - 7, name, edge))
    if bound is not None:
        parts.append(f'<path class="bound" d="M{x(bound):.1f} {top}V{height - 4}"/>')
    for number, (name, records) in enumerate(lines.items()):
        y = top + step * number
        parts.append(_text(8, y + 11, name))
        for record in reversed(records):  # the worst is drawn last
            parts += draw(record, x, y + 19)
    return _svg(width, height, title, parts)


def _colour(record: Record) -> str:
    return record.outcome.value


def _kind(record: Record) -> int:
    return {Outcome.PASS: 0, Outcome.INCONCLUSIVE: 1}.get(record.outcome, 2)


def _shape(number: int, x: float, y: float, colour: str, told: str) -> str:
    """Circle, square, triangle, diamond in turn."""
    title = f"<title>{escape(told)}</title>" if told else ""
    outline = (
        f"M{x - 3.5:.1f} {y:.1f}a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0",
        f"M{x - 3:.1f} {y - 3:.1f}h6v6h-6z",
        f"M{x - 4:.1f} {y + 3:.1f}h8l-4-7z",
        f"M{x - 4:.1f} {y:.1f}l4-4l4 4l-4 4z",
    )[number % 4]
    return f'<path class="{colour} f" d="{outline}">{title}</path>'


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _text(x: float, y: float, text: str, place: str = "") -> str:
    name = f' class="{place}"' if place else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{name}>{escape(text)}</text>'


def _svg(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """`parts` stand behind a title that screen readers read."""
    body = "".join(parts)
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}">{body}</svg>'
    )


def _ticks(highest: float) -> list[float]:
    """Zero and up to five steps of 1, 2 or 5 times a power of ten, the last at or above `highest`."""
    step: float = 10.0 ** math.floor(math.log10(highest))
    step = next(s for s in (step / 5, step / 2, step, 2 * step, 5 * step) if highest / s <= 5)
    return [step * n for n in range(math.ceil(highest / step - 1e-9) + 1)]


def _of(record: Record, name: str) -> float:
    value = record.values[name]
    if value is None:
        raise ValueError(f"{record.case} {record.stage} has no {name}")
    return float(value)
