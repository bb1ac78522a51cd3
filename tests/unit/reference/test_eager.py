"""Eager PyTorch keeps the memory that it was given."""

import platform
import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from harness.reference import eager

FAULTS = """
import ctypes, resource, sys
from harness.reference import eager

ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: pages of one size, to be counted
if sys.argv[1] == "kept":
    eager._keep_memory()
for _ in range(12):
    bytearray(64 << 20)  # the first ones are new in any case
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    bytearray(64 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
@pytest.mark.parametrize("memory", ["kept", "given back"])
def test_large_blocks_such_as_eager_pytorch_asks_for_do_not_come_anew_from_the_kernel(memory):
    """Counted in page faults."""
    done = subprocess.run([sys.executable, "-c", FAULTS, memory], capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    pages = (64 << 20) // resource.getpagesize()
    assert round(int(done.stdout) / pages) == (0 if memory == "kept" else 4)


def test_the_network_keeps_its_memory(monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr(eager, "_keep_memory", lambda: told.append("kept"))
    torch.save(torch.nn.Linear(1, 1).state_dict(), tmp_path / "weights.pt")

    made = eager.network(SimpleNamespace(network=lambda: torch.nn.Linear(1, 1)), tmp_path / "weights.pt")

    assert told == ["kept"]
    assert not made.training
