"""A run's records as rows of tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.report.messages import Translate, translation
from harness.report.records import Record, ran
from harness.vocabulary import METRICS, Outcome

ENGLISH = translation("en")


def _cell(value: float | None, style: str) -> str:
    if value is None:
        return "-"
    return {
        "percent": f"{100 * value:.2f}",
        "rate": f"{value:,.2f}",
        "ratio": f"{value:.2f}x",
        "time": f"{value:,.0f}" if value >= 100 else f"{value:.3g}",
    }[style]


def _ratio(record: Record) -> str:
    """ "1.11x (1.08..1.14)": to what was published or to eager PyTorch, with its 95 % interval."""
    ends = ratio_interval(record)
    text = _cell(record.values.get("ratio"), "ratio")
    return text if ends is None else f"{text} ({ends[0]:.2f}..{ends[1]:.2f})"


def _beside(record: Record) -> str:
    """ "1.11x ONNX Runtime (1.08..1.14)": to programs that were measured in turn and not asked for."""
    told = record.facts.get("beside", {}).items()
    return ", ".join(f"{_cell(ratio, 'ratio')} {name} ({low:.2f}..{high:.2f})" for name, (ratio, low, high) in told)


def ratio_interval(record: Record) -> tuple[float, float] | None:
    """Ends of the interval of a throughput record's ratio: on record, or those of the figure over a published one,
    which is exact."""
    v = record.values
    low, high = v.get("ratio_low"), v.get("ratio_high")
    if low is not None and high is not None:
        return low, high
    low, high, ratio, published = v.get("low"), v.get("high"), v.get("ratio"), v.get("published")
    if low is None or high is None or ratio is None or not published:
        return None
    return low / published, high / published


def accuracy_rows(records: Sequence[Record], t: Translate = ENGLISH) -> list[list[str]]:
    """case, metric, source, published, reference, measured, drop, images, verdict. Accuracies in percent."""
    rows = []
    for r in records:
        if r.stage in ("accuracy", "published") and r.metric:
            figures = [
                _cell(r.values.get(name), "percent")
                for name in ("source", "published", "reference", "measured", "drop")
            ]
            if r.outcome is Outcome.PASS and not any(figure != "-" for figure in figures):
                continue  # a check of the answers themselves, without a figure
            rows.append([str(r.case), metric_name(r.metric, t), *figures, _images(r), r.outcome])
    return rows


def _images(record: Record) -> str:
    """Such as "512 of 5000", or only how many where these are all that there are."""
    asked, of = record.facts.get("images", "-"), record.values.get("images_of")
    return f"{asked} of {of:.0f}" if of and of != asked else str(asked)


ACCURACY_COLUMNS = ["case", "metric", "source", "published", "reference", "measured", "drop %", "images", "verdict"]
THROUGHPUT_COLUMNS = [
    "model", "chip", "precision", "batch", "img/s per card", "95 % interval", "published", "against", "ratio", "beside",
    "best",
    "p50 us", "p90 us", "p99 us", "p99.9 us", "verdict",
]  # fmt: skip
LATENCIES = ("latency_p50_us", "latency_p90_us", "latency_p99_us", "latency_p999_us")
"""Values of a throughput record: microseconds of one execute that these shares of the executes stayed below."""
OTHERS = "Export, numerics, targets, and all that did not pass"
OTHER_COLUMNS = ["case", "stage", "verdict", "why"]
NUMERIC = {
    "source",
    "published",
    "reference",
    "measured",
    "drop %",
    "images",
    "batch",
    "img/s per card",
    "95 % interval",
    "ratio",
    "p50 us",
    "p90 us",
    "p99 us",
    "p99.9 us",
}


def throughput_rows(records: Sequence[Record], t: Translate = ENGLISH) -> list[list[str]]:
    """One row a batch, the best batch marked; `against` names what the ratio is to, `beside` tells further ratios."""
    timed = [r for r in records if r.stage == "throughput" and r.values.get("measured") is not None]
    best: dict[tuple[str, str, str], float] = {}
    for r in timed:
        key = (r.case.model, r.case.chip, str(r.case.precision))
        best[key] = max(best.get(key, 0.0), r.values["measured"] or 0.0)
    rows = []
    for r in timed:
        key = (r.case.model, r.case.chip, str(r.case.precision))
        interval = "-"
        if r.values.get("low") is not None:
            interval = f"{r.values['low']:,.2f}..{r.values['high']:,.2f}"
        rows.append([
            *key, str(r.case.batch), _cell(r.values["measured"], "rate"), interval,
            _cell(r.values.get("published"), "rate"), str(r.facts.get("against", "-")),
            _ratio(r), _beside(r), t("best") if r.values["measured"] == best[key] else "",
            *(_cell(r.values.get(name), "time") for name in LATENCIES), r.outcome,
        ])  # fmt: skip
    return rows


def other_rows(records: Sequence[Record]) -> list[list[str]]:
    """Whatever is not in the two tables, and everything that did not pass, what is worst first: case, stage, verdict,
    text."""
    tabled = {"accuracy", "published", "throughput"}
    rows = [
        [str(r.case), r.stage + (f" {r.metric}" if r.metric else ""), r.outcome, r.text]
        for r in records
        if r.outcome not in (Outcome.PASS, Outcome.SKIP) or (r.stage not in tabled and ran(r))
    ]
    return sorted(rows, key=lambda row: Outcome(row[2]).severity)


def skips(records: Sequence[Record]) -> list[tuple[list[str], str, int]]:
    """Chips, reason and number of records of each reason, the most frequent first. Chips of one vendor give the same
    reason but for their names, which the reason then leaves out."""
    name = "\0"  # in the place of the chip's; no text has it
    groups: dict[str, list[Record]] = {}
    for record in records:
        if not ran(record):
            reason = re.sub(rf"\b{re.escape(record.case.chip)}\b", name, record.text)
            groups.setdefault(reason, []).append(record)
    found = []
    for reason, group in groups.items():
        chips = list(dict.fromkeys(record.case.chip for record in group))
        found.append((chips, reason.replace(name, chips[0] if len(chips) == 1 else "each"), len(group)))
    return sorted(found, key=lambda group: -group[2])


Section = tuple[str, list[str], list[list[str]]]
"""Title, columns and rows."""


def metric_name(metric: str, t: Translate) -> str:
    """In English the metric's own name, by which options and policies call it; else what it is, in that language."""
    told = t(title := METRICS[metric].title) if metric in METRICS else ""
    return metric if not told or told == title else told


