"""NVIDIA GPUs and how they are: through NVML, else what nvidia-smi prints. What neither tells is unknown, and said."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, TypeVar

from harness.backends._own_processes import ours, own_mb
from harness.backends.base import Health, trail
from harness.backends.nvidia._cuda import plain_bus
from harness.errors import DeviceError

SPOILING = {0x08: "hardware slowdown", 0x20: "software thermal", 0x40: "hardware thermal", 0x80: "power brake"}
"""Clock event reasons (nvmlClocksThrottleReason*) that make a measurement one of the cooling. The software power cap
(0x04) is not among them: a T4 lives at its 70 W under load, and the published figures were taken there."""

GPU_IDLE = 0x01
"""nvmlClocksEventReasonGpuIdle: nothing runs on the GPU, and the clocks drop to their idle state (nvml.h)."""

REASONS = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
PROCESSES = (
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetComputeRunningProcesses_v2",
)
"""Newest name first. nvidia-ml-py has a name as soon as its own release knows it; in a driver that is older than that
(the first: 535, the third: 510) it raises NVMLError_FunctionNotFound."""

REASON_FIELDS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")  # of nvidia-smi, newest first
WSL = Path("/dev/dxg")
"""The GPU of a Linux under Windows (WSL 2). NVML and nvidia-smi list no process there, whoever uses the GPU (NVIDIA's
CUDA on WSL User Guide, features not yet supported; microsoft/WSL issue 7162): an empty list is no idle GPU."""

HIDING = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
"""Variables that hide GPUs: from a process that uses CUDA, and from a container by NVIDIA's container runtime."""

T = TypeVar("T")
_FIELDS = "index,pci.bus_id,driver_version,utilization.gpu,temperature.gpu,clocks.sm,uuid,name"
_COLUMNS = 8


@dataclass(frozen=True)
class Gpu:
    """A GPU in the numbering of NVML, which is by PCI address; CUDA's may differ."""

    number: int
    name: str
    bus: str  # as cuda.plain_bus writes it
    driver: str
    uuid: str = ""  # "GPU-8932f937-d72c-..."


class _UnknownError(Exception):
    """What a tool was asked and does not tell of this GPU, with its own words."""


def gpus() -> tuple[tuple[Gpu, ...], str]:
    """All GPUs of the host and where that was read. Raises nothing: a library that fails is evidence."""
    try:
        with _library() as nvml:
            driver = _text(_ask(nvml, "nvmlSystemGetDriverVersion"))
            found, broken = [], []
            count = _ask(nvml, "nvmlDeviceGetCount")
            for number in range(count):
                try:
                    found.append(_gpu(nvml, number, driver))
                except nvml.NVMLError as error:  # fallen off the bus, or in need of a reset: the others are well
                    if not found and number == count - 1:
                        raise
                    broken.append(f"{number} does not answer ({_why(error)})")
        evidence = "NVML: " + (", ".join([*(f"{gpu.number} {gpu.name}" for gpu in found), *broken]) or "no GPU")
        return tuple(found), evidence
    except Exception as error:  # NVMLError, or a library that is not there
        lost = _why(error)
    rows, evidence = _smi(["--query-gpu=" + _FIELDS], _COLUMNS)
    found = [Gpu(int(row[0]), row[7], plain_bus(row[1]), row[2], row[6]) for row in rows if row[0].isdigit()]
    if found:
        names = "nvidia-smi: " + ", ".join(f"{gpu.number} {gpu.name}" for gpu in found)
        evidence = f"{names}; {evidence}" if evidence else names
    return tuple(found), f"{lost}; {evidence}"


def _gpu(nvml: Any, number: int, driver: str) -> Gpu:
    handle = _ask(nvml, "nvmlDeviceGetHandleByIndex", number)
    bus = plain_bus(_ask(nvml, "nvmlDeviceGetPciInfo", handle).busId)
    name, uuid = (_text(_ask(nvml, f"nvmlDeviceGet{what}", handle)) for what in ("Name", "UUID"))
    return Gpu(number, name, bus, driver, uuid)


