"""Ascend through `msame`, Huawei's single-model runner: for machines whose Python has no pyACL (`--runner msame`).

Its times are measured on the host around aclmdlExecute, one line an execute. It ends with status 0 after many errors,
so its output is checked. Wording of the output: github.com/Ascend/tools, msame.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

from harness.backends.ascend import _atc, _command_line, _devices
from harness.backends.ascend._tensors import REBUILD
from harness.backends.base import TensorSpec
from harness.errors import DeviceError, RunError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from harness.backends.base import BuildSpec, Device, Tensors

name = "msame"
most = 100  # its own limit of --loop
tier = "dymBatch"

version, devices, health, build = _devices.version, _devices.devices, _devices.health, _atc.build
reset = _devices.reset


def load(engine: Path, device: Device, spec: BuildSpec) -> AbstractContextManager[_command_line.Session]:
    """A context with a session that runs msame. Raises DeviceError when msame is not installed or fails."""
    return _command_line.load(sys.modules[__name__], engine, device, spec)


def program() -> list[str]:
    """The words that start msame. Raises DeviceError when it is not on PATH."""
    found = _command_line.on_path("msame")
    if found is None:
        raise DeviceError("msame is not on PATH", hint="build it (github.com/Ascend/tools, msame) and put it on PATH")
    return [found]


def arguments(engine: Path, inputs: Sequence[Path], folder: Path, loop: int, device: int) -> list[str]:
    """Options that run `engine` `loop` times on `inputs` and write the outputs into `folder`."""
    files = ",".join(str(path) for path in inputs)
    words = {"model": engine, "input": files, "output": folder, "outfmt": "BIN", "loop": loop, "device": device}
    return [word for key, value in words.items() for word in ("--" + key, str(value))]


def look(program: list[str]) -> None:
    """Does nothing, because the options have the same names in all releases."""


def failure(said: str) -> str | None:
    """The first error in msame's output, or that it does not report success; None after a successful run."""
    wrong = re.search(r"^\[ERROR\].*", said, re.MULTILINE)
    if wrong:
        return wrong.group()
    return None if "Execute sample success" in said else "it did not print 'Execute sample success'"


def outputs(folder: Path, tensors: tuple[TensorSpec, ...]) -> Tensors:
    """The outputs by name, from files `<stem>_output_<i>.bin`, i from 0, in a folder named after the time. Raises
    RunError when their number is another."""
    found = {int(path.stem.rpartition("_")[2]): path for path in sorted(folder.glob("**/*_output_*.bin"))}
    if sorted(found) != list(range(len(tensors))):
        raise RunError(
            f"msame wrote outputs {sorted(found)}, the case has {len(tensors)}",
            hint=REBUILD,
        )
    return {
        tensor.name: _command_line.from_bytes(found[number].read_bytes(), tensor)
        for number, tensor in enumerate(tensors)
    }


def times_ms(said: str, folder: Path, batch: int) -> list[float]:
    """Milliseconds of each execute without the first, which is not warm; msame's own summary leaves it out too. Raises
    DataError."""
    times = [float(text) for text in re.findall(r"Inference time: ?([\d.eE+-]+) ?ms", said)]
    return _command_line.judged(said, "msame", batch, len(times), times)[1:]
