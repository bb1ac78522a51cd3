"""What the hooks and the fixtures of a test session share: the records of the run, and what a test is about."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.case import Case
from harness.report import Record

ROOT = Path(__file__).parents[1]
STAGES = ("export", "numerics", "accuracy", "throughput", "targets")  # markers, in the order in which they run
SIMULATORS = {"acl": "ascend", "magicmind": "magicmind", "trt": "tensorrt"}  # backend -> folder of tests/sdk
RECORDS = pytest.StashKey[dict[tuple[Case, str, str], Record]]()
ASKED = pytest.StashKey[set[Case]]()


def case_of(item: pytest.Item) -> Case | None:
    """The case of a conformance test; for one about all batches, the case of the largest."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    return params.get("case") or params.get("lineup")


def stage_of(item: pytest.Item) -> str:
    return next((stage for stage in STAGES if item.get_closest_marker(stage)), "")


def add_record(config: pytest.Config, record: Record) -> None:
    config.stash[RECORDS][record.case, record.stage, record.metric] = record
