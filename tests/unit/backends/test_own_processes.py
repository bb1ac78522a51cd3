"""Which processes on a device are the suite's own."""

from __future__ import annotations

import subprocess
import sys

from vendor_sweep import SDK


def test_another_worker_of_the_suite_is_no_stranger():
    """Siblings keep engines loaded while one of them measures."""
    script = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as sibling:
        question = f"import sys; sys.path.insert(0, {str(SDK.parents[1])!r})\n"
        question += "from harness.backends._own_processes import ours\n"
        question += f"print(ours({sibling.pid}), ours(1))"
        answer = subprocess.run([sys.executable, "-c", question], check=True, capture_output=True, text=True).stdout
        sibling.stdin.close()

    assert answer.split() == ["True", "False"]
