"""How long each step of a worker may take, and how much memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from harness.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """Seconds that a step may last (measuring: beyond what its plan asks for), and bytes of resident memory of the
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
    "write_at": "run",
    "execute": "run",
    "read_at": "run",
    "quit": "close",
}
"""Command -> the limit that holds for it, where that has another name."""


STEPS = tuple(field.name for field in fields(Limits) if field.name != "memory")
"""What a time limit may be set for."""


def limits(seconds: Sequence[str], memory_gb: float | None) -> Limits:
    """Limits with some of them set: "build=7200" for each step, in seconds. Raises UsageError."""
    changed: dict[str, float] = {}
    for given in seconds:
        name, _, value = given.partition("=")
        try:
            changed[name] = float(value)
        except ValueError:
            changed[name] = -1.0
        if name not in STEPS or not 0 < changed[name] < float("inf"):
            raise UsageError(f"--time-limit {given} is not a valid limit", hint=f"STEP=SECONDS, of {', '.join(STEPS)}")
    if memory_gb is not None and not 0 < memory_gb < 1e6:
        raise UsageError(f"--memory-limit {memory_gb:g} is not a valid limit", hint="give gigabytes, such as 24")
    return replace(Limits(), memory=None if memory_gb is None else int(memory_gb * 1e9), **changed)
