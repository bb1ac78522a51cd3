"""The store makes a thing once, keeps it whole or not at all, and notices when it was changed."""

import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import filelock
import pytest

from harness.case import Case, Precision
from harness.errors import BuildError, StoreError
from harness.store import Left, Store, canonical, digest, whole_file

ROOT = Path(__file__).parents[2]


def writes(text):
    return lambda path: path.write_text(text)


def never(path):
    raise AssertionError("nothing should be built")


def left_in(root):
    """What a user would find in the cache, locks aside."""
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if not p.name.endswith(".lock") and not p.is_dir())


def test_what_was_built_is_not_built_again(tmp_path):
    first = Store(tmp_path)
    path = first.get({"model": "m", "batch": 4}, writes("engine"), kind="engine")

    second = Store(tmp_path)
    again = second.get({"batch": 4, "model": "m"}, never, kind="engine")

    assert again == path
    assert path.read_text() == "engine"
    assert (first.built, first.hits, second.built, second.hits) == (1, 0, 0, 1)


@pytest.mark.parametrize("other", [{"batch": 8}, {"batch": "4"}, {"batch": 4.5}, {"batch": 4, "tiers": []}, {"bat": 4}])
def test_another_key_is_another_artefact(tmp_path, other):
    store = Store(tmp_path)
    path = store.get({"batch": 4}, writes("a"), kind="engine")

    assert store.get(other, writes("b"), kind="engine") != path
    assert path.read_text() == "a"
    assert store.built == 2


def test_another_kind_is_another_artefact(tmp_path):
    store = Store(tmp_path)

    assert store.get({"a": 1}, writes("a"), kind="onnx") != store.get({"a": 1}, writes("b"), kind="engine")


def test_a_key_may_be_made_of_dataclasses_enums_and_tuples():
    @dataclass(frozen=True)
    class Spec:
        case: Case
        tiers: tuple[int, ...] = (1, 4)

    text = canonical({"spec": Spec(Case("m", "cpu", Precision.FP16, 4)), "none": None})

    assert json.loads(text) == {
        "none": None,
        "spec": {"case": {"batch": 4, "chip": "cpu", "model": "m", "precision": "fp16"}, "tiers": [1, 4]},
    }


@pytest.mark.parametrize("key", [{1: "a"}, {"path": Path("x")}, {"set": {1}}, {"bytes": b"x"}], ids=str)
def test_a_key_without_one_text_is_refused(tmp_path, key):
    with pytest.raises(TypeError):
        Store(tmp_path).get(key, never, kind="engine")


def test_a_nan_in_a_key_is_refused():
    with pytest.raises(ValueError, match="Out of range"):
        canonical({"threshold": float("nan")})


def test_a_key_is_one_line_of_sorted_json_in_its_own_letters():
    """Caches that are there were filled under these texts."""
    assert canonical({"b": [1, None, True], "a": "脸"}) == '{"a":"脸","b":[1,null,true]}'


def test_figures_that_differ_in_their_last_digit_are_two_keys():
    assert canonical({"threshold": 0.1 + 0.2}) != canonical({"threshold": 0.3})


def test_an_artefact_may_be_a_directory_and_has_a_suffix(tmp_path):
    def build(path):
        (path / "inner").mkdir(parents=True)
        (path / "inner" / "a.bin").write_bytes(b"a")

    path = Store(tmp_path).get({"a": 1}, build, kind="engine", suffix=".dir")

    assert path.name == "engine.dir"
    assert (path / "inner" / "a.bin").read_bytes() == b"a"
    assert Store(tmp_path).get({"a": 1}, never, kind="engine", suffix=".dir") == path


