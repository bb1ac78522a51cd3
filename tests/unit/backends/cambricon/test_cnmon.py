"""Cards from what the host says: cnmon's table in both layouts, the driver's /proc files, the /dev nodes."""

from __future__ import annotations

import os

import pytest

from harness.backends.base import Device
from harness.backends.cambricon import _cnmon, magicmind
from harness.backends.cambricon._cnmon import Card

# printed by a machine with driver 5.10.10
TABLE = """\
+------------------------------------------------------------------------------+
| CNMON v5.10.10                                               Driver v5.10.10 |
+-------------------------------+----------------------+-----------------------+
| Card  VF  Name       Firmware |               Bus-Id | Util        Ecc-Error |
| Fan   Temp      Pwr:Usage/Cap |         Memory-Usage | SR-IOV   Compute-Mode |
|===============================+======================+=======================|
| 0     /   MLU370-X4    v1.1.6 |         0000:1B:00.0 | 0%                N/A |
|  0%   41C         27 W/ 150 W |     0 MiB/ 23308 MiB | N/A         Exclusive |
+-------------------------------+----------------------+-----------------------+

+------------------------------------------------------------------------------+
| Processes:                                                                   |
|  Card  VF  PID    Command Line                             MLU Memory Usage  |
|==============================================================================|
|  No running processes found                                                  |
+------------------------------------------------------------------------------+
"""


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A host without cnmon, /proc files or nodes."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(_cnmon, "PROC", tmp_path / "proc")
    monkeypatch.setattr(_cnmon, "DEV", tmp_path / "dev")
    return tmp_path


def program(root, text, code=0):
    (root / "bin").mkdir()
    (root / "table").write_text(text)
    path = root / "bin" / "cnmon"
    path.write_text(f"#!/bin/sh\n/bin/cat {root}/table\nexit {code}\n")
    path.chmod(0o755)


def test_an_idle_card_is_read_whole():
    assert _cnmon.parse_table(TABLE) == [Card(0, "MLU370-X4", "v5.10.10", 0.0, 41.0, (), (), 0.0)]


def test_the_holders_of_a_card_are_its_own():
    busy = TABLE.replace("| 0%                N/A |", "| 73%               N/A |").replace(
        "|  No running processes found                                                  |",
        "|  0     /   4711   python3 train.py --lr 0.1                         1203 MiB |\n"
        "|  1     /   4712   ./other                                             12 MiB |",
    )

    (card,) = _cnmon.parse_table(busy)

    assert card.busy == 0.73
    assert card.processes == ((4711, "python3 train.py --lr 0.1"),)
    assert card.held_mb == (1203.0,)


def test_a_table_cut_before_the_processes_does_not_say_idle():
    (card,) = _cnmon.parse_table(TABLE.split("+----")[0] + TABLE[: TABLE.index("| Processes")])

    assert card.processes is None


@pytest.mark.parametrize(
    "row",
    [
        "|  0     /   N/A    python3 train.py                                        N/A      |",
        "|  0     4711  python3 train.py                                             1203 MB  |",
    ],
)
def test_a_row_of_processes_that_cannot_be_read_does_not_say_idle(row):
    """No such row was seen: a driver that prints another one must not make every card look idle."""
    table = TABLE.replace("|  No running processes found                                                  |", row)

    (card,) = _cnmon.parse_table(table)

    assert card.processes is None


def test_a_table_that_ends_below_its_heading_does_not_say_idle():
    (card,) = _cnmon.parse_table(TABLE[: TABLE.index("|  No running")])

    assert card.processes is None


def test_a_utilisation_that_is_not_told_is_unknown():
    (card,) = _cnmon.parse_table(TABLE.replace("| 0%                N/A |", "| N/A               N/A |"))

    assert (card.name, card.busy, card.processes) == ("MLU370-X4", None, ())


@pytest.mark.parametrize(
    ("told", "untold", "card"),
    [
        ("41C ", "N/A ", Card(0, "MLU370-X4", "v5.10.10", 0.0, None, (), (), 0.0)),
        ("27 W/ 150 W", "N/A / N/A  ", Card(0, "MLU370-X4", "v5.10.10", 0.0, 41.0, (), (), 0.0)),
        ("0 MiB/ 23308 MiB", "N/A /      N/A  ", Card(0, "MLU370-X4", "v5.10.10", 0.0, 41.0, (), (), None)),
        ("v1.1.6", "N/A   ", Card(0, "MLU370-X4", "v5.10.10", 0.0, 41.0, (), (), 0.0)),
    ],
)
def test_a_figure_that_is_not_told_does_not_hide_the_card(told, untold, card):
    assert _cnmon.parse_table(TABLE.replace(told, untold)) == [card]


def test_a_utilisation_that_is_not_told_is_on_record(bare):
    program(bare, TABLE.replace("| 0%                N/A |", "| N/A               N/A |"))

    health = magicmind.health(Device(0, "MLU370-X4", card=0))

    assert (health.busy, health.untold) == (None, "utilisation unknown (cnmon: N/A)")


@pytest.mark.parametrize(
    ("told", "other", "card"),
    [
        ("41C", "??C", Card(0, "MLU370-X4", "v5.10.10", 0.0, None, (), (), 0.0)),
        ("41C", "ERR", Card(0, "MLU370-X4", "v5.10.10", 0.0, None, (), (), 0.0)),
        ("0 MiB/ 23308 MiB", "0 MiB/ xxxxx MiB", Card(0, "MLU370-X4", "v5.10.10", 0.0, 41.0, (), (), 0.0)),
        (
            "0%                N/A |",
            "ERR               N/A |",
            Card(0, "MLU370-X4", "v5.10.10", None, 41.0, (), (), 0.0),
        ),
        ("27 W/ 150 W", " 27.5 / 150 W", Card(0, "MLU370-X4", "v5.10.10", 0.0, 41.0, (), (), 0.0)),
        ("MLU370-X4    v1.1.6", "MLU590-M9          ", Card(0, "MLU590-M9", "v5.10.10", 0.0, 41.0, (), (), 0.0)),
    ],
)
def test_a_card_that_tells_another_word_is_there(told, other, card):
    assert told in TABLE
    assert _cnmon.parse_table(TABLE.replace(told, other)) == [card]


