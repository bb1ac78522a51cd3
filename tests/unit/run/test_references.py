"""Weights, networks and answers of the reference: each is made once in a run."""

from dataclasses import replace
from types import SimpleNamespace

import torch

from harness import baselines
from harness.datasets.base import Dataset, Sample
from harness.models import MODELS
from harness.run import references
from harness.run.references import References
from harness.run.settings import Settings
from harness.store import Store

PREPARED = SimpleNamespace(ahead=lambda name, protocol, raw: None)


def run(tmp_path):
    """References of a run on no data set."""
    return References(Settings(Store(tmp_path), baselines.load()), dataset=None, prepared=lambda: PREPARED)


def whole(count):
    return Dataset("imagenet", "whole", [Sample(f"n{i:05d}", lambda: None) for i in range(count)], count, None, "d")


def test_weights_are_resolved_once_a_model(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(references.artefacts, "resolve_weights", lambda store, model, data: made.append(model.name))
    shared = run(tmp_path)

    for name in ("regnety_016", "regnety_016", "deepmar_resnet50", "regnety_016"):
        shared.weights(MODELS[name])

    assert made == ["regnety_016", "deepmar_resnet50"]


def test_one_network_is_kept_and_it_is_channels_last(tmp_path, monkeypatch):
    """Two of the large ones do not fit in a small machine."""
    loaded = []

    def network(model, path):
        loaded.append(model.name)
        return torch.nn.Conv2d(3, 4, 3)

    monkeypatch.setattr(references.eager, "network", network)
    monkeypatch.setattr(References, "weights", lambda self, model: SimpleNamespace(path=None))
    shared = run(tmp_path)

    first = [shared.network(MODELS[name]) for name in ("regnety_016", "regnety_016", "deepmar_resnet50", "regnety_016")]

    assert loaded == ["regnety_016", "deepmar_resnet50", "regnety_016"]
    assert first[0] is first[1]
    assert first[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_what_the_reference_finds_is_asked_for_once_an_image_set_and_protocol(tmp_path, monkeypatch):
    asked = []

    def answers(store, model, protocol, weights, dataset, network, prepare, progress):
        asked.append((model.name, protocol.name, dataset.digest))
        return [{}]

    monkeypatch.setattr(references.artefacts, "reference_answers", answers)
    monkeypatch.setattr(References, "weights", lambda self, model: None)
    shared = run(tmp_path)
    retinaface = MODELS["retinaface_resnet50"]
    ways = [(retinaface, p, whole(n)) for p in retinaface.protocols[:2] for n in (3, 3)]

    for model, protocol, dataset in ways:
        shared.answers(model, protocol, dataset)
    shared.answers(retinaface, retinaface.protocols[0], replace(whole(4), digest="other"))

    assert asked == [
        (retinaface.name, retinaface.protocols[0].name, "d"),
        (retinaface.name, retinaface.protocols[1].name, "d"),
        (retinaface.name, retinaface.protocols[0].name, "other"),
    ]
