"""A process with a vendor's SDK, the pipe to it and the memory shared with it, and what becomes of it as typed errors.

A vendor SDK may crash, hang, grow or print as it likes: that costs one case. Tensors pass through shared memory,
commands through a pipe of their own; the other end is child.py.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import mmap
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from harness import errors
from harness.backends import base, registry
from harness.errors import WorkerError
from harness.worker import wire
from harness.worker.limits import LIMIT_OF, Limits

if TYPE_CHECKING:
    from types import TracebackType

CHILD = Path(__file__).with_name("child.py")
LOOK_S = 0.5  # how often a busy worker is looked at


class Pipe:
    """A child process that holds the SDK of one backend. It starts on entry and is awaited when the first command is
    given; one thread at a time may use it.

    Every method raises WorkerError when the process died, hung, grew too large or sent an unreadable reply; after that
    it is gone and `alive` is False. Errors of the backend arrive as they were raised."""

    def __init__(
        self,
        backend: str,
        python: str,
        env: Mapping[str, str],
        limits: Limits,
        log: Path | None,
    ) -> None:
        self.backend = backend
        self.limits = limits
        self._python_version = ""
        self._python = python
        self._env = {**os.environ, **env}
        self._log_path = log
        self._process: subprocess.Popen[bytes] | None = None
        self._lost = "was not started"
        self._awaited = ""  # the command whose reply has not been taken

    @property
    def alive(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None

    def __enter__(self) -> Pipe:
        with contextlib.ExitStack() as undo:
            self._log = undo.enter_context(self._open_log())
            self._log_start = os.fstat(self._log.fileno()).st_size  # what stands before is another worker's
            memory = _shared_memory()
            undo.callback(os.close, memory)
            os.ftruncate(memory, wire.PAGE)
            self.memory = wire.Memory(memory)
            self._trail = undo.enter_context(mmap.mmap(memory, wire.PAGE))
            theirs, self._commands = os.pipe()
            undo.callback(os.close, self._commands)
            with contextlib.ExitStack() as given:
                given.callback(os.close, theirs)
                self._replies, given_replies = os.pipe()
                undo.callback(os.close, self._replies)
                given.callback(os.close, given_replies)
                self._start(theirs, given_replies, memory)
            self._waiting = select.poll()
            self._waiting.register(self._replies, select.POLLIN)
            self._limit = self.limits.memory or _most_memory()
            self._looked = time.monotonic()
            self._undo = undo.pop_all()
        self._awaited = "start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        try:
            if kind is None and not self._awaited:
                self.call("quit", self.limits.close)
                with contextlib.suppress(subprocess.TimeoutExpired):  # an SDK that hangs in its own atexit
                    self._process.wait(self.limits.close)
        finally:
            self.end("was closed")

    @property
    def python_version(self) -> str:
        """Of the Python it runs under."""
        self.ready()
        return self._python_version

    @property
    def peak_mb(self) -> float | None:
        """Most resident memory of the process so far, in MB; None where the system does not say (Linux's VmHWM)."""
        return self._status("VmHWM")

    @property
    def resident_mb(self) -> float | None:
        """Resident memory of the process now, in MB, without files that it maps and memory that it shares; None where
        the system does not tell (Linux's RssAnon)."""
        return self._status("RssAnon")

    def _status(self, field: str) -> float | None:
        if self._process is None:
            return None
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return None
        match = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
        return round(int(match[1]) / 1024, 1) if match else None

    def _start(self, commands: int, replies: int, memory: int) -> None:
        given = (commands, replies, memory)
        python, module = [self._python, "-u", "-X", "faulthandler"], registry.module_of(self.backend)
        try:
            self._process = subprocess.Popen(
                [*python, str(CHILD), module, *map(str, given), str(os.getpid()), _place_of(module)],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=given,
                start_new_session=True,
                env=self._env,
            )
        except OSError as error:
            raise WorkerError(
                f"{self._python} cannot be started: {error.strerror}",
                hint="give --sdk-python the Python that has the vendor's SDK",
            ) from error

    def call(self, do: str, limit: float, **arguments: Any) -> Any:
        self.send(do, **arguments)
        return self.receive(do, limit)

    def ready(self) -> None:
        if self._process is None:
            raise WorkerError(f"the worker of {self.backend} {self._lost}", hint="start a new one")
        if self._awaited == "start":
            try:
                self._python_version = self.receive("start", self.limits.start)
            except BaseException:
                self.end("did not start")
                raise
        if self._awaited:
            raise ValueError("finish() comes before the next command to a worker that measures")

    def send(self, do: str, **arguments: Any) -> None:
        self.ready()
        self._trail[: len(do) + 1] = do.encode() + b"\0"  # the worker does nothing now, and may be slow to begin
        self._awaited = do
        text = (json.dumps(dict(arguments, do=do)) + "\n").encode("ascii")
        try:
            while text:
                text = text[os.write(self._commands, text) :]
        except BrokenPipeError:
            self._died(do)

    def receive(self, stage: str, limit: float) -> Any:
        """The reply to the last command. Whatever ends the wait early, Ctrl-C included, ends the worker."""
        try:
            line = self._line(stage, time.monotonic() + limit, limit)
            reply = _parsed(line)
            if reply is None:
                self._fail("sent {!r}, which is not a valid reply".format(line[:80].decode("utf-8", "replace")), stage)
        except BaseException:
            self.end(f"ended in {stage}")
            raise
        self._awaited = ""
        if "error" not in reply:
            return reply["ok"]
        error = reply["error"]
        kind = getattr(errors, error["class"])
        hint = error["hint"] if "worker's log" not in error["hint"] else "{}{}".format(error["hint"], self.tail(": "))
        raise kind(error["fact"], hint=hint)

    def _line(self, stage: str, deadline: float, limit: float) -> bytes:
        got = b""
        while not got.endswith(b"\n"):
            if time.monotonic() > deadline and not self._waiting.poll(0):  # a pause of the whole machine is no hang
                advice = f"raise the limit with --time-limit {LIMIT_OF.get(stage, stage)}=SECONDS; "
                self._fail(f"hung in {self.doing(stage)} for more than {limit:g} s", stage, advice, hung=True)
            if time.monotonic() - self._looked > LOOK_S:
                self._look(stage)
            if self._waiting.poll(min(LOOK_S, max(0.0, deadline - time.monotonic())) * 1000):
                chunk = os.read(self._replies, 1 << 16)
                if not chunk:
                    self._died(stage)
                got += chunk
            elif self._process is not None and self._process.poll() is not None and not self._waiting.poll(0):
                self._died(stage)  # and what it started holds the pipe open
        return got

    def _look(self, stage: str) -> None:
        """Memory of the worker; of what it started, too, except while it measures (that takes milliseconds)."""
        import psutil

        self._looked = time.monotonic()
        assert self._process is not None
        try:
            worker = psutil.Process(self._process.pid)
            family = [worker] if stage == "measure" else [worker, *worker.children(recursive=True)]
        except psutil.Error:
            return
        resident = 0
        for process in family:
            with contextlib.suppress(psutil.Error):
                resident += process.memory_info().rss
        if resident > self._limit:
            self._fail(
                f"grew to {resident / 1e6:.0f} MB in {self.doing(stage)}; the limit is {self._limit / 1e6:.0f} MB",
                stage,
                "use a smaller batch, or raise the limit with --memory-limit GB; ",
            )

    def _died(self, stage: str) -> NoReturn:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.poll()
        if code is None:
            self._fail(f"closed its pipe in {self.doing(stage)}", stage)
        elif code < 0:
            name = signal.Signals(-code).name
            memory = "the kernel may have run out of memory, see dmesg; " if name == "SIGKILL" else ""
            self._fail(f"died of {name} in {self.doing(stage)}", stage, memory)
        else:
            self._fail(f"exited with {code} in {self.doing(stage)}", stage)

    def _fail(self, what: str, stage: str, advice: str = "", hung: bool = False) -> NoReturn:
        tail = self.tail()
        gone = self.end(f"ended in {stage}")
        stuck = "" if gone else "; it cannot be killed: reset the device or restart the machine"
        error = WorkerError(f"worker of {self.backend} {what}{stuck}", hint=advice + tail)
        error.hung = hung and stage not in ("start", "build")  # compilers are slow, and need no device
        raise error

    def doing(self, stage: str) -> str:
        """The vendor's call under way, or else the stage."""
        return self._trail[: wire.PAGE].split(b"\0", 1)[0].decode("utf-8", "replace") or stage

    def end(self, how: str) -> bool:
        """The whole process group goes, and all that was shared with it. False: it hangs in a call of the driver that
        nothing interrupts."""
        if self._process is None:
            return True
        process, self._process, self._lost = self._process, None, how
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        try:
            process.wait(self.limits.close)
            return True
        except subprocess.TimeoutExpired:
            return False
        finally:
            for left in Path(tempfile.gettempdir()).glob(f"{base.scratch(process.pid)}*"):
                shutil.rmtree(left, ignore_errors=True)
            self._undo.close()

    # the log

    def _open_log(self) -> IO[bytes]:
        if self._log_path is None:
            return tempfile.TemporaryFile()
        try:
            self._log_path.parent.mkdir(parents=True, exist_ok=True)
            return self._log_path.open("a+b")
        except OSError:  # full or read-only: what the SDK prints decides nothing
            self._log_path = None
            return tempfile.TemporaryFile()

    def tail(self, before: str = "") -> str:
        """The last line the SDK printed, and where the rest is."""
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), 4000, max(self._log_start, size - 4000)).decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        said = f"it last printed: {lines[-1][:300]}" if lines else "it printed nothing"
        return "{}{}{}".format(before, said, f" (in {self._log_path})" if self._log_path else "")


def _place_of(module: str) -> str:
    """Path of the file that starts the top-level package of a plug-in's module; "" for the suite's own modules, and
    where only the vendor's Python has it."""
    top = module.partition(".")[0]
    try:
        spec = None if top == "harness" else importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return ""
    return spec.origin if spec is not None and spec.origin and spec.origin.endswith(".py") else ""


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A reply, or None for what is not one."""
    try:
        reply = json.loads(line.decode("utf-8"))
    except ValueError:
        return None
    return reply if isinstance(reply, dict) and ("ok" in reply) != ("error" in reply) else None


def _shared_memory() -> int:
    """A file in memory without a name: nothing is left of it when both ends are gone, however they went."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("chipproof")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _most_memory() -> int:
    """80 % of what the machine, or the container, has; bytes."""
    import psutil

    total = int(psutil.virtual_memory().total)
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total * 8 // 10
