"""A lab's policy: which outcomes it expects, which it only observes, and which figures it asks for. Pure; the file is
read by harness.judge.policyfile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from fnmatch import fnmatchcase

from harness.case import Case
from harness.judge.verdict import Verdict
from harness.vocabulary import Outcome

BOUNDS = {"numerics": ("cosine", "largest", "rms"), "accuracy": ("drop",), "throughput": ("floor",)}


@dataclass(frozen=True)
class Row:
    """What all rows have: the cases and the stage that they are about, why, and where they stand."""

    case: str  # shell pattern over case ids
    stage: str  # of STAGES, or "*"
    reason: str
    link: str
    place: str  # "chipproof.toml:12"
    until: date | None = None  # the last day on which it holds

    def covers(self, case: Case, stage: str) -> bool:
        """Whether the row is about this stage of this case."""
        return self.stage in ("*", stage) and fnmatchcase(str(case), self.case)

    def ended(self, today: date) -> bool:
        """Whether its last day is over."""
        return self.until is not None and today > self.until


@dataclass(frozen=True)
class Expected(Row):
    """An outcome that is known and accepted until its last day. Strict: it has to occur. `metric` is a pattern over the
    names of the stage's verdicts: "" where it has a single one."""

    outcome: Outcome = Outcome.FAIL
    metric: str = ""


class Observed(Row):
    """Red results that are reported and left out of the exit status."""


@dataclass(frozen=True)
class Gate(Row):
    """A figure of the records that has to lie between `least` and `most`."""

    figure: str = ""  # a name in a record's values, such as latency_p99_us
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True)
class Asked(Row):
    """Bounds of the lab instead of the suite's: of numerics `cosine` at least, `largest` and `rms` at most; `drop`
    of an accuracy at most (relative); `floor` of throughput at least, as a share of the published figure or, where
    nothing is published, a ratio to eager PyTorch."""

    cosine: float | None = None
    largest: float | None = None
    rms: float | None = None
    drop: float | None = None
    floor: float | None = None

    @property
    def tolerance(self) -> dict[str, float]:
        """Figures of a Tolerance that the row sets."""
        return {name: value for name in BOUNDS["numerics"] if (value := getattr(self, name)) is not None}

    def told(self, verdict: Verdict) -> Verdict:
        """The verdict with the place of the row; as it is where no row sets anything."""
        if not self.place:
            return verdict
        return replace(
            verdict, text=f"{verdict.text}; bound of {self.place}", details={**verdict.details, "bound_of": self.place}
        )


