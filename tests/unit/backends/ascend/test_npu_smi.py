"""Tables of npu-smi from several driver releases, and tables that are damaged."""

from __future__ import annotations

import pytest
from ascend_tiny import cann

from harness.backends.ascend import _devices, _npu_smi
from harness.errors import DeviceError

# npu-smi 22.0 with two 310P cards, as published with the 310P results
P = """
+-------------------------------------------------------------------------------------------+
| npu-smi 22.0.0                  Version: 22.0.2                                           |
+-------------------+-----------------+------------------------------------------------------+
| NPU     Name      | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device    | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===================+=================+======================================================+
| 0       310P3     | OK              | 15.8         42                0    / 0              |
| 0       0         | 0000:82:00.0    | 0            1074 / 21534                            |
+===================+=================+======================================================+
| 1       310P3     | Warning         | 15.4         43                0    / 0              |
| 0       1         | 0000:89:00.0    | 37           1070 / 21534                            |
+===================+=================+======================================================+
| NPU     Chip      | Process id      | Process name             | Process memory(MB)        |
+===================+=================+======================================================+
| No running processes found in NPU 0                                                        |
+===================+=================+======================================================+
| 1       0         | 837666          | python                   | 132                       |
| 1       0         | 837670          | msame                    | 90                        |
+===================+=================+======================================================+
"""
# npu-smi 20.2 with two 310 cards of four chips: the id of the card stands in every block and is not contiguous
FOUR = """
+------------------------------------------------------------------------------+
| npu-smi 20.2.0                       Version: 20.2.0                         |
+-------------------+-----------------+----------------------------------------+
| NPU     Name      | Health          | Power(W)          Temp(C)              |
| Chip    Device    | Bus-Id          | AICore(%)         Memory-Usage(MB)     |
+===================+=================+========================================+
""" + "".join(
    """| {npu:<7} 310       | OK              | 12.8              46                   |
| {chip}       {device}         | {bus:<15} | {load:<4}              2621 / 8192          |
{line}
""".format(
        npu=npu, chip=chip, device=device, bus="NA" if npu == 2048 else f"0000:8{device}:00.0", load=device,
        line="+" + ("=" if chip == 3 else "-") * 60 + "+",
    )
    for npu, first in ((112, 0), (2048, 4))
    for chip, device in ((number, first + number) for number in range(4))
)  # fmt: skip
# a newer driver: no Device column, and a memory column more
NEWEST = """
+------------------------------------------------------------------------------------------------+
| npu-smi 25.0.rc1                 Version: 25.0.rc1                                             |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     310P3               | OK            | NA          39                0    / 0             |
| 0                         | 0000:C1:00.0  | 5           0    / 0          3402 / 65536         |
+===========================+===============+====================================================+
| 3     310P3               | OK            | 92.3        40                0    / 0             |
| 0                         | 0000:C2:00.0  | 0           0    / 0          3402 / 65536         |
+===========================+===============+====================================================+
"""
COMMON = """
	NPU ID                         : 1
	Chip Count                     : 2

	Chip ID                        : 0
	Memory Usage Rate(%)           : 6
	Aicore Usage Rate(%)           : 0
	Aicore Freq(MHZ)               : 1000
	Aicore curFreq(MHZ)            : 800
	Temperature(C)                 : 46
	NPU Real-time Power(W)         : 69.0

	Chip ID                        : 1
	Aicore Freq(MHZ)               : 1000
	Aicore curFreq(MHZ)            : 1000

	Chip Name                      : mcu
	Temperature(C)                 : 40
"""


def test_two_cards_of_one_device():
    first, second = _npu_smi.parse(P)

    assert (first.device, first.name, first.npu, first.chip) == (0, "310P3", 0, 0)
    assert (first.health, first.celsius, first.busy, first.processes) == ("OK", 42.0, 0.0, ())
    assert (second.device, second.npu, second.health, second.busy) == (1, 1, "Warning", 0.37)
    assert second.processes == ("837666 python", "837670 msame")


def test_two_cards_of_four_devices():
    rows = _npu_smi.parse(FOUR)

    assert [row.device for row in rows] == list(range(8))
    assert [row.npu for row in rows] == [112] * 4 + [2048] * 4
    assert [row.chip for row in rows] == [0, 1, 2, 3] * 2
    assert {row.name for row in rows} == {"310"}
    assert [row.busy for row in rows] == pytest.approx([number / 100 for number in range(8)])