def test_a_second_line_that_is_cut_off_leaves_the_card():
    cut = TABLE[: TABLE.index("|  0%   41C") + 9]

    assert _cnmon.parse_table(cut) == [Card(0, "MLU370-X4", "v5.10.10", 0.0)]


def test_the_virtual_functions_of_a_card_are_no_cards():
    row = TABLE.splitlines(keepends=True)[6:9]
    virtual = TABLE.replace("".join(row), "".join(row) + "".join(row).replace("| 0     /", "| 0     1"))

    assert [card.number for card in _cnmon.parse_table(virtual)] == [0]


# as published for two MLU370-X8 with driver 5.10.22: Mode in place of SR-IOV, MI in place of VF
MODES = """\
Wed Nov  8 16:16:45 2023
+------------------------------------------------------------------------------+
| CNMON v5.10.22                                               Driver v5.10.22 |
+-------------------------------+----------------------+-----------------------+
| Card  VF  Name       Firmware |               Bus-Id | Util        Ecc-Error |
| Fan   Temp      Pwr:Usage/Cap |         Memory-Usage | Mode     Compute-Mode |
|===============================+======================+=======================|
| 0     /   MLU370-X8    v1.1.6 |         0000:13:00.0 | 0%                  0 |
|  0%   28C        107 W/ 250 W |     0 MiB/ 20638 MiB | FULL          Default |
+-------------------------------+----------------------+-----------------------+
| 1     /   MLU370-X8    v1.1.6 |         0000:16:00.0 | 100%                0 |
|  0%   32C        107 W/ 250 W | 12034 MiB/ 20638 MiB | FULL          Default |
+-------------------------------+----------------------+-----------------------+

+------------------------------------------------------------------------------+
| Processes:                                                                   |
|  Card  MI  PID     Command Line                             MLU Memory Usage |
|==============================================================================|
|  1     /   4711    python3 train.py                                12000 MiB |
+------------------------------------------------------------------------------+
"""


def test_the_table_of_a_driver_with_modes_is_read():
    calm, worn = _cnmon.parse_table(MODES)

    assert calm == Card(0, "MLU370-X8", "v5.10.22", 0.0, 28.0, (), (), 0.0)
    assert worn == Card(1, "MLU370-X8", "v5.10.22", 1.0, 32.0, ((4711, "python3 train.py"),), (12000.0,), 12034.0)


def test_cnmon_comes_first(bare):
    program(bare, TABLE)

    cards, evidence = _cnmon.cards()

    assert [card.name for card in cards] == ["MLU370-X4"]
    assert evidence == "cnmon: 0 MLU370-X4"


def test_without_cnmon_the_drivers_files_name_the_card(bare):
    for number, bus in ((1, "0000:1c:00.0"), (0, "0000:1b:00.0")):
        (bare / "proc" / bus).mkdir(parents=True)
        (bare / "proc" / bus / "information").write_text(
            f"Device name: MLU370-S4\nDevice inode path: /dev/cambricon_dev{number}\nDriver Version: v5.10.10\n"
        )

    cards, evidence = _cnmon.cards()

    assert cards == (Card(0, "MLU370-S4", "v5.10.10"), Card(1, "MLU370-S4", "v5.10.10"))
    assert "cnmon is not on PATH" in evidence


def test_nodes_are_counted_but_carry_no_name(bare):
    (bare / "dev").mkdir()
    for name in ("cambricon_dev0", "cambricon_dev10", "cambricon_ctl", "cambricon_ipcm0", "cambricon_dev0_mi1"):
        (bare / "dev" / name).touch()

    cards, evidence = _cnmon.cards()

    assert cards == (Card(0, _cnmon.UNNAMED), Card(10, _cnmon.UNNAMED))
    assert "carry no name" in evidence


def test_nothing_found_lists_everything_looked_for(bare):
    cards, evidence = _cnmon.cards()

    assert cards == ()
    assert "cnmon is not on PATH" in evidence
    assert str(bare / "proc") in evidence
    assert "cambricon_dev<N>" in evidence


def test_a_failing_cnmon_is_evidence(bare):
    program(bare, "Fail to open device\n", code=3)

    assert "cnmon exited with 3: Fail to open device" in _cnmon.cards()[1]


@pytest.mark.parametrize("layout", ["5.10", "4.20"])
def test_the_simulated_cnmon_prints_what_is_read(layout, monkeypatch, request):
    sdk = request.config.rootpath / "tests" / "sdk" / "magicmind"
    monkeypatch.setenv("PATH", f"{sdk}{os.pathsep}{os.environ['PATH']}")
    switches = f'{{"soc": "MLU370-X4", "devices": 2, "busy": 0.5, "hot": true, "cnmon_layout": "{layout}"}}'
    monkeypatch.setenv("CHIPPROOF_SIM", switches)

    cards, _ = _cnmon.cards()

    version = "v5.10.10" if layout == "5.10" else "v4.20.6"
    holder = ((424242, "python infer.py --device 0"),)
    assert cards == (
        Card(0, "MLU370-X4", version, 0.5, 105.0, holder, (120.0,), 120.0),
        Card(1, "MLU370-X4", version, 0.5, 105.0, (), (), 0.0),
    )
