"""Processes for tests that are not about how Python starts: forked from one that has imported the libraries already.

`instead(monkeypatch, LIGHT)` puts Popen in the place of subprocess.Popen. Commands of this interpreter, and the
simulated SDKs' programs, then run in a fork of a server that has imported libraries and nothing of the suite. The fork
is a child of the process that asks (CLONE_PARENT, clone(2)), with the arguments, the environment, the folder and the
descriptors that it asks for: for whoever started it, it is what it would have been. Whatever is not understood here is
started as always. Of processor time, `atc` of a tiny network takes 0.07 s instead of 0.9, a worker 0.1 instead of 0.4.
Where the environment has WARM_BELOW, what a process starts is warm too, down to the last.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import gc
import importlib
import inspect
import io
import json
import os
import platform
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

SDK = Path(__file__).parents[1] / "sdk"
CLONE_PARENT = 0x8000  # linux/sched.h
CLONE = {("linux", "x86_64"): 56, ("linux", "aarch64"): 220}.get((sys.platform, platform.machine()))
"""The call's number; None: nothing is forked."""
OF_THE_START = {"PYTHONIOENCODING", "PYTHONWARNINGS", "PYTHONHASHSEED", "PYTHONUTF8", "LC_ALL", "LANG", "LC_CTYPE"}
"""Variables that Python reads when it starts: where they are not those of the server, it is started."""
ENDS = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
MOST = 253  # descriptors in one message (unix(7))
REAL = subprocess.Popen


class Server:
    """The process that is forked, and the socket that it is asked through; it starts when it is asked first and ends
    with the process that made it."""

    def __init__(self, *modules: str) -> None:
        self.modules, self.owner, self.one_at_a_time = modules, os.getpid(), threading.Lock()
        # OpenBLAS starts threads when it is imported, and no thread is in a fork
        self.env = {**os.environ, "PYTHONPATH": "", "OPENBLAS_NUM_THREADS": "1"}
        self.ours: socket.socket | None = None
        self.wait: Callable[[], object]

    @staticmethod
    def below(paths: list[str], places: list[int]) -> Server:
        """A server that is a fork of this process, without the descriptors of `places`."""
        server = Server()
        server.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if not pid:
            server.ours.close()
            nothing = os.open(os.devnull, os.O_RDWR)
            for number in places:
                os.dup2(nothing, number)
            asked = serve(theirs)
            os._exit(ended(lambda: become(asked, paths)))
        theirs.close()
        server.wait = lambda: os.waitpid(pid, 0)
        atexit.register(server.close)
        return server

    def starts_so(self, env: dict[str, str]) -> bool:
        """Whether Python starts with this environment as it did with the server's."""
        same = "C.UTF-8" if sys.getfilesystemencoding() == "utf-8" else None
        return all(env.get(name) in (self.env.get(name), same) for name in OF_THE_START)

    def fork(self, asked: dict[str, object], descriptors: list[int]) -> int:
        """Pid of the new process."""
        with self.one_at_a_time:
            if self.ours is None:
                self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                command = [sys.executable, __file__, str(theirs.fileno()), *self.modules]
                self.wait = REAL(command, env=self.env, pass_fds=[theirs.fileno()]).wait
                theirs.close()
                atexit.register(self.close)
            socket.send_fds(self.ours, [json.dumps(asked).encode()], descriptors)
            answer = self.ours.recv(64)
        if not answer:
            raise RuntimeError(f"the server of warm processes ended with {self.wait()}")
        return int(answer)

    def close(self) -> None:
        """End the server; in a fork of its owner, nothing."""
        if self.ours is not None and os.getpid() == self.owner:
            self.ours.close()
            self.wait()


LIGHT = Server("numpy", "onnx", "onnxruntime")
"""What a backend's worker and a simulated SDK import."""
RUN = Server(*LIGHT.modules, "pytest", "jinja2", "psutil")
"""What a run of the conformance tests imports at once."""
WHOLE = Server(*RUN.modules, "timm", "scipy.stats", "PIL.Image", "cv2", "numba_ready")
"""What it imports in the end."""


