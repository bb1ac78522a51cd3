"""RegNetY's network is timm's, as published."""

import networks_golden
import pytest

from harness.models.networks import regnety

NETWORKS = {"regnety_016": regnety.regnety_016}


@pytest.mark.parametrize("model", NETWORKS)
def test_keys_shapes_order_and_outputs_are_the_authors(model):
    networks_golden.check(model, NETWORKS[model]())
