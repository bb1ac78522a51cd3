"""docs/architecture.md names what is in the code: files, functions, and arrows that go down."""

import importlib
import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.unit.test_layers import FLOOR

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / name for name in ("architecture.md", "architecture.zh-CN.md")]

both_pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def steps(page):
    """(file, names) of each numbered step: the names in backquotes that follow a file in its sentence."""
    text = page.read_text(encoding="utf-8")
    for step in re.findall(r"^\d+\. (.*?)(?=^\d+\. |^\n|^#)", text, re.MULTILINE | re.DOTALL):
        words = re.findall(r"`([^`]+)`", step)
        yield [word for word in words if "/" in word], [word for word in words if "/" not in word]


@both_pages
def test_every_name_in_a_step_is_defined_in_one_of_its_files(page):
    seen = 0
    for files, names in steps(page):
        modules = [importlib.import_module(f[:-3].replace("/", ".")) for f in files if f.endswith(".py")]
        if files and files[0].endswith("/"):
            modules.append(importlib.import_module(f"{files[0].rstrip('/').replace('/', '.')}.base"))
        for name in names:
            first, *rest = name.split(".")
            owners = [module for module in modules if hasattr(module, first)]
            fields = {
                field for m in modules for kind in vars(m).values() for field in getattr(kind, "__annotations__", ())
            }
            assert owners or name in fields, f"{page.name}: {name} is in none of {files}"
            for part in rest:
                assert hasattr(getattr(owners[0], first), part), f"{page.name}: {first} has no {part}"
            seen += 1
    assert seen >= 10


@both_pages
def test_every_arrow_of_the_picture_goes_down(page):
    picture = re.search(r"```mermaid\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[1]
    rooms = {
        "data": ("datasets", "baselines"),
        "metrics": ("metrics", "chips"),
        "words": ("errors", "case", "vocabulary"),
        "floor": ("arrays", "vendor", "store"),
    }
    arrows = 0
    for line in re.findall(r"^  (\w+(?: --> \w+)+)$", picture, re.MULTILINE):
        boxes = line.split(" --> ")
        for upper, lower in pairwise(boxes):
            if upper in ("conformance", "verbs"):
                continue
            ups, downs = (rooms.get(box, (box,)) for box in (upper, lower))
            assert min(FLOOR[name] for name in ups) > max(FLOOR[name] for name in downs), f"{upper} --> {lower}"
            arrows += 1
    assert arrows >= 10


@both_pages
def test_every_room_stands_in_the_picture(page):
    picture = re.search(r"```mermaid\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[1]

    assert not [room for room in FLOOR if f"{room}/" not in picture and f"{room}.py" not in picture]
