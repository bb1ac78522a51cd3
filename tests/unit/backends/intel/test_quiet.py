"""Intel's packages are imported without the package that sends usage figures."""

import importlib
import sys
from types import ModuleType

import pytest

from harness.backends.intel._quiet import SENDER, without_telemetry


def test_the_sender_cannot_be_imported_meanwhile_and_can_be_again(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"{SENDER}.py").write_text("SENT = True\n")

    with without_telemetry(), pytest.raises(ImportError):
        importlib.import_module(SENDER)
    assert importlib.import_module(SENDER).SENT
    sys.modules.pop(SENDER)


@pytest.mark.parametrize("fails", [False, True])
def test_a_sender_that_was_imported_before_stays_what_it_was(monkeypatch, fails):
    before = ModuleType(SENDER)
    monkeypatch.setitem(sys.modules, SENDER, before)

    try:
        with without_telemetry():
            assert sys.modules[SENDER] is None
            if fails:
                raise RuntimeError
    except RuntimeError:
        pass

    assert sys.modules[SENDER] is before
