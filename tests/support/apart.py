"""A run of the testbed in a process of its own, which a test may kill."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.report.records import Record


class Apart:
    """A forked child in a session of its own that calls `run` and ends with its return value, or 70 after an
    exception. What it prints goes to `log`."""

    def __init__(self, run: Callable[[], object], log: Path) -> None:
        self.status: int | None = None
        self.log = log
        self.pid = os.fork()
        if self.pid:
            return
        status = 70
        try:
            os.setsid()
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(out, 1)
            os.dup2(out, 2)
            status = int(run() or 0)
        finally:
            os._exit(status)

    def ended(self) -> bool:
        """Whether it has ended by itself."""
        if self.status is None and os.waitpid(self.pid, os.WNOHANG)[0]:
            self.status = 0
        return self.status is not None

    def signal(self, number: int, group: bool = False) -> None:
        """Send a signal to it, or to its whole group."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def wait(self, seconds: float = 60.0) -> None:
        """Until it has ended; it is killed after `seconds`."""
        end = time.monotonic() + seconds
        while not self.ended():
            if time.monotonic() > end:
                self.signal(signal.SIGABRT)  # pytest's faulthandler then prints where every thread is
                time.sleep(1)
                self.signal(signal.SIGKILL, group=True)
                os.waitpid(self.pid, 0)
                raise AssertionError(f"it did not end within {seconds:g} s:\n{self.log.read_text()[-6000:]}")
            time.sleep(0.02)


def until(there: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something is there."""
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, f"it did not come within {seconds:g} s"
        time.sleep(0.02)


def plain(records: Iterable[Record]) -> dict[tuple[str, str, str], tuple[object, ...]]:
    """What a record says, without what differs from run to run."""
    costs = ("build_s", "worker_peak_mb", "device_peak_mb", "needed_s")

    def varies(r: Record) -> bool:  # by a clock, or by images that are drawn at random
        return r.stage in ("throughput", "targets") or r.metric == "devices"

    def said(text: str) -> str:
        return re.sub(r" \([\d.e+-]+ s\) would decide", " would decide", text)

    return {
        (str(r.case), r.stage, r.metric): (r.outcome,)
        if varies(r)
        else (r.outcome, said(r.text), {k: v for k, v in r.values.items() if k not in costs}, set(r.marks) - {"kept"})
        for r in records
    }