def test_the_digest_of_a_directory_depends_on_names_and_contents(tmp_path):
    for name, file, text in (("a", "x", "1"), ("b", "x", "1"), ("c", "y", "1"), ("d", "x", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(text)

    a, b, c, d = (digest(tmp_path / name) for name in "abcd")

    assert a == b
    assert len({a, c, d}) == 3


def test_key_digest_and_size_stand_beside_the_artefact(tmp_path, monkeypatch):
    now = [5.0]
    monkeypatch.setattr(time, "time", lambda: 1e9)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def build(path):
        now[0] += 1.2341
        path.write_text("abc")

    store = Store(tmp_path)
    path = store.get({"model": "人"}, build, kind="engine")

    text = (path.parent / "meta.json").read_text(encoding="utf-8")
    meta = json.loads(text)
    assert text.splitlines()[1:4] == [' "format": 1,', ' "key": {', '  "model": "人"'], "people read it"
    assert store.told(path) == meta
    assert meta["key"] == {"model": "人"}
    assert (meta["bytes"], meta["seconds"], meta["built"]) == (3, 1.234, "2001-09-09T01:46:40Z")
    # sha256sum of "abc", FIPS 180-4 example
    assert meta["sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_a_process_built_and_what_it_got_last_is_known(tmp_path):
    first, second = Store(tmp_path), Store(tmp_path)
    one, two = (first.get(key, writes("x"), kind="engine") for key in "ab")
    second.get("a", never, kind="engine")

    assert (first.made_here(one), first.made_here(two), second.made_here(one)) == (True, True, False)
    assert (first.latest, second.latest) == ({"engine": two}, {"engine": one})
    with pytest.raises(StoreError):
        second.get("c", lambda path: None, kind="engine")
    assert second.latest == {}, "that of another key is not what was asked for"


def test_what_was_kept_in_another_format_is_built_again(tmp_path):
    path = Store(tmp_path).get("key", writes("old"), kind="engine")
    meta = path.parent / "meta.json"
    meta.write_text(meta.read_text().replace('"format": 1', '"format": 0'))

    assert Store(tmp_path).get("key", writes("new"), kind="engine").read_text() == "new"


def test_a_file_of_a_folder_that_was_renamed_is_noticed_in_the_same_process(tmp_path):
    def build(path):
        path.mkdir()
        (path / "a.bin").write_bytes(b"a")

    store = Store(tmp_path)
    path = store.get("key", build, kind="engine")
    (path / "a.bin").rename(path / "b.bin")

    assert [file.name for file in store.get("key", build, kind="engine").iterdir()] == ["a.bin"]


def damage_content(path):
    before = path.stat().st_mtime_ns
    path.write_text("wrong!")
    os.utime(path, ns=(before + 1, before + 1))  # a kernel's clock for files may stand still for milliseconds


def damage_by_truncation(path):
    os.truncate(path, 2)


def damage_by_removal(path):
    path.unlink()


def damage_the_meta(path):
    (path.parent / "meta.json").write_text('{"format": 1')


def remove_the_meta(path):
    (path.parent / "meta.json").unlink()


ARTEFACT_DAMAGE = (damage_content, damage_by_truncation, damage_by_removal)
META_DAMAGE = (damage_the_meta, remove_the_meta)  # the meta file is read once in a process


@pytest.mark.parametrize(
    ("damage", "same_process"),
    [(damage, False) for damage in ARTEFACT_DAMAGE + META_DAMAGE] + [(damage, True) for damage in ARTEFACT_DAMAGE],
)
def test_a_damaged_artefact_is_noted_and_built_again(tmp_path, damage, same_process):
    store = Store(tmp_path)
    path = store.get({"a": 1}, writes("engine"), kind="engine")
    damage(path)

    said = []
    again = store if same_process else Store(tmp_path)
    again._say = said.append
    built = again.get({"a": 1}, writes("engine"), kind="engine")

    assert built == path
    assert path.read_text() == "engine"
    assert len(said) == 1
    assert "damaged" in said[0]
    assert again.notes[-1:] == said
    assert left_in(tmp_path) == left_in_sound(path, tmp_path)


def left_in_sound(path, root):
    return sorted(str(p.relative_to(root)) for p in (path, path.parent / "meta.json"))


def test_the_content_is_hashed_once_in_a_process(tmp_path, monkeypatch):
    Store(tmp_path).get({"a": 1}, writes("engine"), kind="engine")
    hashed = []
    real = digest
    monkeypatch.setattr("harness.store.digest", lambda path: hashed.append(path) or real(path))

    store = Store(tmp_path)
    for _ in range(3):
        store.get({"a": 1}, never, kind="engine")

    assert len(hashed) == 1
    assert store.hits == 3


def test_a_build_that_fails_leaves_nothing_and_its_error_travels(tmp_path):
    def build(path):
        path.write_text("half")
        raise BuildError("the compiler said no", hint="ask it why")

    store = Store(tmp_path)
    with pytest.raises(BuildError, match="said no"):
        store.get({"a": 1}, build, kind="engine")

    assert left_in(tmp_path) == []
    assert store.built == 0
    assert store.get({"a": 1}, writes("good"), kind="engine").read_text() == "good"


def test_a_build_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="wrote no engine"):
        Store(tmp_path).get({"a": 1}, lambda path: None, kind="engine")

    assert left_in(tmp_path) == []


@pytest.mark.parametrize(("free", "full"), [(0, True), (2**20 - 1, True), (2**20, False)])
def test_a_library_that_hides_that_the_disk_is_full_is_seen_through(free, full, tmp_path, monkeypatch):
    """PyTorch then says "enforce fail at inline_container.cc", ONNX Runtime "Protobuf serialization failed"."""

    def build(path):
        path.write_bytes(b"a part")
        raise RuntimeError("unexpected pos 64 vs 0")

    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr("harness.store.shutil.disk_usage", lambda path: usage)

    with pytest.raises(StoreError if full else RuntimeError, match="no space left" if full else "unexpected pos"):
        Store(tmp_path).get({"a": 1}, build, kind="weights")
    assert left_in(tmp_path) == []


def test_a_full_disk_while_building_is_a_store_error_that_leaves_nothing(tmp_path):
    def build(path):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with pytest.raises(StoreError, match="no space left") as caught:
        Store(tmp_path).get({"a": 1}, build, kind="engine")

    assert "--cache" in caught.value.hint
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("step", ["fsync", "open", "mkdir"])
def test_a_disk_that_fills_at_any_step_is_a_store_error(tmp_path, monkeypatch, step):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    target = {"fsync": "os.fsync", "open": "pathlib.Path.write_text", "mkdir": "pathlib.Path.mkdir"}[step]
    monkeypatch.setattr(target, full)
    with pytest.raises(StoreError, match="no space left"):
        Store(tmp_path).get({"a": 1}, lambda path: path.write_bytes(b"x"), kind="engine")

    assert left_in(tmp_path) == []


def test_an_error_about_another_file_is_not_called_the_caches(tmp_path):
    def build(path):
        raise PermissionError(errno.EACCES, "Permission denied", "/somewhere/labels.txt")

    with pytest.raises(PermissionError):
        Store(tmp_path).get({"a": 1}, build, kind="engine")


def test_a_cache_that_cannot_be_a_directory_is_a_store_error(tmp_path):
    (tmp_path / "cache").write_text("a file in its place")

    with pytest.raises(StoreError, match="cannot be written") as caught:
        Store(tmp_path / "cache").get({"a": 1}, never, kind="engine")

    assert "--cache" in caught.value.hint


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST])
@pytest.mark.parametrize("named", ["cache/engine/x", "cache", "."])
def test_a_cache_that_refuses_a_file_of_its_own_or_a_folder_above_is_a_store_error(tmp_path, code, named):
    def build(path):
        raise OSError(code, "refused", str(tmp_path / named))

    with pytest.raises(StoreError, match="cannot be written"):
        Store(tmp_path / "cache").get("key", build, kind="engine")


