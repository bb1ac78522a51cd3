"""A network against keys, shapes and outputs computed with the authors' programs."""

from functools import cache
from pathlib import Path

import golden_rules
import numpy as np
import torch

TOLERANCE = 1e-5  # largest difference relative to the largest value


@cache
def golden():
    with np.load(Path(__file__).parent / "golden" / "networks.npz") as file:
        return dict(file)


def run(network, image):
    with torch.inference_mode():
        return network(torch.from_numpy(image))


def check(model, network):
    """Keys, shapes, their order and the outputs of drawn weights are the authors'."""
    state = golden_rules.state(network)
    keys = [f"{key} {'x'.join(map(str, value.shape)) or '-'}" for key, value in state.items()]

    assert not network.training
    assert keys == golden()[f"{model}/keys"].tobytes().decode().split("\n")
    assert golden_rules.crc(state) == golden()[f"{model}/state_crc"], "the drawn weights are not the ones compared with"

    network.load_state_dict(state, strict=True)
    outputs = run(network, golden_rules.network_input(model))

    assert isinstance(outputs, tuple)
    assert len(outputs) == sum(key.startswith(model) and key.endswith("/shape") for key in golden())
    for index, output in enumerate(outputs):
        want = golden()[f"{model}/{index}"]
        got = output.numpy().reshape(-1)[:: golden()[f"{model}/{index}/step"]]
        assert output.shape == tuple(golden()[f"{model}/{index}/shape"])
        assert np.abs(got - want).max() <= TOLERANCE * np.abs(want).max(), f"output {index}"
