"""One vendor call: its name is left in the trail, its answer is checked, and what it prints is captured."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import traceback
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator

from harness.backends.base import trail

if TYPE_CHECKING:
    from harness.errors import HarnessError


class Calls:
    """The vendor calls of one stage; each raises `error` with `hint` when it fails.

    A Status is truthy even when the call failed, so its `ok()` is always called. A factory that fails returns None and
    logs the reason: to `words`, where the runtime has its own log, else to stderr."""

    def __init__(self, error: type[HarnessError], hint: str, words: Callable[[], str] | None = None) -> None:
        self._error = error
        self._hint = hint
        self.words = words

    def ok(self, call: str, function: Callable[..., Any], *values: Any, void: bool = False) -> None:
        """Make a call that returns a Status. `void`: some versions return something else or nothing, which counts as
        success."""
        status, words = self._made(call, function, *values)
        if void and not callable(getattr(status, "ok", None)):
            return
        if not good(status):
            raise self.failure(call, str(status), words)

    def make(self, call: str, function: Callable[..., Any], *values: Any) -> Any:
        """The object that the call returns; None is a failure."""
        made, words = self._made(call, function, *values)
        if made is None:
            raise self.failure(call, "returned None", words)
        return made

    def true(self, call: str, function: Callable[..., Any], *values: Any) -> None:
        """Make a call that returns True, or False after a failure."""
        made, words = self._made(call, function, *values)
        if not made:
            raise self.failure(call, f"returned {made!r}", words)

    def do(self, call: str, function: Callable[..., Any], *values: Any) -> Any:
        """What the call returns; only an exception is a failure."""
        return self._made(call, function, *values)[0]

    def _made(self, call: str, function: Callable[..., Any], *values: Any) -> tuple[Any, str]:
        trail(call)
        with printed() if self.words is None else nullcontext([""]) as words:
            try:
                made = function(*values)
            except Exception as error:
                made = error
        if self.words is not None:
            words = [self.words()]
        if isinstance(made, Exception):  # bindings raise when C++ throws, and for arguments of a wrong type
            raise self.failure(call, repr(made), words[0]) from made
        return made, words[0]

    def failure(self, call: str, status: str, words: str = "") -> HarnessError:
        """The error for a failed call, with the last 20 lines that the vendor printed."""
        lines = "".join("\n  | " + line for line in words.strip().splitlines()[-20:])
        return self._error(f"{call} failed: {status}{lines}", hint=self._hint)


def good(status: Any) -> bool:
    """Whether `status` is a Status object and is OK."""
    ask = getattr(status, "ok", None)
    return callable(ask) and bool(ask())


def let_go(error: BaseException | None) -> None:
    """Clear the finished frames of an error and of its causes: their locals hold vendor objects, which must be freed
    before the runtime that made them."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


@contextmanager
def printed() -> Iterator[list[str]]:
    """A list whose only item, after the block, is the text that native code wrote to stderr in the block.

    Where stderr is a file the text is read back from it, so that nothing is lost in a crash; else it is captured in a
    temporary file and passed on."""
    words = [""]
    sys.stderr.flush()
    try:
        kind = os.fstat(2)
    except OSError:  # closed
        yield words
        return
    if stat.S_ISREG(kind.st_mode):
        yield words
        with Path("/proc/self/fd/2").open("rb") as file:
            file.seek(kind.st_size)
            words[0] = file.read().decode("utf-8", "replace")
        return
    saved = os.dup(2)
    try:
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), 2)
            try:
                yield words
            finally:
                os.dup2(saved, 2)
                file.seek(0)
                caught = file.read()
                if caught:
                    os.write(2, caught)
                words[0] = caught.decode("utf-8", "replace")
    finally:
        os.close(saved)
