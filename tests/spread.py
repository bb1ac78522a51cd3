"""Which process of pytest -n runs a test."""

from __future__ import annotations

import re

import pytest
from xdist.scheduler import LoadScopeScheduling


class ByChip(LoadScopeScheduling):  # type: ignore[misc,unused-ignore]
    """All tests of a chip in one process, by the test's name; pytest-xdist's own groups go by a suffix that only some
    of its versions append."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return chip_of(nodeid) or nodeid


def chip_of(nodeid: str) -> str:
    """The chip in a test's name, "" without one."""
    found = re.search(r"\[\w+-(\w+)-(?:fp32|fp16|int8)(?:-bs\d+)?\](?:@.*)?$", nodeid)
    return found[1] if found else ""
