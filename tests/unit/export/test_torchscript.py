"""TorchScript of every model, for the backend that runs PyTorch itself: it loads, and is the network at any batch."""

import warnings
from dataclasses import replace

import pytest
import torch

from harness import baselines
from harness.models import MODELS
from harness.run.artefacts import ResolvedWeights
from harness.run.context import RunContext
from harness.run.settings import Settings
from harness.store import Store

SMALL = {"retinaface": (64, 96), "gfocalv2_": (128, 192)}  # pixels; others are made for the size of their protocol


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_traced_network_is_the_network_at_any_batch(name, tmp_path):
    model = MODELS[name]
    torch.manual_seed(0)
    network = model.network().eval()
    suite = RunContext(Settings(store=Store(tmp_path), baselines=baselines.load()))
    suite.references._weights[name] = ResolvedWeights(tmp_path / "weights.pt", "as drawn", True, "as drawn")
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    protocol = model.protocols[0]
    size = next((size for start, size in SMALL.items() if name.startswith(start)), protocol.size)

    path = suite.references.traced(model, replace(protocol, size=size))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and the only form that loads without our code
        traced = torch.jit.load(path)
    for batch in (1, 3):
        images = torch.randn(batch, 3, *size)
        with torch.inference_mode():
            found, wanted = traced(images), network(images)
        for ours, theirs in zip(*((o,) if isinstance(o, torch.Tensor) else o for o in (found, wanted)), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
