"""Hundreds of cases in one process: nothing grows with their number."""

import gc
import tempfile
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from harness import matrix
from tests.faults import tiny

MOST_KB = 150.0  # memory for each case: its records take 43 KB, one kept batch 200 KB; the allocator varies by 1 MB


class Meter:
    """What this process holds when a test has ended: MB of memory, and counts of all else."""

    def __init__(self, temporary):
        self.temporary, self.memory, self.counts = temporary, [], []

    def pytest_runtest_logfinish(self, nodeid, location):
        self.memory.append(psutil.Process().memory_info().rss / 1e6)
        counts = self.counted()
        if self.counts and counts != self.counts[-1]:
            gc.collect()  # what only circles hold is no growth
            counts = self.counted()
        self.counts.append(counts)

    def counted(self):
        process = psutil.Process()
        return {
            "descriptors": process.num_fds(),
            "threads": process.num_threads(),
            "processes": len(process.children(recursive=True)),
            "shared memory": len(list(Path("/dev/shm").glob("*chipproof*"))),
            "temporary files": len(list(self.temporary.rglob("*"))),
        }


@pytest.mark.slow
def test_many_cases_in_one_process_take_no_more_than_few(conform, monkeypatch, tmp_path, pytestconfig):
    of_a_chip = 2  # batches
    chips = pytestconfig.getoption("many", 40) // of_a_chip
    monkeypatch.setattr(matrix, "CHIPS", {f"testbed{i}": replace(tiny.CHIP, name=f"testbed{i}") for i in range(chips)})
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    meter = Meter(tmp_path / "tmp")

    watch = conform(
        "tiny_classes and fp32 and (numerics or accuracy) and not testbed",
        "outputs_are_those or agrees_with_the_reference",
        more=(f"--results={tmp_path / 'results'}",),
        plugins=(meter,),
    )

    assert set(watch.seen.values()) == {"PASS"}
    cases, tests = of_a_chip * chips, len(meter.memory)
    assert tests == 2 * cases
    half = tests // 2
    assert {str(counts) for counts in meter.counts[half:-1]} == {str(meter.counts[half])}
    assert 1000 * (meter.memory[-1] - meter.memory[half]) / (cases / 2) < MOST_KB, [round(mb, 2) for mb in meter.memory]
