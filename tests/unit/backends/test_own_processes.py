"""Which processes on a device are the suite's own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from vendor_sweep import SDK

from harness.backends._own_processes import own_mb


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


def test_a_tool_that_another_worker_has_started_is_no_stranger():
    """A command-line tool of the vendor holds the device while it is timed."""
    tool = "import sys; sys.stdin.read()"
    sibling = f"import subprocess, sys; tool = subprocess.Popen([sys.executable, '-c', {tool!r}])\n"
    sibling += "print(tool.pid, flush=True); tool.wait()"
    with subprocess.Popen(
        [sys.executable, "-c", sibling], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        number = worker.stdout.readline().strip()
        question = f"import sys; sys.path.insert(0, {str(SDK.parents[1])!r})\n"
        question += f"from harness.backends._own_processes import ours; print(ours({number}))"
        answer = subprocess.run([sys.executable, "-c", question], check=True, capture_output=True, text=True).stdout
        worker.stdin.close()

    assert answer.strip() == "True"


@pytest.mark.parametrize(("held", "mb"), [
    ([(os.getpid(), 120.0), (1, 4000.0)], 120.0), ([(1, 4000.0)], None), ([], None), ([(os.getpid(), None)], None),
    ([(os.getpid(), 120.0), (os.getppid(), 30.0)], 150.0),
])  # fmt: skip
def test_memory_of_the_suite_is_that_of_its_own_processes(held, mb):
    assert own_mb(held) == mb
