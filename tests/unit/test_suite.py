"""What all cases of a run share."""

import ast
import importlib
import platform
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import suite

FAULTS = """
import resource, sys
from harness import suite

if sys.argv[1] == "kept":
    suite._keep_memory()
for _ in range(12):
    bytearray(64 << 20)  # the first ones are new in any case
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    bytearray(64 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
@pytest.mark.parametrize("memory", ["kept", "given back"])
def test_large_blocks_such_as_eager_pytorch_asks_for_do_not_come_anew_from_the_kernel(memory):
    """Counted in page faults."""
    done = subprocess.run([sys.executable, "-c", FAULTS, memory], capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    pages = (64 << 20) // resource.getpagesize()
    assert round(int(done.stdout) / pages) == (0 if memory == "kept" else 4)


def test_the_reference_network_keeps_its_memory(monkeypatch, tmp_path):
    import torch

    told = []
    monkeypatch.setattr(suite, "_keep_memory", lambda: told.append("kept"))
    torch.save(torch.nn.Linear(1, 1).state_dict(), tmp_path / "weights.pt")
    shared = suite.Suite(SimpleNamespace())
    shared._weights["tiny"] = suite.Weighed(tmp_path / "weights.pt", "", True, "")

    shared.network(SimpleNamespace(name="tiny", network=lambda: torch.nn.Linear(1, 1)))

    assert told == ["kept"]


def test_what_a_plug_in_model_does_is_part_of_every_key(tmp_path, monkeypatch):
    """Its code is under no name of the harness: kept answers would survive its change."""
    from harness.models import MODELS

    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "lab_model.py").write_text("def preprocess(image, raw): return image\n")
    lab = importlib.import_module("lab_model")
    model = MODELS["regnety_016"]
    plugin = replace(model, protocols=(replace(model.protocols[0], preprocess=lab.preprocess),))

    before = suite.own_code(plugin)
    (tmp_path / "lab_model.py").write_text("def preprocess(image, raw): return image + 1\n")
    assert before
    assert suite.own_code(plugin) != before
    assert not any(suite.own_code(own) for own in MODELS.values())


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "harness":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("harness."):
            yield node.module.removeprefix("harness.").replace(".", "/")


def test_kept_answers_depend_on_all_the_code_that_makes_them():
    """What pre- and post-processing import is part of the key, but for types and errors."""
    root = Path(suite.__file__).parent
    files = [
        f
        for name in suite.PREPARATION
        for f in ([root / f"{name}.py"] if (root / f"{name}.py").exists() else (root / name).rglob("*.py"))
    ]
    types = {"case", "errors", "backends/base", "datasets/base"}

    used = {name for file in files for name in imported(file)} - types
    assert {name for name in used if not any(f"{name}/".startswith(f"{part}/") for part in suite.PREPARATION)} == set()
