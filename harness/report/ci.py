"""What a gate reads of a run: its exit status, and the forms that CI systems show."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

from harness.report.records import Record, ran
from harness.vocabulary import Outcome


class Status(IntEnum):
    """Exit status of a run. 2 to 5 are pytest's own: interrupted, internal error, wrong option, nothing selected."""

    GOOD = 0  # nothing failed
    WRONG = 1  # a chip is wrong: at least one FAIL
    UNTRUSTED = 6  # a measurement cannot be trusted: INVALID
    LABORATORY = 7  # a step broke off, a required chip is absent, or records cannot be written
    UNDECIDED = 8  # a required chip ran, and nothing was decided on it


MEANINGS: dict[Status, str] = {
    Status.GOOD: "good: nothing failed",
    Status.WRONG: "not good: the chip is wrong",
    Status.UNTRUSTED: "not decided: a measurement cannot be trusted",
    Status.LABORATORY: "not decided: the laboratory has a fault",
    Status.UNDECIDED: "not decided: too little data",
}
DECIDED = (Outcome.PASS, Outcome.FAIL)


def status(records: Sequence[Record], required: Sequence[str] = (), unwritten: bool = False) -> Status:
    """Exit status of a run with these records: the worst that applies. A FAIL comes first, for no other fault unsays
    it. A chip in `required` must have run, and something must have been decided on it."""
    outcomes = {record.outcome for record in records}
    if Outcome.FAIL in outcomes:
        return Status.WRONG
    if Outcome.ERROR in outcomes or unwritten or idle(records, required):
        return Status.LABORATORY
    if Outcome.INVALID in outcomes:
        return Status.UNTRUSTED
    if any(not any(r.case.chip == chip and r.outcome in DECIDED for r in records) for chip in required):
        return Status.UNDECIDED
    return Status.GOOD


def conclusion(records: Sequence[Record], required: Sequence[str] = ()) -> str:
    """One sentence on the run as a whole. A run in which nothing was decided is not called good, and neither is one on
    simulated SDKs alone."""
    found, measured = status(records, required), [record for record in records if ran(record)]
    if found is Status.GOOD and not measured:
        return "nothing ran"
    if found is Status.GOOD and not any(record.outcome in DECIDED for record in measured):
        return MEANINGS[Status.UNDECIDED]
    if measured and all("simulated" in record.marks for record in measured):
        return "simulated: no failure" if found is Status.GOOD else "simulated: with failures"
    return MEANINGS[found]


def idle(records: Sequence[Record], required: Sequence[str]) -> list[str]:
    """Chips that were required and on which nothing ran."""
    return [chip for chip in required if not any(ran(r) and r.case.chip == chip for r in records)]


def required(options: Mapping[str, Any]) -> list[str]:
    """The chips of --require in the options of a record file's header, where the list is text."""
    text = str(options.get("require") or "[]")
    try:
        found = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return []
    return [str(chip) for chip in found] if isinstance(found, list | tuple) else []
