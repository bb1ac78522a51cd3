"""What a gate reads of a run: its exit status, and the forms that CI systems show."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

from harness.report import tables
from harness.report.causes import causes, command, head, where
from harness.report.messages import translation
from harness.report.records import Record, Run, ran, required
from harness.vocabulary import MARKS, Outcome

ANNOTATIONS = 10  # GitHub shows ten errors a step: docs.github.com, "Workflow commands", limits
SUMMARY = 1024 * 1024  # bytes of a job summary a step: docs.github.com, "Adding a job summary"


class Status(IntEnum):
    """Exit status of a run. 2 to 5 are pytest's own: 2 interrupted, 3 internal
    error, 4 wrong option, 5 nothing selected."""

    GOOD = 0  # nothing failed
    WRONG = 1  # at least one FAIL
    UNTRUSTED = 10  # a measurement cannot be trusted: INVALID
    LABORATORY = 11  # a step crashed, a required chip is absent, records are missing or cannot be written
    UNDECIDED = 12  # a required chip ran, and nothing was decided on it


MEANINGS: dict[Status, str] = {
    Status.GOOD: "good: nothing failed",
    Status.WRONG: "not good: the chip is wrong",
    Status.UNTRUSTED: "not decided: a measurement cannot be trusted",
    Status.LABORATORY: "not decided: the laboratory has a fault",
    Status.UNDECIDED: "not decided: too little data",
}
NOTHING, SIMULATED, SIMULATED_RED = "nothing ran", "simulated: no failure", "simulated: with failures"
UNENDED = "not decided: the run did not come to its end"
SENTENCES = (*MEANINGS.values(), NOTHING, SIMULATED, SIMULATED_RED, UNENDED)
"""What `conclusion` may say."""
DECIDED = (Outcome.PASS, Outcome.FAIL)


def status(
    records: Sequence[Record], required: Sequence[str] = (), unwritten: bool = False, stopped: str = ""
) -> Status:
    """Exit status of a run with these records, but for those that a policy only observes: the worst that applies. A
    FAIL comes first, because no other fault cancels it. A chip in `required` must have run, and something must have
    been decided on it; a run that was `stopped` before its end is not good, whatever it did until then."""
    outcomes = {record.outcome for record in records if "observed" not in record.marks}
    if Outcome.FAIL in outcomes:
        return Status.WRONG
    if Outcome.ERROR in outcomes or unwritten or stopped or idle(records, required):
        return Status.LABORATORY
    if Outcome.INVALID in outcomes:
        return Status.UNTRUSTED
    if any(not any(r.case.chip == chip and r.outcome in DECIDED for r in records) for chip in required):
        return Status.UNDECIDED
    return Status.GOOD


def conclusion(records: Sequence[Record], required: Sequence[str] = (), stopped: str = "") -> str:
    """One sentence on the run as a whole. A run in which nothing was decided is not called good, and neither is one on
    simulated SDKs alone, or one that was `stopped` before its end."""
    found, measured = status(records, required), [record for record in records if ran(record)]
    if stopped and found in (Status.GOOD, Status.UNDECIDED):
        return UNENDED
    if found is Status.GOOD and not measured:
        return NOTHING
    if found is Status.GOOD and not any(record.outcome in DECIDED for record in measured):
        return MEANINGS[Status.UNDECIDED]
    if measured and all("simulated" in record.marks for record in measured):
        return SIMULATED if found is Status.GOOD else SIMULATED_RED
    return MEANINGS[found]


def idle(records: Sequence[Record], required: Sequence[str]) -> list[str]:
    """Chips that were required and on which nothing ran."""
    return [chip for chip in required if not any(ran(r) and r.case.chip == chip for r in records)]


def markdown(run: Run, lang: str = "en", changes: str = "") -> str:
    """A run for a CI summary or a mail: what came of it, failures with their commands, tables. `changes` is Markdown of
    what changed since a baseline."""
    t, records, options = translation(lang), run.records, run.header.get("options", {})
    red = causes(records, [outcome for outcome in Outcome if outcome.red], options)
    parts = [
        f"# chipproof: {tables.escaped(head(records, run.footer.get('asked', 0), run.footer.get('stopped', ''), t))}",
        "",
        f"**{tables.escaped(t(conclusion(records, required(options), run.footer.get('stopped', ''))))}**",
        "",
    ]
    for cause in red:
        count = t("{n} cases", n=len(cause.cases)) + ": " if len(cause.cases) > 1 else ""
        parts.append(f"- **{cause.outcome}** {', '.join(cause.stages)}: {count}{where(cause.cases, t)}: "
                     f"{tables.escaped(cause.told(t))}")  # fmt: skip
        step = _code(cause.next) if cause.next_is_command else tables.escaped(t(cause.next))
        parts += [f"  - {t('next')}: {step}"] if cause.next else []
        parts.append(f"  - {t('again')}: {_code(cause.command)}")
    parts += ["", changes, ""] if changes else [""]
    for title, columns, rows in tables.sections(records, t):
        parts += [f"## {t(title)}", "", "| " + " | ".join(map(t, columns)) + " |", "|" + " --- |" * len(columns)]
        parts += ["| " + " | ".join(map(tables.escaped, row)) + " |" for row in rows]
        parts.append("")
    parts += [
        "- " + t("skipped {n} x {chips}: {reason}", n=count, chips=", ".join(chips), reason=tables.escaped(t(reason)))
        for chips, reason, count in tables.skips(records)
    ]
    marks = sorted({mark for record in records if ran(record) for mark in record.marks})
    parts += [f"- **{tables.escaped(mark.upper())}**: {t(MARKS.get(mark, ''))}" for mark in marks]
    return "\n".join(parts) + "\n"


def _code(command: str) -> str:
    """A command in Markdown, where nothing in it is markup: its fence is longer than any row of backticks in it."""
    if "`" not in command:
        return f"`{command}`"
    fence = "`" * (1 + max(map(len, re.findall("`+", command))))
    return f"{fence} {command} {fence}"


def properties(record: Record, options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What JUnit shows of a record: its outcome, figures and limits, marks, versions, and the command for a failure."""
    before = f"{record.stage}.{record.metric}" if record.metric else record.stage
    found = [(f"{before}.outcome", record.outcome.value)]
    found += [(f"{before}.{name}", f"{value:.6g}") for name, value in record.values.items() if value is not None]
    found += [(f"{before}.marks", ", ".join(record.marks))] if record.marks else []
    found += [(name, str(record.facts[name])) for name in ("backend", "version", "device") if name in record.facts]
    found += [("again", command(record, options))] if record.outcome.red else []
    return found


