"""Devices are measured only when they are idle, and stay so."""

import dataclasses
import math
import os
import re
import time
from types import SimpleNamespace

import pytest

from harness.backends.base import Device, Health
from harness.chips import CHIPS
from harness.errors import InvalidMeasurement
from harness.run import idle
from harness.run.context import RunContext
from harness.run.idle import check_flat, check_idle, check_same, incomparable, rested, vacated

CARD = Device(0, "NVIDIA T4")
IDLE = Health(busy=0.01, clock_mhz=1590.0, temperature_c=40.0)


def test_the_suites_own_work_of_a_moment_ago_is_waited_out():
    seen = iter([Health(busy=0.9), Health(busy=0.3), Health(busy=0.0, note="rested"), Health(busy=1.0)])

    assert rested(lambda: next(seen), patience=600).note == "rested"
    at_it = iter([Health(busy=0.05, note="idle"), Health(busy=0.0)])
    assert rested(lambda: next(at_it), patience=600).note == "idle"
    assert idle.users(Health(unseen_mb=2048.0)) == ()
    assert idle.users(Health(unseen_mb=2049.0)) == (
        "a program not visible here that holds more than 2048 MB of its memory",
    )


@pytest.mark.parametrize("health", [Health(busy=0.4), Health(busy=0.4, processes=("pid 7 train.py",))])
def test_the_work_of_others_is_not_waited_for_long(health):
    assert rested(lambda: health, patience=0.3) is health


def test_a_device_that_others_use_is_waited_for_and_who_they_are_is_told(monkeypatch):
    monkeypatch.setattr(idle, "VACANT_S", 0.01)
    mine = f"{os.getpid()} train.py"
    seen = iter([Health(busy=0.9, processes=(mine,), own=1)] * 3 + [IDLE])
    told = []

    assert vacated(lambda: next(seen), "t4 device 0 (NVIDIA T4)", 60, told.append) is IDLE
    (line,) = told
    assert re.fullmatch(
        rf"t4 device 0 \(NVIDIA T4\) is used by {mine}, since 20[-0-9]+ [:0-9]+: waiting, 0 of 60 s", line
    )


@pytest.mark.parametrize(
    "health", [Health(busy=0.9, processes=(f"{1 << 22} train.py",), own=1), Health(unseen_mb=5000.0)]
)
def test_who_does_not_leave_is_waited_for_once(monkeypatch, health):
    now, asked = [0.0], []
    clock = {"monotonic": lambda: now[0], "sleep": lambda seconds: now.append(now.pop() + seconds)}
    monkeypatch.setattr(idle, "time", SimpleNamespace(**{**vars(time), **clock}))
    monkeypatch.setattr(idle, "VACANT_S", 1.0)

    def ask():
        asked.append(1)
        return health

    shared = RunContext(SimpleNamespace(wait=10, tell=lambda text: None))
    assert shared.vacated(CHIPS["t4"], CARD, ask) is health
    assert len(asked) == 11, "once a second, at the beginning and at the end"
    assert shared.vacated(CHIPS["t4"], CARD, ask) is health
    assert len(asked) == 12


@pytest.mark.slow
def test_memory_that_nobody_shown_holds_is_waited_for_and_says_nothing_during_a_measurement():
    seen, told = iter([Health(unseen_mb=5000.0), Health(unseen_mb=100.0)]), []

    vacated(lambda: next(seen), "t4 device 0 (NVIDIA T4)", 60, told.append)

    assert told == ["t4 device 0 (NVIDIA T4) is used by a program not visible here that holds more than 2048 MB of its "
                    "memory: waiting, 0 of 60 s"]  # fmt: skip
    check_same([CARD], [Health()], [Health(unseen_mb=5000.0)])


def held(*told):
    return [[Health(own_mb=mb)] for mb in told]


