"""Tables of npu-smi from several driver releases, and tables that are damaged."""

from __future__ import annotations

import dataclasses
import os

import pytest
from ascend_tiny import cann

from harness.backends.ascend import _devices, _npu_smi
from harness.backends.base import Device
from harness.errors import DeviceError, InvalidMeasurement
from harness.run.idle import check_idle, check_same

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
# two Atlas 300I Duo, drivers 24 and 25, as users published them: two chips under one NPU id, power not told
DUO = """
DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)
+--------------------------------------------------------------------------------------------------------+
| npu-smi 24.1.rc2                                 Version: 24.1.rc2                                     |
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Name                  | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device                | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===============================+=================+======================================================+
| 1       310P3                 | OK              | NA           59                0     / 0             |
| 0       0                     | 0000:01:00.0    | 0            1397 / 44280                            |
+-------------------------------+-----------------+------------------------------------------------------+
| 1       310P3                 | OK              | NA           58                0     / 0             |
| 1       1                     | 0000:01:00.0    | 12           37623/ 43693                            |
+===============================+=================+======================================================+
| 4       310P3                 | OK              | NA           58                0     / 0             |
| 0       2                     | 0000:02:00.0    | 0            1397 / 44280                            |
+-------------------------------+-----------------+------------------------------------------------------+
| 4       310P3                 | OK              | NA           57                0     / 0             |
| 1       3                     | 0000:02:00.0    | 0            1412 / 43693                            |
+===============================+=================+======================================================+
"""
# drivers 25.3 and 26.0: physical numbers, which a container with some of the host's devices keeps
PHYSICAL = """
+------------------------------------------------------------------------------------------------------------------+
| npu-smi 26.0.rc2                            Version: 26.0.rc2                                                    |
+---------------------------+---------------+----------------------------------------------------------------------+
| NPU   Name                | Health        | Power(W)             Temp(C)                 Hugepages-Usage(page)   |
| Chip  Phy-ID              | Bus-Id        | AICore(%)            Memory-Usage(MB)        HBM-Usage(MB)           |
+===========================+===============+======================================================================+
| 2     310P3               | OK            | 162.6                34                      0    / 0                |
| 0     4                   | 0000:9D:00.0  | 0                    0    / 0                3419 / 65536            |
+------------------------------------------------------------------------------------------------------------------+
| 2     310P3               | OK            | -                    35                      0    / 0                |
| 1     5                   | 0000:9F:00.0  | 7                    0    / 0                2874 / 65536            |
+===========================+===============+======================================================================+
+---------------------------+---------------+----------------------------------------------------------------------+
| NPU     Chip              | Process id    | Process name       | Process memory(MB)    | Process id in container |
+===========================+===============+======================================================================+
| 2       0                 | 692318        | python3            | 12417                 | NA                      |
| 2       1                 | 692319        | python3            | 12417                 | 77                      |
+===========================+===============+======================================================================+
"""
COMMON = """
	NPU ID                         : 1
	Chip Count                     : 2

	Chip ID                        : 0
	Memory Usage Rate(%)           : 3
	Aicore Usage Rate(%)           : 0
	Aicore Freq(MHZ)               : 1080
	Aicore curFreq(MHZ)            : 960
	Temperature(C)                 : 60

	Chip ID                        : 1
	Aicore Usage Rate(%)           : 97
	Aicore Freq(MHZ)               : 1080
	Aicore curFreq(MHZ)            : 1080

	Chip Name                      : mcu
	Aicore Usage Rate(%)           : 1
	Temperature(C)                 : 48
	NPU Real-time Power(W)         : 45.2
"""


def test_two_cards_of_one_device():
    first, second = _npu_smi.parse(P)

    assert (first.device, first.name, first.npu, first.chip) == (0, "310P3", 0, 0)
    assert (first.health, first.celsius, first.busy, first.processes) == ("OK", 42.0, 0.0, ())
    assert (second.device, second.npu, second.health, second.busy) == (1, 1, "Warning", 0.37)
    assert second.processes == ("837666 python", "837670 msame")
    assert (first.held_mb, second.held_mb) == ((), (132.0, 90.0))


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


