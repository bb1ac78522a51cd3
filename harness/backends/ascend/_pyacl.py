"""pyACL with every status checked, and every resource released in reverse order.

A failure raises nothing: a call returns its result and then a status, or, for some calls, a handle that is 0 or None
after a failure. `Vendor.do` is for the first kind, `Vendor.ask` for the second. Both leave the call's name in the trail
and turn a failure into a DeviceError with the call, the code, its meaning and the vendor's message. Only arguments of a
wrong type raise: a size, an address, a handle or an index has to be Python's int, which NumPy's integers are not.
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
            raise DeviceError(f"{call} does not exist in this release of CANN", hint="install CANN 5.0 or later")
        return found  # type: ignore[no-any-return]

    def offers(self, call: str) -> bool:
        """Whether this release of CANN has the function."""
        package, _, name = call.rpartition(".")
        return hasattr(self.sdk if package == "acl" else getattr(self.sdk, package[4:]), name)

    def do(self, call: str, *arguments: Any) -> Any:
        """Make a call that returns a status; returns what comes before the status: one value, or a tuple. Raises
        DeviceError for a status other than 0."""
        function = self.function(call)
        for attempt in (1, 2):
            trail(call)
            made, status = self._answer(call, function(*arguments))
            if status != WAIT_TIMEOUT or attempt == 2:  # the only status after which the vendor advises to try again
                break
        if status != 0:
            raise self.error(call, status)
        return made

    def _answer(self, call: str, answer: Any) -> Any:
        made, status = (answer[:-1], answer[-1]) if isinstance(answer, tuple) and answer else ((), answer)
        if isinstance(status, bool) or not isinstance(status, int):
            raise DeviceError(
                f"{call} answered {answer!r}, which ends with no status", hint="is this Huawei's module acl?"
            )
        return (made[0] if len(made) == 1 else made), status

    def ask(self, call: str, *arguments: Any) -> Any:
        """Make a call that returns a value without a status. Raises DeviceError for 0, None, "" and -1."""
        trail(call)
        answer = self.function(call)(*arguments)
        if answer is None or (isinstance(answer, str) and not answer) or (isinstance(answer, int) and answer <= 0):
            raise self._refused(call, answer)
        return answer

    def _refused(self, call: str, answer: Any) -> DeviceError:
        return DeviceError(
            f"{call} failed: it answered {answer!r}, with no status{self._message()}",
            hint="look at the device log under $HOME/ascend/log; build the engine again if the error persists",
        )

    def code(self, call: str, *arguments: Any) -> int:
        """Make a call that returns a data type, 0 or more. Raises DeviceError for -1."""
        trail(call)
        answer = self.function(call)(*arguments)
        if not isinstance(answer, int) or answer < 0:
            raise self._refused(call, answer)
        return answer

    def error(self, call: str, status: int) -> DeviceError:
        """The error for a status other than 0, with the vendor's message; reading that message clears it."""
        fact = f"{call} failed: {status} {meaning(status)}{self._message()}"
        return DeviceError(fact, hint=advice(status))

    def _message(self) -> str:
        if not self.offers("acl.get_recent_err_msg"):  # came with CANN 5.1
            return ""
        said = self.sdk.get_recent_err_msg()
        return "; the vendor says: {}".format(" ".join(str(said).split())[:600]) if said else ""


class Undo:
    """A context manager that releases resources, last first; a failing step does not stop the next ones.

    When the block raised, that error is kept and the failures here are added to its text; else they are raised."""

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor
        self._steps: list[Callable[[], Any]] = []

    def then(self, call: str, *arguments: Any) -> None:
        """Make this vendor call on exit."""
        self._steps.append(functools.partial(self._vendor.do, call, *arguments))

    def run(self, step: Callable[[], Any]) -> None:
        """Call this function on exit."""
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
            raise DeviceError("releasing resources failed: " + told, hint=failures[0].hint) from failures[0]
        if isinstance(error, HarnessError):
            error.fact += "; then, releasing resources, " + told
            error.args = (error.fact, error.hint)
        else:
            sys.stderr.write(f"releasing resources failed: {told}\n")


@functools.lru_cache(maxsize=1)
def initialized() -> Vendor:
    """pyACL, initialised once for each process and finalised when it ends. Do not fork afterwards. Raises
    DeviceError."""
    try:
        import acl
    except ImportError as error:
        raise DeviceError(f"this Python has no module acl: {error}", hint=SOURCE) from error
    vendor = Vendor(acl)
    trail("acl.init")
    status = acl.init()
    if status not in (0, REPEAT_INITIALIZE):
        raise vendor.error("acl.init", status)
    if status == 0:
        atexit.register(finalize, vendor)
    return vendor


def finalize(vendor: Vendor) -> None:
    """Finalise pyACL in this process; a failure is only printed, because the process ends."""
    try:
        vendor.do("acl.finalize")
    except DeviceError as error:
        sys.stderr.write(f"{error}\n")
