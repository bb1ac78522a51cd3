"""RetinaFace's networks are the authors'."""

import golden_rules
import networks_golden
import numpy as np
import pytest
import torch
from networks_golden import run

from harness.models.networks import retinaface

NETWORKS = {"retinaface_mobilenet025": retinaface.mobilenet025, "retinaface_resnet50": retinaface.resnet50}


@pytest.mark.parametrize("model", NETWORKS)
def test_keys_shapes_order_and_outputs_are_the_authors(model):
    networks_golden.check(model, NETWORKS[model]())


@pytest.mark.slow
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
