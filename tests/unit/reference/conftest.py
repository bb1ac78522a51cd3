"""A run whose model has drawn weights."""

import pytest
import torch
from reference_small import MODEL

from harness import baselines
from harness.run.context import ResolvedWeights, RunContext, Settings
from harness.store import Store


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eager")
    torch.manual_seed(0)
    torch.save(MODEL.network().state_dict(), folder / "weights.pt")
    shared = RunContext(Settings(store=Store(folder / "cache"), baselines=baselines.load()))
    shared._weights[MODEL.name] = ResolvedWeights(folder / "weights.pt", "as drawn", True, "as drawn")
    yield shared
    shared.close()
    assert not shared._peer.alive
