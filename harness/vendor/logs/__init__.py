"""What benchmark, msame, ais_bench, mm_run and trtexec print becomes images per second of one device, or an error.

The figures of such a log hang together: throughput times latency, batches times their size, parts and their sum.
Every relation that must hold is checked, so that a log that was cut off, edited, mixed from two runs, or taken at
another batch is refused. Only the published logs of DeepMAR break them, in benchmark's helper lines and in all of
these at once: such a log parses and says so. Stdlib and Python 3.7 only: the worker reads logs too.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from harness.errors import DataError
from harness.vendor.logs.ascend import ais_bench, benchmark, msame
from harness.vendor.logs.log import Log, Throughput
from harness.vendor.logs.others import mm_run, trtexec
from harness.vendor.logs.text import lines_of, read_text

__all__ = ["TOOLS", "Throughput", "once_a_device", "parse", "read", "read_text"]

READERS = {
    "benchmark": benchmark,
    "msame": msame,
    "ais_bench": ais_bench,
    "mm_run": mm_run,
    "trtexec": trtexec,
}
TOOLS = tuple(READERS)


def read(path: Path, tool: str | None = None, batch: int | None = None) -> list[Throughput]:
    """`parse` of a file; its name may state batch and device. Raises DataError."""
    return parse(read_text(path), source=str(path), tool=tool, batch=batch)


def parse(text: str, *, source: str = "log", tool: str | None = None, batch: int | None = None) -> list[Throughput]:
    """Figures of one run, one a device. `batch` is what the caller believes; a log that says otherwise is refused.

    Raises DataError when the log is cut off, damaged, of several runs, of another batch, or contradicts itself."""
    if tool is not None and tool not in TOOLS:
        raise DataError(f"{tool!r} has no known log format", hint="one of " + ", ".join(TOOLS))
    if batch is not None and batch < 1:
        raise DataError(f"a batch of {batch} was stated", hint="state a batch of 1 or more")
    lines, numbers = lines_of(source, text)
    log = Log(source, tuple(lines), tuple(numbers), batch)
    if not lines and text.strip():
        log.refuse("there are only explanations and verbose lines", "give the whole output of one finished run")
    if not lines:
        log.cut("line at all")
    _no_failure(log)
    seen = _detect(log)
    if tool is not None and seen is not None and seen != tool:
        log.refuse(f"the log is {seen}'s, not {tool}'s", "name the tool that wrote it")
    chosen = tool or seen
    if chosen is None:
        log.refuse("no known tool wrote this", "give a log of " + ", ".join(TOOLS))
    found = READERS[chosen](log, text)
    for one in found:
        if not 0 < one.per_device < 1e7:
            log.contradiction(f"{one.per_device:g} images/s")
    return found


_SIGNS = (
    ("benchmark", r"^\[(e2e|data read|infer|inference)\]|ave_throughputRate|PureInfer"),
    ("msame", r"^Inference average time|Execute sample success"),
    ("ais_bench", r"[Tt]hroughput \(?1000\*|NPU_compute_time|^\S+ device_\d+ throughput:"),
    ("mm_run", r"^Throughput \(qps\)|^MLU Compute \(Launch jobs\)|^Total iterations:"),
    ("trtexec", r"^GPU Compute|^Throughput: |TensorRT\.trtexec|^throughput: .* qps"),
)


def _detect(log: Log) -> str | None:
    """The tool whose lines these are; None when there are none."""
    seen = [tool for tool, sign in _SIGNS if any(re.search(sign, line) for line in log.lines)]
    if len(seen) > 1:
        log.refuse("lines of {} in one log".format(" and ".join(seen)), "give one log a run")
    return seen[0] if seen else None


def _no_failure(log: Log) -> None:
    """A tool that goes on after an error measures something else; msame also exits with 0."""
    for number, line in zip(log.numbers, log.lines):
        if re.match(r"\[ERROR\]|&&&& FAILED|Traceback \(most recent", line):
            log.refuse(f"the run failed: {line[:80]!r}", "repair the run and measure again", number)


def once_a_device(figures: list[Throughput]) -> None:
    """Refuse two logs of one device at one batch: they are two runs, or one log given twice. Raises DataError."""
    doubled = [key for key, n in Counter((f.device, f.batch) for f in figures if f.device is not None).items() if n > 1]
    if doubled:
        device, batch = doubled[0]
        raise DataError(f"two logs of device {device} at batch {batch}", hint="give one log a device and batch")
