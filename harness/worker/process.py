"""The suite's end of the pipe: a backend in a process of its own, and what becomes of it as typed errors.

A vendor SDK may crash, hang, grow or print as it likes: that costs one case. Tensors pass through shared memory,
commands through a pipe of their own, and the loop that is timed runs wholly in the worker (child.py).
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
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from harness import errors
from harness.backends import base, registry
from harness.errors import RunError, UsageError, WorkerError
from harness.judge.timing import Plan, Timing
from harness.worker import wire

if TYPE_CHECKING:
    from types import TracebackType

    from harness.backends.base import BuildSpec, Device, Found, Health, Tensors

CHILD = Path(__file__).with_name("child.py")
LOOK_S = 0.5  # how often a busy worker is looked at


@dataclass(frozen=True)
class Limits:
    """Seconds that a stage may last (measuring: beyond what its plan asks for), and bytes of resident memory of the
    worker and what it started; None is 80 % of the machine's."""

    start: float = 60.0
    look: float = 60.0  # version, devices, health
    build: float = 3600.0
    load: float = 600.0
    run: float = 600.0
    measure: float = 120.0
    close: float = 20.0
    memory: int | None = None


LIMIT_OF = {
    "version": "look",
    "devices": "look",
    "health": "look",
    "unload": "load",
    "reset": "load",
    "read": "run",
    "quit": "close",
}
"""Command -> the limit that holds for it, where that has another name."""


STEPS = tuple(field.name for field in fields(Limits) if field.name != "memory")
"""What a time limit may be set for."""


def limits(seconds: Sequence[str], memory_gb: float | None) -> Limits:
    """Limits with some of them set: "build=7200" for each stage, in seconds. Raises UsageError."""
    changed: dict[str, float] = {}
    for given in seconds:
        name, _, value = given.partition("=")
        try:
            changed[name] = float(value)
        except ValueError:
            changed[name] = -1.0
        if name not in STEPS or not 0 < changed[name] < float("inf"):
            raise UsageError(f"--time-limit {given} is no limit", hint=f"STAGE=SECONDS, of {', '.join(STEPS)}")
    if memory_gb is not None and not 0 < memory_gb < 1e6:
        raise UsageError(f"--memory-limit {memory_gb:g} is no limit", hint="give gigabytes, such as 24")
    return replace(Limits(), memory=None if memory_gb is None else int(memory_gb * 1e9), **changed)


def _place_of(module: str) -> str:
    """Path of the file that starts the top-level package of a plug-in's module; "" for the suite's own modules, and
    where only the vendor's Python has it."""
    top = module.partition(".")[0]
    try:
        spec = None if top == "harness" else importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return ""
    return spec.origin if spec is not None and spec.origin and spec.origin.endswith(".py") else ""