def test_a_duo_is_one_card_of_two_chips():
    rows = _npu_smi.parse(DUO)

    assert [(row.npu, row.chip, row.device, row.shown) for row in rows] == [
        (1, 0, 0, 0), (1, 1, 1, 1), (4, 0, 2, 2), (4, 1, 3, 3),
    ]  # fmt: skip
    assert [row.celsius for row in rows] == [59.0, 58.0, 58.0, 57.0]
    assert [row.busy for row in rows] == [0.0, 0.12, 0.0, 0.0]


def test_physical_numbers_are_not_taken_for_pyacls_count():
    rows = _npu_smi.parse(PHYSICAL)

    assert [(row.device, row.shown) for row in rows] == [(0, 4), (1, 5)]
    assert [row.celsius for row in rows] == [34.0, 35.0], "a power that is not told does not shift it"
    assert [row.processes for row in rows] == [("692318 python3",), ("77 python3",)], "in this container, where told"


TABLE = """
+==============+=================+=============================================+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+==============+=================+=============================================+
"""
ROW = "| 1       0                 | 837666        | python                   | 132                     |\n"
FLAT = """
| NPU ID                    | Process id    | Process name             | Process memory(MB)      |
| 1                         | 99            | infer                    | 256                     |
| No running processes found in NPU 4 |
"""
NAMELESS = "| 1       1                 | 1333928       |                          | 37709                   |\n"


@pytest.mark.parametrize(
    ("table", "processes"),
    [
        (TABLE + ROW, (("837666 python",), (), (), ())),
        (FLAT, (("99 infer",), ("99 infer",), (), ())),  # which chip of the card is not told: both are busy
        (TABLE + NAMELESS, ((), ("1333928",), (), ())),
    ],
)
def test_processes_are_laid_to_the_chip_or_else_to_the_card(table, processes):
    rows = _npu_smi.parse(DUO + table)

    assert tuple(row.processes for row in rows) == processes
    assert {row.untold for row in rows} == {""}


@pytest.mark.parametrize(
    ("table", "untold"),
    [
        ("", "prints no table of them"),
        (TABLE + ROW.replace("1       0", "all      "), "837666"),
        (TABLE + ROW.replace("|", " ").replace(" ", "|", 1), "837666"),
    ],
)
def test_processes_that_the_table_does_not_tell_are_not_taken_for_none(table, untold):
    rows = _npu_smi.parse(DUO + table)

    assert {row.processes for row in rows} == {()}
    assert all(row.untold.startswith("processes unknown") and untold in row.untold for row in rows)


def test_what_a_page_does_not_tell_of_a_devices_use_is_on_record(monkeypatch):
    page = P.replace("| 0       0         | 0000:82:00.0    | 0  ", "| 0       0         | 0000:82:00.0    | NA ")
    monkeypatch.setattr(_npu_smi, "rows", lambda: _npu_smi.parse(page[: page.index("| NPU     Chip ")]))
    monkeypatch.setattr(_npu_smi, "page", lambda npu, chip: _npu_smi.Page())
    first, second = (_devices.health(Device(number, "310P3")) for number in (0, 1))

    assert first.untold == ("utilisation unknown (npu-smi: NA), processes unknown (npu-smi prints no table of them)")
    assert second.untold == "processes unknown (npu-smi prints no table of them)"


def test_usage_and_clock_are_those_of_the_chip_that_was_asked_for():
    assert _npu_smi.parse_page(COMMON, 0) == (0.0, 960.0, False)
    assert _npu_smi.parse_page(COMMON, 1) == (0.97, 1080.0, False), "and not of the board's controller below it"
    assert _npu_smi.parse_page(COMMON, 2) == (None, None, False)
    assert _npu_smi.parse_page("This device does not support querying common.", 0) == (None, None, False)


