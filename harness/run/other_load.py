"""How much processor time other programs use, because that makes a measurement on a CPU invalid, and how often the
processor was throttled."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LOADED = 0.10  # share of this process's cores that others may use; above it a measurement on a CPU is invalid


@dataclass(frozen=True)
class Load:
    """Processor time at one moment, in seconds: `busy` of the `cores` that this process may use, including time stolen
    by a hypervisor, and `own` of this process with all its descendants. `clock` is time.monotonic()."""

    busy: float
    own: float
    clock: float
    cores: int

    @classmethod
    def now(cls, proc: Path = Path("/proc")) -> Load | None:
        """The load from /proc (proc(5): stat, pid/stat); None where /proc cannot be read."""
        tick = os.sysconf("SC_CLK_TCK")
        cores = os.sched_getaffinity(0)
        try:
            lines = (proc / "stat").read_text().splitlines()
            busy = 0
            for line in lines:
                name, *counts = line.split()
                if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
                    user, nice, system, _idle, _iowait, irq, soft, stolen = map(int, counts[:8])
                    busy += user + nice + system + irq + soft + stolen
            return cls(busy / tick, _own_ticks(proc) / tick, time.monotonic(), len(cores))
        except (OSError, ValueError):
            return None


def _own_ticks(proc: Path) -> int:
    """Processor time of this process and its descendants, in ticks."""
    parent, ticks = {}, {}
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            after_name = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        number = int(entry.name)
        parent[number], ticks[number] = int(after_name[1]), int(after_name[11]) + int(after_name[12])
    total = 0
    for number, own in ticks.items():
        ancestor = number
        while ancestor not in (0, os.getpid()):
            ancestor = parent.get(ancestor, 0)
        total += own if ancestor == os.getpid() else 0
    return total


def throttles(folder: Path = Path("/sys/devices/system/cpu")) -> int | None:
    """How often the cores that this process may use were throttled for heat since the machine started; None where the
    kernel does not count it, as in most virtual machines (Documentation/admin-guide/cputopology of Linux, and
    drivers/thermal/intel/therm_throt.c)."""
    counts = []
    for core in os.sched_getaffinity(0):
        for what in ("core", "package"):
            with suppress(OSError, ValueError):
                counts.append(int((folder / f"cpu{core}" / "thermal_throttle" / f"{what}_throttle_count").read_text()))
    return sum(counts) if counts else None


def others_share(before: Load | None, after: Load | None) -> float:
    """Share of the cores, 0 or more, that other programs or a hypervisor used between two readings; 0 without them."""
    if before is None or after is None or after.clock <= before.clock:
        return 0.0
    foreign = (after.busy - before.busy) - (after.own - before.own)
    return max(0.0, foreign) / ((after.clock - before.clock) * after.cores)


def others_rest(others: Callable[[], Load | None], end: float, each_s: float = 0.5) -> bool:
    """Wait until other programs use at most `LOADED` of the cores, measured over `each_s` seconds; False when `end`
    (time.monotonic) comes first."""
    while time.monotonic() < end:
        before = others()
        time.sleep(each_s)
        if others_share(before, others()) <= LOADED:
            return True
    return False
