"""The worker's own end of the pipe: one backend, its sessions, commands as JSON lines.

Started as a script by process.py, under any Python from 3.7 that has NumPy and the vendor's SDK:

    PYTHON child.py MODULE COMMANDS REPLIES MEMORY SUITE PLACE

three inherited file descriptors, the pid of the process that starts it, and the file that starts the module's package
(see `bring`). Standard output and error belong to the SDK; they go to the log.
"""

import os
import sys

if __name__ == "__main__":  # the folder of this script holds modules whose names a vendor may use, too
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100,PTH120 - before pathlib is imported
    sys.path = [entry for entry in sys.path if os.path.abspath(entry) != here]  # noqa: PTH100

import contextlib
import ctypes
import importlib.util
import json
import mmap
import queue
import signal
import threading
import traceback
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Tuple

if TYPE_CHECKING:
    from harness.backends.base import Session


PR_SET_PDEATHSIG = 1  # linux/prctl.h


def bare_packages() -> None:
    """Make harness importable without its parent folder on sys.path, where the project's other packages lie."""
    package = types.ModuleType("harness")
    package.__path__ = [str(Path(__file__).resolve().parents[1])]
    sys.modules["harness"] = package


def bring(module: str, place: str) -> None:
    """Import the top-level package of a plug-in's module from the file `place`, where the suite has it, whether this
    Python has it too or not: the code of that file's package is in the engine's key. "" leaves it to this Python."""
    if not place:
        return
    top, package = module.partition(".")[0], Path(place).name == "__init__.py"
    spec = importlib.util.spec_from_file_location(
        top, place, submodule_search_locations=[str(Path(place).parent)] if package else None
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[top] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[top])


class Commands:
    """What the worker has at hand, and the commands it understands: each takes and returns what JSON can carry."""

    def __init__(self, backend: Any, memory: Any) -> None:
        self._backend = backend
        self._memory = memory
        self._sessions: Dict[int, Tuple[Any, contextlib.ExitStack]] = {}
        self._free = 0  # where outputs may go: after the inputs, which a session may still be reading

    def version(self) -> str:
        """SDK and driver, one line."""
        return str(self._backend.version())

    def devices(self, match: str) -> Dict[str, Any]:
        """Devices whose name matches, as JSON values."""
        return wire.plain(self._backend.devices(match))

    def health(self, device: Dict[str, Any]) -> Dict[str, Any]:
        """How the device is now, as JSON values."""
        return wire.plain(self._backend.health(wire.device(device)))

    def reset(self, device: Dict[str, Any]) -> str:
        """Reset the device by the vendor's tool: the command and what it said. Raises DeviceError."""
        do = getattr(self._backend, "reset", None)
        if do is None:
            raise errors.DeviceError(
                f"{self._backend.__name__} has no command that resets a device",
                hint="reset it with the vendor's tool",
            )
        return str(do(wire.device(device)))

    def build(self, onnx: str, engine: str, spec: Dict[str, Any]) -> None:
        """Compile `onnx` to `engine`."""
        self._backend.build(Path(onnx), Path(engine), wire.build_spec(spec))

    def load(self, engine: str, device: Dict[str, Any], spec: Dict[str, Any]) -> Dict[str, Any]:
        """Load the engine; returns the session's number, its inputs and its outputs."""
        with contextlib.ExitStack() as undo:
            loading = self._backend.load(Path(engine), wire.device(device), wire.build_spec(spec))
            session = undo.enter_context(loading)
            tensors = {name: [wire.plain(spec) for spec in getattr(session, name)] for name in ("inputs", "outputs")}
            number = 1 + max(self._sessions, default=0)
            self._sessions[number] = (session, undo.pop_all())
        return dict(tensors, session=number, places=places(session), on_chip=getattr(session, "on_chip", None))

    def unload(self, session: int) -> None:
        """Release a session."""
        self._sessions.pop(session)[1].close()

    def close(self) -> None:
        """Release every session, the last one first."""
        with contextlib.ExitStack() as undo:
            for _, loaded in self._sessions.values():
                undo.push(loaded)
            self._sessions.clear()

    def run(self, session: int, inputs: Any) -> Any:
        """Write the inputs, execute once, read the outputs."""
        self._write(session, inputs).execute(1)
        return self.read(session)

    def write_at(self, session: int, place: int, inputs: Any) -> None:
        """Write the inputs of one of several executes that are in flight together."""
        self._free = wire.end(inputs)
        self._sessions[session][0].write_at(place, self._memory.views(inputs))

    def execute(self, session: int, times: int) -> None:
        """Execute what was written."""
        self._sessions[session][0].execute(times)

    def read_at(self, session: int, place: int) -> Any:
        """Outputs of one of the executes that were in flight together."""
        return self._memory.put(self._sessions[session][0].read_at(place), self._free)

    def measure(self, session: int, inputs: Any, plan: Dict[str, Any]) -> Dict[str, Any]:
        """Time the session by `plan`; without inputs it keeps those it has."""
        loaded = self._sessions[session][0] if inputs is None else self._write(session, inputs)
        asked = timing.Plan(**plan)
        own = getattr(loaded, "measure", None)  # a command-line tool is not timed from outside: it tells its times
        measured = (own(asked) if own else timing.measure(loaded.execute, asked)).to_json()
        host_bound = getattr(loaded, "host_bound", None)  # only a runtime with a clock on the device can tell
        measured["host_bound"] = bool(host_bound and host_bound())
        measured["in_flight"] = places(loaded)
        return measured

    def read(self, session: int) -> Any:
        """Outputs of the last execute, put into the shared memory."""
        return self._memory.put(self._sessions[session][0].read(), self._free)

    def _write(self, number: int, inputs: Any) -> "Session":
        session = self._sessions[number][0]
        self._free = wire.end(inputs)
        session.write(self._memory.views(inputs))
        return session  # type: ignore[no-any-return]


