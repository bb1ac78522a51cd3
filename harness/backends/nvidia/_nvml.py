"""NVIDIA GPUs and how they are: through NVML, else what nvidia-smi prints."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Iterator

from harness.backends._own_processes import ours
from harness.backends.base import Health, trail
from harness.backends.nvidia._cuda import plain_bus

SPOILING = {0x08: "hardware slowdown", 0x20: "software thermal", 0x40: "hardware thermal", 0x80: "power brake"}
"""Clock event reasons (nvmlClocksThrottleReason*) that make a measurement one of the cooling. The software power cap
(0x04) is not among them: a T4 lives at its 70 W under load, and the published figures were taken there."""

_FIELDS = "index,name,pci.bus_id,driver_version,utilization.gpu,temperature.gpu,clocks.sm,uuid"


@dataclass(frozen=True)
class Gpu:
    """A GPU in the numbering of NVML, which is by PCI address; CUDA's may differ."""

    number: int
    name: str
    bus: str  # as cuda.plain_bus writes it
    driver: str
    uuid: str = ""  # "GPU-8932f937-d72c-..."


def gpus() -> tuple[tuple[Gpu, ...], str]:
    """All GPUs of the host and where that was read. Raises nothing: a library that fails is evidence."""
    try:
        with _library() as nvml:
            driver = _text(_ask(nvml, "nvmlSystemGetDriverVersion"))
            found = []
            for number in range(_ask(nvml, "nvmlDeviceGetCount")):
                handle = _ask(nvml, "nvmlDeviceGetHandleByIndex", number)
                bus = plain_bus(_ask(nvml, "nvmlDeviceGetPciInfo", handle).busId)
                name, uuid = (_text(_ask(nvml, f"nvmlDeviceGet{what}", handle)) for what in ("Name", "UUID"))
                found.append(Gpu(number, name, bus, driver, uuid))
        evidence = "NVML: " + (", ".join(f"{gpu.number} {gpu.name}" for gpu in found) or "no GPU")
        return tuple(found), evidence
    except Exception as error:  # NVMLError, or a library that is not there
        lost = f"NVML: {error!r}"
    rows, evidence = _smi(["--query-gpu=" + _FIELDS], 8)
    found = [Gpu(int(row[0]), row[1], plain_bus(row[2]), row[3], row[7]) for row in rows]
    if found:
        evidence = "nvidia-smi: " + ", ".join(f"{gpu.number} {gpu.name}" for gpu in found)
    return tuple(found), f"{lost}; {evidence}"


def state(number: int) -> Health:
    """How GPU `number` is right now; processes are those of others, the clock is the one asked for. `note` gives the
    reasons, the clock that runs, and the source."""
    try:
        with _library() as nvml:
            return _from_nvml(nvml, number)
    except Exception as error:
        lost = f"NVML: {error!r}"
    rows, evidence = _smi([f"--id={number}", "--query-gpu=" + _FIELDS], 8)
    if not rows:
        return Health(healthy=False, note=f"GPU {number} does not answer: {lost}; {evidence}")
    busy, temperature, now = (_number(field) for field in rows[0][4:7])
    # asked one by one: a driver that does not know a field refuses the whole query
    asked, _ = _smi([f"--id={number}", "--query-gpu=clocks.applications.graphics"], 1)
    reasons, _ = _smi([f"--id={number}", "--query-gpu=clocks_throttle_reasons.active"], 1)
    spoiling = _reasons(int(reasons[0][0], 16)) if reasons and reasons[0][0].startswith("0x") else []
    others, _ = _smi([f"--id={number}", "--query-compute-apps=pid,process_name"], 2)
    return Health(
        True,
        None if busy is None else busy / 100,
        tuple(f"{pid} {name}" for pid, name in others if not ours(int(pid))),
        bool(spoiling),
        _number(asked[0][0]) if asked else None,
        temperature,
        ", ".join([*spoiling, f"SM at {now} MHz", "from nvidia-smi", lost]),
    )


def _from_nvml(nvml: Any, number: int) -> Health:
    handle = _ask(nvml, "nvmlDeviceGetHandleByIndex", number)
    running = _ask(nvml, "nvmlDeviceGetComputeRunningProcesses", handle)
    others = tuple(f"{item.pid} {_process(nvml, item.pid)}" for item in running if not ours(item.pid))
    event = "nvmlDeviceGetCurrentClocksEventReasons"  # its name since driver 535
    old = "nvmlDeviceGetCurrentClocksThrottleReasons"
    now = _ask(nvml, "nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_SM)
    spoiling = _reasons(int(_ask(nvml, event if hasattr(nvml, event) else old, handle)))
    return Health(
        True,
        _ask(nvml, "nvmlDeviceGetUtilizationRates", handle).gpu / 100,
        others,
        bool(spoiling),
        _asked_clock(nvml, handle),
        float(_ask(nvml, "nvmlDeviceGetTemperature", handle, nvml.NVML_TEMPERATURE_GPU)),
        ", ".join([*spoiling, f"SM at {now} MHz", "from NVML"]),
    )


def _asked_clock(nvml: Any, handle: Any) -> float | None:
    """The SM clock that was asked for, MHz: what runs follows the load, from 300 MHz idle to the full clock."""
    try:
        return float(_ask(nvml, "nvmlDeviceGetApplicationsClock", handle, nvml.NVML_CLOCK_SM))
    except nvml.NVMLError:  # newer GPUs have none
        return None


def _reasons(mask: int) -> list[str]:
    return [word for bit, word in SPOILING.items() if mask & bit]


@contextmanager
def _library() -> Iterator[Any]:
    import pynvml

    _ask(pynvml, "nvmlInit")
    try:
        yield pynvml
    finally:
        _ask(pynvml, "nvmlShutdown")


def _ask(nvml: Any, name: str, *values: Any) -> Any:
    trail(name)
    return getattr(nvml, name)(*values)


def _process(nvml: Any, pid: int) -> str:
    try:
        return _text(_ask(nvml, "nvmlSystemGetProcessName", pid))
    except nvml.NVMLError:  # of another user, or outside this container
        return "of unknown name"


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _number(field: str) -> float | None:
    try:
        return float(field)
    except ValueError:  # [N/A]
        return None


def _smi(arguments: list[str], columns: int) -> tuple[list[list[str]], str]:
    """Rows of nvidia-smi's CSV, and why there are none."""
    command = ["nvidia-smi", *arguments, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, check=False)
    except FileNotFoundError:
        return [], "nvidia-smi is not on PATH"
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"nvidia-smi failed: {error}"
    text = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode:
        last = text.splitlines()[-1:] or ["no output"]
        return [], f"nvidia-smi exited with {done.returncode}: {last[0]}"
    rows = [[field.strip() for field in line.split(",")] for line in text.splitlines()]
    return [row for row in rows if len(row) == columns], "nvidia-smi printed no row"
