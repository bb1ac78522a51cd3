"""The environment in which a worker uses a simulated SDK instead of the vendor's."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from harness.backends.registry import backend
from harness.chips import Chip


def simulator_folder(chip: Chip, runner: str | None = None) -> Path | None:
    """Folder of the simulated SDK of `runner`, or of the chip's first backend that has one; None where none has."""
    names = chip.backends if runner is None else (runner,)
    return next((folder for name in names if (folder := backend(name).simulator_folder)), None)


def simulator(chip: Chip, runner: str | None = None, **machine: object) -> Mapping[str, str] | None:
    """Environment variables that replace the vendor's SDK by the simulated one: PYTHONPATH, PATH and CHIPPROOF_SIM.

    The simulator's switches come from `machine`, the chip's row and $CHIPPROOF_SIM; a later one overrides an earlier
    one. None for a chip without a simulator."""
    folder = simulator_folder(chip, runner)
    if folder is None:
        return None
    place = str(folder)
    switches = {**machine, **chip.simulated, **json.loads(os.environ.get("CHIPPROOF_SIM") or "{}")}
    return {
        "PYTHONPATH": os.pathsep.join([place, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PATH": os.pathsep.join([place, str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "CHIPPROOF_SIM": json.dumps(switches),
    }
