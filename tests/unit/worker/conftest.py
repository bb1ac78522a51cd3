"""After every test of the worker no process, no file and no descriptor is left."""

import contextlib
import gc
import os
import tempfile
from pathlib import Path

import pytest


def descriptors():
    gc.collect()
    opened = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            opened.append(str(entry.readlink()))
    return sorted(opened)


def children():
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


@pytest.fixture(autouse=True, scope="module")
def only_what_is_made_here_is_collected():
    """Beside PyTorch and what other files' tests made, collecting garbage takes half a second each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path_factory, monkeypatch):
    """No zombie, no file, no descriptor: after every test here."""
    scratch = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv("TMPDIR", str(scratch))
    before = descriptors(), children()
    yield
    assert (descriptors(), children()) == before
    assert list(scratch.iterdir()) == []
