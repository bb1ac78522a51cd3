"""An engine driven by one of the vendor's command-line tools instead of pyACL: one process for every run.

A run starts a process, loads the engine and copies the inputs, which must not be timed. A session is therefore not
timed from outside: `measure` uses the times of single executes that the tool reports. They are placed one after the
other so that the last ends when the tool ended.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Sequence

import numpy as np

from harness.backends.ascend import _atc
from harness.backends.ascend._tensors import REBUILD, checked, fed, shown, told
from harness.backends.base import BuildSpec, Device, TensorSpec, as_list, scratch, trail
from harness.errors import DataError, DeviceError, RunError
from harness.judge.timing import Plan, Timing, Window
from harness.vendor import logs

if TYPE_CHECKING:
    from typing import Protocol

    from harness.backends.base import Tensors
else:
    Protocol = object

SECONDS = 1800  # for one run of a tool
LINES = 20  # of the tool's output that an error shows
NOT_FOR_OTHERS = 0o022  # modes that ais_bench refuses in files that it reads; of a folder it wants 0750 at most
SOURCE = "source /usr/local/Ascend/ascend-toolkit/set_env.sh"


class Tool(Protocol):
    """What differs between the tools."""

    name: str
    most: int  # executes in one run
    tier: str  # its option that sets the batch of an engine with several

    def program(self) -> list[str]:
        """The words that start it. Raises DeviceError when it is not installed."""

    def arguments(self, engine: Path, inputs: Sequence[Path], folder: Path, loop: int, device: int) -> list[str]:
        """Words that run `engine` on one batch `loop` times and leave the outputs in `folder`, as `program` took them
        when `look` asked it."""

    def look(self, program: list[str]) -> None:
        """Ask the program what its options are called, where releases differ."""

    def failure(self, said: str) -> str | None:
        """Why a run that ended with status 0 failed all the same; None when it did not."""

    def outputs(self, folder: Path, tensors: tuple[TensorSpec, ...]) -> Tensors:
        """The outputs that a run left, by name; `tensors` in the engine's order."""

    def times_ms(self, said: str, folder: Path, batch: int) -> list[float]:
        """Milliseconds of each warm execute, as the tool reports them. Raises DataError on a report that cannot be."""


@contextmanager
def load(tool: Tool, engine: Path, device: Device, spec: BuildSpec) -> Iterator[Session]:
    """A session that runs `tool`. Raises DeviceError when it is not installed."""
    with tempfile.TemporaryDirectory(prefix=scratch()) as folder:
        work = Path(folder)
        program = tool.program()
        _bring(Path(engine), work / "model.om")  # the tools want that suffix
        tool.look(program)
        yield Session(tool, program, work, device, spec, in_order(Path(engine), produced(spec), spec))


def _bring(engine: Path, target: Path) -> None:
    """Put the engine at `target` in a form that ais_bench accepts: no soft link, owned by this user, and not writable
    for others."""
    try:
        known = engine.stat()
        if known.st_uid == os.geteuid() and not known.st_mode & NOT_FOR_OTHERS:
            os.link(str(engine), str(target))
            return
    except OSError:  # another file system
        pass
    shutil.copyfile(str(engine), str(target))
    target.chmod(0o600)


