"""Eager PyTorch in a worker, the peer that a chip without published figures is timed against."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import ort_small
import pytest
import torch

from harness import baselines
from harness.backends.base import BuildSpec, Device, TensorSpec, check
from harness.backends.nvidia.torch_cuda import TorchSession
from harness.chips import EAGER
from harness.errors import DeviceError
from harness.models import MODELS
from harness.run import peers
from harness.run.artefacts import ResolvedWeights
from harness.run.context import RunContext
from harness.run.settings import Settings
from harness.store import Store

MODEL = MODELS["retinaface_mobilenet025"]
CPU = Device(0, "CPU")
SMALL = BuildSpec("fp32", 2, (TensorSpec(MODEL.input, "float32", (-1, 3, 64, 96)),), MODEL.outputs)
ENGINE = SimpleNamespace(model=MODEL, protocol=None, device=CPU, plain_spec=lambda: SMALL)


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eager")
    torch.manual_seed(0)
    torch.save(MODEL.network().state_dict(), folder / "weights.pt")
    shared = RunContext(Settings(store=Store(folder / "cache"), baselines=baselines.load()))
    shared.references._weights[MODEL.name] = ResolvedWeights(folder / "weights.pt", "as drawn", True, "as drawn")
    yield shared
    shared.close()
    assert not any(worker.alive for worker in shared._peers.values())


@pytest.mark.slow
def test_the_peer_computes_what_the_reference_computes(suite):
    images = np.random.default_rng(0).random((2, 3, 64, 96), np.float32)
    wanted = suite.references.eager(MODEL, images)

    with peers.opened(suite, EAGER, ENGINE) as session:
        found = session.run({MODEL.input: images})

    assert list(found) == list(MODEL.outputs) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
        assert value.std() > 0


def test_the_reference_is_channels_last_and_what_is_timed_is_not(suite):
    from harness.reference import peer

    networks = suite.references.network(MODEL), peer._network(MODEL.name, suite.references.weights(MODEL).path)

    ours, timed = (next(p for p in n.parameters() if min(p.shape[1:], default=1) > 1) for n in networks)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert timed.is_contiguous()


def test_the_peer_imports_the_rest_between_two_sessions_and_never_beside_one(monkeypatch):
    from harness.reference import peer

    told = []
    thread = SimpleNamespace(ident=None, join=lambda: told.append("waited for"))
    thread.start = lambda: (told.append("import"), vars(thread).update(ident=1))
    monkeypatch.setattr(peer, "_rest", thread)
    monkeypatch.setattr(peer, "_network", lambda name, weights: None)
    monkeypatch.setattr(peer, "TorchSession", lambda *arguments: told.append("session"))

    for _ in range(2):
        with peer.load(None, CPU, replace(SMALL, options={"model": MODEL.name})):
            told.append("measured")

    assert told == ["session", "measured", "import", "waited for", "session", "measured"]


@pytest.mark.parametrize(("options", "passes"), [({}, 1), ({"shapes": [[-1, 5]]}, 0)])
def test_a_session_that_is_told_the_shapes_of_outputs_is_not_run_to_learn_them(options, passes):
    fed = []
    network = torch.nn.Linear(3, 5)
    network.register_forward_pre_hook(lambda module, given: fed.append(given[0].shape))
    spec = BuildSpec("fp32", 2, (TensorSpec("image", "float32", (-1, 3)),), ("out",), options=options)

    with torch.inference_mode():
        session = TorchSession(torch, network, torch.device("cpu"), spec)
        assert len(fed) == passes
        session.write({"image": np.ones((2, 3), np.float32)})
        session.execute()
        found = session.read()

    check(found, session.outputs, "output")
    assert found["out"].shape == (2, 5)


def test_eager_pytorch_is_told_the_shapes_of_a_heavy_model_alone(tmp_path):
    onnx.save(ort_small.network(), tmp_path / "small.onnx")
    names = tuple(value.name for value in ort_small.network().graph.output)
    resolved = SimpleNamespace(path=tmp_path)
    suite = SimpleNamespace(references=SimpleNamespace(weights=lambda model: resolved))

    told = {}
    for heavy in (True, False):
        model = SimpleNamespace(name="any", heavy=heavy, outputs=names[::-1])
        engine = SimpleNamespace(model=model, onnx=lambda: tmp_path / "small.onnx", plain_spec=lambda: SMALL)
        told[heavy] = peers.PEERS[EAGER].given(suite, None, engine)[1].options

    found = ort_small.expected(ort_small.images(2))
    assert told[False] == {"model": "any"}
    assert told[True]["shapes"] == [[-1, *found[name].shape[1:]] for name in names[::-1]]


def test_weights_of_another_model_are_an_error_of_the_case(suite, tmp_path, monkeypatch):
    torch.save(torch.nn.Linear(1, 1).state_dict(), tmp_path / "weights.pt")
    monkeypatch.setitem(
        suite.references._weights, MODEL.name, ResolvedWeights(tmp_path / "weights.pt", "another's", True, "drawn")
    )

    with pytest.raises(DeviceError, match=r"state_dict"), peers.opened(suite, EAGER, ENGINE):
        pass


@pytest.mark.slow
def test_the_worker_of_the_peer_stays_and_a_dead_one_is_replaced(suite):
    def process():
        with peers.opened(suite, EAGER, ENGINE):
            return peers.expect(suite, EAGER).pipe._process.pid

    first = process()
    assert process() == first
    peers.expect(suite, EAGER).kill()
    assert process() != first
