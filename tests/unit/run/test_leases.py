"""Devices are held by one measurement at a time."""

import contextlib
import fcntl
import json
import multiprocessing
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.backends.base import Device
from harness.errors import DeviceError
from harness.run import leases
from harness.run.leases import lease

CARD = Device(0, "NVIDIA T4")
ROOT = Path(__file__).parents[3]


def hold(root, exclusive, holds, leave, run, seconds):
    """Run in another process: lease the card, say so, wait to be told to leave, for so many seconds."""
    leases.RUN = run
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
    assert leases._held == {}
    assert len(list(tmp_path.glob("*.json"))) == 1, "only the other's note is there"


def test_the_lease_of_a_killed_process_is_free_and_its_note_is_not_believed(tmp_path, other):
    pid = other(True)
    other.kill()

    with lease(CARD, "t4", holder="a", exclusive=True, root=tmp_path):
        said = leases.holders(next(tmp_path.glob("*.lock")))
    assert len(said) == 1
    assert f"pid {pid} " not in said[0]


def test_whoever_is_patient_gets_the_device(tmp_path, other, monkeypatch):
    other(True)
    slept = []
    monkeypatch.setattr("time.sleep", lambda seconds: slept.append(seconds) or other.end())

    with lease(CARD, "t4", holder="a", exclusive=True, root=tmp_path, patience=30):
        assert slept


@pytest.mark.slow
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
    script = "from harness.run import leases; print(leases.LEASES)"
    said = {
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, env={**os.environ, "TMPDIR": tmp},
                       capture_output=True, text=True, check=True).stdout
        for tmp in ("/tmp", "/var/tmp")
    }  # fmt: skip

    assert len(said) == 1
    assert leases.SIMULATED.parent == leases.LEASES


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
    assert leases.stale_notes(tmp_path) == [note]

    leases.holders(next(tmp_path.glob("*.lock")))
    assert not note.exists()


def test_a_process_that_has_the_number_of_one_that_is_gone_does_not_hold_its_lease(tmp_path, other):
    other(True)
    (note,) = tmp_path.glob("*.json")
    note.write_text(json.dumps({**json.loads(note.read_text()), "pid": os.getpid(), "born": 1}))

    assert leases.holders(next(tmp_path.glob("*.lock"))) == []


def test_a_pipe_in_the_place_of_a_note_hangs_nobody(tmp_path, other):
    other(True)
    os.mkfifo(tmp_path / "nvidia-t4-0.9-9.json")

    assert len(leases.holders(next(tmp_path.glob("*.lock")))) == 1


def test_leases_that_cannot_be_kept_are_a_typed_error(tmp_path):
    (tmp_path / "leases").write_text("a file in its place")

    with (
        pytest.raises(DeviceError, match="cannot be kept"),
        lease(CARD, "t4", holder="a", exclusive=True, root=tmp_path / "leases"),
    ):
        pass


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


@pytest.mark.slow
@pytest.mark.parametrize("run", ["a", "b"])
def test_a_process_of_the_same_run_is_waited_for_whatever_the_patience(run, other, tmp_path, monkeypatch):
    """The others of pytest -n are bounded by their own limits."""
    monkeypatch.setattr(leases, "RUN", "a")
    other(True, run, seconds=2.0)

    with contextlib.suppress(DeviceError), lease(CARD, "t4", holder="x", exclusive=True, root=tmp_path, patience=0.1):
        assert run == "a"
        return
    assert run == "b"


@pytest.mark.slow
def test_a_lock_without_a_note_is_waited_for_a_moment(tmp_path):
    """Its holder has taken it and not yet said so, or has said that it goes and not yet let go."""
    with lease(CARD, "t4", holder="a", exclusive=True, root=tmp_path):
        pass
    (place,) = tmp_path.glob("*.lock")
    with place.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        threading.Timer(0.3, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        with lease(CARD, "t4", holder="a", exclusive=True, root=tmp_path):
            pass
        fcntl.flock(file, fcntl.LOCK_EX)
        with (
            pytest.raises(DeviceError, match="is held by another process"),
            lease(CARD, "t4", holder="a", exclusive=True, root=tmp_path),
        ):
            pass
