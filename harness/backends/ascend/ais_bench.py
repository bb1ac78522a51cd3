"""Ascend through `ais_bench`, Huawei's own benchmark: for machines whose Python has no pyACL (`--runner ais_bench`).

Its times are the NPU compute times of single executes, from the summary that it writes beside the outputs. Wording of
the output and rules for files: github.com/Ascend/tools, ais-bench_workload/tool/ais_bench, and github.com/Ascend/msit,
msit/components/benchmark.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

import numpy as np

from harness.backends.ascend import _atc, _command_line, _devices
from harness.backends.ascend._tensors import REBUILD
from harness.backends.base import TensorSpec
from harness.errors import DataError, DeviceError, RunError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from harness.backends.base import BuildSpec, Device, Tensors

name = "ais_bench"
most = 10000
dirname, tier = "output_dirname", "dymBatch"  # "output-dirname", "dym-batch" in the newest release: `look` asks
OUTPUTS = "outputs"

version, devices, health, build = _devices.version, _devices.devices, _devices.health, _atc.build
reset = _devices.reset


def load(engine: Path, device: Device, spec: BuildSpec) -> AbstractContextManager[_command_line.Session]:
    """A context with a session that runs ais_bench. Raises DeviceError when ais_bench is not installed or fails."""
    return _command_line.load(sys.modules[__name__], engine, device, spec)


def program() -> list[str]:
    """The words that start ais_bench: the command, or the module of the python3 on PATH. Raises DeviceError when there
    is neither."""
    found = _command_line.on_path("ais_bench")
    if found is not None:
        return [found]
    python = _command_line.on_path("python3")
    if python is not None:
        words = [python, "-c", "import ais_bench"]
        if subprocess.run(words, capture_output=True, check=False).returncode == 0:
            return [python, "-m", "ais_bench"]
    raise DeviceError(
        "ais_bench is neither on PATH nor a module of python3",
        hint="pip install the ais_bench and aclruntime wheels of github.com/Ascend/tools",
    )


def look(program: list[str]) -> None:
    """Find out how options of two words are written: the newest release uses hyphens. Raises DeviceError."""
    global dirname, tier
    try:
        done = subprocess.run(
            [*program, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"ais_bench does not answer --help: {error}", hint=_command_line.SOURCE) from error
    hyphens = b"--output-dirname" in done.stdout
    dirname, tier = ("output-dirname", "dym-batch") if hyphens else ("output_dirname", "dymBatch")


def arguments(engine: Path, inputs: Sequence[Path], folder: Path, loop: int, device: int) -> list[str]:
    """Options that run `engine` `loop` times on `inputs` and write the outputs into `folder`."""
    files = ",".join(str(path) for path in inputs)
    words = {
        "model": engine, "input": files, "output": folder, dirname: OUTPUTS, "outfmt": "NPY",
        "loop": loop, "device": device,
    }  # fmt: skip
    return [word for key, value in words.items() for word in ("--" + key, str(value))]


def failure(said: str) -> str | None:
    """The first error in ais_bench's output, or that it prints no throughput; None after a successful run."""
    wrong = re.search(r"^\[ERROR\].*", said, re.MULTILINE)
    if wrong:
        return wrong.group()
    return None if re.search(r"[Tt]hroughput \(?1000\*", said) else "it printed no throughput"


def outputs(folder: Path, tensors: tuple[TensorSpec, ...]) -> Tensors:
    """The outputs by name, from files `<stem>_<i>.npy`, i from 0. Raises RunError when their number is another."""
    found = {int(path.stem.rpartition("_")[2]): path for path in sorted((folder / OUTPUTS).glob("*_*.npy"))}
    if sorted(found) != list(range(len(tensors))):
        raise RunError(
            f"ais_bench wrote outputs {sorted(found)}, the case has {len(tensors)}",
            hint=REBUILD,
        )
    return {tensor.name: np.load(str(found[number])) for number, tensor in enumerate(tensors)}


def times_ms(said: str, folder: Path, batch: int) -> list[float]:
    """Milliseconds of each execute from the summary: beside the outputs in new releases, among them as `sumary.json` in
    old ones. Raises DataError."""
    places = [*folder.glob("*_summary.json"), *folder.glob("**/sumary.json")]
    if len(places) != 1:
        raise DataError(f"ais_bench wrote {len(places)} summaries", hint="look into " + str(folder))
    text = places[0].read_text(encoding="utf-8").replace('"P99":', '"percentile(99%)":')  # the newest release's name
    times = [float(each) for each in json.loads(text).get("npu_compute_time_list", [])]
    return _command_line.judged(text, "ais_bench", batch, len(times), times)
