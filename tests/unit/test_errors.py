"""Errors: a fact and a next step each, told apart by their stage."""

import ast
import pickle
from pathlib import Path

import pytest

from harness import errors
from harness.errors import DeviceError, HarnessError, WorkerError


def classes(base=HarnessError):
    return [base, *(found for child in base.__subclasses__() for found in classes(child))]


OWN = [error for error in classes() if error.__module__ == errors.__name__]


def test_an_error_shows_its_fact_and_its_next_step():
    error = HarnessError("the disk is full", "free 3 GB")

    assert str(error) == "the disk is full\n  next: free 3 GB"
    assert (error.fact, error.hint) == ("the disk is full", "free 3 GB")


def test_an_error_without_a_next_step_is_none():
    with pytest.raises(TypeError):
        HarnessError("the disk is full")


def test_the_next_step_is_given_by_name():
    """Else two texts may change places, and no type tells."""
    names, root = {error.__name__ for error in classes()}, Path(errors.__file__).parents[1]
    unnamed = [
        f"{path.relative_to(root)}:{node.lineno}"
        for folder in ("harness", "tools")
        for path in sorted((root / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and len(node.args) > 1 and ast.unparse(node.func).rpartition(".")[2] in names
    ]

    assert unnamed == []


def test_every_class_has_a_stage_of_its_own():
    stages = [error.stage for error in OWN]

    assert len(set(stages)) == len(stages) >= 12


def test_the_overview_in_the_docstring_names_every_class_under_its_parent():
    lines = [line for line in errors.__doc__.splitlines() if "──" in line]
    depths = {line.split("──")[1].split()[0]: line.index("──") for line in lines}

    assert set(depths) == {error.__name__ for error in OWN} - {"HarnessError"}
    assert {name for name, depth in depths.items() if depth > min(depths.values())} == {"WorkerError"}
    assert WorkerError.__base__ is DeviceError


@pytest.mark.parametrize("error", OWN, ids=lambda error: error.__name__)
def test_an_error_comes_whole_out_of_another_process(error):
    again = pickle.loads(pickle.dumps(error("fact", hint="hint")))

    assert (type(again), again.fact, again.hint) == (error, "fact", "hint")


def test_a_path_that_may_not_be_read_is_named_with_the_next_step():
    error = errors.closed(PermissionError(13, "Permission denied", "/data/weights"))

    assert str(error) == "no access to /data/weights: Permission denied\n  next: check its permissions"
