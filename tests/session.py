"""What the hooks and the fixtures of a test session share: the records of the run, and what a test is about."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness import matrix
from harness.case import Case
from harness.report.records import Record
from harness.run.simulation import simulator_folder
from harness.vocabulary import STAGE_MARKERS, Outcome

ROOT = Path(__file__).parents[1]
RECORDS = pytest.StashKey[dict[tuple[Case, str, str], Record]]()
FRESH = pytest.StashKey[list[Record]]()  # records of the test that runs now
ASKED = pytest.StashKey[set[Case]]()


def case_of(item: pytest.Item) -> Case | None:
    """The case of a conformance test; for one about all batches, the case of the largest."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    return params.get("case") or params.get("lineup")


def stage_of(item: pytest.Item) -> str:
    return next((stage for stage in STAGE_MARKERS if item.get_closest_marker(stage)), "")


def not_the_chip(config: pytest.Config, case: Case) -> tuple[str, ...]:
    """The mark of a case that ran, or would have run, on a simulated SDK or on the vendor's simulator of the chip."""
    chip, runner = matrix.chips()[case.chip], config.getoption("runner")
    if config.getoption("simulate") and simulator_folder(chip, runner) is not None:
        return ("simulated",)
    return ("emulated",) if chip.emulated else ()


def add_record(config: pytest.Config, record: Record) -> None:
    config.stash[RECORDS][record.case, record.stage, record.metric] = record
    config.stash[FRESH].append(record)


class Gathering:
    """With pytest -n: brings the records of all processes to the one that sums the run up."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Of a process that died there is a report without records: its test is an error on record."""
        for line in getattr(report, "chipproof", ()):
            add_record(self.config, Record.of_json(json.loads(line)))
        found = re.search(r"test_(\w+)\.py::.*\[(.+)\]$", report.nodeid)
        if not hasattr(report, "chipproof") and found and found[2] in {str(case) for case in matrix.cases()}:
            add_record(self.config, Record(Case.parse(found[2]), found[1], Outcome.ERROR, str(report.longrepr)))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.config.stash[ASKED] |= {Case.parse(name) for name in getattr(node, "workeroutput", {}).get("asked", ())}
