"""Each call of a simulated SDK stands in its README, which says what the call rests on and what is a guess."""

from __future__ import annotations

import fnmatch
import itertools
import re
from pathlib import Path

import pytest

SDK = Path(__file__).parents[2] / "sdk"

CALLS = {  # where the calls of an SDK are, and how one is found there
    "ascend": ("acl/*.py", r'@(?:chip\.)?vendor\("acl\.([\w.]+)"'),
    "magicmind": ("magicmind/python/runtime/*.py", r'"mm\.([\w.]+)"'),
    "tensorrt": ("**/*.py", r"^def ((?:cuda|cu|nvrtc|nvml)[A-Z]\w+)"),
}


def named(text):
    """Patterns of calls in the first cells of the tables: `set_{a,b}`, `get_*_dims` and `Model.parse, ...`."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
    words = []
    for code in re.findall(r"`([^`]+)`", " ".join(cells)):
        parts = [part.split(",") for part in re.split(r"[{}]", code)] if "{" in code else [[code]]
        for chosen in itertools.product(*parts):
            words += re.sub(r"\(.*?\)", "", "".join(word.strip() for word in chosen)).split(",")
    return {part for word in words for part in word.strip().rpartition(".")} - {"", ".", "*"}


@pytest.mark.parametrize("sdk", CALLS)
def test_the_readme_of_a_simulator_has_every_call(sdk):
    where, pattern = CALLS[sdk]
    calls = {call for path in (SDK / sdk).glob(where) for call in re.findall(pattern, path.read_text("utf-8"), re.M)}
    known = named((SDK / sdk / "README.md").read_text(encoding="utf-8"))
    lacking = [call for call in calls if not any(fnmatch.fnmatchcase(call.rpartition(".")[2], word) for word in known)]

    assert len(calls) > 40
    assert not lacking, f"{sdk}/README.md says nothing of {sorted(lacking)}: what do they rest on?"


def test_braces_stars_and_lists_of_a_readme_name_calls():
    text = "| call | |\n|---|---|\n| `Net.{mark,unmark}_output`, `a.get_*_dims` | `not_this` |\n| `parse(x, y)` | - |"

    assert named(text) == {"Net", "mark_output", "unmark_output", "a", "get_*_dims", "parse"}
