"""The characters and lines of a log as its tool wrote them, whatever shell, container or terminal it came through.

Stdlib and Python 3.7 only: the worker reads logs too.
"""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import NoReturn

from harness.errors import DataError

LARGEST = 1 << 30  # bytes; a verbose log has some hundred megabytes at most

_MARKS = (  # UTF-32 before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_ESCAPE = re.compile(
    r"(?:\x1b|\^\[|#033|\\x1b|\\033|\\u001b|\\e)\[[0-?]*[ -/]*[@-~]"  # colours; also as less and rsyslog show them
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\^_]"
    r"|\[\d{1,3}(?:;\d{1,3})*m"  # a colour whose escape character was lost
)

_STAGE = r"\[(?:\w+ )?(?:data read|preprocess|infer|inference|post|postprocess)\]\s*throughputRate"
"""benchmark's lines after its first. The wide-and-deep variant of the tool has "[wide preprocess]" and another."""

_OVERWRITTEN = re.compile(
    r"[\r\b\x0b\x0c]+|(?<=it/s\])|(?<=s/it\])"  # also after a bar that ends without a line feed
    rf"|(?<=\d)(?={_STAGE})"  # a page that lost the line feeds between benchmark's lines, or between trtexec's
    r"|(?<=[\w%])(?=\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\] \[[IWEFV]\])"
)

_RETYPED = str.maketrans("\uff0c\uff1a\uff08\uff09", ",:()")
"""Full-width punctuation of a Chinese keyboard, in logs that went through an editor."""

_PASTED = re.compile("(?<![0-9])[\xa0\u2007\u202f\u3000]|[\xa0\u2007\u202f\u3000](?![0-9])")
"""Blanks of a page that a log was copied from. Between two digits one groups a number, which is refused."""

OWN = r"(?:\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\]\s*)?\[(?:INFO|[IWEFV])\]\s*"
"""What the tools themselves write before a line: [INFO], or trtexec's time stamp and level."""

_BEGINNINGS = (
    r"\[?\[e2e\]\s*throughputRate",
    _STAGE,
    r"ave_throughputRate\s*[=:]",
    r"Inference (?:average )?time",
    r"[Tt]hroughput \(?1000\*",
    r"NPU_compute_time \(ms\):",
    r"(?<!\d)\d+(?::\d+)? device_\d+ throughput:",  # begun at each of many digits, the search would take their square
    r"summary throughput:",
    r"Throughput \(qps\):",
    r"Total iterations:",
    r"Host wall time\(s\):",
    r"MLU Compute \(Launch jobs\)",
    r"&&&& (?:RUNNING|PASSED|FAILED)",
    r"Throughput:\s*\d",
    r"(?:Enqueue Time|(?:(?:H2D|D2H|End-to-End Host) )?Latency|GPU Compute Time):\s*min\b",
    r"Total (?:Host Walltime|GPU Compute Time):\s*\d",
    r"GPU Compute$",
    r'\{\s*"filesinfo"',
)
"""How the lines of a summary begin."""

_SIGNS = (
    "hroughput",
    "Inference ",
    "NPU_",
    "iterations:",
    "wall time",
    "MLU ",
    "&&&& ",
    "min",
    "Total ",
    "GPU ",
    "files",
)
"""One of these is in each such beginning: most lines of a verbose log need no closer look."""


def read_text(path: Path) -> str:
    """Text of a log in UTF-8, UTF-16, UTF-32 or GB18030. Raises DataError: absent, no regular file, or no text."""
    hint = "give a text file written by the tool"
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "a pipe or a device"
            raise DataError(f"{path} cannot be read: it is {kind}, not a file", hint=hint)
        if path.exists() and path.stat().st_size > LARGEST:
            raise DataError(f"{path} cannot be read: it is larger than {LARGEST >> 20} MiB", hint=hint)
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise DataError(f"{path} cannot be read: {error}", hint=hint) from error
    for start, (kind, command) in _PACKED.items():
        if data.startswith(start):
            raise DataError(f"{path} cannot be read: it is a {kind} archive", hint=f"unpack it: {command} {path}")
    try:
        text = decode(data)
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}", hint=hint) from error
    if text.strip() and not re.search("[A-Za-z]", text):
        raise DataError(f"{path} cannot be read: there is no Latin letter in it", hint=hint)
    return text


_PACKED = {
    b"\x1f\x8b": ("gzip", "gunzip -k"),
    b"\xfd7zXZ": ("xz", "unxz -k"),
    b"PK\x03\x04": ("zip", "unzip"),
}