@dataclass(frozen=True)
class Policy:
    """All rows of a policy file. `digest` identifies it in records; `decided` is the least share of verdicts that must
    not be INCONCLUSIVE, `pythons` what --sdk-python takes. `limits` are seconds a step and `memory_gb` of a worker, by
    chip, "" for every chip; `environment` are variables of the workers of a chip."""

    digest: str = ""
    place: str = ""
    expected: tuple[Expected, ...] = ()
    observed: tuple[Observed, ...] = ()
    gates: tuple[Gate, ...] = ()
    asked: tuple[Asked, ...] = ()
    decided: float | None = None
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    pythons: tuple[str, ...] = ()
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every row."""
        return (*self.expected, *self.observed, *self.gates, *self.asked)

    def limits_of(self, chip: str) -> dict[str, float]:
        """Seconds a step, and `memory_gb`: those of the chip before those of every chip."""
        return {**self.limits.get("", {}), **self.limits.get(chip, {})}

    def observes(self, case: Case, stage: str, today: date) -> Observed | None:
        """The row by which a red result of this stage is only reported."""
        return next((row for row in self.observed if row.covers(case, stage) and not row.ended(today)), None)

    def bound(self, case: Case, stage: str, today: date) -> Asked:
        """The bounds that hold for this stage of this case, as one row: each figure of the first row that has it. A row
        without a place has none."""
        found: dict[str, float] = {}
        places: list[str] = []
        for row in self.asked:
            if not row.covers(case, stage) or row.ended(today):
                continue
            new = {n: v for n in BOUNDS.get(stage, ()) if (v := getattr(row, n)) is not None and n not in found}
            found |= new
            places += [row.place] if new else []
        return Asked(str(case), stage, "", "", ", ".join(places), **found)  # type: ignore[arg-type]


def apply(policy: Policy, case: Case, stage: str, metric: str, verdict: Verdict, today: date) -> Verdict:
    """The verdict on a metric after the policy: a figure outside a gate makes it FAIL, an expected outcome makes it
    PASS, and one that is expected and does not occur makes it FAIL, so that the row is deleted. INCONCLUSIVE stays
    where FAIL is expected. The details hold the outcome without the policy and the rows that were used."""
    judged = _gated(policy, case, stage, verdict)
    rows = (row for row in policy.expected if row.covers(case, stage) and fnmatchcase(metric, row.metric))
    row = next(rows, None)
    if row is not None:
        judged = _expected(row, judged, today)
    if judged is verdict:
        return verdict
    return replace(judged, details={**judged.details, "without_policy": verdict.outcome.value})


def _gated(policy: Policy, case: Case, stage: str, verdict: Verdict) -> Verdict:
    rows = [gate for gate in policy.gates if gate.covers(case, stage) and gate.figure in verdict.details]
    missed = [told for gate in rows if (told := missing(gate, verdict.details[gate.figure]))]
    if not rows:
        return verdict
    details = {**verdict.details, "gates": [f"{gate.place}: {_asked(gate)}" for gate in rows]}
    if not missed or verdict.outcome.red:
        return replace(verdict, details=details)
    return Verdict(Outcome.FAIL, f"{'; '.join(missed)}; else: {verdict.text}", details)


def missing(gate: Gate, value: object) -> str:
    """How a figure misses a gate, or "". None (not measured) misses it."""
    fine = isinstance(value, int | float) and (gate.least is None or value >= gate.least)
    fine = fine and (gate.most is None or value <= gate.most)  # type: ignore[operator]  # a number, by the line above
    return "" if fine else f"{gate.figure} is {value}; {gate.place} asks {_asked(gate)}"


def _asked(gate: Gate) -> str:
    parts = [f"at least {gate.least:g}"] if gate.least is not None else []
    parts += [f"at most {gate.most:g}"] if gate.most is not None else []
    return f"{gate.figure} {' and '.join(parts)}"


def _expected(row: Expected, verdict: Verdict, today: date) -> Verdict:
    details = {**verdict.details, "policy": row.place}
    if row.ended(today):
        if verdict.outcome is not row.outcome:
            return verdict
        text = f"{verdict.text}; {row.place} accepted it until {row.until}: fix it, or give the row a later date"
        return replace(verdict, text=text, details=details)
    if verdict.outcome is row.outcome:
        text = f"expected by {row.place} ({row.reason}; {row.link}): {verdict.outcome}: {verdict.text}"
        return replace(verdict, outcome=Outcome.PASS, text=text, details=details)
    if verdict.outcome is Outcome.PASS:
        text = f"{verdict.text}: {row.place} expects {row.outcome}, which no longer occurs; delete the row"
        return replace(verdict, outcome=Outcome.FAIL, text=text, details=details)
    return verdict


def unmet(policy: Policy, seen: Mapping[str, Sequence[tuple[Case, str]]]) -> list[str]:
    """Gates whose figure no record had, although their cases ran: by figure, the cases and stages that had it."""
    return [
        f"{gate.place}: no record of {gate.case}, stage {gate.stage}, has a figure {gate.figure!r}"
        for gate in policy.gates
        if not any(gate.covers(case, stage) for case, stage in seen.get(gate.figure, ()))
        and any(gate.covers(case, stage) for ran in seen.values() for case, stage in ran)
    ]


def undecided(policy: Policy, outcomes: Sequence[Outcome]) -> str:
    """Why too few verdicts are decided, or ""."""
    ran = [outcome for outcome in outcomes if outcome.ran]
    if policy.decided is None or not ran:
        return ""
    share = sum(outcome is not Outcome.INCONCLUSIVE for outcome in ran) / len(ran)
    if share >= policy.decided:
        return ""
    return f"{share:.0%} of {len(ran)} verdicts are decided; {policy.place} asks at least {policy.decided:.0%}"