def places(session: Any) -> int:
    """How many executes the session computes at once. It is believed where each can be fed and read apart: what they
    give is checked then."""
    return int(getattr(session, "in_flight", 1)) if hasattr(session, "write_at") else 1


def described(error: BaseException, stage: str, call: str) -> Dict[str, str]:
    """An error as the parent raises it again: the harness's own as they are, an SDK's as one line of ours."""
    if isinstance(error, errors.HarnessError):
        known = (kind.__name__ for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
        return {"class": next(known), "fact": error.fact, "hint": error.hint}
    line = traceback.format_exception_only(type(error), error)[-1].strip()
    where = stage if call == stage else f"{call} ({stage})"
    return {
        "class": "BuildError" if stage == "build" else "DeviceError",
        "fact": f"{where} failed: {line}",
        "hint": "the traceback is in the worker's log",
    }


def listen(descriptor: int) -> "queue.Queue[Any]":
    """Commands as they come. When the parent is gone, so is everything here, even in the middle of a vendor's call."""
    commands = queue.Queue()  # type: queue.Queue[Any]

    def read() -> None:
        with open(descriptor, encoding="utf-8") as lines:
            for line in lines:
                commands.put(json.loads(line))
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    return commands


def answer(do: Callable[[], Any], stage: str, trail: mmap.mmap) -> Dict[str, Any]:
    """Result or error of one command. An SDK that calls sys.exit is an error like any other."""
    base.trail(stage)
    try:
        return {"ok": do()}
    except BaseException as error:
        traceback.print_exc()
        call = trail[: wire.PAGE].split(b"\0", 1)[0].decode("utf-8", "replace")
        return {"error": described(error, stage, call)}


def offer_to_go_first() -> None:
    """Where memory runs out before the suite has looked at it, Linux ends this process and no other (proc(5))."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def go_with_the_suite(suite: int) -> None:
    """End when the suite ends, also in a vendor's call that holds the interpreter's lock, where no thread runs: Linux
    sends the signal (PR_SET_PDEATHSIG, prctl(2)). `suite` is the pid of the process that started this one."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != suite:  # it ended before the signal was asked for
        os._exit(1)


def guard() -> int:
    """A process that waits for the end of this one, then ends what this one started: compilers and the SDK's own
    helpers. Returns its pid."""
    worker = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid
    os.closerange(0, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < 65536 else 65536)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() == worker:
        signal.sigwait({signal.SIGTERM})
    os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(0)


def main(name: str, place: str, commands: int, replies: int, memory: int, suite: int) -> None:
    """Answer commands until the pipe closes or `quit` comes."""
    guarding = guard() if os.getpgrp() == os.getpid() else 0
    go_with_the_suite(suite)
    offer_to_go_first()
    for descriptor in (commands, replies, memory):
        os.set_inheritable(descriptor, False)  # a compiler that the SDK starts must not hold the pipe open
    trail = mmap.mmap(memory, wire.PAGE)
    base._trail = trail
    incoming = listen(commands)

    def reply(value: Dict[str, Any]) -> None:
        text = (json.dumps(value) + "\n").encode("ascii")
        while text:
            text = text[os.write(replies, text) :]

    loaded = None  # type: Any

    def begin() -> str:
        nonlocal loaded
        bring(name, place)
        loaded = Commands(importlib.import_module(name), wire.Memory(memory))
        return sys.version.split()[0]

    reply(answer(begin, "start", trail))
    while True:
        command = incoming.get()
        stage = command.pop("do")
        if stage == "quit":
            break
        reply(answer(lambda: getattr(loaded, stage)(**command), stage, trail))  # noqa: B023 - called at once
    reply(answer(loaded.close, "close", trail))
    if guarding:
        os.kill(guarding, signal.SIGKILL)
        os.waitpid(guarding, 0)


if __name__ == "__main__":
    bare_packages()

from harness import errors  # noqa: E402 - after the packages exist
from harness.backends import base  # noqa: E402
from harness.judge import timing  # noqa: E402 - after the packages exist
from harness.worker import wire  # noqa: E402

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[6], *(int(text) for text in sys.argv[2:6]))
