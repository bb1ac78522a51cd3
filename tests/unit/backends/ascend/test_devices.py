"""What is seen of Ascend on a machine: devices, their health, the version of CANN."""

from __future__ import annotations

import os

import pytest
from ascend_tiny import DEVICE
from vendor_sweep import SDK

from harness.backends import _own_processes
from harness.backends.ascend import _devices, _npu_smi, acl
from harness.backends.base import Device
from harness.errors import DeviceError


def test_a_card_of_four_is_seen_as_four_devices_of_one_card(sdk):
    sdk.switch(soc="Ascend310", devices=8)

    found = acl.devices(r"(Ascend)?310(B\d?)?")

    assert [device.index for device in found.devices] == list(range(8))
    assert [device.card for device in found.devices] == [1] * 4 + [112] * 4
    assert {(device.name, device.target) for device in found.devices} == {("310", "Ascend310")}
    assert "8 x 310" in found.evidence


def test_devices_of_another_chip_are_evidence_and_not_found(sdk):
    sdk.switch(soc="Ascend310P3", devices=2)

    found = acl.devices(r"(Ascend)?310(B\d?)?")

    assert found.devices == ()
    assert "2 x 310P3" in found.evidence


def test_without_npu_smi_pyacl_is_asked_in_a_process_of_its_own(sdk, monkeypatch):
    monkeypatch.setattr(_devices._npu_smi, "rows", lambda: None)
    monkeypatch.setenv("PYTHONPATH", str(SDK / "ascend"))
    sdk.switch(soc="Ascend310", devices=8)

    found = acl.devices("310")

    assert [(device.index, device.card, device.target) for device in found.devices] == [
        (index, index // 4, "Ascend310") for index in range(8)
    ]
    assert "npu-smi is not on PATH" in found.evidence
    assert "acl.init" not in sdk.calls.counts, "a compiler may still be started from this process"


def test_with_nothing_installed_the_evidence_says_what_was_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PYTHONPATH", raising=False)

    found = acl.devices(".*")

    assert found.devices == ()
    for words in ("/dev/davinci*", "npu-smi is not on PATH", "No module named 'acl'"):
        assert words in found.evidence


def test_a_failing_npu_smi_is_evidence_and_pyacl_is_asked(sdk, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(SDK / "ascend"))
    sdk.switch(fail=[["npu-smi", 1, 8005]])

    found = acl.devices("310P3")

    assert len(found.devices) == 1
    assert "npu-smi info failed with status" in found.evidence


@pytest.mark.parametrize(("code", "step"), [(8005, "HwHiAiUser"), (8020, "another container")])
def test_an_npu_smi_that_may_not_open_the_card_is_no_missing_driver(sdk, monkeypatch, tmp_path, code, step):
    """The usual step, to install the driver and CANN, is wrong where both are there."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # no pyACL either
    sdk.switch(fail=[["npu-smi", 1, -code]])

    found = acl.devices("310P3")

    assert found.devices == ()
    assert step in found.hint


def test_health_of_an_idle_a_busy_and_a_hot_device(sdk):
    idle = acl.health(DEVICE)
    sdk.switch(busy=0.9)
    busy = acl.health(DEVICE)
    sdk.switch(hot=True)
    hot = acl.health(DEVICE)

    assert (idle.healthy, idle.busy, idle.processes, idle.throttled) == (True, 0.0, (), False)
    assert (idle.clock_mhz, idle.temperature_c, idle.note) == (None, 42.0, ""), "an idle clock says nothing"
    assert (busy.busy, busy.clock_mhz, busy.throttled) == (0.9, 1080.0, False)
    assert busy.processes == ("837666 python",)
    assert (hot.healthy, hot.throttled, hot.clock_mhz, hot.temperature_c) == (False, False, None, 105.0)
    assert "Alarm" in hot.note


def test_health_of_a_device_that_vanished_is_an_error(sdk):
    with pytest.raises(DeviceError, match="no longer shows device 5"):
        acl.health(Device(5, "310P3"))


def test_health_without_npu_smi_says_what_is_not_known(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    health = acl.health(DEVICE)

    assert health.busy is None
    assert "npu-smi is not on PATH" in health.note
    assert health.untold == health.note


@pytest.mark.parametrize(
    ("name", "text", "version"),
    [
        (
            "aarch64-linux/ascend_toolkit_install.info",
            "package_name=Ascend-cann-toolkit\nversion=6.0.RC1\ninnerversion=V100\n",
            "6.0.RC1",
        ),
        ("version.cfg", "# version: 1.0\nruntime_running_version=[7.0.0.5.242:8.0.RC2]\n", "8.0.RC2"),
        ("runtime/version.info", "Version=1.84.15.1.230\n", "1.84.15.1.230"),
    ],
)
def test_version_comes_from_the_toolkits_own_files(monkeypatch, tmp_path, name, text, version):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(tmp_path))

    assert acl.version().startswith(f"CANN {version}, driver ")


def test_a_chip_is_reset_by_its_place_on_its_card(sdk):
    sdk.switch(soc="Ascend310", devices=8)
    device = acl.devices("310").devices[6]

    said = acl.reset(device)

    assert "npu-smi set -t reset -i 112 -c 2: " in said
    assert "Status : OK" in said


def test_a_chip_that_is_not_there_is_not_reset(sdk):
    sdk.switch(soc="Ascend310", devices=4)

    with pytest.raises(DeviceError, match="does not show device 6"):
        acl.reset(Device(6, "310"))


def test_a_process_without_a_number_is_of_others_and_its_memory_is_not_the_suites(monkeypatch):
    row = _npu_smi.Row(0, 0, "310P3", 0, 0, "OK", 40.0, 0.0, ("NA python", f"{os.getppid()} python"), (300.0, 200.0))
    monkeypatch.setattr(_npu_smi, "rows", lambda: [row])
    monkeypatch.setattr(_npu_smi, "page", lambda npu, chip: _npu_smi.Page())
    monkeypatch.setattr(_devices, "ours", lambda number: number == os.getppid())
    monkeypatch.setattr(_own_processes, "ours", lambda number: number == os.getppid())

    health = _devices.health(Device(0, "310P3"))

    assert (health.processes, health.own, health.own_mb) == (("NA python",), 1, 200.0)


@pytest.mark.parametrize("word", ["Warning", "Alarm", "Critical", "UNKNOWN"])
def test_only_ok_is_a_healthy_device(monkeypatch, word):
    row = _npu_smi.Row(0, 0, "310P3", 0, 0, word, 40.0, 0.0, ())
    monkeypatch.setattr(_npu_smi, "rows", lambda: [row])
    monkeypatch.setattr(_npu_smi, "page", lambda npu, chip: _npu_smi.Page())

    health = _devices.health(Device(0, "310P3"))

    assert not health.healthy
    assert health.note == f"npu-smi: health {word}"


def test_the_page_of_a_card_is_asked_about_the_chip_itself(monkeypatch):
    rows = [_npu_smi.Row(n, n, "310P3", 7, n, "OK", 40.0, None, ()) for n in range(2)]
    monkeypatch.setattr(_npu_smi, "rows", lambda: rows)
    monkeypatch.setattr(_npu_smi, "page", lambda npu, chip: {(7, 1): _npu_smi.Page(0.9, 1080.0)}.get((npu, chip)))

    health = _devices.health(Device(1, "310P3", 7))

    assert (health.busy, health.clock_mhz) == (0.9, 1080.0)


def test_visible_devices_are_counted_in_the_order_in_which_they_are_named(sdk, monkeypatch):
    sdk.switch(soc="Ascend310P3", devices=4)
    monkeypatch.setenv(_devices.VISIBLE, "3,1")

    found = acl.devices("310P3").devices

    assert [(device.index, device.number) for device in found] == [(0, 3), (1, 1)]
