"""The MagicMind module: its import, and the one System that a process may have open."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Iterator

from harness.backends._calls import good
from harness.errors import DeviceError

if TYPE_CHECKING:
    from harness.backends._calls import Calls

SDK_HINT = "run in the MagicMind container, or name its Python with --sdk-python"


def sdk() -> Any:
    """The module magicmind.python.runtime. Raises DeviceError when it cannot be imported."""
    try:
        import magicmind.python.runtime as mm
    except Exception as error:  # a missing library is an OSError, a version clash anything
        raise DeviceError(f"magicmind cannot be imported under {sys.executable}: {error!r}", hint=SDK_HINT) from error
    return mm


class _System:
    """The System of this process, opened by its first user and closed after its last; there is never a second one."""

    users = 0
    system: Any = None

    @contextmanager
    def __call__(self, mm: Any, calls: Calls) -> Iterator[Any]:
        if not self.users:
            made = calls.make("mm.System", mm.System)
            calls.ok("mm.System.initialize", made.initialize)
            self.system = made
        self.users += 1
        try:
            yield self.system
        except BaseException:
            status = self._leave()  # not checked, because the earlier error is reported
            good(status)
            raise
        if self.users == 1:
            calls.ok("mm.System.destory", self._leave, void=True)
        else:
            self.users -= 1

    def _leave(self) -> Any:
        self.users -= 1
        if self.users:
            return None
        last, self.system = self.system, None
        close = getattr(last, "destory", None) or last.destroy  # spelt so in 1.x
        return close()


system = _System()