@pytest.mark.parametrize(("code", "named"), [(errno.EIO, "cache/x"), (errno.EACCES, "other/x"), (errno.EACCES, None)])
def test_any_other_error_of_a_build_stays_what_it_is(tmp_path, monkeypatch, code, named):
    monkeypatch.chdir(tmp_path)  # a relative cache lies below whatever has no name

    def build(path):
        raise OSError(code, "refused", named)

    with pytest.raises(OSError, match="refused") as caught:
        Store(Path("cache")).get("key", build, kind="engine")
    assert not isinstance(caught.value, StoreError)


def test_a_full_quota_is_a_full_disk(tmp_path):
    def build(path):
        raise OSError(errno.EDQUOT, "Disk quota exceeded", str(path))

    with pytest.raises(StoreError, match="no space left"):
        Store(tmp_path).get("key", build, kind="engine")


def test_a_cache_that_went_meanwhile_is_made_again(tmp_path):
    store = Store(tmp_path / "deep" / "cache")
    shutil.rmtree(tmp_path / "deep")

    assert store.get("key", writes("x"), kind="engine").read_text() == "x"


def test_a_read_only_cache_serves_what_it_has_and_refuses_the_rest(tmp_path, monkeypatch):
    path = Store(tmp_path).get({"a": 1}, writes("engine"), kind="engine")

    def refuse(name, *args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system", str(name))

    for name in ("mkdir", "write_text", "rename", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    for name in ("mkdir", "utime"):
        monkeypatch.setattr(os, name, refuse)
    store = Store(tmp_path)

    assert store.get({"a": 1}, never, kind="engine") == path
    with pytest.raises(StoreError, match="cannot be written"):
        store.get({"a": 2}, writes("other"), kind="engine")


SLOW_BUILD = """
    import sys
    from pathlib import Path
    from harness.store import Store

    def build(path):
        with open(sys.argv[2], "a") as log:
            log.write("built\\n")
        sys.stdin.readline()
        path.write_text("engine")

    store = Store(Path(sys.argv[1]), say=lambda note: print(note, flush=True))
    path = store.get({"a": 1}, build, kind="engine")
    print(path.read_text(), store.built, store.hits)
"""


def start(tmp_path, told):
    """A process that builds until it reads a line from `told`."""
    command = [sys.executable, "-c", textwrap.dedent(SLOW_BUILD), str(tmp_path / "cache"), str(tmp_path / "log")]
    return subprocess.Popen(command, cwd=ROOT, stdin=told, stdout=subprocess.PIPE, text=True)


def wait_for(path):
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)


def test_two_processes_that_want_the_same_build_it_once(tmp_path):
    first = start(tmp_path, subprocess.PIPE)
    wait_for(tmp_path / "log")
    second = start(tmp_path, subprocess.DEVNULL)  # it would build at once
    note = second.stdout.readline()

    said = [first.communicate("\n", timeout=60)[0], second.communicate(timeout=60)[0]]

    assert note.startswith(f"waiting for pid {first.pid}, which is building engine")
    assert (tmp_path / "log").read_text() == "built\n"
    assert said == ["engine 1 0\n", "engine 0 1\n"]


def test_who_waits_long_is_told_again_and_for_how_long(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.store.TELL_S", 0.2)
    told, again = [], threading.Event()

    def say(note):
        told.append(note)
        if len(told) == 2:
            again.set()

    waiting = threading.Thread(target=lambda: Store(tmp_path, say).get("key", never, kind="engine"))

    def build(path):
        waiting.start()
        assert again.wait(30)
        path.write_text("engine")

    Store(tmp_path).get("key", build, kind="engine")
    waiting.join()

    assert told[0].startswith(f"waiting for pid {os.getpid()}, which is building engine ")
    assert told[1][: len(told[0])] == told[0]
    assert re.fullmatch(r", for \d+ s", told[1][len(told[0]) :])


def test_who_waits_is_told_at_once_and_then_every_half_minute(tmp_path, monkeypatch):
    waited = []

    class Lock:
        def __init__(self, path):
            pass

        def acquire(self, timeout, poll_interval):
            waited.append(timeout)
            if len(waited) < 4:
                raise filelock.Timeout("")

        def release(self):
            pass

    monkeypatch.setattr(filelock, "FileLock", Lock)
    store = Store(tmp_path)
    store.get("key", writes("x"), kind="engine")

    assert waited == [0, 30, 30, 30]
    assert store.notes == ["waiting for another process", *["waiting for another process, for 0 s"] * 2]


def _get_from_pool(root):
    store = Store(Path(root))
    store.get({"a": 1}, lambda path: path.write_text(str(os.getpid())), kind="engine")
    return store.built


def test_many_processes_that_race_build_it_once(tmp_path):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        built = pool.map(_get_from_pool, [str(tmp_path)] * 12, chunksize=1)

    assert sum(built) == 1


def test_a_builder_that_was_killed_blocks_nobody_and_its_half_goes(tmp_path):
    killed = start(tmp_path, subprocess.PIPE)
    wait_for(tmp_path / "log")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (leftover,) = (tmp_path / "cache" / "engine").glob(".*.tmp")

    path = Store(tmp_path / "cache").get({"a": 1}, writes("engine"), kind="engine")

    assert path.read_text() == "engine"
    assert not leftover.exists()


def killed(store, key):
    """A process that builds, says so, and is killed in the middle."""
    if (pid := os.fork()) == 0:

        def build(path):
            path.write_bytes(b"half" * 1000)
            os.kill(os.getpid(), signal.SIGKILL)

        store.get(key, build, kind="engine")
    os.waitpid(pid, 0)


def test_what_a_killed_build_left_is_shown_and_removed_and_nothing_else(tmp_path):
    store = Store(tmp_path)
    whole = store.get("whole", lambda path: path.write_bytes(b"kept"), kind="engine")
    killed(store, "half")

    left = store.leftovers()
    half, note = left
    assert (half.why, half.size, note.why) == ("half made", 4000, "lock note of a build that has ended")
    assert note.size == len(note.path.read_text()) > 0
    assert all(store.remove(entry) for entry in left)
    assert store.leftovers() == []
    assert whole.read_bytes() == b"kept"


def test_what_is_being_built_is_neither_shown_nor_removed(tmp_path):
    store = Store(tmp_path)
    seen = []

    def build(path):
        path.write_bytes(b"half")
        seen.append(store.leftovers())
        seen.append(store.remove(Left(path.parent, 4, "half made")))
        assert path.exists()

    store.get("key", build, kind="engine")
    assert seen == [[], False]


def test_what_lies_outside_the_cache_is_removed_without_a_lock_and_a_link_without_its_target(tmp_path):
    store, target = Store(tmp_path / "cache"), tmp_path / "target"
    folder, file, link = (tmp_path / name for name in ("folder", "file", "link"))
    for made in (folder, target):
        made.mkdir()
    file.write_text("x")
    link.symlink_to(target)

    assert [store.remove(Left(path, 1, "old")) for path in (folder, file, link)] == [True] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "target"]


def test_the_longest_unused_go_first_by_age_and_by_size(tmp_path):
    store = Store(tmp_path)
    for days, name in ((40, "old"), (20, "older than most"), (1, "new")):
        made = store.get(name, lambda path: path.write_bytes(b"x" * 1_000_000), kind="engine")
        then = time.time() - days * 86400
        os.utime(made.parent / "meta.json", (then, then))

    assert [entry.why for entry in store.old(30, None)] == ["unused for 40 days"]
    assert [entry.why.split(",")[1] for entry in store.old(None, 0.0015)] == [
        " unused for 40 days",
        " unused for 20 days",
    ]
    assert store.old(None, None) == []
    for days, most_gb in ((30, None), (None, 0.0015)):
        (gone,) = store.old(days, most_gb)
        assert gone.size > 1_000_000
        assert store.remove(gone)
        assert not gone.path.exists()


def test_what_is_as_old_or_as_large_as_allowed_stays(tmp_path, monkeypatch):
    store = Store(tmp_path)
    made = store.get("key", writes("x" * 1000), kind="engine")
    os.utime(made.parent / "meta.json", (0, 0))
    monkeypatch.setattr(time, "time", lambda: 30 * 86400.0)
    size = 1000 + (made.parent / "meta.json").stat().st_size

    assert store.old(30, size / 1e9) == []
    assert [left.why for left in (*store.old(29.99, None), *store.old(None, (size - 1) / 1e9))] == [
        "unused for 30 days",
        f"over {(size - 1) / 1e9:g} GB, unused for 30 days",
    ]
    assert [left.size for left in store.old(29, None)] == [size]


def test_what_goes_by_age_makes_room_for_the_rest(tmp_path):
    store = Store(tmp_path)
    for days, name in ((40, "old"), (20, "kept")):
        made = store.get(name, writes("x" * 1000), kind="engine")
        then = time.time() - days * 86400
        os.utime(made.parent / "meta.json", (then, then))

    assert [left.why for left in store.old(30, 1800e-9)] == ["unused for 40 days"]


def test_a_removal_that_was_killed_is_ended(tmp_path):
    store = Store(tmp_path)
    gone = tmp_path / "engine" / ".0123.gone.tmp"
    (gone / "inner").mkdir(parents=True)

    for name in (".0123.lock", ".0123.whole", ".0123.zip", "0123.tmp"):
        (tmp_path / "engine" / name).touch()

    (left,) = store.leftovers()
    assert (left.path, left.size) == (gone, 0)
    assert store.remove(left)
    assert not gone.exists()
    assert not store.remove(left), "there is nothing more"


def test_what_was_used_today_is_not_old(tmp_path):
    store = Store(tmp_path)
    made = store.get("key", lambda path: path.write_bytes(b"x"), kind="engine")
    os.utime(made.parent / "meta.json", (0, 0))

    store.get("key", lambda path: path.write_bytes(b"x"), kind="engine")

    assert store.old(1, None) == []


def test_a_cache_below_a_folder_that_cannot_be_written_is_a_typed_error(tmp_path):
    (tmp_path / "home").write_text("a file, as good as a home that is read-only")

    with pytest.raises(StoreError, match="cannot be written") as caught:
        Store(tmp_path / "home" / ".cache" / "chipproof").get("key", lambda path: None, kind="engine")
    assert "--cache" in caught.value.hint


def test_a_group_shares_a_cache_by_its_umask(tmp_path):
    before = os.umask(0o002)
    try:
        path = Store(tmp_path / "cache").get({"a": 1}, writes("engine"), kind="engine")
    finally:
        os.umask(before)

    assert {folder.stat().st_mode & 0o777 for folder in path.parents[:3]} == {0o775}
    assert path.stat().st_mode & 0o777 == 0o664


@pytest.mark.parametrize("opened", ["cache", "cache/engine"])
def test_a_cache_that_every_user_can_write_is_not_trusted(tmp_path, opened):
    Store(tmp_path / "cache").get({"a": 1}, writes("engine"), kind="engine")
    (tmp_path / opened).chmod(0o777)

    with pytest.raises(StoreError, match=f"every user .* can write .*{opened}(.|\n)*chmod o-w"):
        Store(tmp_path / "cache").get({"a": 1}, never, kind="engine")


def test_a_cache_made_under_an_open_umask_is_trusted(tmp_path):
    before = os.umask(0)
    try:
        Store(tmp_path / "cache").get({"a": 1}, writes("engine"), kind="engine")
    finally:
        os.umask(before)

    Store(tmp_path / "cache").get({"a": 1}, never, kind="engine")


def test_a_note_that_is_nested_too_deeply_is_a_damaged_one(tmp_path):
    path = Store(tmp_path).get({"a": 1}, writes("engine"), kind="engine")
    (path.parent / "meta.json").write_text("[" * 100_000)

    store = Store(tmp_path)
    store.get({"a": 1}, writes("engine"), kind="engine")

    assert store.built == 1
    assert "damaged" in store.notes[0]


def test_what_a_killed_process_left_of_a_file_goes_when_it_is_written_again(tmp_path):
    names = [".latest.html.123", ".latest.html.456", ".latest.html.bak", ".latest.html.123.txt", ".other.html.123"]
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))
    os.utime(tmp_path / names[1])  # of another process, or of another host that writes at this moment

    with whole_file(tmp_path / "latest.html") as beside:
        beside.touch()

    assert {path.name for path in tmp_path.iterdir()} == {"latest.html", *names[1:]}


def test_what_is_an_hour_old_may_still_belong_to_a_process(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 10_000.0)
    for name, then in ((".a.1", 6400), (".a.2", 6399)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (then, then))

    with whole_file(tmp_path / "a") as beside:
        beside.touch()

    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.1", "a"]


def test_a_whole_file_takes_the_place_of_the_last_in_a_folder_old_or_new(tmp_path):
    path = tmp_path / "new" / "deep" / "run.json"
    for text in ("one", "two"):
        with whole_file(path) as beside:
            assert beside.parent == path.parent
            beside.write_text(text)
            assert not path.exists() or path.read_text() == "one"

    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_was_not_written_whole_leaves_the_last_one(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")

    def broken_off():
        with whole_file(path) as beside:
            beside.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken_off()

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_of_a_cache_is_made_before_others_make_it_by_an_open_umask(tmp_path):
    before = os.umask(0)
    try:
        Store(tmp_path / "deep" / "cache")
    finally:
        os.umask(before)

    assert (tmp_path / "deep" / "cache").stat().st_mode & 0o777 == 0o775
