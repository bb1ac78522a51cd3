"""What changed between two runs: verdicts, figures beyond their uncertainty, and what else changed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from harness.case import Case
from harness.judge.sampled import again
from harness.judge.stats import quantile
from harness.report import tables
from harness.report.messages import Translate, translation
from harness.report.records import Record, Run, harmless, ran
from harness.vocabulary import Outcome

FAMILY = 0.001  # chance that a comparison of two equal runs names any figure at all, however many it compares
MATTERS = 0.01  # relative change of a throughput, or change of a drop, below which nothing is named
WINDOWS = 11  # samples taken for a throughput whose record does not say of how many windows it is
DECIDED = (Outcome.FAIL, Outcome.ERROR, Outcome.INVALID, Outcome.PASS)
BESIDE = ("backend", "version", "driver", "firmware", "device", "clock", "weights", "weights_digest", "dataset_digest",
          "protocol", "normalized_by_chip")  # fmt: skip
"""Facts of records that may explain a change."""
HEADER = ("host", "processor", "platform", "cores", "python", "packages", "options", "environment")
COSTS = {"build_s": 0.5, "engine_mb": 0.02, "worker_peak_mb": 0.2, "device_peak_mb": 0.05}
"""What an engine cost -> its relative change that is worth a line. Equal runs on a busy host differ by less."""
MEANINGLESS = {"options.require"}  # differs without any effect on a figure

Key = tuple[Case, str, str]


@dataclass(frozen=True)
class Flip:
    """A verdict that is another one now."""

    case: str
    stage: str
    metric: str
    before: str
    after: str
    text: str
    worse: bool


@dataclass(frozen=True)
class Move:
    """A figure that moved beyond its uncertainty. `change` is relative for a throughput or its ratio, and a difference
    of relative drops for an accuracy; `p` is that of the two-sided test, before the correction for their number."""

    case: str
    stage: str
    metric: str
    figure: str
    before: float
    after: float
    change: float
    p: float
    worse: bool


@dataclass(frozen=True)
class Comparison:
    """What changed from one run to another."""

    flips: tuple[Flip, ...]
    moves: tuple[Move, ...]
    gone: tuple[str, ...]  # cases that ran before, and not now
    new: tuple[str, ...]
    undecided: tuple[str, ...]  # decided in one run only
    unlike: tuple[str, ...]  # figures of other images: not compared
    beside: tuple[tuple[str, str, str], ...]  # what, before, after
    figures: int  # that were compared
    records: int

    @property
    def worse(self) -> bool:
        """Whether a verdict or a figure became worse."""
        return any(flip.worse for flip in self.flips) or any(move.worse for move in self.moves)

    def as_json(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return {**asdict(self), "worse": self.worse, "family_wise_rate": FAMILY}


def compare(before: Run, after: Run) -> Comparison:
    """What changed from one run to the other. Figures are tested together: Holm's procedure (Scandinavian Journal of
    Statistics 6, 1979) keeps the chance that equal runs name any of them at FAMILY."""
    a, b = _by_key(before), _by_key(after)
    both = [key for key in a if key in b]
    flips, undecided, unlike, tested = [], [], [], []
    for key in both:
        old, new = a[key], b[key]
        name = " ".join(filter(None, (str(key[0]), key[1], key[2])))
        if old.outcome is not new.outcome and ran(old) and ran(new):
            if old.outcome in DECIDED and new.outcome in DECIDED:
                worse = new.outcome.severity < old.outcome.severity
                flips.append(Flip(str(key[0]), key[1], key[2], old.outcome, new.outcome, new.text, worse))
            else:
                undecided.append(f"{name}: {old.outcome} -> {new.outcome}")
        if old.facts.get("images") != new.facts.get("images"):
            unlike.append(f"{name}: {old.facts.get('images')} and {new.facts.get('images')} images")
        elif (move := _tested(old, new)) is not None:
            tested.append(move)
    ran_before, ran_after = ({key[0] for key, record in side.items() if ran(record)} for side in (a, b))
    return Comparison(
        tuple(sorted(flips, key=lambda flip: (not flip.worse, flip.case))),
        tuple(sorted(_holm(tested), key=lambda move: (not move.worse, -abs(move.change)))),
        tuple(sorted(map(str, ran_before - ran_after))),
        tuple(sorted(map(str, ran_after - ran_before))),
        tuple(undecided),
        tuple(unlike),
        tuple(changed_beside(before, after)),
        len(tested),
        len(both),
    )


def _by_key(run: Run) -> dict[Key, Record]:
    return {(record.case, record.stage, record.metric): record for record in run.records}


def _tested(old: Record, new: Record) -> Move | None:
    """The change of a record's figure with its p, or nothing when one of them has no figure with an interval."""
    found = _throughput(old, new) if old.stage == "throughput" else _drop(old, new)
    if found is None:
        return None
    figure, before, after, change, p, worse = found
    return Move(str(old.case), old.stage, old.metric, figure, before, after, change, p, worse)


