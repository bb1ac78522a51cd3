"""Which processes on a device belong to the suite: this worker, and its siblings, which may hold an idle engine."""

from __future__ import annotations

import os
from pathlib import Path


def ours(pid: int) -> bool:
    """Whether the process is this one, its parent, or another child of that parent.

    A driver may report the host's process numbers inside a container. Those are not in /proc, and the answer is False;
    harness.run.devices recognises them by when they appeared."""
    if pid in (os.getpid(), os.getppid()):
        return True
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    return int(status.rpartition(")")[2].split()[1]) == os.getppid()