def decode(data: bytes) -> str:
    """Text of these bytes, without a byte-order mark. Raises ValueError when they are no text of one encoding."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            _of_one(data, encoding)
            return _strict(data[len(mark) :], encoding)
    if b"\0" in data:  # UTF-16 without a mark has a zero byte in each ASCII character
        if not data.strip(b"\0").count(b"\0"):
            raise ValueError("there are zero bytes before or after the text: a part of the log was lost")
        even, odd = data[0::2].count(0), data[1::2].count(0)
        if max(even, odd) < 0.25 * len(data) / 2:
            raise ValueError("it holds zero bytes: no text, or text of two encodings")
        _of_one(data, "utf-16")
        return _strict(data, "utf-16-le" if odd > even else "utf-16-be")
    for encoding in ("utf-8", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            pass
    return data.decode("utf-8", "replace")  # figures are ASCII; a line with another character stays as it is


def _of_one(data: bytes, encoding: str) -> None:
    """Raises ValueError when this UTF-16 or UTF-32 has a stretch of text of another encoding, as where PowerShell began
    a log and another program went on. ASCII characters have no zero byte there."""
    other = re.search(rb"[\t\n\r -~]{64}", data)
    if encoding != "utf-8" and other is not None:
        line = data[: other.start()].count(b"\n") + 1
        raise ValueError(f"its text is of two encodings: that of line {line} is not {encoding.upper()}")


def _strict(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        cut = "it is cut off inside a character of" if error.end >= len(data) else "it is no"
        raise ValueError(f"{cut} {encoding.upper()} text") from error


def lines_of(source: str, text: str) -> tuple[list[str], list[int]]:
    """Lines that hold something, without blanks around them, colours and what others wrote before every line; and the
    number of each in the file, from 1: parts of a line that overwrote each other have the same.

    Raises DataError when something stands before the lines that cannot be taken away."""
    lines, numbers = [], []
    for number, line in enumerate(re.split(r"\r?\n", _unpacked(text.lstrip("\ufeff"))), 1):
        parts = [
            part.strip() for part in _OVERWRITTEN.split(_ESCAPE.sub("", _PASTED.sub(" ", line.translate(_RETYPED))))
        ]
        for part in [part for part in parts if part] or [""]:
            lines.append(part)
            numbers.append(number)
    prefix = _prefix(source, lines, numbers)
    if prefix is not None:
        lines = [re.sub(rf"\A(?:{prefix})", "", line).strip() for line in lines]
    lines = _without_explanations([_own(line) for line in lines])
    full = [i for i, line in enumerate(lines) if line]
    return [lines[i] for i in full], [numbers[i] for i in full]


def _unpacked(text: str) -> str:
    """The lines that Docker's json-file driver, or another logger, put into JSON objects of a line each."""
    if not re.match(r'\s*\{.*"(?:log|message|msg|MESSAGE)"\s*:', text):
        return text
    found = []
    for line in filter(str.strip, text.split("\n")):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            return text
        said = (
            [entry[key] for key in ("log", "message", "msg", "MESSAGE") if key in entry]
            if isinstance(entry, dict)
            else []
        )
        if not said or not isinstance(said[0], str):
            return text
        found.append(said[0].rstrip("\r\n"))
    return "\n".join(found)


def _prefix(source: str, lines: list[str], numbers: list[int]) -> str | None:
    """A pattern of what stands before the tool's lines (time stamps, container, logger); None when nothing does.

    Such a prefix is the same before all lines but for its numbers; where some lines have none, any is taken away.
    Raises DataError when all lines have one and these differ."""
    form = re.compile("(?P<own>" + OWN + ")?(?:" + "|".join(_BEGINNINGS) + ")")
    found, clean = [], False
    for number, line in zip(numbers, lines):
        match = form.search(line) if any(sign in line for sign in _SIGNS) else None
        if match is not None and match.start() == 0:
            clean = True
        elif match is not None:
            found.append((number, line[: match.start()]))
    shapes = {_shape(before): (number, before) for number, before in reversed(found)}
    if clean:  # some lines have none: what follows the tool's own mark, as [V] [TRT], is no prefix
        many = [shape for shape, (_, before) in shapes.items() if not re.match(OWN, before) and _often(shape, lines)]
        return "|".join(many) or None
    if not shapes:
        return None
    if len(shapes) > 1:
        first, second = sorted(shapes.values())[:2]
        _refuse_prefix(source, first, f", and {second[1][:60]!r} before line {second[0]}: they cannot be taken away")
    (shape,) = shapes
    if not _often(shape, lines):
        _refuse_prefix(source, found[0], " and before no other line")
    return shape


def _often(shape: str, lines: list[str]) -> bool:
    return sum(1 for line in lines if re.match(shape, line)) > 1


def _refuse_prefix(source: str, place: tuple[int, str], rest: str) -> NoReturn:
    number, before = place
    raise DataError(
        f"{source}:{number}: {before[:60]!r} comes before the tool's own text{rest}",
        hint="take away what was put before the lines: sed 's/^...//' LOG > CLEAN, with the prefix of your lines",
    )


_WORDS = r"\b(?:stdout|stderr|TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL)\b"
"""Words of loggers that differ from line to line."""


def _shape(before: str) -> str:
    """A pattern for this text with other numbers in it. A fraction may be there or not: some clocks leave out zeros."""
    shape = ""
    for part in re.split(r"(\d+(?:[.,]\d+)?|\s+|" + _WORDS + ")", before.strip()):
        if re.match(r"\d", part):
            shape += r"\d+(?:[.,]\d+)?"
        elif re.fullmatch(_WORDS, part):
            shape += _WORDS
        elif part.isspace():
            shape += r"\s*"
        else:
            shape += re.escape(part).replace(r"\[", r"\[\s*")
    return r"\s*" + shape + r"\s*"


def _own(line: str) -> str:
    """The line without [INFO], or trtexec's time stamp and level. Verbose lines explain and measure nothing: empty."""
    match = re.match(OWN, line)
    if match is None:
        return line
    return "" if match.group().rstrip().endswith("[V]") else line[match.end() :].strip()


def _without_explanations(lines: list[str]) -> list[str]:
    """trtexec's own words on each metric, which begin with its name, made empty."""
    kept, inside = [], False
    for line in lines:
        inside = line.startswith("=== Explanations of the performance metrics") or (
            inside and bool(line) and not line.startswith(("===", "&&&&"))
        )
        kept.append("" if inside else line)
    return kept
