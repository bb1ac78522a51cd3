"""One vendor call: the trail before it, a look at what came back, and the words that were printed meanwhile."""

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
    """The calls of one stage. A Status is truthy even when it failed, so it is always asked; a factory that fails
    returns None and says why elsewhere: to `words`, where the runtime has a log of its own, else to stderr."""

    def __init__(self, error: type[HarnessError], hint: str, words: Callable[[], str] | None = None) -> None:
        self._error = error
        self._hint = hint
        self.words = words

    def ok(self, call: str, function: Callable[..., Any], *values: Any, void: bool = False) -> None:
        """A call that answers with a Status. `void`: some versions answer with something else, or with nothing, which
        says nothing about success."""
        status, words = self._made(call, function, *values)
        if void and not callable(getattr(status, "ok", None)):
            return
        if not good(status):
            raise self.failure(call, str(status), words)

    def make(self, call: str, function: Callable[..., Any], *values: Any) -> Any:
        """A call that answers with an object, None being failure."""
        made, words = self._made(call, function, *values)
        if made is None:
            raise self.failure(call, "returned None", words)
        return made

    def true(self, call: str, function: Callable[..., Any], *values: Any) -> None:
        """A call that answers with a bool."""
        made, words = self._made(call, function, *values)
        if not made:
            raise self.failure(call, f"returned {made!r}", words)

    def do(self, call: str, function: Callable[..., Any], *values: Any) -> Any:
        """A call whose answer says nothing about success."""
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
        if isinstance(made, Exception):  # bindings raise where C++ throws, and on arguments of other types
            raise self.failure(call, repr(made), words[0]) from made
        return made, words[0]

    def failure(self, call: str, status: str, words: str = "") -> HarnessError:
        lines = "".join("\n  | " + line for line in words.strip().splitlines()[-20:])
        return self._error(f"{call} failed: {status}{lines}", hint=self._hint)


def good(status: Any) -> bool:
    """Whether a call that must answer with a Status answered with one that is OK."""
    ask = getattr(status, "ok", None)
    return callable(ask) and bool(ask())


def let_go(error: BaseException | None) -> None:
    """Clear the finished frames of an error and of what caused it: their locals hold vendor objects, which must not
    outlive the runtime that made them."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


@contextmanager
def printed() -> Iterator[list[str]]:
    """What native code writes to stderr meanwhile: one text, there when the block is left.

    Where stderr is a file it is read back from there, so that nothing is lost in a crash; else it is caught in a
    file of its own and passed on."""
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
