"""pyACL with every status looked at, and what was taken given back in reverse.

pyACL never raises: a call answers with what it makes and then a status, or, for some calls, with a handle that is
0 or None when it failed. `Vendor.do` is for the first kind, `Vendor.ask` for the second. Both leave the call's name
in the trail and turn a failure into a DeviceError with the call, the code, its meaning and the vendor's own message.
"""

from __future__ import annotations

import atexit
import functools
import sys
from typing import TYPE_CHECKING, Any, Callable

from harness.backends.ascend._codes import REPEAT_INITIALIZE, WAIT_TIMEOUT, advice, meaning
from harness.backends.base import trail
from harness.errors import DeviceError, HarnessError

if TYPE_CHECKING:
    from types import TracebackType

SOURCE = "source /usr/local/Ascend/ascend-toolkit/set_env.sh in this shell, or name CANN's Python with --sdk-python"


class Vendor:
    """The `acl` module. Calls go by their full names, such as "acl.rt.malloc"."""

    def __init__(self, sdk: Any) -> None:
        self.sdk = sdk

    def function(self, call: str) -> Callable[..., Any]:
        """The function behind a name. Raises DeviceError when this release of CANN does not have it."""
        found = self.sdk
        for part in call.split(".")[1:]:
            found = getattr(found, part, None)
        if found is None:
            raise DeviceError(f"{call} does not exist in this release of CANN", "install CANN 5.0 or later")
        return found  # type: ignore[no-any-return]

    def offers(self, call: str) -> bool:
        """Whether this release has a function; CANN's own feature test."""
        package, _, name = call.rpartition(".")
        return hasattr(self.sdk if package == "acl" else getattr(self.sdk, package[4:]), name)

    def do(self, call: str, *arguments: Any) -> Any:
        """Make a call that answers with a status; returns what comes before that: one value, or a tuple of others."""
        function = self.function(call)
        for attempt in (1, 2):
            trail(call)
            made, status = self._answer(call, function(*arguments))
            if status != WAIT_TIMEOUT or attempt == 2:  # the one status after which the vendor says: try again
                break
        if status != 0:
            raise self.error(call, status)
        return made

    def _answer(self, call: str, answer: Any) -> Any:
        made, status = (answer[:-1], answer[-1]) if isinstance(answer, tuple) and answer else ((), answer)
        if isinstance(status, bool) or not isinstance(status, int):
            raise DeviceError(f"{call} answered {answer!r}, which ends with no status", "is this Huawei's module acl?")
        return (made[0] if len(made) == 1 else made), status

    def ask(self, call: str, *arguments: Any) -> Any:
        """Make a call that answers without a status; 0, None, "" and -1 are its ways to fail."""
        trail(call)
        answer = self.function(call)(*arguments)
        if answer is None or (isinstance(answer, str) and not answer) or (isinstance(answer, int) and answer <= 0):
            raise self._refused(call, answer)
        return answer

    def _refused(self, call: str, answer: Any) -> DeviceError:
        return DeviceError(
            f"{call} failed: it answered {answer!r}, with no status{self._message()}",
            "look at the device log under $HOME/ascend/log; build the engine again if it stays",
        )

    def code(self, call: str, *arguments: Any) -> int:
        """Make a call that answers with a data type: 0 is one, -1 is a failure."""
        trail(call)
        answer = self.function(call)(*arguments)
        if not isinstance(answer, int) or answer < 0:
            raise self._refused(call, answer)
        return answer

    def error(self, call: str, status: int) -> DeviceError:
        """What a status other than 0 means, with the vendor's message, which reading it clears."""
        fact = f"{call} failed: {status} {meaning(status)}{self._message()}"
        return DeviceError(fact, advice(status))

    def _message(self) -> str:
        if not self.offers("acl.get_recent_err_msg"):  # came with CANN 5.1
            return ""
        said = self.sdk.get_recent_err_msg()
        return "; the vendor says: {}".format(" ".join(str(said).split())[:600]) if said else ""


class Undo:
    """A `with` that gives back what was taken, last first; a step that fails does not stop those after it.

    When the block raised, that error wins and what failed here is added to its text; else it is raised from here."""

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor
        self._steps: list[Callable[[], Any]] = []

    def then(self, call: str, *arguments: Any) -> None:
        """Make this call on the way out."""
        self._steps.append(functools.partial(self._vendor.do, call, *arguments))

    def run(self, step: Callable[[], Any]) -> None:
        """Call this on the way out."""
        self._steps.append(step)

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failures: list[DeviceError] = []
        while self._steps:
            try:
                self._steps.pop()()
            except DeviceError as failure:
                failures.append(failure)
        if not failures:
            return
        told = "; ".join(failure.fact for failure in failures)
        if error is None:
            raise DeviceError("giving back what was taken failed: " + told, failures[0].hint) from failures[0]
        if isinstance(error, HarnessError):
            error.fact += "; then, giving back what was taken, " + told
            error.args = (error.fact, error.hint)
        else:
            sys.stderr.write(f"giving back what was taken failed: {told}\n")


@functools.lru_cache(maxsize=1)
def initialized() -> Vendor:
    """pyACL, initialised: once a process, finalised when it ends. Raises DeviceError. Do not fork afterwards."""
    try:
        import acl
    except ImportError as error:
        raise DeviceError(f"this Python has no module acl: {error}", SOURCE) from error
    vendor = Vendor(acl)
    trail("acl.init")
    status = acl.init()
    if status not in (0, REPEAT_INITIALIZE):
        raise vendor.error("acl.init", status)
    if status == 0:
        atexit.register(finalize, vendor)
    return vendor


def finalize(vendor: Vendor) -> None:
    """The end of pyACL in this process. A failure can only be told."""
    try:
        vendor.do("acl.finalize")
    except DeviceError as error:
        sys.stderr.write(f"{error}\n")
