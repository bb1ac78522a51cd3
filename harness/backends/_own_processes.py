"""Which processes on a device are the suite's own: this worker, and its siblings with an engine loaded and idle."""

from __future__ import annotations

import os
from pathlib import Path


def ours(pid: int) -> bool:
    """Whether the process is this one, its parent, or another child of that parent. In a container without the host's
    process numbers every process of the device looks like another's."""
    if pid in (os.getpid(), os.getppid()):
        return True
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    return int(status.rpartition(")")[2].split()[1]) == os.getppid()