STEPS = (
    ("hides every GPU", "unset that variable, or name a GPU that exists: nvidia-smi -L"),
    ("NVIDIA_VISIBLE_DEVICES=.* is set", "give this container its GPUs: docker run --gpus all"),
    (
        r"version mismatch|LibRmVersionMismatch",
        "reboot, because the driver was updated while the old one is loaded; or unload that one:"
        " sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia",
    ),
    (
        r"couldn't communicate with the NVIDIA driver|DriverNotLoaded",
        "load the driver's module: sudo modprobe nvidia; after an update of the kernel it must be built again:"
        " dkms status",
    ),
    (
        r"Failed to initialize NVML: Unknown Error|NVMLError_Unknown",
        "start this container again: it has lost its GPUs, as after a systemctl daemon-reload on the host",
    ),
    (
        r"is lost|fallen off the bus|requires reset",
        "reset the GPU, or reboot: nvidia-smi --gpu-reset; dmesg | grep Xid",
    ),
)
"""What the evidence says where the driver is installed all the same, and the next step: `hidden`, NVML's error codes
and the reports of users of nvidia-smi."""


def repair(evidence: str) -> str:
    """The next step where to install the driver would be wrong; "" where it is not."""
    return next((hint for words, hint in STEPS if re.search(words, evidence)), "")


def hidden(count: int, known: int) -> str:
    """What to add to the evidence where CUDA counts no GPU (`count`) although the host has `known`, or has none that is
    shown: the variables that hide GPUs. Nothing where some are counted or no variable is set."""
    told = [f"{name}={os.environ[name]}" for name in HIDING if os.environ.get(name, "all").strip().lower() != "all"]
    if count or not told:
        return ""
    words = " and ".join(told)
    return f"; {words} hides every GPU: unset it, or name a GPU that exists" if known else f"; {words} is set"


def state(number: int) -> Health:
    """How GPU `number` is right now; processes are those of others as "PID NAME", the clock is the one asked for.
    `note` gives the reasons, the clock that runs, what could not be told, and the source.

    Not healthy when the tools fail: an occupancy that nobody tells is not an idle GPU."""
    try:
        with _library() as nvml:
            return _from_nvml(nvml, number)
    except Exception as error:
        lost = _why(error)
    return _from_smi(number, lost)


class _Told:
    """What a source told of a GPU, piece by piece, and which pieces it did not."""

    def __init__(self) -> None:
        self.unknown: list[str] = []

    @property
    def of_use(self) -> str:
        """What is unknown of its use by others and of its throttling."""
        use = ("utilisation ", "processes ", "throttling ")
        return ", ".join(line for line in self.unknown if line.startswith(use))

    def of(self, what: str, ask: Callable[[], Any]) -> Any:
        """The answer, or None where the source says that it cannot tell, which is noted."""
        try:
            return ask()
        except _UnknownError as error:
            self.unknown.append(f"{what} unknown ({error})")
            return None


def _from_nvml(nvml: Any, number: int) -> Health:
    """Each figure by a call of its own: MIG, vGPU and WSL support some and not others."""
    handle = _ask(nvml, "nvmlDeviceGetHandleByIndex", number)
    told = _Told()
    rates = told.of("utilisation", lambda: _first(nvml, ("nvmlDeviceGetUtilizationRates",), handle))
    running = told.of("processes", lambda: _listed(_first(nvml, PROCESSES, handle)))
    reasons = told.of("throttling", lambda: _first(nvml, REASONS, handle))
    now = told.of("clock", lambda: _first(nvml, ("nvmlDeviceGetClockInfo",), handle, nvml.NVML_CLOCK_SM))
    heat = told.of(
        "temperature", lambda: _first(nvml, ("nvmlDeviceGetTemperature",), handle, nvml.NVML_TEMPERATURE_GPU)
    )
    memory = told.of("memory", lambda: _first(nvml, ("nvmlDeviceGetMemoryInfo",), handle))
    held = [(item.pid, None if item.usedGpuMemory is None else item.usedGpuMemory / 2**20) for item in running or ()]
    spoiling = _reasons(int(reasons or 0))
    others = tuple(f"{item.pid} {_process(nvml, item.pid)}" for item in running or () if not ours(item.pid))
    return Health(
        True,
        None if rates is None else rates.gpu / 100,
        others,
        bool(spoiling),
        _asked_clock(nvml, handle),
        None if heat is None else float(heat),
        ", ".join([*spoiling, *([] if now is None else [f"SM at {now:g} MHz"]), *told.unknown, "from NVML"]),
        told.of_use,
        own_mb=own_mb(held),
        unseen_mb=None if memory is None else _unseen(memory.used / 2**20, [mb for _, mb in held]),
        now_mhz=None if now is None else float(now),
        idle=bool(int(reasons or 0) & GPU_IDLE),
    )


