"""Which processes on a device belong to the suite: this worker, its siblings, which may hold an idle engine, and the
tools that they start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterable


def ours(pid: int) -> bool:
    """Whether the process is this one, its parent, or another that descends from that parent: a worker, or a tool that
    a worker has started.

    A driver may report the host's process numbers inside a container. Those are not in /proc, and the answer is False;
    harness.run.idle recognises them by when they appeared."""
    while pid > 0:
        if pid in (os.getpid(), os.getppid()):
            return True
        try:
            status = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        except OSError:
            return False
        pid = int(status.rpartition(")")[2].split()[1])
    return False


def own_mb(held: Iterable[tuple[int, float | None]]) -> float | None:
    """MB of a device's memory that processes of the suite hold, of (process number, MB) of all on it; None where none
    of them is the suite's, or its memory is not reported."""
    mine = [mb for pid, mb in held if ours(pid)]
    return sum(mb for mb in mine if mb is not None) if mine and None not in mine else None
