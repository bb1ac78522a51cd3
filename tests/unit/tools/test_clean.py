"""chipproof clean shows what may go, and removes it only when it is told to."""

import contextlib
import json
import os
import re
import tempfile
from pathlib import Path

from harness.run import leases
from harness.store import Store
from tools import cli

ROOT = Path(__file__).parents[3]


def test_every_temporary_folder_outside_the_cache_has_a_name_that_is_known_here():
    """One in the cache lies in what is being built, and is known with that."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "harness").rglob("*.py")}
    found = {name: re.findall(r"(?:TemporaryDirectory|mkdtemp)\((.*)\) as", text) for name, text in texts.items()}
    calls = [(name, call) for name, those in found.items() for call in those]

    assert len(calls) > 5
    assert [one for one in calls if "prefix=scratch()" not in one[1] and "dir=str(engine.parent)" not in one[1]] == []


def test_old_files_are_shown_and_removed_only_when_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(leases, "LEASES", tmp_path / "leases")
    monkeypatch.setattr(leases, "SIMULATED", tmp_path / "leases" / "simulated")
    kept = Store(tmp_path / "cache").get("key", lambda path: path.write_bytes(b"x"), kind="engine")
    os.utime(kept.parent / "meta.json", (0, 0))
    (tmp_path / "leases").mkdir()
    note = tmp_path / "leases" / "nvidia-t4-0.1-0.json"
    note.write_text(json.dumps({"pid": 1 << 22, "born": 1, "holder": "a", "since": "then", "exclusive": True}))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (folder := tmp_path / f"chipproof-{1 << 22}-x").mkdir()
    (folder / "profile").touch()
    (tmp_path / f"chipproof-{os.getpid()}-x").mkdir()
    command = ["clean", "--cache", str(tmp_path / "cache"), "--older", "30", "--json"]

    def told(*more):
        with contextlib.suppress(SystemExit):
            cli.main([*command, *more])
        return json.loads(capsys.readouterr().out)

    shown = told()
    assert {(entry["path"], entry["removed"]) for entry in shown} == {
        (str(kept.parent), False), (str(note), False), (str(folder), False)
    }  # fmt: skip
    assert kept.exists()
    assert all(entry["removed"] for entry in told("--remove"))
    assert not kept.exists()
    assert not note.exists()
    assert not folder.exists()
