"""The code of a model is what it imports, and nothing else. What a digest then decides: test_artefacts."""

import ast

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
    tree = ast.parse("if TYPE_CHECKING:\n    import typed\nelse:\n    def f():\n        import run\n")

    names = {alias.name for node in sources._running(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert names == {"run"}


def test_a_plug_in_without_a_file_of_its_own_has_no_code():
    assert sources.source_files(["sys"]) == set(), "built in"
    assert sources.source_files(["no_such_plug_in"]) == set()


def test_where_files_are_kept_decides_none_of_them():
    """Else each change of the store would have whole data sets answered again."""
    for recipe in artefacts.RECIPES.values():
        assert "harness.store" not in sources.closure(recipe.code), recipe.kind