@pytest.mark.parametrize(
    "told",
    [
        (100.0, 100.0, 100.0, 100.0),
        (100.0, 900.0, 901.0, 903.0),  # pools that are filled
        (100.0, 100.0, 101.0, 900.0, 900.0),  # or filled late
        (100.0, 300.0, 200.0, 400.0),  # a fresh session in between
        (100.0, 400.0),
        (100.0, None, 500.0, 900.0),
        (None, None, None),
    ],
)
def test_memory_of_a_device_that_fills_its_pools_is_sound(told):
    check_flat([CARD], held(*told[:-1]), held(told[-1])[0])


def test_memory_of_a_device_that_grows_from_beginning_to_end_is_lost():
    with pytest.raises(InvalidMeasurement, match=r"holds on NVIDIA T4 0 grew from 100 to 120 and to 140 MB"):
        check_flat([CARD], held(100.0, 110.0, 120.0, 130.0), held(140.0)[0])
    flat, lost = Health(own_mb=9.0), [Health(own_mb=mb) for mb in (1.0, 21.0, 41.0)]
    with pytest.raises(InvalidMeasurement, match="NVIDIA T4 1"):
        check_flat([CARD, dataclasses.replace(CARD, index=1)], [[flat, lost[0]], [flat, lost[1]]], [flat, lost[2]])


def test_a_state_that_is_no_number_is_no_idle_device():
    with pytest.raises(InvalidMeasurement, match="nan% busy"):
        check_idle(CARD, Health(busy=math.nan))
    with pytest.raises(InvalidMeasurement, match="the clock of NVIDIA T4 0 went from 1590 to nan MHz"):
        check_same([CARD], [Health(clock_mhz=1590.0)], [Health(clock_mhz=math.nan)])


def test_an_idle_device_may_be_measured():
    check_idle(CARD, IDLE)
    check_idle(CARD, Health())
    check_same([CARD], [IDLE], [dataclasses.replace(IDLE, busy=0.99, clock_mhz=1580.0)])


def test_a_clock_that_falls_under_load_is_seen_on_every_device():
    fine, fell = ([Health(clock_mhz=1590.0), Health(clock_mhz=mhz)] for mhz in (1590.0, 1200.0))
    second = dataclasses.replace(CARD, index=1)

    with pytest.raises(InvalidMeasurement, match="NVIDIA T4 1 throttled: its clock fell from 1590 to 1200 MHz"):
        check_same([CARD, second], fine, fine, [fine, fell])


SPOILED = [
    ({"healthy": False, "note": "ECC errors"}, "not healthy: ECC errors"),
    ({"processes": ("pid 7 python",)}, "used by pid 7 python"),
    ({"throttled": True, "temperature_c": 92.0}, "throttles at 92 °C"),
]


@pytest.mark.parametrize(("change", "says"), [*SPOILED, ({"busy": 0.5}, "50% busy")])
def test_a_device_that_is_not_idle_is_not_measured(change, says):
    with pytest.raises(InvalidMeasurement, match=says):
        check_idle(CARD, dataclasses.replace(IDLE, **change))


@pytest.mark.parametrize(("change", "says"), [*SPOILED, ({"clock_mhz": 1200.0}, "from 1590 to 1200 MHz")])
def test_a_device_that_changed_while_it_was_measured_is_invalid(change, says):
    with pytest.raises(InvalidMeasurement, match=says):
        check_same([CARD, CARD], [IDLE, IDLE], [IDLE, dataclasses.replace(IDLE, **change)])


@pytest.mark.parametrize(("change", "says"), SPOILED)
def test_a_device_that_is_spoiled_under_load_and_well_again_after_it_is_invalid(change, says):
    loaded = dataclasses.replace(IDLE, busy=0.97, unseen_mb=9000.0)

    spoiled, both = dataclasses.replace(loaded, **change), [CARD, dataclasses.replace(CARD, index=1)]

    check_same(both, [IDLE, IDLE], [IDLE, IDLE], [[loaded, loaded]] * 2)
    with pytest.raises(InvalidMeasurement, match=f"NVIDIA T4 1 .*{says}"):
        check_same(both, [IDLE, IDLE], [IDLE, IDLE], [[loaded, loaded], [loaded, spoiled], [loaded, loaded]])


