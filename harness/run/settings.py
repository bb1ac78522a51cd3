"""The user's options, fixed for the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness import matrix
from harness.backends import registry
from harness.baselines import Baselines
from harness.case import Case
from harness.chips import Chip
from harness.judge import policyfile
from harness.judge.policy import Policy
from harness.judge.timing import Plan
from harness.run.prepared import PREPARED_GB
from harness.store import Store
from harness.worker.limits import STEPS, Limits

# how a chip is timed: 5 s of single executes give p99 up to 5 ms an execute
CHIP_PLAN = Plan(warmup_s=1.0, window_s=1.0, windows=20, latencies=10_000, latency_s=5.0)


@dataclass(frozen=True)
class Settings:
    """The user's options, fixed for the run. `environment` gives the extra environment variables of a chip's workers;
    this is the only way in which a simulated SDK is selected."""

    store: Store
    baselines: Baselines
    data: Path | None = None
    limit: int | None = None
    tune: bool = False  # compilers search longer for a faster engine
    device: int | None = None
    pythons: registry.Pythons = field(default_factory=registry.Pythons)
    backend_options: registry.BackendOptions = field(default_factory=registry.BackendOptions)
    runner: str | None = None
    environment: Callable[[Chip], Mapping[str, str] | None] = lambda chip: None
    logs: Path | None = None
    progress: Callable[[str, int], Callable[[int], None]] = lambda what, total: lambda done: None
    policy: Policy = field(default_factory=Policy)  # of the lab
    plan: Plan = CHIP_PLAN
    patience: float | None = None  # seconds a case may be timed until it is decided; None: as is usual for its chip
    limits: Callable[[Chip], Limits | None] = lambda chip: None  # of a chip's workers; None: the worker's own
    prepared_gb: float = PREPARED_GB  # GB of prepared images that are kept on disk for the run
    exact: bool = True  # compare FP32 with FP64, which takes a convolution network seconds an image
    wait: float = 0.0  # seconds to wait for a device that other runs hold
    process: int = 0  # number of this process among those of the run (pytest -n)
    processes: int = 1
    tell: Callable[[str], None] = lambda text: None  # shows a message to the user at once


def lab_policy(given: Path | None, folder: Path, cases: Sequence[Case] = ()) -> Policy:
    """The lab's policy: the file `given`, else the one in `folder`, else an empty one. `cases` are those of the user's
    own ONNX files. Raises UsageError for a file that is wrong."""
    path = given or folder / policyfile.NAME
    if given is None and not path.is_file():
        return Policy()
    found = policyfile.read(path, [str(case) for case in (*matrix.cases(), *cases)], STEPS)
    registry.pythons(found.pythons, matrix.chips())
    return found
