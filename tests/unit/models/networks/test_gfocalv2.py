"""GFocalV2's network is the authors'."""

import networks_golden
import numpy as np
import pytest
from networks_golden import run

from harness.models.networks import gfocalv2

NETWORKS = {"gfocalv2_r50_fpn": gfocalv2.gfocalv2_r50_fpn}


@pytest.mark.slow
@pytest.mark.parametrize("model", NETWORKS)
def test_keys_shapes_order_and_outputs_are_the_authors(model):
    networks_golden.check(model, NETWORKS[model]())


@pytest.mark.slow
def test_levels_of_gfocalv2_follow_the_size_of_the_picture():
    network = gfocalv2.gfocalv2_r50_fpn()

    outputs = run(network, np.zeros((1, 3, 100, 150), np.float32))

    sizes = [(13, 19), (7, 10), (4, 5), (2, 3), (1, 2)]
    assert [tuple(o.shape) for o in outputs] == [(1, c, *size) for c in (81, 68) for size in sizes]