@pytest.mark.parametrize(
    ("switches", "throttled", "clock"),
    [
        ({}, False, None),  # idle: 960 of 1080 MHz, as a healthy card shows
        ({"busy": 0.9}, False, 1080.0),
        ({"busy": 0.9, "clock": 960}, False, 960.0),  # a card that never reaches the rated clock is not throttled
        ({"busy": 0.9, "hot": True}, False, 540.0),  # what that means, other moments under load tell
        ({"soc": "Ascend310", "busy": 0.9}, False, None),  # its page has no clock
        ({"card": "duo"}, False, None),
    ],
    ids=str,
)
def test_a_clock_is_told_under_load_and_never_compared_with_the_rated_one(
    monkeypatch, tmp_path, switches, throttled, clock
):
    monkeypatch.setattr(_npu_smi, "_without_clock", set())
    with cann(monkeypatch, tmp_path) as sdk:
        sdk.switch(**switches)
        found = _devices.devices(".*").devices
        health = _devices.health(found[0])

    assert (health.throttled, health.clock_mhz) == (throttled, clock)
    assert health.busy == switches.get("busy", 0.0)
    if not switches.get("hot"):
        check_idle(found[0], dataclasses.replace(health, busy=0.0, processes=()))


def test_a_part_of_a_chip_is_not_idle_because_the_table_says_0(monkeypatch, tmp_path):
    """In a container with a vNPU the table prints 0 whatever the load, and the page has no line for it."""
    monkeypatch.setattr(_npu_smi, "_without_clock", set())
    with cann(monkeypatch, tmp_path) as sdk:
        sdk.switch(npu_smi="split", busy=0.9)
        device = _devices.devices(".*").devices[0]
        looks = [_devices.health(device) for _ in range(2)]

    assert _npu_smi.parse(P)[0].busy == 0.0
    assert [look.busy for look in looks] == [None, None]
    assert looks[0].untold == "utilisation unknown (npu-smi: its 0 means nothing on a part of a chip)"


def test_a_part_of_a_chip_is_asked_again_although_its_page_names_no_clock(monkeypatch):
    monkeypatch.setattr(_npu_smi, "_without_clock", set())
    monkeypatch.setattr(_npu_smi, "_run", lambda *asked: "Chip ID : 0\nTemperature(C) : 40\n")
    assert [_npu_smi.page(0, 0).split for _ in range(2)] == [True, True]


def test_usage_and_clock_come_from_one_page(monkeypatch):
    """Between two calls of npu-smi the load may end: usage of the one and clock of the other say nothing together."""
    monkeypatch.setattr(_npu_smi, "rows", lambda: [_npu_smi.Row(0, 0, "310P3", 0, 0, "OK", 40.0, 0.9, ())])
    monkeypatch.setattr(_npu_smi, "page", lambda npu, chip: _npu_smi.Page(0.0, 960.0))

    health = _devices.health(Device(0, "310P3"))

    assert (health.busy, health.clock_mhz) == (0.0, None)


def test_a_card_without_a_clock_on_its_page_is_asked_for_it_once(monkeypatch, tmp_path):
    monkeypatch.setattr(_npu_smi, "_without_clock", set())
    asked = []
    monkeypatch.setattr(_npu_smi, "_run", lambda *words: asked.append(words) or "\tAicore Usage Rate(%) : 3\n")

    pages = [_npu_smi.page(1, 0) for _ in range(3)]

    assert len(asked) == 1
    assert pages == [(0.03, None, False), (None, None, False), (None, None, False)]


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("dcmi model initialized failed, because the device is used. ret is -8020", "another container"),
        ("DrvMngGetConsoleLogLevel failed. (ret=4)\ndcmi module initialize failed. ret is -8005", "HwHiAiUser"),
    ],
)
def test_what_npu_smi_cannot_do_comes_with_the_next_step(said, hint):
    with pytest.raises(DeviceError, match="dcmi") as caught:
        _npu_smi.parse(said)

    assert hint in caught.value.hint


def test_a_container_with_the_chip_and_not_what_goes_with_it_is_told_how_to_be_started(monkeypatch, tmp_path):
    monkeypatch.setattr(_npu_smi, "DEV", tmp_path)
    for node in ("davinci3", "hisi_hdc"):
        (tmp_path / node).touch()

    with pytest.raises(DeviceError) as caught:
        _npu_smi.parse("dcmi module initialize failed. ret is -8005")

    assert caught.value.hint.endswith("docker run --device=/dev/davinci_manager --device=/dev/devmm_svm")
    for node in _npu_smi.NODES:
        (tmp_path / node).touch()
    with pytest.raises(DeviceError) as caught:
        _npu_smi.parse("dcmi module initialize failed. ret is -8005")
    assert "HwHiAiUser" in caught.value.hint


