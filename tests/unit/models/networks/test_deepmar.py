"""DeepMAR's network is the authors'."""

import networks_golden
import pytest

from harness.models.networks import deepmar

NETWORKS = {"deepmar_resnet50": deepmar.deepmar}


@pytest.mark.parametrize("model", NETWORKS)
def test_keys_shapes_order_and_outputs_are_the_authors(model):
    networks_golden.check(model, NETWORKS[model]())