class Worker:
    """A process with one backend and the sessions loaded in it; one thread at a time may use it. It starts on entry
    and is awaited when the first command is given.

    `backend` names a row of BACKENDS, or with a dot any module on PYTHONPATH. `python` needs only NumPy
    and the vendor's SDK, from 3.7 on; `env` is added to the environment; what the SDK prints goes to `log`. Every
    method raises WorkerError when the worker died, hung, grew too large or talked nonsense; after that it is gone,
    `alive` is False, and the next case takes a new one. Errors of the backend arrive as they were raised."""

    def __init__(
        self,
        backend: str,
        *,
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
        limits: Limits = Limits(),
        log: Path | None = None,
    ) -> None:
        self.backend = backend
        self.limits = limits
        self._python_version = ""
        self._python = python
        self._env = {**os.environ, **(env or {})}
        self._log_path = log
        self._process: subprocess.Popen[bytes] | None = None
        self._lost = "was not started"
        self._awaited = ""  # the command whose reply has not been taken

    @property
    def alive(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None

    def __enter__(self) -> Worker:
        with contextlib.ExitStack() as undo:
            self._log = undo.enter_context(self._open_log())
            self._log_start = os.fstat(self._log.fileno()).st_size  # what stands before is another worker's
            memory = _shared_memory()
            undo.callback(os.close, memory)
            os.ftruncate(memory, wire.PAGE)
            self._memory = wire.Memory(memory)
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
                self._call("quit", self.limits.close)
                with contextlib.suppress(subprocess.TimeoutExpired):  # an SDK that hangs in its own atexit
                    self._process.wait(self.limits.close)
        finally:
            self._end("was closed")

    def kill(self) -> None:
        """End it at once, for one that holds no device to be given back."""
        self._end("was killed")

    @property
    def python_version(self) -> str:
        """Of the Python it runs under."""
        self._ready()
        return self._python_version

    def version(self) -> str:
        """SDK and driver, one line."""
        version: str = self._call("version", self.limits.look)
        return version

    def devices(self, match: str) -> Found:
        """Devices whose vendor name fully matches the regular expression, with the evidence."""
        return wire.found(self._call("devices", self.limits.look, match=match))

    def health(self, device: Device) -> Health:
        """How the device is now. Raises WorkerError and DeviceError."""
        return wire.health(self._call("health", self.limits.look, device=wire.plain(device)))

    def reset(self, device: Device) -> str:
        """Reset the device by the vendor's tool: the command and what it said. Raises WorkerError and DeviceError."""
        return str(self._call("reset", self.limits.load, device=wire.plain(device)))

    def build(self, onnx: Path, engine: Path, spec: BuildSpec) -> None:
        """Compile to exactly the path `engine`. Raises BuildError, which tells of a disk that is nearly full: compilers
        say anything then, and what they wrote is gone."""
        try:
            self._call("build", self.limits.build, onnx=str(onnx), engine=str(engine), spec=wire.plain(spec))
        except errors.BuildError as error:
            free = shutil.disk_usage(engine.parent).free
            if free >= (onnx.stat().st_size if onnx.exists() else 0):
                raise
            raise errors.BuildError(
                f"{error.fact}; {free / 1e6:.0f} MB are free for the engine, fewer than the model has",
                hint=f"free some, or name another cache with --cache DIR; else {error.hint}",
            ) from error
        if not engine.exists():
            raise errors.BuildError(f"{self.backend} said it was done and wrote no {engine.name}", hint=self._tail())

    def load(self, engine: Path, device: Device, spec: BuildSpec, rows: bool = True) -> RemoteSession:
        """The engine on the device, for use in a `with`; with `rows` every output must have a row for each row of the
        inputs. Raises DeviceError, and RunError when its outputs are not those of `spec`."""
        tensors = self._call(
            "load", self.limits.load, engine=str(engine), device=wire.plain(device), spec=wire.plain(spec)
        )
        inputs, outputs = (tuple(map(wire.tensor_spec, tensors[name])) for name in ("inputs", "outputs"))
        by_name = {output.name: output for output in outputs}
        if not set(spec.outputs) <= set(by_name):
            raise RunError(
                "the engine has the outputs {}".format(", ".join(sorted(by_name)) or "none"),
                hint="the model's are {}".format(", ".join(spec.outputs)),
            )
        outputs = tuple(by_name[name] for name in spec.outputs or by_name)
        batched = rows and all(tensor.shape[:1] == (-1,) for tensor in spec.inputs)
        return RemoteSession(self, tensors["session"], inputs, outputs, batched)

    # the pipe

    @property
    def peak_mb(self) -> float | None:
        """Most resident memory of the process so far, in MB; None where the system does not tell (Linux's VmHWM)."""
        if self._process is None:
            return None
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return None
        match = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
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

    def _call(self, do: str, limit: float, **arguments: Any) -> Any:
        self._send(do, **arguments)
        return self._receive(do, limit)

    def _ready(self) -> None:
        if self._process is None:
            raise WorkerError(f"the worker of {self.backend} {self._lost}", hint="start a new one")
        if self._awaited == "start":
            try:
                self._python_version = self._receive("start", self.limits.start)
            except BaseException:
                self._end("did not start")
                raise
        if self._awaited:
            raise ValueError("finish() comes before the next command to a worker that measures")

    def _send(self, do: str, **arguments: Any) -> None:
        self._ready()
        self._trail[: len(do) + 1] = do.encode() + b"\0"  # the worker does nothing now, and may be slow to begin
        self._awaited = do
        text = (json.dumps(dict(arguments, do=do)) + "\n").encode("ascii")
        try:
            while text:
                text = text[os.write(self._commands, text) :]
        except BrokenPipeError:
            self._died(do)

    def _receive(self, stage: str, limit: float) -> Any:
        """The reply to the last command. Whatever ends the wait early, Ctrl-C included, ends the worker."""
        try:
            line = self._line(stage, time.monotonic() + limit, limit)
            reply = _parsed(line)
            if reply is None:
                self._fail("sent {!r}, which is no reply".format(line[:80].decode("utf-8", "replace")), stage)
        except BaseException:
            self._end(f"ended in {stage}")
            raise
        self._awaited = ""
        if "error" not in reply:
            return reply["ok"]
        error = reply["error"]
        kind = getattr(errors, error["class"])
        hint = error["hint"] if "worker's log" not in error["hint"] else "{}{}".format(error["hint"], self._tail(": "))
        raise kind(error["fact"], hint=hint)

    def _line(self, stage: str, deadline: float, limit: float) -> bytes:
        got = b""
        while not got.endswith(b"\n"):
            if time.monotonic() > deadline and not self._waiting.poll(0):  # a pause of the whole machine is no hang
                advice = f"raise the limit with --time-limit {LIMIT_OF.get(stage, stage)}=SECONDS; "
                self._fail(f"hung in {self._doing(stage)} for more than {limit:g} s", stage, advice, hung=True)
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
                f"grew to {resident / 1e6:.0f} MB in {self._doing(stage)}; the limit is {self._limit / 1e6:.0f} MB",
                stage,
                "use a smaller batch, or raise the limit with --memory-limit GB; ",
            )

    def _died(self, stage: str) -> NoReturn:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.poll()
        if code is None:
            self._fail(f"closed its pipe in {self._doing(stage)}", stage)
        elif code < 0:
            name = signal.Signals(-code).name
            memory = "the kernel may have run out of memory, see dmesg; " if name == "SIGKILL" else ""
            self._fail(f"died of {name} in {self._doing(stage)}", stage, memory)
        else:
            self._fail(f"exited with {code} in {self._doing(stage)}", stage)

    def _fail(self, what: str, stage: str, advice: str = "", hung: bool = False) -> NoReturn:
        tail = self._tail()
        gone = self._end(f"ended in {stage}")
        stuck = "" if gone else "; it cannot be killed: reset the device or restart the machine"
        error = WorkerError(f"worker of {self.backend} {what}{stuck}", hint=advice + tail)
        error.hung = hung and stage not in ("start", "build")  # compilers are slow, and need no device
        raise error

    def _doing(self, stage: str) -> str:
        """The vendor's call under way, or else the stage."""
        return self._trail[: wire.PAGE].split(b"\0", 1)[0].decode("utf-8", "replace") or stage

    def _end(self, how: str) -> bool:
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

    def _tail(self, before: str = "") -> str:
        """The last line the SDK printed, and where the rest is."""
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), 4000, max(self._log_start, size - 4000)).decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        said = f"it last printed: {lines[-1][:300]}" if lines else "it printed nothing"
        return "{}{}{}".format(before, said, f" (in {self._log_path})" if self._log_path else "")


