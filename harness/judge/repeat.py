"""A red verdict is reported when a second measurement agrees; otherwise the verdict is that it does not repeat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.errors import HarnessError, InvalidMeasurement
from harness.judge.verdict import Verdict
from harness.vocabulary import Outcome

REFUSED = "refused"  # a fact of a verdict that stands for an InvalidMeasurement, which says itself what is wrong
SUSPECT = (Outcome.FAIL, Outcome.INVALID)  # an outcome that differs from one of these does not repeat


@dataclass(frozen=True)
class Judged:
    """What one measurement of a case gave: a verdict for each metric, and marks and facts for their records."""

    verdicts: Mapping[str, Verdict]
    marks: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Again:
    """How the second measurement was made: in a new process, and where the engine was that of the cache, with one that
    was built again: `rebuilt` says that it is "the same" byte by byte, or "another"."""

    rebuilt: str = ""
    timed: bool = False

    def __str__(self) -> str:
        engine = {"": "", "the same": " and with a new engine, which is the same", "another": " and with a new engine"}
        return f"in a new process{engine[self.rebuilt]}"

    @property
    def suspicion(self) -> str:
        """What a difference between the two measurements points to."""
        if self.timed:
            engine = ", or the engine in the cache was stale" if self.rebuilt == "another" else ""
            return f"other load passed, or the device is not steady{engine}"
        if self.rebuilt == "another":
            return "the engine in the cache was stale or damaged; the new one has replaced it"
        return "the device or its runtime is not steady"


def suspect(verdicts: Mapping[str, Verdict]) -> bool:
    """Whether a verdict is FAIL or INVALID, so that the case has to be measured again. One that waited for other load
    to end until its patience was spent has been measured often enough."""
    return any(v.outcome in SUSPECT and not v.details.get("waited") for v in verdicts.values())


def confirmed(
    first: Mapping[str, Verdict] | InvalidMeasurement, second: Mapping[str, Verdict] | HarnessError, how: Again
) -> dict[str, Verdict]:
    """The verdicts on two measurements of the same metrics. A red verdict stays when both agree; a metric whose two
    outcomes differ, one of them red, is INVALID. The details hold both.

    An InvalidMeasurement stands for an INVALID of every metric, another error for an ERROR: an error in
    the second measurement does not cancel the first. One that is invalid says why, which then applies to the first too.
    Raises InvalidMeasurement when neither gave a verdict."""
    if isinstance(first, InvalidMeasurement) and isinstance(second, HarnessError):
        raise InvalidMeasurement(f"{first.fact}; measured again {how}: {second.fact}", hint=first.hint) from first
    names = [name for one in (first, second) if not isinstance(one, HarnessError) for name in one]
    pairs = {name: [one for one in (_of(first, name), _of(second, name)) if one is not None] for name in names}
    return {name: _both(pair[0], pair[1], how) if len(pair) == 2 else pair[0] for name, pair in pairs.items()}


def _of(verdicts: Mapping[str, Verdict] | HarnessError, name: str) -> Verdict | None:
    if isinstance(verdicts, InvalidMeasurement):
        return Verdict(Outcome.INVALID, verdicts.fact, {"hint": verdicts.hint, REFUSED: True})
    if isinstance(verdicts, HarnessError):
        return Verdict(Outcome.ERROR, verdicts.fact, {"hint": verdicts.hint})
    return verdicts.get(name)  # kept answers are not compared with those of another device


def _both(first: Verdict, second: Verdict, how: Again) -> Verdict:
    if first.outcome not in SUSPECT and second.outcome not in SUSPECT:
        return first
    values = {name: value for name, value in second.details.items() if name != "differences"}  # drawn of the first
    told = {"first": first.outcome.value, "second": second.outcome.value, "second_text": second.text,
            "second_values": values}  # fmt: skip
    details = {**first.details, **told}
    if first.outcome is not second.outcome and REFUSED in second.details:
        text = f"{second.text}. Found when it was measured again {how}, after {first.outcome}: {first.text}"
        return Verdict(Outcome.INVALID, text, details)
    if second.outcome is Outcome.ERROR:
        text = f"not confirmed: {first.outcome} at first, and {how} it crashed: {second.text}. First: {first.text}"
        return Verdict(Outcome.INVALID, text, details)
    if first.outcome is second.outcome:
        return replace(first, text=f"{first.text}; measured again {how}: the same", details=details)
    text = (
        f"does not repeat: {first.outcome} at first, {second.outcome} {how}: {how.suspicion}. "
        f"First: {first.text}. Second: {second.text}"
    )
    return Verdict(Outcome.INVALID, text, details)