def test_a_page_that_failed_once_is_asked_for_again(monkeypatch):
    monkeypatch.setattr(_npu_smi, "_without_clock", set())
    answers = [DeviceError("npu-smi failed", "look"), "Chip ID : 0\nTemperature(C) : 40\n"]

    def told(*_):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(_npu_smi, "_run", told)

    assert [_npu_smi.page(0, 0).split for _ in range(2)] == [False, True]


@pytest.mark.parametrize(
    ("cell", "held", "unseen"),
    [
        ("0            1910 / 21527", (), 0),  # an idle 310P of those whose table users published
        ("0            37623/ 44278", (), 35575),
        ("0            37623/ 44278", (35000.0,), 575),
        ("0           0    / 0          26838/ 32768", (), 24790),  # a chip with HBM
        ("0            37623/ 44278", (None,), None),
        ("NA", (), None),
    ],
)
def test_memory_that_no_listed_process_holds_is_told(monkeypatch, cell, held, unseen):
    row = _npu_smi._row(["0       310P3", "OK", "NA 42"], ["0       0", "0000:01:00.0", cell], 0, "Device")
    row = row._replace(held_mb=held, processes=("1 x",) * len(held))
    monkeypatch.setattr(_npu_smi, "rows", lambda: [row])
    monkeypatch.setattr(_npu_smi, "page", lambda npu, chip: _npu_smi.Page(0.0))

    assert _devices.health(Device(0, "310P3")).unseen_mb == unseen


def test_memory_of_a_table_without_processes_tells_nothing(monkeypatch, tmp_path):
    with cann(monkeypatch, tmp_path) as sdk:
        found = []
        for layout in ("new", "old"):
            sdk.switch(npu_smi_layout=layout, hidden_mb=5000)
            found.append(_devices.health(_devices.devices(".*").devices[0]).unseen_mb)

    assert found == [5000 + 1074 - 2048, None]


@pytest.mark.parametrize("layout", ["old", "new", "newest", "phy-id"])
@pytest.mark.parametrize("soc", ["Ascend310", "Ascend310P3"])
def test_the_program_is_asked_and_its_table_read(monkeypatch, tmp_path, layout, soc):
    with cann(monkeypatch, tmp_path) as sdk:
        sdk.switch(npu_smi_layout=layout, soc=soc, devices=8, busy=0.25, npu_smi="drvmng")
        rows = _npu_smi.rows()

    assert [row.device for row in rows] == list(range(8))
    assert {(row.name, row.busy, row.health) for row in rows} == {(soc[len("Ascend") :], 0.25, "OK")}
    assert {row.npu for row in rows} == ({1, 112} if soc == "Ascend310" else set(range(8)))
    assert {row.processes for row in rows} == {() if layout == "old" else ("837666 python",)}


@pytest.mark.parametrize(("how", "who"), [("flat", "837666 python"), ("nameless", "837666")])
def test_processes_without_a_chip_or_a_name_hold_the_card_all_the_same(monkeypatch, tmp_path, how, who):
    with cann(monkeypatch, tmp_path) as sdk:
        sdk.switch(processes=how, busy=0.25)
        health = _devices.health(_devices.devices(".*").devices[0])

    assert health.processes == (who,)


def test_no_program_is_none_and_a_failing_one_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(_npu_smi, "_without_clock", set())
    with cann(monkeypatch, tmp_path) as sdk:
        sdk.switch(fail=[["npu-smi", 1, 5]])
        with pytest.raises(DeviceError, match="failed with status 5: dcmi model"):
            _npu_smi.rows()
        assert _npu_smi.page(0, 0) == (None, None, False)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert _npu_smi.rows() is None


