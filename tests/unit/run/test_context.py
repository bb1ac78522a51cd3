"""What all cases of a run share."""

import ast
import importlib
from dataclasses import replace
from pathlib import Path

from harness.run import context


def test_what_a_plug_in_model_does_is_part_of_every_key(tmp_path, monkeypatch):
    """Its code is under no name of the harness: kept answers would survive its change."""
    from harness.models import MODELS

    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "lab_model.py").write_text("def preprocess(image, raw): return image\n")
    lab = importlib.import_module("lab_model")
    model = MODELS["regnety_016"]
    plugin = replace(model, protocols=(replace(model.protocols[0], preprocess=lab.preprocess),))

    before = context.own_code(plugin)
    (tmp_path / "lab_model.py").write_text("def preprocess(image, raw): return image + 1\n")
    assert before
    assert context.own_code(plugin) != before
    assert not any(context.own_code(own) for own in MODELS.values())


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "harness":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("harness."):
            yield node.module.removeprefix("harness.").replace(".", "/")


def test_kept_answers_depend_on_all_the_code_that_makes_them():
    """What pre- and post-processing import is part of the key, but for types and errors."""
    root = Path(context.__file__).parents[1]
    files = [
        f
        for name in context.PREPARATION
        for f in ([root / f"{name}.py"] if (root / f"{name}.py").exists() else (root / name).rglob("*.py"))
    ]
    types = {"case", "errors", "backends/base", "datasets/base"}

    used = {name for file in files for name in imported(file)} - types
    assert {
        name for name in used if not any(f"{name}/".startswith(f"{part}/") for part in context.PREPARATION)
    } == set()
