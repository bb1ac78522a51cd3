"""The text of a log, which must be complete: damage, contradictions and differing batches are refused with their line.

Standard library and Python 3.7 only, because the worker reads logs too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from re import Match
from typing import Any, Collection, NoReturn, Sequence, TypeVar

from harness.errors import DataError

T = TypeVar("T")

NUMBER = r"\d{1,15}(?:\.\d{1,40})?(?:[eE][+-]?\d{1,2})?"  # products of two such are finite
WHOLE = r"\d{1,9}"
ROUNDING = 2e-5  # relative: two figures printed with six digits may differ by this

BATCH_IN_NAME = (r"_batchsize_(\d{1,9})(?!\d)", r"(?<=[_-])bs(\d{1,9})(?![_\d]*\d)")
BATCH_IN_LINE = (
    r"(?<!\S)--?(?:batch_?size|batch|dymBatch)(?:<[\w<>]+>)?(?:\s*[=:]\s*|\s+)(\d{1,9})(?!\S)",
    r"(?<=[_-])bs(\d{1,9})(?:_[a-zA-Z]\w*)?\.(?:om|onnx|plan|engine|trt|magicmind|model)\b",
    r"PureInfer_perf_of_\S*?[_-]bs(\d{1,9})\S*_in_device",
    r"^Batch: ([2-9]|[1-9]\d{1,8})$",  # trtexec says 1 where it was not told
    r"try get model batchsize:\s*(\d{1,9})$",
)
DEVICE_IN_LINE = (
    r"_in_device_(\d{1,9})\.",
    r"open device (\d{1,9}) success",
    r"(?<!\S)--?device(?:_id)?[= ](\d{1,9})(?!\S)",
)


@dataclass(frozen=True)
class Throughput:
    """The throughput of one device, from one log."""

    tool: str
    per_device: float  # images/s
    batch: int
    latency_ms: float  # of one batch, by the same clock as the statistic
    statistic: str  # the vendor's name of the figure that per_device is computed from
    lines: tuple[int, ...]  # lines of the statistic, from 1
    device: int | None = None  # None: the log does not say
    source: str = "log"
    doubts: tuple[str, ...] = ()  # signs that the figure is from another run
    notes: tuple[str, ...] = ()  # the tool's warnings, unusual lines, and other facts for the reader

    def __str__(self) -> str:
        where = "" if self.device is None else f" on device {self.device}"
        return f"{self.tool}: {self.per_device:g} images/s{where} at batch {self.batch} ({self.statistic})"


@dataclass(frozen=True)
class Log:
    """A log, its source and the batch that the caller stated. `lines` hold the tool's text without line prefixes."""

    source: str
    lines: tuple[str, ...]
    numbers: tuple[int, ...]  # of each line in the file, from 1; parts of an overwritten line have the same
    stated: int | None

    def refuse(self, fact: str, hint: str, line: int | None = None) -> NoReturn:
        """Raises DataError with the source, the line if one is given, the fact and the hint."""
        where = self.source if line is None else f"{self.source}:{line}"
        raise DataError(f"{where}: {fact}", hint=hint)

    def cut(self, what: str) -> NoReturn:
        """Raises DataError: the log lacks `what`, so it is cut off."""
        self.refuse(f"the log is cut off: no {what}", "give the whole output of one finished run")

    def contradiction(self, fact: str, line: int | None = None) -> NoReturn:
        """Raises DataError: figures of the log contradict each other."""
        self.refuse(f"the log contradicts itself: {fact}", "measure again and give the log unedited", line)

    def whole(self, start: str, form: str) -> list[tuple[int, Match[str]]]:
        """(line number, match) of each line that begins with pattern `start`. Raises DataError when such a line does
        not match `form` completely."""
        found = []
        for number, line in zip(self.numbers, self.lines):
            if not re.match(start, line):
                continue
            match = re.fullmatch(form, line)
            if match is None:
                self.damaged(line, number)
            found.append((number, match))
        return found

    def damaged(self, part: str, number: int) -> NoReturn:
        """Raises DataError: this part of a line is not what the tool writes there."""
        # from where digits begin: a search from each of many digits would take their square
        grouped = re.search(r"(?<![\d.])[\d.]*\d[,'\u2019\xa0\u2009\u202f]\d[\d.,]*", part)
        if grouped:
            fact = f"{grouped.group()!r} is written as in another language: the tool writes digits and one point"
            self.refuse(fact, "run the tool with LC_ALL=C, or give the log as the tool wrote it", number)
        self.refuse(f"{part[:80]!r} is damaged or cut off", "give the log as the tool wrote it", number)

    def one(self, what: str, start: str, form: str) -> tuple[int, Match[str]]:
        """(line number, match) of the only such line. Raises DataError when there is none or more than one."""
        found = self.alone(what, self.whole(start, form))
        if found is None:
            self.cut(what)
        return found

    def alone(self, what: str, found: Sequence[tuple[int, T]]) -> tuple[int, T] | None:
        """The only one of `found`, each with its line number; None when there is none. Raises DataError when there are
        more."""
        if len(found) > 1:
            numbers = ", ".join(str(number) for number, _ in found)
            self.refuse(f"{what} appears {len(found)} times (lines {numbers}): several runs", "give one log a run")
        return next(iter(found), None)

    def batch(self, figures: float | None = None, axes: Collection[int] = ()) -> int:
        """The batch on which the caller, the file name, the text, the figures and the first axes of the inputs, where
        the log shows them, agree. Raises DataError when they differ or none of them says it."""
        said = self.said_batches()
        if len(set(axes)) == 1:
            said.append(("the shape of its input", min(axes)))
        if len({n for _, n in said}) > 1:
            self.another_batch(", ".join(f"{who} says {n}" for who, n in said))
        first = " and ".join(map(str, sorted(set(axes))))
        if axes and said and said[0][1] not in axes:
            self.another_batch(f"{said[0][0]} says {said[0][1]}, the inputs begin with {first}")
        if not said and figures is None:
            self.refuse(
                f"inputs that begin with {first} do not say the batch" if axes else "the log does not say its batch",
                "state it: --batch N",
            )
        who, batch = said[0] if said else ("a whole number", max(1, round(figures or 0)))
        if figures is not None and abs(figures / batch - 1) > 2e-3:
            self.another_batch(f"its figures say {figures:.5g}, {who} says {batch}")
        return batch

    def another_batch(self, who: str) -> NoReturn:
        """Raises DataError: the log is from a run at another batch."""
        self.refuse(f"the log is for another batch: {who}", "give the log of the batch under judgement")

    def said_batches(self) -> list[tuple[str, int]]:
        """(who says it, batch) for each batch named by the caller, the file name, a command line in the text, or the
        model's file name."""
        name = Path(self.source).name
        said = [("the caller", self.stated)] if self.stated is not None else []
        said += [("its file name", int(n)) for form in BATCH_IN_NAME for n in re.findall(form, name)]
        for number, line in zip(self.numbers, self.lines):
            said += [(f"line {number}", int(n)) for form in BATCH_IN_LINE for n in re.findall(form, line)]
        return said

    def device(self) -> int | None:
        """The device that the file name or the text names, or None. Raises DataError when they differ."""
        match = re.search(r"_device_(\d{1,9})(?!\d)", Path(self.source).name)
        said = {int(match.group(1))} if match else set()
        for line in self.lines:
            said |= {int(index) for form in DEVICE_IN_LINE for index in re.findall(form, line)}
        if len(said) > 1:
            self.contradiction(f"it names the devices {sorted(said)}")
        return said.pop() if said else None

    def positive(self, key: str, value: Any) -> float:
        """The value as a float. Raises DataError when it is not a number above 0 and below 1e12."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e12:
            self.contradiction(f"{key} is {value!r}")
        return float(value)

    def spread(self, number: int, text: str, unit: str) -> dict[str, float]:
        """`min = 1 ms, max = ..., percentile(99%) = ...` as numbers by name. Raises DataError when a part is damaged or
        missing, or lies outside min .. max."""
        form = r"(min|max|mean|median|percentile\((\d+(?:\.\d+)?)%\)|P\d+)\s*=\s*(" + NUMBER + r")\s*" + unit
        spread: dict[str, float] = {}
        for part in re.split(r",\s*", text):
            match = re.fullmatch(form, part)
            if match is None:
                self.damaged(part, number)
            spread[match.group(1)] = float(match.group(3))
        for key in ("min", "max", "mean", "median"):
            if key not in spread:
                self.refuse(f"the line is cut off: no {key}", "give the log as the tool wrote it", number)
        if not any(key.startswith(("percentile", "P")) for key in spread):
            self.refuse("the line is cut off: no percentile", "give the log as the tool wrote it", number)
        self.ordered(number, spread)
        return spread

    def ordered(self, number: int | None, spread: dict[str, float]) -> None:
        """Raises DataError when a value lies outside min .. max."""
        low, high = spread["min"], spread["max"]
        for key, value in spread.items():
            if not low * (1 - ROUNDING) <= value <= high * (1 + ROUNDING):
                self.contradiction(f"{key} {value:g} lies outside {low:g} .. {high:g}", number)
