"""Which processes on a device are the suite's own: this worker, and its siblings with an engine loaded and idle."""

from __future__ import annotations

import os
from pathlib import Path


def ours(pid: int) -> bool:
    """Whether the process is this one, its parent, or another child of that parent. Where a driver gives the host's
    numbers to a container, none is, and none of them is in /proc: harness.run.devices tells those by when they came."""
    if pid in (os.getpid(), os.getppid()):
        return True
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    return int(status.rpartition(")")[2].split()[1]) == os.getppid()