Tested = tuple[str, float, float, float, float, bool]


def _throughput(old: Record, new: Record) -> Tested | None:
    """Logarithms of the two rates, Welch's test with the standard errors that their intervals tell. Where the rate was
    measured in turn with eager PyTorch's, the ratio is compared: what slowed both down cancels."""
    names = ("ratio", "ratio_low", "ratio_high")
    if not all(side.values.get(name) for side in (old, new) for name in names):
        names = ("measured", "low", "high")
    if not all((side.values.get(name) or 0.0) > 0 for side in (old, new) for name in names):
        return None
    (x, se_x, n_x), (y, se_y, n_y) = (_estimate(side.values, names) for side in (old, new))
    change = math.log(y / x)
    p = _welch(change, se_x, n_x, se_y, n_y)
    return names[0], x, y, y / x - 1, p, y < x


def _estimate(values: Mapping[str, float | None], names: Sequence[str]) -> tuple[float, float, float]:
    """Value, standard error of its logarithm, degrees of freedom, of a two-sided 95 % t-interval."""
    from scipy.special import stdtrit  # takes long to import

    value, low, high = (float(values[name] or 0.0) for name in names)
    freedom = max(2.0, float(values.get("samples") or WINDOWS) - 1)
    return value, math.log(high / low) / 2 / float(stdtrit(freedom, 0.975)), freedom


def _welch(change: float, se_x: float, n_x: float, se_y: float, n_y: float) -> float:
    """Two-sided p of a difference (Welch, Biometrika 34, 1947). Without any error a difference is certain."""
    from scipy.special import stdtr

    variance = se_x**2 + se_y**2
    if variance == 0:
        return 0.0 if change else 1.0
    freedom = variance**2 / (se_x**4 / n_x + se_y**4 / n_y)
    return 2 * float(stdtr(freedom, -abs(change) / math.sqrt(variance)))


def _drop(old: Record, new: Record) -> Tested | None:
    """Difference of two relative drops with the errors that their one-sided bounds tell. The two share images and
    reference, so that the error of the difference is smaller than taken here: a change is named late, never early."""
    v, w = old.values, new.values
    if any(side.get(name) is None for side in (v, w) for name in ("drop", "low", "high")):
        return None
    before, after = float(v["drop"] or 0.0), float(w["drop"] or 0.0)
    size = math.hypot(*map(_error, (v, w)))
    change = after - before
    p = math.erfc(abs(change) / size / math.sqrt(2)) if size else 0.0 if change else 1.0
    return "drop", before, after, change, p, change > 0


def _error(values: Mapping[str, float | None]) -> float:
    """The standard error that the one-sided bounds of a drop tell, at the level of their look."""
    confidence = again(values).confidence(int(values.get("samples") or 0))
    return (float(values["high"] or 0.0) - float(values["low"] or 0.0)) / (2 * quantile(math.inf, 1 - confidence))


def _holm(tested: Sequence[Move]) -> Iterator[Move]:
    """Those that are significant together at FAMILY and matter."""
    order = sorted(tested, key=lambda move: move.p)
    for rank, move in enumerate(order):
        if move.p > FAMILY / (len(order) - rank):
            return
        if abs(move.change) >= MATTERS:
            yield move


def changed_beside(before: Run, after: Run) -> list[tuple[str, str, str]]:
    """What the headers and records say of machine, packages, options, SDK, weights and data, where it differs."""
    a, b = (dict(_flat({name: run.header.get(name, "") for name in HEADER})) for run in (before, after))
    found = [(name, a.get(name, "-"), b.get(name, "-")) for name in {**a, **b}
             if a.get(name, "-") != b.get(name, "-") and name not in MEANINGLESS]  # fmt: skip
    old, new = _by_key(before), _by_key(after)
    facts: dict[tuple[str, str, str, str], int] = {}
    for key in old:
        if key not in new or not (ran(old[key]) and ran(new[key])):
            continue
        more = old[key].facts.get("images") != new[key].facts.get("images")  # asked, of one data set: another digest
        for name in BESIDE:
            was, now = (str(side[key].facts.get(name, "-")) for side in (old, new))
            if was != now and not (more and name == "dataset_digest"):
                place = (key[0].chip, name, was, now)
                facts[place] = facts.get(place, 0) + 1
    found += [(f"{chip} {name}", was, now) for chip, name, was, now in facts]
    return found + [line for key in old if key in new for line in _costs(old[key], new[key])]


