"""What decides a verdict is told by one digest: it changes with each of its parts, and with nothing else."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from harness import matrix
from harness.backends.base import Device
from harness.case import Case
from harness.chips import CHIPS
from harness.judge.policy import Policy
from harness.run import sources
from harness.run.deciding import decided_by
from harness.run.devices import Presence

CASE = Case.parse("regnety_016-cpu-fp32-bs1")


def context(version="1.0", data="d", table="t", path="/sdk", device="CPU"):
    present = Presence("ort", version, (Device(0, device),), "here")
    rules = Policy(environment={"cpu": {"LD_LIBRARY_PATH": path}})
    settings = SimpleNamespace(data=None, baselines=SimpleNamespace(digest=table), policy=rules)
    return SimpleNamespace(
        present=lambda chip: present, settings=settings, dataset=lambda model: SimpleNamespace(digest=data)
    )


def test_the_same_is_decided_by_the_same():
    assert decided_by(context(), CASE, {"limit": "8"}) == decided_by(context(), CASE, {"limit": "8"})


@pytest.mark.parametrize(
    "change", [{"version": "1.1"}, {"data": "e"}, {"table": "u"}, {"path": "/other"}, {"device": "another CPU"}]
)
def test_another_sdk_data_set_table_variable_or_device_decides_anew(change):
    assert decided_by(context(**change), CASE, {}) != decided_by(context(), CASE, {})


def test_another_option_decides_anew():
    assert decided_by(context(), CASE, {"limit": "8"}) != decided_by(context(), CASE, {"limit": "9"})


def test_another_row_of_the_chip_decides_anew(monkeypatch):
    before = decided_by(context(), CASE, {})
    monkeypatch.setitem(CHIPS, "cpu", replace(CHIPS["cpu"], least_of_eager=2.0))
    matrix.chips.cache_clear()
    after = decided_by(context(), CASE, {})
    monkeypatch.undo()
    matrix.chips.cache_clear()

    assert after != before


def test_other_code_of_the_backend_decides_anew(monkeypatch):
    """A plug-in's module lies outside the suite's code."""
    before = decided_by(context(), CASE, {})
    digest = sources.code_digest
    monkeypatch.setattr(
        sources, "code_digest", lambda names: "edited" if names == ("harness.backends.cpu.ort",) else digest(names)
    )

    assert decided_by(context(), CASE, {}) != before


def test_another_checkpoint_of_the_same_name_decides_anew(tmp_path):
    weights = tmp_path / "weights" / matrix.models()["regnety_016"].weights.files[0]
    weights.parent.mkdir()
    told = []
    for content in (b"epoch 1", b"epoch 2", b"epoch 1"):
        weights.write_bytes(content)
        changed = context()
        changed.settings.data = tmp_path
        told.append(decided_by(changed, CASE, {}))

    assert told[0] != told[1]
    assert told[0] == told[2]
    assert decided_by(context(), CASE, {}) not in told, "seeded weights"
