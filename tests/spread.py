"""Which process of pytest -n runs a test."""

from __future__ import annotations

import re

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from harness import matrix
from harness.case import Precision


class ByLineup(LoadScopeScheduling):  # type: ignore[misc,unused-ignore]
    """All batches of a model at one precision in one process, which takes a device of the chip; a chip that is timed in
    turn with eager PyTorch whole in one process, because the others would load the same processor. Tests are told apart
    by their names; pytest-xdist's own groups go by a suffix that only some of its versions append."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        super().__init__(config, log)

    def remove_node(self, node: WorkerController) -> str | None:
        """Forget a process that ended. The test that it died in, which is returned, is on record as an error and not
        given to another process; the others of its line-up are."""
        workload = self.assigned_work.pop(node)
        lost = next((test for unit in workload.values() for test, done in unit.items() if not done), None)
        for scope, unit in workload.items():
            left = {test: done or test == lost for test, done in unit.items()}
            if not all(left.values()):
                self.workqueue[scope] = left
        for other in self.assigned_work if lost else ():
            self._reschedule(other)
        return lost

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid) or nodeid


def scope_of(nodeid: str) -> str:
    """What of a test's name decides its process: "model-chip-precision", or the chip; "" for another test."""
    found = re.search(rf"\[(\w+-(\w+)-(?:{'|'.join(Precision)}))(?:-bs\d+)?\](?:@.*)?$", nodeid)
    if found is None:
        return ""
    row = matrix.chips().get(found[2])
    return found[2] if row is None or row.timed_in_turn else found[1]