def _costs(old: Record, new: Record) -> Iterator[tuple[str, str, str]]:
    """What the engine of a case cost, where it changed."""
    for name, matters in COSTS.items():
        was, now = old.values.get(name), new.values.get(name)
        if was and now and abs(now / was - 1) > matters:
            yield f"{old.case} {name}", f"{was:.4g}", f"{now:.4g} ({100 * (now / was - 1):+.0f} %)"


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield harmless(before + name), harmless(str(value))


def summary(found: Comparison, lang: str = "en") -> str:
    """One sentence."""
    t = translation(lang)
    worse = sum(flip.worse for flip in found.flips) + sum(move.worse for move in found.moves)
    if not found.flips and not found.moves:
        return t("no verdict flipped and no figure moved: {n} records and {m} figures compared", n=found.records,
                 m=found.figures)  # fmt: skip
    return t("{n} verdicts flipped, {m} figures moved, {k} of them for the worse", n=len(found.flips),
             m=len(found.moves), k=worse)  # fmt: skip


TITLES = ("Verdicts that flipped", "Figures that moved", "What else changed", "Not in both runs, or not comparable",
          "ran before, not now", "ran now, not before", "decided in one run only", "not compared")  # fmt: skip
COLUMNS = (
    ("case", "stage", "before", "after", "direction", "why"),
    ("case", "stage", "before", "after", "change", "p", "direction"),
    ("what", "before", "after"),
    ("what", "case"),
)
Block = tuple[str, list[str], list[list[str]]]


def blocks(found: Comparison, t: Translate) -> list[Block]:
    """Title, columns and rows of the tables that are not empty."""

    def direction(worse: bool) -> str:
        return t("worse") if worse else t("better")

    flips = [
        [
            f.case,
            f"{f.stage} {tables.metric_name(f.metric, t)}".strip(),
            f.before,
            f.after,
            direction(f.worse),
            t(f.text),
        ]
        for f in found.flips
    ]
    moves = [
        [m.case, f"{m.stage} {tables.metric_name(m.metric, t)}".strip(), *_figures(m), f"{m.p:.1g}", direction(m.worse)]
        for m in found.moves
    ]
    singles = zip(TITLES[4:], (found.gone, found.new, found.undecided, found.unlike), strict=True)
    lists = [[t(title), line] for title, lines in singles for line in lines]
    every = zip(TITLES, COLUMNS, (flips, moves, [list(row) for row in found.beside], lists), strict=False)
    return [(t(title), [t(name) for name in columns], rows) for title, columns, rows in every if rows]


def _figures(move: Move) -> list[str]:
    if move.figure == "drop":
        return [f"{100 * move.before:.3g} %", f"{100 * move.after:.3g} %", f"{100 * move.change:+.3g} points"]
    unit = "x" if move.figure == "ratio" else " img/s"
    return [f"{move.before:,.4g}{unit}", f"{move.after:,.4g}{unit}", f"{100 * move.change:+.3g} %"]


def markdown(found: Comparison, lang: str = "en") -> str:
    """The comparison as Markdown tables."""
    t = translation(lang)
    parts = [f"## {t('Changed since the baseline')}", "", f"**{summary(found, lang)}**", ""]
    for title, columns, rows in blocks(found, t):
        parts += [f"### {title}", "", "| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
        parts += ["| " + " | ".join(map(tables.escaped, row)) + " |" for row in rows]
        parts.append("")
    return "\n".join(parts)


def html(found: Comparison, lang: str = "en") -> str:
    """For the report's second block; every text is escaped."""
    t = translation(lang)
    parts = [f"<p><b>{escape(summary(found, lang))}</b></p>"]
    for title, columns, rows in blocks(found, t):
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        parts.append(f'<h3>{escape(title)}</h3><div class="scroll" tabindex="0" role="region" '
                     f'aria-label="{escape(title)}"><table class="wide"><thead><tr>{head}</tr></thead>'
                     f"<tbody>{body}</tbody></table></div>")  # fmt: skip
    return "".join(parts)
