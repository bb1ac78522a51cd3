"""Mutants: which changes are planted, and that a draw can be repeated."""

import pytest

pytest.importorskip("cosmic_ray", reason="pip install cosmic-ray, as make mutants does")

from tests import mutants

SOURCE = """from __future__ import annotations
from dataclasses import dataclass

@dataclass(frozen=True)
class Frame:
    width: int | None
    height: int

@staticmethod
def frame(width: int | None, *more: int) -> Frame | None:
    return Frame(width, max(width, more[0])) if width is not None else None
"""


def lines(each=0, seed=0, source=SOURCE, left_out=()):
    return [" ".join(mutant.now.split()) for mutant in mutants.chosen("m.py", source, left_out, each, seed)]


def test_arguments_are_swapped_but_for_those_without_an_order():
    swapped = [line for line in lines() if line.startswith("return Frame( max")]

    assert swapped == ["return Frame( max(width, more[0]),width) if width is not None else None"]
    assert not any("more[0],width" in line.replace(" ", "") for line in lines())


def test_annotations_and_what_only_forbids_are_left_alone():
    changed = [mutant.code for mutant in mutants.chosen("m.py", SOURCE, (), 0, 0)]

    assert sum("@dataclass" not in code for code in changed) == 1, "the decorator itself may go"
    assert all("frozen=True" in code or "@dataclass" not in code for code in changed)
    assert all("@staticmethod" in code and "width: int | None, *more" in code for code in changed)


def test_left_out_operators_make_no_mutant():
    assert any("if width is None" in line for line in lines())
    assert not any("if width is None" in line for line in lines(left_out=["Operator_IsNot_Is$"]))


def test_of_several_exceptions_one_with_a_dotted_name_makes_no_mutant():
    source = "try:\n    run()\nexcept (json.JSONDecodeError, OSError):\n    stop()\n"

    assert lines(source=source) == ["except (json.JSONDecodeError, CosmicRayTestingException):"]


def test_a_draw_is_of_different_places_and_the_same_each_time():
    many = "def f(x):\n" + "".join(f"    x = x + {n}\n" for n in range(10, 60))

    drawn = [mutant.line for mutant in mutants.chosen("m.py", many, (), 20, 1)]

    assert len(drawn) == 20
    assert lines(20, 1, many) == lines(20, 1, many) != lines(20, 2, many)
    assert len(lines(3)) == 3


def test_a_mutant_runs_the_test_file_that_mirrors_its_module():
    also = {"harness/judge/timing.py": ["tests/unit/run/test_throughput.py"]}

    assert mutants.tested_by("harness/judge/timing.py", also) == [
        "tests/unit/judge/test_timing.py", "tests/unit/run/test_throughput.py",
    ]  # fmt: skip
    assert mutants.tested_by("harness/vendor/logs/__init__.py", {}) == []


@pytest.mark.slow
def test_a_mutant_that_no_test_notices_survives(tmp_path):
    module, test = tmp_path / "double.py", tmp_path / "test_double.py"
    module.write_text("def double(x):\n    return 2 * x\n\n\ndef half(x):\n    return x / 2\n")
    test.write_text(
        "import sys, pathlib\nsys.path.insert(0, str(pathlib.Path(__file__).parent))\nimport double\n\n\n"
        "def test_double():\n    assert double.double(3) == 6\n"
    )
    planted = list(mutants.chosen("double.py", module.read_text(), (), 3, 0))

    number, alive = mutants.survivors(module, planted, ["-c/dev/null", str(test)])

    assert number == 3
    assert [mutant.line for mutant in alive] == [mutant.line for mutant in planted if mutant.line == 6]
    assert module.read_text().startswith("def double(x):\n    return 2 * x\n")


def test_the_reason_of_a_survivor_is_that_of_its_line():
    mutant = mutants.Mutant("harness/a.py", "NumberReplacer", 3, "x < 2", "x <  3", "")
    row = {"module": "harness/a.py", "now": "x < 3", "why": "x is 0 or 1"}

    assert mutants.reason(mutant, [row]) == "x is 0 or 1"
    assert mutants.reason(mutant, [{**row, "module": "harness/b.py"}]) == ""


def test_every_survivor_on_file_is_of_a_module_and_has_its_reason():
    rows = mutants.tomllib.loads((mutants.ROOT / "tests" / "survivors.toml").read_text(encoding="utf-8"))["survivor"]

    for row in rows:
        assert (mutants.ROOT / row["module"]).is_file(), row
        assert row["now"] == " ".join(row["now"].split()), "blanks are single, or the line is never found"
        assert row["why"]
    assert len({(row["module"], row["now"]) for row in rows}) == len(rows)