def test_a_table_without_device_numbers_counts_them():
    rows = _npu_smi.parse(NEWEST)

    assert [(row.device, row.npu, row.chip) for row in rows] == [(0, 0, 0), (1, 3, 0)]
    assert [row.busy for row in rows] == [0.05, 0.0]
    assert rows[1].celsius == 40.0


def test_a_field_that_is_not_told_does_not_shift_the_others():
    assert _npu_smi.parse(NEWEST)[0].celsius == 39.0, "power is NA"


def test_a_notice_among_the_rows_is_passed_over():
    notice = "| 2 devices are in low power mode                                                          |\n+==="
    rows = _npu_smi.parse(P.replace("+===", notice, 1))

    assert [row.name for row in rows] == ["310P3", "310P3"]


def test_a_block_that_tells_one_figure_only_has_no_temperature():
    rows = _npu_smi.parse(P.replace("| 15.8         42                0    / 0              |", "| NA |"))

    assert [row.celsius for row in rows] == [None, 43.0]


def test_a_table_without_devices_is_empty():
    head = P.split("| 0       310P3", 1)[0]

    assert _npu_smi.parse(head) == []


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "dcmi module initialize failed. ret is -8005\n",
        P.split("| 0       0         |", 1)[0],  # cut off inside a block
        P.replace("| 0       310P3     |", "| 0                 |"),
    ],
    ids=["empty", "message", "cut", "no name"],
)
def test_a_damaged_table_is_an_error(damaged):
    with pytest.raises(DeviceError, match="npu-smi") as caught:
        _npu_smi.parse(damaged)

    assert "davinci" in caught.value.hint


def test_clocks_are_those_of_the_chip_that_was_asked_for():
    assert _npu_smi.parse_clocks(COMMON, 0) == (800.0, 1000.0)
    assert _npu_smi.parse_clocks(COMMON, 1) == (1000.0, 1000.0)
    assert _npu_smi.parse_clocks(COMMON, 2) == (None, None)
    assert _npu_smi.parse_clocks("This device does not support querying common.", 0) == (None, None)


@pytest.mark.parametrize("layout", ["old", "new", "newest"])
@pytest.mark.parametrize("soc", ["Ascend310", "Ascend310P3"])
def test_the_program_is_asked_and_its_table_read(monkeypatch, tmp_path, layout, soc):
    with cann(monkeypatch, tmp_path) as sdk:
        sdk.switch(npu_smi_layout=layout, soc=soc, devices=8, busy=0.25)
        rows = _npu_smi.rows()

    assert [row.device for row in rows] == list(range(8))
    assert {(row.name, row.busy, row.health) for row in rows} == {(soc[len("Ascend") :], 0.25, "OK")}
    assert {row.npu for row in rows} == ({1, 112} if soc == "Ascend310" else set(range(8)))
    assert {row.processes for row in rows} == {() if layout == "old" else ("837666 python",)}


def test_no_program_is_none_and_a_failing_one_an_error(monkeypatch, tmp_path):
    with cann(monkeypatch, tmp_path) as sdk:
        sdk.switch(fail=[["npu-smi", 1, 5]])
        with pytest.raises(DeviceError, match="failed with status 5: dcmi model"):
            _npu_smi.rows()
        assert _npu_smi.clocks(0, 0) == (None, None)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert _npu_smi.rows() is None


@pytest.mark.parametrize(
    ("shown", "numbers"), [(None, [0, 1, 2, 3]), ("2", [2]), ("3, 1", [3, 1]), ("1,9,0", [1]), ("", [])]
)
def test_devices_are_numbered_as_pyacl_is_shown_them_and_asked_after_as_npu_smi_does(monkeypatch, shown, numbers):
    rows = [_npu_smi.Row(n, "310P3", n, 0, "OK", 40.0 + n, 0.0, ()) for n in range(4)]
    monkeypatch.setattr(_npu_smi, "rows", lambda: rows)
    monkeypatch.setattr(_npu_smi, "clocks", lambda npu, chip: (None, None))
    monkeypatch.setattr(_devices, "_by_pyacl", lambda: ([], "pyACL was not asked"))
    if shown is not None:
        monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", shown)

    found = _devices.devices("310P.*").devices

    assert [(device.index, device.number) for device in found] == list(enumerate(numbers))
    assert [_devices.health(device).temperature_c for device in found] == [40.0 + n for n in numbers]
