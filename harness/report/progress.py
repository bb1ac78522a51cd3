"""How far long work is: a bar on a terminal, now and then a line where output is only kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

EVERY_S = 30.0  # seconds between two lines in a log; work that takes less has none


class Shown:
    """Counts of long work, on `stream`. Called with what is done and how much there is of it, it starts a count; the
    function that comes back adds to it. Work named as one of `cases` says which of them it is."""

    def __init__(self, stream: TextIO, cases: Sequence[str] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._cases, self._clock = stream, cases, clock
        self._lock = threading.Lock()
        self._bars: Progress | None = None  # while something is counted on a terminal

    def __call__(self, what: str, total: int) -> Callable[[int], None]:
        if what in self._cases:
            what = f"case {self._cases.index(what) + 1} of {len(self._cases)}: {what}"
        return self._bar(what, total) if self._stream.isatty() else _lines(self._stream, what, total, self._clock)

    def clear(self) -> None:
        """Give the terminal back, also from work that broke off."""
        with self._lock:
            if self._bars is not None:
                self._bars.stop()
                self._bars = None

    def _bar(self, what: str, total: int) -> Callable[[int], None]:
        with self._lock:
            if self._bars is None:
                self._bars = _bars(self._stream)
                self._bars.start()
            bars = self._bars
            task = bars.add_task(what, total=total)

        def advance(done: int) -> None:
            bars.advance(task, done)
            if bars.finished:
                self.clear()

        return advance


def _bars(stream: TextIO) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
    # pytest writes to the same terminal: rich must not take its streams
    console = Console(file=stream)
    return Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)


def _lines(stream: TextIO, what: str, total: int, clock: Callable[[], float]) -> Callable[[int], None]:
    begun = told = clock()
    seen = 0

    def advance(done: int) -> None:
        nonlocal seen, told
        seen += done
        now = clock()
        if now - told < EVERY_S or seen >= total:
            return
        told = now
        left = (now - begun) / seen * (total - seen)
        stream.write(f"chipproof: {what}: {seen} of {total}, about {left:.0f} s left\n")
        stream.flush()

    return advance
