"""How far long work is: a bar on a terminal, now and then a line where output is only kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

from harness.report.messages import Translate, translation

if TYPE_CHECKING:
    from rich.progress import Progress

EVERY_S = 30.0  # seconds between two lines in a log; work that takes less has none


class Shown:
    """Counts of long work, on `stream`. Called with what is done and how much there is of it, it starts a count; the
    function that comes back adds to it. Work is a stage and one of `cases`, or "reference" and a model; what is shown
    says which case it is, in the language `lang`."""

    def __init__(
        self,
        stream: TextIO,
        cases: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        lang: str = "en",
    ) -> None:
        self._stream, self._cases, self._clock, self._t = stream, cases, clock, translation(lang)
        self._lock = threading.Lock()
        self._bars: Progress | None = None  # while something is counted on a terminal

    def __call__(self, what: str, total: int) -> Callable[[int], None]:
        t, (stage, _, name) = self._t, what.partition(" ")
        if name in self._cases:
            n, m = self._cases.index(name) + 1, len(self._cases)
            what = t("case {n} of {m}, {stage}: {what}", n=n, m=m, stage=stage, what=name)
        elif stage == "reference":
            what = t("answers of the reference: {what}", what=name)
        if self._stream.isatty():
            return self._bar(what, total)
        return _lines(self._stream, what, total, self._clock, self._t)

    def clear(self) -> None:
        """Release the terminal, also after an error."""
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

    columns = (TextColumn("{task.description}"), BarColumn(10), MofNCompleteColumn(), TimeRemainingColumn())
    # pytest writes to the same terminal: rich must not take its streams
    console = Console(file=stream)
    return Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)


def _lines(stream: TextIO, what: str, total: int, clock: Callable[[], float], t: Translate) -> Callable[[int], None]:
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
        far = t("{n} of {m}, about {left} s left", n=seen, m=total, left=f"{left:.0f}")
        stream.write(f"chipproof: {what}: {far}\n")
        stream.flush()

    return advance