def instead(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    """Start processes warm until the test ends."""
    monkeypatch.setattr(Popen, "server", server, raising=False)
    monkeypatch.setattr(subprocess, "Popen", Popen)


def command_of(words: list[str], path: str, simulated: str) -> list[str] | None:
    """The words after the interpreter; None where another program is asked for."""
    if words[0] == sys.executable:
        return words[1:]
    program = shutil.which(words[0], path=path)
    ours = program is not None and SDK in Path(program).resolve().parents and simulated == sys.executable
    return [program, *words[1:]] if ours and program else None


class Popen(subprocess.Popen):  # type: ignore[type-arg]
    """As subprocess.Popen; `server` is set by the fixtures."""

    server: Server

    def _execute_child(self, *given: object) -> None:
        asked = inspect.signature(REAL._execute_child).bind(self, *given).arguments
        env = {**(os.environ if asked["env"] is None else asked["env"])}
        single = isinstance(asked["args"], (str, bytes, os.PathLike))
        words = [os.fsdecode(asked["args"])] if single else [os.fsdecode(word) for word in asked["args"]]
        command = command_of(words, env.get("PATH", ""), env.get("CHIPPROOF_SIM_PYTHON", ""))
        refused = ("executable", "preexec_fn", "shell", "gid", "gids", "uid")
        other = any(asked[name] for name in refused) or asked["umask"] >= 0 or asked.get("process_group", -1) >= 0
        known = command is not None and entry(command) is not None and self.server.starts_so(env)
        if other or not known or CLONE is None or os.getpid() != self.server.owner:
            super()._execute_child(*given)
            return
        ends = [asked[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        places = {number: number if end == -1 else end for number, end in enumerate(ends)}
        places.update({number: number for number in asked["pass_fds"]})
        asking = {
            "command": command, "env": {os.fsdecode(k): os.fsdecode(v) for k, v in env.items()},
            "cwd": os.fsdecode(asked["cwd"] or Path.cwd()), "session": bool(asked["start_new_session"]),
            "places": list(places),
        }  # fmt: skip
        self.pid = self.server.fork(asking, list(places.values()))
        self._child_created = True
        self._close_pipe_fds(*(asked[name] for name in ENDS))


def entry(words: list[str]) -> tuple[bool, bool, list[str]] | None:
    """(unbuffered, faulthandler, what is run and its arguments); None for other options of the interpreter."""
    unbuffered = faults = False
    while words and words[0].startswith("-") and words[0] not in ("-c", "-m"):
        if words[0] == "-u":
            unbuffered, words = True, words[1:]
        elif words[:2] == ["-X", "faulthandler"]:
            faults, words = True, words[2:]
        else:
            return None
    return (unbuffered, faults, words) if words and (words[0][:1] != "-" or words[1:]) else None


# ------------------------------------------------------------------------------------------- in the server


def cloned() -> int:
    """As os.fork; the new process is a child of this one's parent."""
    api = ctypes.pythonapi  # holds the interpreter's lock meanwhile
    api.PyOS_BeforeFork()
    pid = int(ctypes.PyDLL(None).syscall(CLONE, CLONE_PARENT | int(signal.SIGCHLD), 0, 0, 0, 0))
    (api.PyOS_AfterFork_Parent if pid else api.PyOS_AfterFork_Child)()
    return pid


def serve(asking: socket.socket) -> dict[str, object]:
    """Fork for each message. Returns in the fork, with what was asked."""
    while True:
        message, given, _, _ = socket.recv_fds(asking, 1 << 20, MOST)
        if not message:
            os._exit(0)
        pid = cloned()
        if not pid:
            asking.close()
            return {**json.loads(message), "given": given}
        for descriptor in given:
            os.close(descriptor)
        asking.send(str(pid).encode())


def put(given: list[int], places: list[int]) -> None:
    """The descriptors under the numbers that they have in the process that asked."""
    free = 1 + max(*given, *places)
    aside = [free + i for i in range(len(given))]
    for descriptor, number in zip(given, aside, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    for number, place in zip(aside, places, strict=True):
        os.dup2(number, place)
        os.close(number)


def become(asked: dict, paths: list[str]) -> None:
    """Run as the interpreter would that was started with these words."""
    if asked["session"]:
        os.setsid()
    put(asked["given"], asked["places"])
    if "WARM_BELOW" in asked["env"]:
        Popen.server, subprocess.Popen = Server.below(paths, asked["places"]), Popen
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    tempfile.tempdir = None  # of the server's environment
    unbuffered, faults, (first, *rest) = entry(asked["command"])
    unbuffered = unbuffered or bool(asked["env"].get("PYTHONUNBUFFERED"))
    for number, name in enumerate(("stdin", "stdout", "stderr")):  # those of the server know what its own can do
        old, kind = getattr(sys, name), "rb" if name == "stdin" else "wb"
        under = open(number, kind, 0 if unbuffered and number else -1, closefd=False)  # noqa: SIM115
        getattr(under, "raw", under).name = f"<{name}>"
        lines = not unbuffered and (name == "stderr" or under.isatty())
        new = io.TextIOWrapper(under, old.encoding, old.errors, line_buffering=lines, write_through=unbuffered)
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    if faults:
        faulthandler.enable()
    sys.dont_write_bytecode = bool(asked["env"].get("PYTHONDONTWRITEBYTECODE"))
    own = "" if first == "-c" else str(Path.cwd()) if first == "-m" else str(Path(first).resolve().parent)
    sys.path[:] = [own, *filter(None, asked["env"].get("PYTHONPATH", "").split(os.pathsep)), *paths]
    sys.modules["warm"], main = sys.modules["__main__"], types.ModuleType("__main__")
    sys.modules["__main__"] = main
    main.__dict__["__builtins__"] = __builtins__
    if first == "-m":
        sys.argv = rest
        runpy._run_module_as_main(rest[0])
        return
    sys.argv = ["-c", *rest[1:]] if first == "-c" else [first, *rest]
    if first != "-c":
        main.__file__ = first
    code = rest[0] if first == "-c" else Path(first).read_bytes()
    exec(compile(code, "<string>" if first == "-c" else first, "exec"), main.__dict__)


def ended(run: Callable[[], None]) -> int:
    """The exit status, after what the interpreter does at its end. What libraries in C do at theirs is left out: ONNX
    Runtime would wait for a thread of the server's."""
    status = 0
    try:
        run()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if status == 1 and end.code != 1:
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    for finish in (threading._shutdown, atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush):
        with contextlib.suppress(BrokenPipeError):
            finish()
    return status & 255


if __name__ == "__main__":
    for module in sys.argv[2:]:
        importlib.import_module(module)
    gc.freeze()  # forks neither look for garbage among what was imported nor copy it in doing so
    asked = serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(ended(lambda: become(asked, sys.path[1:])))
