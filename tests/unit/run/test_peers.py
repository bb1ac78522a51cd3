"""Programs that a chip is timed in turn with; eager PyTorch is in tests/unit/reference/test_peer.py."""

import json
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import ort_small
import pytest

from harness import baselines
from harness.backends.base import Device
from harness.chips import ONNX_RUNTIME, PEERS
from harness.run import peers
from harness.run.context import RunContext
from harness.run.settings import Settings
from harness.store import Store


def test_every_name_that_a_chips_row_may_give_is_a_row():
    assert tuple(peers.PEERS) == PEERS
    assert [row.name for row in peers.PEERS.values()] == [*PEERS]


@pytest.mark.slow
def test_onnx_runtime_beside_a_chip_runs_the_engine_of_the_chip_cpu(tmp_path, monkeypatch):
    """Whatever the chip calls its device: both share the engine in the store."""
    suite = RunContext(Settings(store=Store(tmp_path / "cache"), baselines=baselines.load()))
    onnx.save(ort_small.network(), tmp_path / "small.onnx")
    monkeypatch.setattr(suite.references, "exported", lambda model, protocol: tmp_path / "small.onnx")
    spec, images = ort_small.spec(target="CPU"), ort_small.images(2)
    engine = SimpleNamespace(model=None, protocol=None, device=Device(0, "any", target="CPU"), plain_spec=lambda: spec)

    with peers.opened(suite, ONNX_RUNTIME, engine) as session:
        found = session.run({"image": images})
    suite.close()

    kept = suite.settings.store.latest["engine"]
    key = json.loads((kept.parent / "meta.json").read_text())["key"]
    assert key["spec"]["target"] == "cpu"
    assert onnxruntime.__version__ in key["version"]
    for name, value in ort_small.outputs(kept, spec, images).items():
        np.testing.assert_array_equal(found[name], value)
