"""Devices are found with evidence, held by one measurement at a time, and measured only when they are idle."""

import contextlib
import dataclasses
import math
import multiprocessing
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.backends.base import Device, Health
from harness.chips import CHIPS, Chip
from harness.errors import DeviceError, InvalidMeasurement, WorkerError
from harness.run import devices
from harness.run.context import RunContext
from harness.run.devices import check_flat, check_idle, check_same, find, incomparable, lease, rested, vacated
from harness.worker.limits import Limits
from harness.worker.process import Worker

CARD = Device(0, "NVIDIA T4")
ROOT = Path(__file__).parents[3]
SDK = ROOT / "tests" / "sdk"


def chip(*backends):
    return Chip("fake", "Fake", tuple("fakes." + name for name in backends), "fake", "f", (), (1,))


def start(backend):
    limits = Limits(look=0.5) if backend.endswith("hangs_in_devices") else Limits()
    return Worker(backend, env={"PYTHONPATH": str(SDK)}, limits=limits)


def hold(root, exclusive, holds, leave, run, seconds):
    """Run in another process: lease the card, say so, wait to be told to leave, for so many seconds."""
    devices.RUN = run
    with contextlib.suppress(DeviceError), lease(CARD, "t4", holder="case-b", exclusive=exclusive, root=root):
        holds.put(os.getpid())
        leave.wait(seconds)
        return
    holds.put(None)


@pytest.fixture
def other(tmp_path):
    """Another process that leases the card: other(exclusive) gives its pid, or None when it was refused."""
    apart = multiprocessing.get_context("forkserver")  # one process imports this file, for all that it forks
    apart.set_forkserver_preload([__name__])
    started = []

    def begin(exclusive, run="", seconds=300):
        holds, leave = apart.Queue(), apart.Event()
        process = apart.Process(target=hold, args=(tmp_path, exclusive, holds, leave, run, seconds))
        process.start()
        started.append((process, leave))
        return holds.get(timeout=120)

    def end():
        for process, leave in started:
            if process.is_alive():
                leave.set()
            process.join(30)

    def kill():
        for process, _ in started:
            process.kill()
            process.join(30)

    begin.end, begin.kill = end, kill
    yield begin
    end()


def test_the_first_backend_that_finds_a_device_drives_the_chip():
    present = find(chip("writes_no_engine", "doubles"), start)

    assert present.backend == "fakes.writes_no_engine"
    assert present.version == "doubles 1.0"
    assert len(present.devices) == 2


def test_a_backend_that_says_why_it_finds_nothing_is_evidence_and_the_next_is_asked():
    present = find(chip("needs_a_missing_module", "doubles"), start)

    assert present.backend == "fakes.doubles"
    assert "No module named" in present.evidence
    assert "two of them" in present.evidence


@pytest.mark.parametrize("broken", ["hangs_in_devices", "crashes_in_devices"])
def test_an_sdk_that_crashes_or_hangs_in_discovery_is_no_absent_chip(broken):
    with pytest.raises(WorkerError, match="while it looked for fake") as caught:
        find(chip(broken, "doubles"), start)

    assert "repair the SDK" in caught.value.hint


def test_an_absent_chip_comes_with_the_evidence_of_every_backend():
    present = find(chip("needs_a_missing_module", "needs_a_missing_module"), start)

    assert present.devices == ()
    assert present.backend == ""
    assert present.evidence.count("fakes.") == 2


def test_a_device_may_be_shared_by_accuracy_runs(tmp_path, other):
    pid = other(False)

    with lease(CARD, "t4", holder="case-a", exclusive=False, root=tmp_path):
        assert pid is not None


@pytest.mark.parametrize(("theirs", "ours"), [(True, False), (True, True), (False, True)])
def test_a_leased_device_is_refused_and_the_holder_is_named(tmp_path, other, theirs, ours):
    pid = other(theirs)

    with (
        pytest.raises(DeviceError, match=f"held by pid {pid} for case-b, .*since") as caught,
        lease(CARD, "t4", holder="case-a", exclusive=ours, root=tmp_path),
    ):
        pass
    assert "t4 device 0 (NVIDIA T4)" in caught.value.fact
    assert "--device" in caught.value.hint


def test_two_chips_that_name_one_card_share_its_lock(tmp_path, other):
    other(True)

    with (
        pytest.raises(DeviceError, match="cuda device 0"),
        lease(CARD, "cuda", holder="a", exclusive=True, root=tmp_path),
    ):
        pass


def test_another_device_of_the_same_name_is_free(tmp_path, other):
    other(True)

    with lease(Device(1, "NVIDIA T4"), "t4", holder="a", exclusive=True, root=tmp_path):
        assert len(list(tmp_path.glob("*.lock"))) == 2