def _listed(rows: T) -> T:
    """The rows of processes. Raises _UnknownError where there is none and could be none."""
    if not rows and WSL.exists():
        raise _UnknownError("WSL lists none")
    return rows


def _unseen(used: float, held: list[float | None]) -> float | None:
    """MB in use that no listed process accounts for; None where a listed one does not tell its own."""
    return None if None in held else max(0.0, used - sum(mb for mb in held if mb is not None))


BROKEN = ("requires reset", "is lost")  # "[GPU requires reset]", "[GPU is lost]" in the place of a value


def _from_smi(number: int, lost: str) -> Health:
    rows, evidence = _smi([f"--id={number}", "--query-gpu=" + _FIELDS], _COLUMNS)
    if not rows:
        return Health(healthy=False, note=f"GPU {number} does not answer: {lost}; {evidence}")
    wrong = [field for field in rows[0] if any(word in field.lower() for word in BROKEN)]
    if wrong:
        return Health(healthy=False, note=f"GPU {number}: {lost}; nvidia-smi: {wrong[0]}")
    told = _Told()
    busy, temperature, now = (
        told.of(what, lambda field=field: _number(field))  # type: ignore[misc]
        for what, field in zip(("utilisation", "temperature", "clock"), rows[0][3:6])
    )
    try:
        running = told.of("processes", lambda: _listed(_processes(number))) or []
    except _FailedError as error:
        return Health(False, note=f"whether others use GPU {number} is unknown: {lost}; {error}")
    reasons = told.of("throttling", lambda: _reasons_by_smi(number))
    asked, _ = _smi([f"--id={number}", "--query-gpu=clocks.applications.graphics"], 1)
    used, _ = _smi([f"--id={number}", "--query-gpu=memory.used"], 1)
    held = [(int(pid), float(mb) if _is_number(mb) else None) for pid, mb, _ in running]
    spoiling = _reasons(reasons or 0)
    return Health(
        True,
        None if busy is None else busy / 100,
        tuple(f"{pid} {name}" for pid, _, name in running if not ours(int(pid))),
        bool(spoiling),
        float(asked[0][0]) if asked and _is_number(asked[0][0]) else None,
        temperature,
        ", ".join(
            [*spoiling, *([] if now is None else [f"SM at {now:g} MHz"]), *told.unknown, "from nvidia-smi", lost]
        ),
        told.of_use,
        own_mb=own_mb(held),
        unseen_mb=_unseen(float(used[0][0]), [mb for _, mb in held]) if used and _is_number(used[0][0]) else None,
        now_mhz=now,
        idle=bool((reasons or 0) & GPU_IDLE),
    )


class _FailedError(Exception):
    """A query of nvidia-smi that did not run: neither an answer nor a GPU that cannot answer."""


def _processes(number: int) -> list[list[str]]:
    """[PID, MiB, name] of each process; the name comes last: nvidia-smi quotes nothing, and a name may hold commas.
    Raises _FailedError, or _UnknownError where a row carries no number."""
    rows, evidence = _smi([f"--id={number}", "--query-compute-apps=pid,used_memory,process_name"], 3)
    if evidence not in ("", NO_ROW):
        raise _FailedError(evidence)
    for row in rows:
        if not row[0].isdigit():
            raise _UnknownError(f"nvidia-smi: {row[0]}")
    return rows


def _reasons_by_smi(number: int) -> int:
    """The mask of clock event reasons. Each name is asked alone: a driver that does not know a field refuses the whole
    query."""
    words = []
    for field in REASON_FIELDS:
        rows, evidence = _smi([f"--id={number}", "--query-gpu=" + field], 1)
        if rows and rows[0][0].lower().startswith("0x"):
            return int(rows[0][0], 16)
        words.append(f"nvidia-smi: {rows[0][0]}" if rows else evidence)
    raise _UnknownError("; ".join(dict.fromkeys(words)))


def _asked_clock(nvml: Any, handle: Any) -> float | None:
    """The SM clock that was asked for, MHz: what runs follows the load, from 300 MHz idle to the full clock."""
    try:
        return float(_ask(nvml, "nvmlDeviceGetApplicationsClock", handle, nvml.NVML_CLOCK_SM))
    except (nvml.NVMLError, AttributeError):  # newer GPUs have none, and newer bindings need not have the call
        return None