def test_a_device_that_shows_none_of_this_runs_processes_where_others_do_is_invalid():
    busy, not_told = dataclasses.replace(IDLE, own=1), IDLE

    check_same([CARD, CARD], [IDLE, IDLE], [busy, busy])
    check_same([CARD, CARD], [IDLE, IDLE], [not_told, not_told])
    check_same([CARD, CARD], [IDLE, IDLE], [busy, dataclasses.replace(IDLE, untold="processes unknown")])
    with pytest.raises(InvalidMeasurement, match="shows no process of this run, and others that were measured"):
        check_same([CARD, CARD], [IDLE, IDLE], [busy, not_told])


def test_a_device_that_shows_none_of_this_runs_processes_where_one_that_is_not_measured_does_is_invalid():
    busy, not_told = dataclasses.replace(IDLE, own=1), IDLE

    check_same([CARD], [IDLE], [not_told], [], lambda: [not_told])
    check_same([CARD], [IDLE], [dataclasses.replace(IDLE, untold="processes unknown")], [], lambda: [busy])
    check_same([CARD], [IDLE], [busy], [], lambda: pytest.fail("a vendor's tool takes up to a second"))
    with pytest.raises(InvalidMeasurement, match="shows no process of this run, and another that is not measured does"):
        check_same([CARD], [IDLE], [not_told], [], lambda: [busy])


LOADED = Health(busy=0.97, clock_mhz=1080.0)


CARD_310P = Device(0, "310P3")


def test_clocks_are_compared_with_the_first_one_under_load():
    idle = Health(busy=0.0)  # its clock floats and is not told
    sagged = dataclasses.replace(LOADED, clock_mhz=900.0)

    check_same([CARD_310P], [idle], [idle], [[LOADED], [LOADED]])
    check_same([CARD_310P], [idle], [idle], [[sagged], [LOADED]])  # it woke up
    for during, after in (([[LOADED], [sagged]], idle), ([[LOADED]], sagged), ([[idle], [LOADED], [sagged]], LOADED)):
        with pytest.raises(InvalidMeasurement, match="fell from 1080 to 900 MHz under load"):
            check_same([CARD_310P], [idle], [after], during)


GONE = "5000077 python"  # more than the kernel's largest process number: not in /proc


def test_a_process_that_is_not_in_proc_and_came_with_the_load_is_the_suites_own():
    before, after = [Health(busy=0.0)], [Health(busy=0.9, processes=(GONE,))]

    check_idle(CARD, before[0])
    check_same([CARD], before, after)

    assert incomparable([CARD], before, after) == ""


@pytest.mark.parametrize(
    ("before", "after"), [((GONE,), (GONE,)), ((GONE,), (GONE, "5000078 python")), ((), (GONE, "5000078 python"))]
)
def test_processes_that_cannot_be_compared_are_a_note_and_do_not_spoil_the_figure(before, after):
    told = [[Health(busy=0.0, processes=processes)] for processes in (before, after)]

    check_idle(CARD, told[0][0])
    check_same([CARD], *told)

    assert "cannot be compared here" in incomparable([CARD], *told)
    assert GONE in incomparable([CARD], *told)


def test_a_process_that_is_in_proc_is_a_strangers():
    stranger = Health(busy=0.0, processes=(f"{os.getppid()} python",))

    with pytest.raises(InvalidMeasurement, match="is used by"):
        check_idle(CARD, stranger)
    with pytest.raises(InvalidMeasurement, match="is used by"):
        check_same([CARD], [Health(busy=0.0)], [stranger])
    assert incomparable([CARD], [Health(busy=0.0)], [stranger]) == ""


