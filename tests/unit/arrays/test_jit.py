"""Compiled loops need no folder in which machine code can be kept."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.arrays import boxes


@pytest.mark.slow
def test_without_a_folder_for_machine_code_it_is_made_anew(tmp_path):
    """The harness on a read-only disk, and a user without a writable home."""
    (tmp_path / "harness" / "arrays").mkdir(parents=True)
    for name in ("__init__", "jit", "suppression"):
        shutil.copy(Path(boxes.__file__).with_name(f"{name}.py"), tmp_path / "harness" / "arrays")
    for folder in ("harness/arrays/__pycache__", "cache"):  # files where folders would have to be made
        (tmp_path / folder).write_text("")
    code = "import numpy as np; from harness.arrays.suppression import greedy; "
    code += "print(greedy(np.ones((4, 3), 'f4'), 0.4, 1, 3))"
    elsewhere = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment = {**elsewhere, "HOME": str(tmp_path / "cache"), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    done = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )

    assert done.stdout.strip() == "[0]", done.stderr
