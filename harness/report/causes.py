"""Failures grouped by cause: records whose text is the same but for names and numbers, with the command that repeats
one of them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.case import Case
from harness.report.messages import Translate
from harness.report.records import Record, head_line
from harness.vocabulary import STAGES, Outcome

PASSED_ON = ("data", "cache", "limit", "device", "runner", "policy", "tier", "patience", "memory_limit", "time_limit",
             "sdk_python", "backend_option", "onnx", "onnx_input")  # fmt: skip
"""Options that a repeated run needs as well; the last five may be given several times."""

UNITS = "us|ms|s|images|values|answers|windows|bytes|MB|GB|MHz|of"  # a number before one of these is no error code
SWITCHES = ("tune", "simulate", "all_cards")
"""The same for options without a value."""
DEFAULTS = {"tier": "full"}


@dataclass(frozen=True)
class Cause:
    """Records that share one cause, in the order of the run; `next` is the advice of the first that has one."""

    outcome: Outcome
    records: tuple[Record, ...]
    next: str
    command: str

    @property
    def next_is_command(self) -> bool:
        """Whether the advice can be pasted as it stands."""
        known = {_told(record, "diagnose") for record in self.records} - {""}
        return self.next in known or self.next.startswith(("chipproof ", "pytest "))

    @property
    def text(self) -> str:
        """What the first of its records says."""
        return " ".join(self.records[0].text.split())

    def told(self, t: Translate) -> str:
        """The same in the reader's language."""
        return " ".join(t(self.records[0].text).split())

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages at which it occurred, each once."""
        seen = {record.stage for record in self.records}
        return tuple(name for name in STAGES if name in seen) + tuple(sorted(seen - set(STAGES)))

    @property
    def cases(self) -> tuple[Case, ...]:
        """Cases in which it occurred, each once."""
        return tuple(dict.fromkeys(record.case for record in self.records))


def causes(
    records: Sequence[Record], outcomes: Sequence[Outcome], options: Mapping[str, Any] | None = None
) -> list[Cause]:
    """Causes of the records with these outcomes: the worst outcome first, then what hits most cases."""
    groups: dict[tuple[Outcome, str], list[Record]] = {}
    for record in records:
        if record.outcome in outcomes:
            groups.setdefault((record.outcome, normalised(record)), []).append(record)
    found = [
        Cause(outcome, tuple(group), _next(group), command(group[0], options or {}))
        for (outcome, _), group in groups.items()
    ]
    return sorted(found, key=lambda cause: (cause.outcome.severity, -len(cause.cases)))


def normalised(record: Record) -> str:
    """The record's text without what differs from case to case: names of the case, outputs, places and numbers. Error
    codes of six digits (pyACL), which have no unit, and such as E10001 (ATC) stay: another code is another cause. Of a
    FAIL only the first clause counts, for the rest is the evidence."""
    text = " ".join(record.text.split())
    if record.outcome is Outcome.FAIL:
        text = text.split(";")[0]
    case = record.case
    names = (str(case), case.model, case.chip, str(case.precision), record.metric)
    for name in sorted(filter(None, names), key=len, reverse=True):
        text = re.sub(rf"\b{re.escape(name)}\b", "*", text)
    text = re.sub(r"(?:/[\w.+~-]+)+", "*", text)  # paths
    text = re.sub(r"\b\w+\[[\d, ]*\]", "*", text)  # elements of outputs
    if record.outcome is Outcome.FAIL:
        text = re.sub(r"\([^()]*\)", "", text)  # documents and intervals
    text = re.sub(rf"\b(?!\d{{6}}\b(?! (?:{UNITS})\b))(?:0x[0-9a-f]+|\d[\d,.]*(?:e[+-]?\d+)?)\b", "#", text)
    return re.sub(r"\s+", " ", text).strip()


def _next(group: Sequence[Record]) -> str:
    names = ("next", "hint", "diagnose")
    return next((text for name in names for record in group if (text := _told(record, name))), "")


def _told(record: Record, what: str) -> str:
    """The next step or the command that a record carries, or nothing."""
    return str(record.facts.get(what) or "")


def command(record: Record, options: Mapping[str, Any]) -> str:
    """The command that runs this record's test again: the one on record, else one by markers, with the options of the
    run that change what is run. Options are as in a record file's header: absent ones are "None" or "False"."""
    if known := _told(record, "again"):
        return known
    case, stage = record.case, STAGES.get(record.stage)
    marker = stage.marker if stage is not None else ""
    words = [case.model, case.chip, str(case.precision), f"bs{case.batch}", *([marker] if marker else [])]
    return shlex.join(["pytest", "-m", " and ".join(words), *passed_on(options)])


def passed_on(options: Mapping[str, Any]) -> list[str]:
    """Those of PASSED_ON and SWITCHES that were given, as a command takes them."""
    parts: list[str] = []
    for name in PASSED_ON:
        value = options.get(name)
        values = value if isinstance(value, list) else [value]
        parts += [f"{_flag(name)}={v}" for v in values if str(v) not in ("", "None", "[]", DEFAULTS.get(name))]
    return parts + [_flag(name) for name in SWITCHES if str(options.get(name)) == "True"]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def where(cases: Sequence[Case], t: Translate) -> str:
    """Cases in few words: the id of one; of several their models, chips, precisions and batches. More than two are
    counted."""
    if len(cases) == 1:
        return str(cases[0])
    models = list(dict.fromkeys(case.model for case in cases))
    chips = list(dict.fromkeys(case.chip for case in cases))
    parts = (
        ", ".join(models) if len(models) <= 2 else t("{n} models", n=len(models)),
        ", ".join(chips) if len(chips) <= 2 else t("{n} chips", n=len(chips)),
        " ".join(dict.fromkeys(str(case.precision) for case in cases)),
        "bs " + " ".join(map(str, sorted({case.batch for case in cases}))),
    )
    return "; ".join(parts)


def head(records: Sequence[Record], asked: int, stopped: str, t: Translate) -> str:
    """The head line in the reader's language: in English that of the record file."""
    first, _, rest = head_line(records, asked, stopped).partition(": ")
    counted = re.fullmatch(r"ran (\d+) of (\d+) cases?(.*)", first)
    if counted is None:
        return head_line(records, asked, stopped)
    text = t("ran {n} of {m} cases", n=counted[1], m=counted[2]) + counted[3]
    text = f"{text}: {rest}" if rest else text
    return text.replace(stopped, t(stopped)) if stopped else text