def test_where_the_suites_own_process_is_known_an_unknown_one_is_a_strangers():
    """As with /proc mounted so that a user sees his own processes only."""
    after = Health(busy=0.9, processes=(GONE,), own=1)

    with pytest.raises(InvalidMeasurement, match=f"is used by {GONE}"):
        check_same([CARD], [Health(busy=0.0)], [after])
    assert incomparable([CARD], [Health(busy=0.0)], [after]) == ""


def test_what_devices_do_not_tell_is_said_once_and_no_reason_to_refuse():
    silent = Health(untold="processes unknown (NVML: Not Supported)")

    check_idle(CARD, silent)
    assert idle.untold([silent, Health(), silent]) == "processes unknown (NVML: Not Supported)"
    assert idle.untold([Health(busy=0.0), Health()]) == ""


@pytest.mark.parametrize(
    ("busy", "note"),
    [
        ((0.0, 0.0, 0.03), "utilisation unknown (NVIDIA T4 0 shows 3% under the load of this run)"),
        ((0.0, 0.0, 0.9), ""),  # of which one look fell into a pause
        ((0.0, 0.9), ""),
        ((0.0, 0.0), ""),  # the first says nothing, and one is too few
        ((None, None, None), ""),
        ((), ""),
    ],
)
def test_a_device_that_shows_no_utilisation_under_the_suites_own_load_does_not_tell_it(busy, note):
    looks = [[Health(busy=0.9), Health(busy=share)] for share in busy]

    other, seen = idle.seeing([CARD, CARD], [Health(), Health()], looks)

    assert (other.untold, seen.untold) == ("", note)
    assert idle.seeing([CARD], [Health(untold="a")], [[Health(busy=0.0)]] * 3)[0].untold.startswith("a, utilisation")


def looks_of(*rows):
    return [[Health(busy=0.0, idle=True)] * len(rows[0]), *([Health(**one) for one in row] for row in rows)]


IDLES, WORKS, SILENT = {"busy": 0.03}, {"busy": 0.9}, {"busy": None}


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([[IDLES, WORKS], [IDLES, WORKS]], "NVIDIA T4 0 showed no utilisation in 2 looks while it was timed"),
        ([[WORKS, IDLES], [IDLES, WORKS]], ""),  # a pause each
        ([[IDLES, IDLES], [IDLES, IDLES]], ""),  # they cannot tell: see seeing
        ([[SILENT, WORKS], [IDLES, WORKS]], ""),
        ([[IDLES, WORKS]], ""),  # one look is too few
        ([[{**IDLES, "idle": True}], [{**IDLES, "idle": True}]], "NVIDIA T4 0 said itself that it is idle"),
        ([[{**SILENT, "idle": True}], [{**SILENT, "idle": True}]], "said itself that it is idle, in 2 looks"),
        ([[{**IDLES, "idle": True}], [IDLES]], ""),
        ([[{**WORKS, "idle": True}], [{**IDLES, "idle": True}]], ""),
    ],
)
def test_a_device_that_did_nothing_by_its_own_counters_was_not_timed(rows, wrong):
    cards = [CARD] * len(rows[0])
    if not wrong:
        idle.check_working(cards, looks_of(*rows))
        return
    with pytest.raises(InvalidMeasurement, match=re.escape(wrong)):
        idle.check_working(cards, looks_of(*rows))


def test_counters_are_those_under_load_where_they_are_told():
    looks = looks_of(
        [{"busy": 0.9, "now_mhz": 1500.0, "clock_mhz": 1590.0}], [{"busy": 0.8, "clock_mhz": 1490.0}], [{}]
    )

    assert idle.counters(looks) == {"device_busy": 0.85, "device_clock_mhz": 1490.0}
    assert idle.counters(looks_of([{}])) == {}
    assert idle.counters([]) == {}
