"""The code of a model is what it imports, and nothing else. What a digest then decides: test_artefacts."""

import ast
import sys
from types import ModuleType

import pytest

from harness.models import MODELS
from harness.run import artefacts, sources


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_the_network_of_every_model_is_part_of_its_export(model):
    files = sources.closure(tuple(sources.modules_of(model)))

    network = {"retinaface": "retinaface", "deepmar": "deepmar", "regnety": "regnety", "gfocalv2": "gfocalv2"}
    name = next(module for start, module in network.items() if model.name.startswith(start))
    assert f"harness.models.networks.{name}" in files


def test_what_only_types_are_taken_from_decides_nothing():
    assert "harness.worker.process" not in sources.closure(("harness.run.predict",))


def test_what_runs_where_types_are_not_checked_decides():
    tree = ast.parse(
        "if TYPE_CHECKING:\n    import typed\nelse:\n    def f():\n        import run\n"
        "if DEBUG:\n    import debug\nif there:\n    import there\nif os.name:\n    import named\n"
    )

    names = {alias.name for node in sources._running(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert names == {"run", "debug", "there", "named"}


def test_a_plug_in_without_a_file_of_its_own_has_no_code(monkeypatch):
    monkeypatch.setitem(sys.modules, "made_by_hand", ModuleType("made_by_hand"))  # which has no spec

    for name in ("sys", "no_such_plug_in", "no_such_plug_in.backend", "sys.backend", "made_by_hand"):
        assert sources.source_files([name]) == set(), name


def laid(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return {folder / name for name in names if name.endswith(".py")}


@pytest.mark.parametrize("module", ["a_lab", "a_lab.b", "a_lab.b.c", "a_lab.b.c.d"])
def test_every_file_of_the_outermost_package_of_a_plug_in_decides(tmp_path, monkeypatch, module):
    """Whichever of its modules is the backend may import any other."""
    monkeypatch.syspath_prepend(str(tmp_path))
    files = laid(tmp_path, "a_lab/__init__.py", "a_lab/b/__init__.py", "a_lab/b/c/__init__.py", "a_lab/b/c/d.py")
    more = laid(tmp_path, "a_lab/other.py", "a_lab/b/not_code.txt", "lab_b.py")

    assert sources.source_files([module]) == (files | more) - {tmp_path / "lab_b.py"}


def test_of_a_folder_that_is_no_package_only_the_module_itself_decides(tmp_path, monkeypatch):
    """Several distributions may share such a folder."""
    monkeypatch.syspath_prepend(str(tmp_path))
    laid(
        tmp_path,
        "lab_shared/one.py",
        "lab_shared/two/__init__.py",
        "lab_shared/two/inner.py",
        "lab_alone.py",
        "Alone.py",
    )

    assert sources.source_files(["lab_shared.one"]) == {tmp_path / "lab_shared/one.py"}
    assert sources.source_files(["lab_alone"]) == {tmp_path / "lab_alone.py"}
    assert sources.source_files(["Alone"]) == {tmp_path / "Alone.py"}
    assert {path.name for path in sources.source_files(["lab_shared.two.inner"])} == {"__init__.py", "inner.py"}


def test_the_digest_follows_the_names_and_the_text_of_the_files(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (file,) = laid(tmp_path, "lab_digest/__init__.py")
    seen = [sources.code_digest(("lab_digest",))]
    for name in ("b.py", "c.py"):
        laid(tmp_path, f"lab_digest/{name}")
        seen.append(sources.code_digest(("lab_digest",)))
    file.write_text("LEVEL = 2")
    seen.append(sources.code_digest(("lab_digest",)))
    (tmp_path / "lab_digest/b.py").rename(tmp_path / "lab_digest/d.py")
    seen.append(sources.code_digest(("lab_digest",)))

    assert len(set(seen)) == 5


def test_where_files_are_kept_decides_none_of_them():
    """Else each change of the store would have whole data sets answered again."""
    for recipe in artefacts.RECIPES.values():
        assert "harness.store" not in sources.closure(recipe.code), recipe.kind