class Session:
    """An engine run by a command-line tool: inputs are kept as files, and every execute starts the tool."""

    def __init__(
        self, tool: Tool, program: list[str], work: Path, device: Device, spec: BuildSpec,
        written: tuple[TensorSpec, ...],
    ) -> None:  # fmt: skip
        self.inputs = fed(spec)
        self.outputs = produced(spec)
        self._written = written  # the outputs as the tool numbers them
        self._tool, self._program, self._work = tool, program, work
        self._device, self._batch = device.index, spec.batch
        self._tier = ["--" + tool.tier, str(spec.batch)] if _atc.tiers(spec) else []
        self._files: list[Path] = []
        self._read: Tensors | None = None

    def write(self, inputs: Tensors) -> None:
        """Keep the batch as files. Raises RunError when a name, dtype or shape is not the engine's."""
        arrays = checked(inputs, self.inputs)
        self._files, self._read = [], None
        for number, tensor in enumerate(self.inputs):
            path = self._work / f"input{number}.bin"
            path.write_bytes(arrays[tensor.name].tobytes())
            path.chmod(0o600)  # whatever the umask
            self._files.append(path)

    def execute(self, times: int = 1) -> None:
        """Run the tool as often as it takes for `times` executes. Not to be timed: see `measure`."""
        while times > 0:
            together = min(times, self._tool.most)
            self._run(together)
            times -= together

    def read(self) -> Tensors:
        """The outputs of the last run, by ONNX name, as fresh arrays."""
        if self._read is None:
            raise RunError("nothing was executed since the last write", hint="execute before read")
        return {tensor.name: np.array(self._read[tensor.name]) for tensor in self.outputs}

    def measure(self, plan: Plan) -> Timing:
        """Windows made of the times that the tool reports for single executes. Raises DataError on its bad report."""
        first = self._times(10)
        warmup = _windows(first, len(first), time.perf_counter())
        mean = sum(first) / len(first)
        together = max(1, math.ceil(plan.window_s / mean))
        wanted = min(plan.windows * together, max(together * 3, int(plan.limit_s / mean)))
        windows: list[Window] = []
        latencies: list[float] = []
        left: list[float] = []
        while len(windows) < max(1, wanted // together):
            left += self._times(min(self._tool.most, max(2, wanted)))
            latencies += left[: plan.latencies - len(latencies)]
            whole = len(left) // together * together
            windows += _windows(left[:whole], together, time.perf_counter())
            left = left[whole:]
        return Timing(tuple(warmup), tuple(windows[: plan.windows]), tuple(latencies))

    def _times(self, loop: int) -> list[float]:
        """Seconds of each warm one of `loop` executes."""
        said, folder = self._run(loop)
        return [each / 1000 for each in self._tool.times_ms(said, folder, self._batch)]

    def _run(self, loop: int) -> tuple[str, Path]:
        if not self._files:
            raise RunError("nothing was written before execute", hint="write the inputs first")
        folder = self._work / "out"
        shutil.rmtree(str(folder), ignore_errors=True)
        folder.mkdir()
        folder.chmod(0o700)
        tool = self._tool
        given = tool.arguments(self._work / "model.om", self._files, folder, loop, self._device)
        words = [*self._program, *given, *self._tier]
        trail(tool.name)
        try:
            done = subprocess.run(
                words, cwd=str(self._work), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=SECONDS, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeviceError(f"{tool.name} did not answer: {error}", hint=SOURCE) from error
        said = done.stdout.decode("utf-8", "replace")
        why = f"ended with status {done.returncode}" if done.returncode else tool.failure(said)
        if why:
            tail = "\n".join(said.rstrip().splitlines()[-LINES:])
            raise DeviceError(f"{tool.name} failed: {why}\n{tail}", hint="to see it again: " + " ".join(words))
        self._read = _checked(tool.outputs(folder, self._written), self.outputs)
        return said, folder


def produced(spec: BuildSpec) -> tuple[TensorSpec, ...]:
    """The outputs of a case, from `options["out_specs"]`: rows of name, dtype, shape (batch axis -1 or fixed)."""
    rows = {str(row[0]): row for row in as_list(spec.options.get("out_specs"))}
    missing = [name for name in spec.outputs if name not in rows]
    if missing:
        raise RunError(
            f"a command-line tool does not report the shapes of outputs {missing}",
            hint="run the case through pyACL instead",
        )
    return tuple(
        TensorSpec(name, str(rows[name][1]), tuple(spec.batch if dim == -1 else int(dim) for dim in rows[name][2]))
        for name in spec.outputs
    )


def in_order(engine: Path, outputs: tuple[TensorSpec, ...], spec: BuildSpec) -> tuple[TensorSpec, ...]:
    """The outputs in the order in which the engine has them, which is how the tools number their files.

    As a rule that is the order of --out_nodes, and the size of a file shows an exception. Between outputs of one size
    nothing would: there the engine's own names decide. Raises RunError when they do not."""
    sizes = {int(np.prod(tensor.shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize for tensor in outputs}
    if len(sizes) == len(outputs):
        return outputs
    own = _atc.output_names(engine)
    names = told(own, spec)
    left = [name for name in spec.outputs if name not in names]
    if len(left) == 1:
        names = [left[0] if name is None else name for name in names]
    by_name = {tensor.name: tensor for tensor in outputs}
    if len(names) != len(outputs) or set(names) != set(by_name):
        raise RunError(
            f"the tools number their files, outputs of {shown(outputs)} have one size, and the names in the engine "
            f"({own or 'none: atc is not on PATH or does not report them'}) do not show which is which",
            hint=f"{SOURCE}, so that atc is on PATH; or run the case through pyACL, without --runner",
        )
    return tuple(by_name[str(name)] for name in names)


def _checked(found: Tensors, wanted: tuple[TensorSpec, ...]) -> Tensors:
    for tensor in wanted:
        array = found[tensor.name]
        if (array.dtype.name, array.shape) != (tensor.dtype, tensor.shape):
            raise RunError(
                f"the tool wrote {array.dtype.name}{list(array.shape)} for {shown([tensor])}",
                hint=REBUILD,
            )
    return found


def from_bytes(data: bytes, tensor: TensorSpec) -> Any:
    """A raw output file as an array. Raises RunError when it has another size."""
    needed = int(np.prod(tensor.shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize
    if len(data) != needed:
        raise RunError(
            f"the tool wrote {len(data)} bytes for {shown([tensor])}, which has {needed}",
            hint=REBUILD,
        )
    return np.frombuffer(data, tensor.dtype).reshape(tensor.shape)


def judged(text: str, tool: str, batch: int, count: int, times: Sequence[float]) -> list[float]:
    """`times`, when the tool's report is consistent and its mean is theirs. Raises DataError otherwise."""
    (figure,) = logs.parse(text, tool=tool, batch=batch, source=tool)
    parts = [part for part in (times, times[1:]) if part]  # the report may leave out a slow first run
    near = any(abs(sum(part) / len(part) / figure.latency_ms - 1) <= 0.01 for part in parts)
    if len(times) != count or not near:
        raise DataError(
            f"{tool} lists {len(times)} times for {count} executes with a mean of {figure.latency_ms:g} ms",
            hint="this version has an unknown report format: run through pyACL, or `chipproof logs` on its output",
        )
    return list(times)


def _windows(times: Sequence[float], together: int, end: float) -> list[Window]:
    """Times laid end to end so that the last ends at `end`, `together` of them to a window."""
    start = end - sum(times)
    found = []
    for first in range(0, len(times), together):
        part = times[first : first + together]
        found.append(Window(start, start + sum(part), len(part)))
        start = found[-1].stop
    return found


def on_path(name: str) -> str | None:
    """An executable on PATH, as an absolute path."""
    found = shutil.which(name)
    return None if found is None else os.path.abspath(found)  # noqa: PTH100 - a link stays a link