def test_leases_of_one_process_do_not_stand_in_each_others_way(tmp_path, other):
    with lease(CARD, "t4", holder="accuracy", exclusive=False, root=tmp_path):
        with lease(CARD, "t4", holder="throughput", exclusive=True, root=tmp_path):
            assert other(False) is None, "the measurement was disturbed"
        assert other(False) is not None, "the shared lease was not restored"
        assert other(True) is None, "the shared lease was lost"


def test_a_measurement_that_is_refused_keeps_the_shared_lease(tmp_path, other):
    with lease(CARD, "t4", holder="accuracy", exclusive=False, root=tmp_path):
        other(False)
        with pytest.raises(DeviceError), lease(CARD, "t4", holder="throughput", exclusive=True, root=tmp_path):
            pass
        other.end()

        assert other(True) is None, "the shared lease was lost"


def test_a_lease_is_given_back_also_after_an_error(tmp_path, other):
    with pytest.raises(RuntimeError), lease(CARD, "t4", holder="a", exclusive=True, root=tmp_path):
        raise RuntimeError

    assert other(True) is not None
    assert devices._held == {}
    assert len(list(tmp_path.glob("*.json"))) == 1, "only the other's note is there"


def test_the_lease_of_a_killed_process_is_free_and_its_note_is_not_believed(tmp_path, other):
    pid = other(True)
    other.kill()

    with lease(CARD, "t4", holder="a", exclusive=True, root=tmp_path):
        said = devices.holders(next(tmp_path.glob("*.lock")))
    assert len(said) == 1
    assert f"pid {pid} " not in said[0]


def test_whoever_is_patient_gets_the_device(tmp_path, other, monkeypatch):
    other(True)
    slept = []
    monkeypatch.setattr("time.sleep", lambda seconds: slept.append(seconds) or other.end())

    with lease(CARD, "t4", holder="a", exclusive=True, root=tmp_path, patience=30):
        assert slept


def test_whoever_waits_is_told_who_holds_the_device_since_when(tmp_path, other):
    pid, told = other(True), []

    with (
        pytest.raises(DeviceError, match=f"held by pid {pid} for case-b, .* after [1-9][0-9]* s") as caught,
        lease(CARD, "t4", holder="a", exclusive=True, root=tmp_path, patience=1.2, tell=told.append),
    ):
        pass
    assert len(told) == 1
    assert re.search(rf"pid {pid} for case-b, exclusively, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d: waiting", told[0])
    assert "--wait" in caught.value.hint


def test_leases_lie_where_every_user_looks_whatever_tmpdir_says():
    script = "from harness.run import devices; print(devices.LEASES)"
    said = {
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, env={**os.environ, "TMPDIR": tmp},
                       capture_output=True, text=True, check=True).stdout
        for tmp in ("/tmp", "/var/tmp")
    }  # fmt: skip

    assert len(said) == 1
    assert devices.SIMULATED.parent == devices.LEASES


def test_a_link_in_the_place_of_a_lock_or_a_note_is_not_followed(tmp_path):
    root, victim = tmp_path / "leases", tmp_path / "victim"
    victim.write_text("mine")
    victim.chmod(0o600)
    root.mkdir(mode=0o755)
    (root / "nvidia-t4-0.lock").symlink_to(victim)

    with pytest.raises(DeviceError, match="cannot be kept"), lease(CARD, "t4", holder="a", exclusive=True, root=root):
        pass

    (root / "nvidia-t4-0.lock").unlink()
    (root / f"nvidia-t4-0.{os.getpid()}-0.json").symlink_to(victim)
    with lease(CARD, "t4", holder="a", exclusive=True, root=root):
        pass
    assert victim.read_text() == "mine"
    assert victim.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("spoil", ["link", "no sticky bit"])
def test_a_folder_of_leases_that_is_not_safe_is_refused(tmp_path, spoil):
    root = tmp_path / "leases"
    (tmp_path / "elsewhere").mkdir()
    if spoil == "link":
        root.symlink_to(tmp_path / "elsewhere")
    else:
        root.mkdir()
        root.chmod(0o777)

    with pytest.raises(DeviceError, match="cannot be kept"), lease(CARD, "t4", holder="a", exclusive=True, root=root):
        pass


def test_a_lock_of_another_user_is_shared_without_being_changed(tmp_path):
    place = tmp_path / "nvidia-t4-0.lock"
    place.write_text("")
    place.chmod(0o444)

    with lease(CARD, "t4", holder="a", exclusive=True, root=tmp_path):
        assert place.stat().st_mode & 0o777 == 0o444