def _reasons(mask: int) -> list[str]:
    return [word for bit, word in SPOILING.items() if mask & bit]


@contextmanager
def _library() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the distribution `pynvml` warns of itself, and is NVML all the same
        import pynvml
    _ask(pynvml, "nvmlInit")
    try:
        yield pynvml
    finally:
        _ask(pynvml, "nvmlShutdown")


def _ask(nvml: Any, name: str, *values: Any) -> Any:
    trail(name)
    try:
        return getattr(nvml, name)(*values)
    except Exception as error:
        error.asked = name  # type: ignore[attr-defined]  # NVML's errors do not say which call they came from
        raise


def _why(error: Exception) -> str:
    asked = getattr(error, "asked", "")
    return f"NVML: {asked} failed: {error!r}" if asked else f"NVML: {error!r}"


def _first(nvml: Any, names: tuple[str, ...], *values: Any) -> Any:
    """The answer under the first of these names that bindings and driver know. Raises _UnknownError where they know
    none, or where the driver does not tell it of this GPU or to this user."""
    words = "not in these bindings"
    for name in names:
        if not hasattr(nvml, name):
            continue
        try:
            return _ask(nvml, name, *values)
        except nvml.NVMLError_FunctionNotFound as error:
            words = f"NVML: {error}"
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission) as error:
            raise _UnknownError(f"NVML: {error}") from error
    raise _UnknownError(words)


def _process(nvml: Any, pid: int) -> str:
    try:
        return _text(_ask(nvml, "nvmlSystemGetProcessName", pid))
    except nvml.NVMLError:  # of another user, or outside this container
        return "of unknown name"


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _number(field: str) -> float:
    """Raises _UnknownError for `[N/A]`, `[Not Supported]` and their like."""
    if not _is_number(field):
        raise _UnknownError(f"nvidia-smi: {field}")
    return float(field)


NO_ROW = "nvidia-smi printed no row"


def reset(number: int) -> str:
    """Reset GPU `number`; the command and what it said. Raises DeviceError.

    Source: nvidia-smi(1), --gpu-reset: for root, while no process uses the GPU."""
    command = ["nvidia-smi", "--gpu-reset", "-i", str(number)]
    trail("nvidia-smi --gpu-reset")
    hint = "this needs root, and a GPU that no process uses"
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"{' '.join(command)} did not answer: {error}", hint=hint) from error
    said = " ".join(done.stdout.decode("utf-8", "replace").split())[-300:]
    if done.returncode != 0:
        raise DeviceError(f"{' '.join(command)} failed with status {done.returncode}: {said}", hint=hint)
    return f"{' '.join(command)}: {said}"


def _smi(arguments: list[str], columns: int) -> tuple[list[list[str]], str]:
    """Rows of nvidia-smi's CSV, and what went wrong beside them: a GPU that is lost, or a library that speaks before
    the program, does not hide the others. NO_ROW where nothing did and there is no row."""
    command = ["nvidia-smi", *arguments, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    except FileNotFoundError:
        return [], "nvidia-smi is not on PATH"
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"nvidia-smi failed: {error}"
    text, errors = (part.decode("utf-8", "replace").strip() for part in (done.stdout, done.stderr or b""))
    rows, others = [], []
    for line in filter(str.strip, text.splitlines()):
        row = _row(line, columns)
        if len(row) == columns:
            rows.append(row)
        elif not line.lower().startswith(("warning", "no running")):
            others.append(line)
    if done.returncode not in (0, INFOROM):
        words = "; ".join(others or (errors or text).splitlines()[-1:]) or "no output"  # the reason may take two lines
        return ([] if columns == 1 else rows), f"nvidia-smi exited with {done.returncode}: {words}"
    if others:
        return rows, f"nvidia-smi printed a row that cannot be read: {others[0]}"
    return rows, "" if rows else NO_ROW


INFOROM = 14
"""nvidia-smi(1), return value: the infoROM is corrupted, which it says below an answer that is whole."""


def _row(line: str, columns: int) -> list[str]:
    row = next(csv.reader([line], skipinitialspace=True))
    if len(row) > columns:  # nvidia-smi quotes nothing: commas beyond the columns belong to the last one
        row = line.split(",", columns - 1)
    return [field.strip() for field in row]