class RemoteSession:
    """A session in the worker: an engine on a device, to be used in a `with`.

    `run` for outputs; `measure` for time, or `start` and `finish` apart, so that the devices of a card, each with a
    worker of its own, are measured at once; `read` then gives what the measured engine computed."""

    def __init__(
        self,
        worker: Worker,
        number: int,
        inputs: tuple[base.TensorSpec, ...],
        outputs: tuple[base.TensorSpec, ...],
        batched: bool = True,
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._batched = batched  # axis 0 of every output is the batch
        self._worker = worker
        self._number = number
        self._batch = 0
        self._measuring: Plan | None = None

    def __enter__(self) -> RemoteSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._measuring is not None:
            self._worker._end("was given up while measuring")
        if self._worker.alive:
            self._worker._call("unload", self._worker.limits.load, session=self._number)

    def run(self, inputs: Tensors, *, finite: bool = True) -> Tensors:
        """Outputs of one batch, as fresh arrays. Raises RunError when the inputs are not what the engine takes, or
        the outputs not what it says; `finite` refuses NaN and infinity as well."""
        layout = self._worker._call("run", self._worker.limits.run, session=self._number, inputs=self._put(inputs))
        return self._outputs(layout, finite)

    def measure(self, inputs: Tensors | None, plan: Plan) -> Timing:
        """Raw samples of back-to-back executes of one batch; None: of the one that it was fed last."""
        self.start(inputs, plan)
        return self.finish()

    def start(self, inputs: Tensors | None, plan: Plan) -> None:
        """Begin to measure, and return at once."""
        layout = None if inputs is None else self._put(inputs)
        self._worker._send("measure", session=self._number, inputs=layout, plan=wire.plain(plan))
        self._measuring = plan

    def finish(self) -> Timing:
        """The samples of what was started. Raises ValueError when nothing was."""
        if self._measuring is None:
            raise ValueError("start() comes before finish()")
        plan, self._measuring = self._measuring, None
        limit = self._worker.limits.measure + plan.warmup_s + plan.limit_s
        return Timing.from_json(self._worker._receive("measure", limit))

    def read(self, *, finite: bool = True) -> Tensors:
        """Outputs of the last execute, measured or not, as fresh arrays. Raises RunError as run does."""
        return self._outputs(self._worker._call("read", self._worker.limits.run, session=self._number), finite)

    def _put(self, inputs: Tensors) -> list[dict[str, Any]]:
        self._worker._ready()
        self._batch = base.check(inputs, self.inputs, "input")
        return self._worker._memory.put(inputs)

    def _outputs(self, layout: list[dict[str, Any]], finite: bool) -> Tensors:
        import numpy as np

        wanted = {output.name for output in self.outputs}
        views = self._worker._memory.views([item for item in layout if item["name"] in wanted])
        base.check(views, self.outputs, "output")
        rows = {view.shape[0] if view.shape else 0 for view in views.values()} if self._batched else set()
        if rows - {self._batch}:
            returned = min(rows - {self._batch})
            raise RunError(
                f"the engine was fed {self._batch} images and returned {returned}", hint="rebuild the engine"
            )
        if finite:
            for name, view in views.items():
                bad = view.size - int(np.isfinite(view).sum())
                if bad:
                    raise RunError(
                        f"output {name} has {bad} values of {view.size} that are NaN or infinite",
                        hint="see which layer makes the first: chipproof diagnose",
                    )
        return {output.name: views[output.name].copy() for output in self.outputs}


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