def workflow_commands(run: Run) -> list[str]:
    """Workflow commands that make GitHub show the worst causes at the top of a run."""
    t = translation("en")
    red = causes(run.records, [outcome for outcome in Outcome if outcome.red], run.header.get("options", {}))
    return [
        f"::error title={_data(f'{cause.outcome} {where(cause.cases, t)}', True)}::"
        f"{_data(f'{cause.text}{chr(10)}again: {cause.command}', False)}"
        for cause in red[:ANNOTATIONS]
    ]


def _data(text: str, title: bool) -> str:
    """As GitHub's own toolkit escapes it (actions/toolkit, packages/core/src/command.ts)."""
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if title else text


def github(run: Run, environment: Mapping[str, str], lang: str = "en") -> list[str]:
    """In GitHub Actions: add the run to the job's summary, and return the annotations to print; elsewhere nothing."""
    if place := environment.get("GITHUB_STEP_SUMMARY"):
        text = markdown(run, lang).encode()
        with Path(place).open("ab") as file:
            file.write(text[: max(0, SUMMARY - file.tell())].decode(errors="ignore").encode())
    return workflow_commands(run) if environment.get("GITHUB_ACTIONS") == "true" else []


COLUMNS = ("case", "model", "chip", "precision", "batch", "stage", "metric", "outcome", "text", "marks")


def comma_separated(records: Sequence[Record]) -> str:
    """CSV (RFC 4180), a line a record: COLUMNS, then every value that some record has; unknown ones are empty."""
    values = list(dict.fromkeys(name for record in records for name in record.values))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*COLUMNS, *values])
    for r in records:
        case = (r.case, r.case.model, r.case.chip, r.case.precision, r.case.batch)
        told = (r.stage, r.metric, r.outcome, r.text, " ".join(r.marks))
        writer.writerow([*map(str, case), *told, *("" if (v := r.values.get(name)) is None else v for name in values)])
    return text.getvalue()
