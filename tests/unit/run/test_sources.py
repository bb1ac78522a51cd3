"""The code of a model is what it imports, and nothing else. What a digest then decides: test_artefacts."""

import pytest

from harness.models import MODELS
from harness.run import sources


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_the_network_of_every_model_is_part_of_its_export(model):
    files = sources.closure(tuple(sources.modules_of(model)))

    network = {"retinaface": "retinaface", "deepmar": "deepmar", "regnety": "regnety", "gfocalv2": "gfocalv2"}
    name = next(module for start, module in network.items() if model.name.startswith(start))
    assert f"harness.models.networks.{name}" in files


def test_what_only_types_are_taken_from_decides_nothing():
    assert "harness.worker.process" not in sources.closure(("harness.run.predict",))