def test_notes_of_processes_that_are_gone_are_removed(tmp_path, other):
    other(True)
    other.kill()
    (note,) = tmp_path.glob("*.json")
    assert devices.stale_notes(tmp_path) == [note]

    devices.holders(next(tmp_path.glob("*.lock")))
    assert not note.exists()


def test_a_pipe_in_the_place_of_a_note_hangs_nobody(tmp_path, other):
    other(True)
    os.mkfifo(tmp_path / "nvidia-t4-0.9-9.json")

    assert len(devices.holders(next(tmp_path.glob("*.lock")))) == 1


def test_leases_that_cannot_be_kept_are_a_typed_error(tmp_path):
    (tmp_path / "leases").write_text("a file in its place")

    with (
        pytest.raises(DeviceError, match="cannot be kept"),
        lease(CARD, "t4", holder="a", exclusive=True, root=tmp_path / "leases"),
    ):
        pass


IDLE = Health(busy=0.01, clock_mhz=1590.0, temperature_c=40.0)


def test_the_suites_own_work_of_a_moment_ago_is_waited_out():
    seen = iter([Health(busy=0.9), Health(busy=0.3), Health(busy=0.0, note="rested"), Health(busy=1.0)])

    assert rested(lambda: next(seen), patience=600).note == "rested"


@pytest.mark.parametrize("health", [Health(busy=0.4), Health(busy=0.4, processes=("pid 7 train.py",))])
def test_the_work_of_others_is_not_waited_for_long(health):
    assert rested(lambda: health, patience=0.3) is health


def test_a_device_that_others_use_is_waited_for_and_who_they_are_is_told(monkeypatch):
    monkeypatch.setattr(devices, "VACANT_S", 0.01)
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
    monkeypatch.setattr(devices, "time", SimpleNamespace(**{**vars(time), **clock}))
    monkeypatch.setattr(devices, "VACANT_S", 1.0)

    def ask():
        asked.append(1)
        return health

    shared = RunContext(SimpleNamespace(wait=10, tell=lambda text: None))
    assert shared.vacated(CHIPS["t4"], CARD, ask) is health
    assert len(asked) == 11, "once a second, at the beginning and at the end"
    assert shared.vacated(CHIPS["t4"], CARD, ask) is health
    assert len(asked) == 12


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


def test_a_lease_is_on_the_device_however_a_process_numbers_it(tmp_path, other):
    """With CUDA_VISIBLE_DEVICES=3,0 device 0 is the second one, and what other processes call 3 the first."""
    other(True)

    with (
        pytest.raises(DeviceError, match="held by"),
        lease(Device(1, CARD.name, physical=0), "t4", holder="a", exclusive=True, root=tmp_path),
    ):
        pass
    with lease(Device(0, CARD.name, physical=3), "t4", holder="a", exclusive=True, root=tmp_path):
        assert len(list(tmp_path.glob("*.lock"))) == 2


def test_an_idle_device_may_be_measured():
    check_idle(CARD, IDLE)
    check_idle(CARD, Health())
    check_same([CARD], [IDLE], [dataclasses.replace(IDLE, busy=0.99, clock_mhz=1580.0)])


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


def test_a_device_that_shows_none_of_this_runs_processes_where_others_do_is_invalid():
    busy, not_told = dataclasses.replace(IDLE, own=1), IDLE

    check_same([CARD, CARD], [IDLE, IDLE], [busy, busy])
    check_same([CARD, CARD], [IDLE, IDLE], [not_told, not_told])
    check_same([CARD, CARD], [IDLE, IDLE], [busy, dataclasses.replace(IDLE, untold="processes unknown")])
    with pytest.raises(InvalidMeasurement, match="shows no process of this run"):
        check_same([CARD, CARD], [IDLE, IDLE], [busy, not_told])


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
    assert devices.untold([silent, Health(), silent]) == "processes unknown (NVML: Not Supported)"
    assert devices.untold([Health(busy=0.0), Health()]) == ""


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

    other, seen = devices.seeing([CARD, CARD], [Health(), Health()], looks)

    assert (other.untold, seen.untold) == ("", note)
    assert devices.seeing([CARD], [Health(untold="a")], [[Health(busy=0.0)]] * 3)[0].untold.startswith("a, utilisation")


@pytest.mark.parametrize("run", ["a", "b"])
def test_a_process_of_the_same_run_is_waited_for_whatever_the_patience(run, other, tmp_path, monkeypatch):
    """The others of pytest -n are bounded by their own limits."""
    monkeypatch.setattr(devices, "RUN", "a")
    other(True, run, seconds=2.0)

    with contextlib.suppress(DeviceError), lease(CARD, "t4", holder="x", exclusive=True, root=tmp_path, patience=0.1):
        assert run == "a"
        return
    assert run == "b"
