"""MagicMind itself: found or not, and the one System that a process holds open."""

from __future__ import annotations

from harness.backends.cambricon import magicmind


def test_without_the_sdk_there_are_no_devices_and_the_reason(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "magicmind", None)

    found = magicmind.devices("MLU370-S4")

    assert found.devices == ()
    assert "magicmind cannot be imported" in found.evidence


def test_a_driver_that_fails_is_evidence_not_an_error(sdk):
    sdk.switch(fail=[["mm.System.initialize", 0, 14]])

    found = magicmind.devices("MLU370-S4")

    assert found.devices == ()
    assert "UNAVAILABLE (14)" in found.evidence
