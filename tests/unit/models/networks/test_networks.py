"""The networks are the authors': keys, shapes, order, and outputs computed with the authors' programs."""

from pathlib import Path

import golden_rules
import numpy as np
import pytest
import torch

from harness.models.networks import deepmar, gfocalv2, regnety, retinaface

NETWORKS = {
    "retinaface_mobilenet025": retinaface.mobilenet025,
    "retinaface_resnet50": retinaface.resnet50,
    "deepmar_resnet50": deepmar.deepmar,
    "regnety_016": regnety.regnety_016,
    "gfocalv2_r50_fpn": gfocalv2.gfocalv2_r50_fpn,
}
TOLERANCE = 1e-5  # largest difference relative to the largest value


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parents[3] / "support" / "golden" / "networks.npz") as file:
        return dict(file)


def run(network, image):
    with torch.inference_mode():
        return network(torch.from_numpy(image))


@pytest.mark.parametrize("model", NETWORKS)
def test_keys_shapes_order_and_outputs_are_the_authors(model, golden):
    network = NETWORKS[model]()
    state = golden_rules.state(network)
    keys = [f"{key} {'x'.join(map(str, value.shape)) or '-'}" for key, value in state.items()]

    assert not network.training
    assert keys == golden[f"{model}/keys"].tobytes().decode().split("\n")
    assert golden_rules.crc(state) == golden[f"{model}/state_crc"], "the drawn weights are not the ones compared with"

    network.load_state_dict(state, strict=True)
    outputs = run(network, golden_rules.network_input(model))

    assert isinstance(outputs, tuple)
    assert len(outputs) == sum(key.startswith(model) and key.endswith("/shape") for key in golden)
    for index, output in enumerate(outputs):
        want = golden[f"{model}/{index}"]
        got = output.numpy().reshape(-1)[:: golden[f"{model}/{index}/step"]]
        assert output.shape == tuple(golden[f"{model}/{index}/shape"])
        assert np.abs(got - want).max() <= TOLERANCE * np.abs(want).max(), f"output {index}"


def test_the_leak_of_the_resnet_variant_changes_its_outputs():
    image = golden_rules.network_input("retinaface_resnet50")[:, :, :64, :64]
    outputs = {}
    for slope in (0.0, 0.1):
        network = retinaface.resnet50(leaky_slope=slope)
        network.load_state_dict(golden_rules.state(network))
        outputs[slope] = run(network, image)[0]

    assert {m.negative_slope for m in retinaface.resnet50(0.1).modules() if isinstance(m, torch.nn.LeakyReLU)} == {0.1}
    assert not torch.allclose(outputs[0.0], outputs[0.1], rtol=1e-3)


@pytest.mark.parametrize(("height", "width", "rows"), [(160, 160, 1050), (100, 75, 354), (33, 65, 132)])
def test_rows_of_retinaface_follow_sizes_that_are_no_multiple_of_the_strides(height, width, rows):
    network = retinaface.mobilenet025()

    outputs = run(network, np.zeros((2, 3, height, width), np.float32))

    assert [tuple(o.shape) for o in outputs] == [(2, rows, 4), (2, rows, 2), (2, rows, 10)]


def test_levels_of_gfocalv2_follow_the_size_of_the_picture():
    network = gfocalv2.gfocalv2_r50_fpn()

    outputs = run(network, np.zeros((1, 3, 100, 150), np.float32))

    sizes = [(13, 19), (7, 10), (4, 5), (2, 3), (1, 2)]
    assert [tuple(o.shape) for o in outputs] == [(1, c, *size) for c in (81, 68) for size in sizes]