def accuracy(records: Sequence[Record], t: Translate = ENGLISH) -> Section:
    """Title, columns and rows of the accuracy table."""
    return "Accuracy (%)", ACCURACY_COLUMNS, accuracy_rows(records, t)


def throughput(records: Sequence[Record], t: Translate = ENGLISH) -> Section:
    """Title, columns and rows of the throughput table."""
    title = "Throughput (images a second and card, inputs on the device)"
    return title, THROUGHPUT_COLUMNS, throughput_rows(records, t)


def sections(records: Sequence[Record], t: Translate) -> list[Section]:
    """The tables that are not empty, with the records' texts in the reader's language; columns in which nothing stands
    are left out."""
    others = [[*row[:3], t(row[3])] for row in other_rows(records)]
    whole = (accuracy(records, t), throughput(records, t), (OTHERS, OTHER_COLUMNS, others))
    return [(title, *filled(columns, rows)) for title, columns, rows in whole if rows]


def filled(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Without the columns in which nothing stands."""
    kept = [i for i in range(len(columns)) if any(row[i] not in ("", "-") for row in rows)]
    return [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]


def escaped(cell: str) -> str:
    """For a cell of a Markdown table: characters that would be markup are shown as they are."""
    plain = re.sub(r"[\\\[\]|`*]", r"\\\g<0>", cell.replace("&", "&amp;").replace("<", "&lt;"))
    return plain.replace("\n", "<br>")
