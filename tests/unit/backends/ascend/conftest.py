"""What the tests of the Ascend backends share: a folder for engines, and the simulated CANN in this process."""

from __future__ import annotations

import pytest
from ascend_tiny import begin_anew, cann


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    with cann(monkeypatch, tmp_path) as sdk:
        import acl as simulated_acl

        sdk.chip = simulated_acl.chip
        begin_anew(sdk.chip)
        sdk.switch(slow=0.001)
        yield sdk
        left, violations = sdk.chip.state.handles(), sdk.chip.state.violations
        begin_anew(sdk.chip)
        assert (left, violations) == ({}, []), "every test here leaves nothing and breaks no rule"
