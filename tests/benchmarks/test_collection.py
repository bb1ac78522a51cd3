"""Collecting all cases takes at most three times as long as collecting an empty test file with the same plugins."""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
BAR = 3.0
PAIRS = 7


def collecting(folder, *arguments):
    """Seconds of a pytest process, from its start to its end."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *arguments]
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    taken = time.perf_counter() - begun
    assert done.returncode == 0, done.stdout + done.stderr
    return taken, done.stdout


def test_all_cases_are_collected_within_three_times_of_an_empty_file(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_empty.py").write_text("def test_nothing():\n    pass\n")
    collecting(tmp_path), collecting(ROOT, "-m", "ascend310p")  # machine code of Python is kept from now on

    ratios = []
    for _ in range(PAIRS):
        empty, _ = collecting(tmp_path)
        whole, told = collecting(ROOT, "-m", "ascend310p")
        ratios.append(whole / empty)

    assert "ascend310p-fp16-bs16" in told
    print(f"ratio {median(ratios):.3f}")
    assert median(ratios) <= BAR