@pytest.mark.parametrize(
    ("shown", "numbers"), [(None, [0, 1, 2, 3]), ("2", [2]), ("3, 1", [3, 1]), ("1,9,0", [1]), ("", [])]
)
def test_devices_are_numbered_as_pyacl_is_shown_them_and_asked_after_as_npu_smi_does(monkeypatch, shown, numbers):
    rows = [_npu_smi.Row(n, n, "310P3", n, 0, "OK", 40.0 + n, 0.0, ()) for n in range(4)]
    monkeypatch.setattr(_npu_smi, "rows", lambda: rows)
    monkeypatch.setattr(_npu_smi, "page", lambda npu, chip: _npu_smi.Page())
    monkeypatch.setattr(_devices, "_by_pyacl", lambda: ([], "pyACL was not asked"))
    if shown is not None:
        monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", shown)

    found = _devices.devices("310P.*").devices

    assert [(device.index, device.number) for device in found] == list(enumerate(numbers))
    assert [_devices.health(device).temperature_c for device in found] == [40.0 + n for n in numbers]


@pytest.mark.parametrize("pyacl", [False, True])
def test_a_variable_that_hides_every_device_is_named_with_the_way_out(monkeypatch, pyacl):
    rows = [_npu_smi.Row(n, n, "310P3", n, 0, "OK", 40.0, 0.0, ()) for n in range(2)]
    monkeypatch.setattr(_npu_smi, "rows", lambda: None if pyacl else rows)
    monkeypatch.setattr(_devices, "_by_pyacl", lambda: ([], "pyACL counts 0 devices"))
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "7")

    found = _devices.devices("310P.*")

    assert found.devices == ()
    assert "ASCEND_RT_VISIBLE_DEVICES=7" in found.evidence
    assert "unset ASCEND_RT_VISIBLE_DEVICES" in found.hint


def test_a_variable_that_hides_the_chip_that_was_looked_for_is_named(monkeypatch):
    rows = [_npu_smi.Row(n, n, name, n, 0, "OK", 40.0, 0.0, ()) for n, name in enumerate(("310P3", "310"))]
    monkeypatch.setattr(_npu_smi, "rows", lambda: rows)
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "1")

    found = _devices.devices("310P.*")

    assert found.devices == ()
    assert "ASCEND_RT_VISIBLE_DEVICES=1 shows 1 of them, and hides 0" in found.evidence
    assert found.hint.endswith("ASCEND_RT_VISIBLE_DEVICES=0")
    assert _devices.devices("310").hint == ""
    assert "unset" not in _devices.devices("910.*").hint, "there is none to be hidden"


def test_physical_numbers_are_asked_after_and_pyacls_own_are_opened(monkeypatch, tmp_path):
    with cann(monkeypatch, tmp_path) as sdk:
        sdk.switch(npu_smi_layout="phy-id", devices=2)
        found = _devices.devices("310P.*").devices

        assert [(device.index, device.number) for device in found] == [(0, 4), (1, 5)]
        assert [_devices.health(device).healthy for device in found] == [True, True]


@pytest.mark.parametrize(
    ("switches", "seen"), [({}, False), ({"pids": "host"}, True), ({"npu_smi_layout": "phy-id"}, False)]
)
def test_the_suites_own_process_is_known_unless_the_driver_gives_the_hosts_number(
    monkeypatch, tmp_path, switches, seen
):
    machine = tmp_path / "machine"
    machine.mkdir()
    (machine / f"0-{os.getpid()}").touch()
    with cann(monkeypatch, tmp_path) as sdk:
        sdk.switch(machine=str(machine), **switches)
        health = _devices.health(_devices.devices(".*").devices[0])

    assert health.processes == ((f"{5000000 + os.getpid()} python",) if seen else ())
    assert health.own == (0 if seen else 1)


def test_a_card_that_slows_down_under_load_is_found_out(monkeypatch, tmp_path):
    machine = tmp_path / "machine"
    machine.mkdir()
    monkeypatch.setattr(_npu_smi, "_without_clock", set())
    with cann(monkeypatch, tmp_path) as sdk:
        sdk.switch(machine=str(machine), under_load=[960, 960, 720])
        device = _devices.devices(".*").devices[0]
        before = _devices.health(device)
        (machine / f"0-{os.getpid()}").touch()
        looks = [_devices.health(device) for _ in range(3)]

    check_idle(device, before)
    check_same([device], [before], [looks[1]], [[looks[0]]])
    with pytest.raises(InvalidMeasurement, match="fell from 960 to 720 MHz under load at 42"):
        check_same([device], [before], [looks[2]], [[looks[0]], [looks[1]]])
