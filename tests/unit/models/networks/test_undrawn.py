"""Networks without drawn weights are the same networks, once a state dict is loaded."""

import pytest
import torch
from torch import nn

from harness.models import MODELS
from harness.models.networks.undrawn import Undrawn


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_drawn_and_what_is_no_weight_is_there(name):
    state = MODELS[name].network().state_dict()
    drawn = torch.random.get_rng_state()

    with Undrawn():
        made = MODELS[name].network()

    assert torch.equal(torch.random.get_rng_state(), drawn), "random numbers were drawn"
    assert {key: value.shape for key, value in made.state_dict().items()} == {k: v.shape for k, v in state.items()}
    for key, value in made.state_dict().items():
        if key.endswith(("running_mean", "running_var", "num_batches_tracked", "scale", "project")):
            assert torch.equal(value, state[key]), key


def test_a_state_dict_gives_the_network_that_was_meant():
    def network():
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2)).eval()

    torch.manual_seed(0)
    images, wanted = torch.rand(2, 3, 5, 5), network()
    expected = wanted(images)
    with Undrawn():
        made = network()
        made(images)
    made.load_state_dict(wanted.state_dict(), strict=True)

    assert torch.equal(made(images), expected)
    assert all(parameter.requires_grad for parameter in made.parameters())


def test_numbers_are_drawn_again_afterwards():
    with Undrawn(), pytest.raises(ZeroDivisionError):
        1 / 0  # noqa: B018 - the context ends by an error, too

    torch.manual_seed(0)
    first = nn.Linear(3, 3).weight.clone()
    torch.manual_seed(0)
    assert torch.equal(nn.Linear(3, 3).weight, first)
    assert not torch.equal(nn.Linear(3, 3).weight, first)
