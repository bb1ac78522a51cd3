"""Networks without drawn weights are the same networks, once a state dict is loaded."""

import pytest
import torch
from torch import nn

from harness.models import MODELS
from harness.models.networks.undrawn import undrawn


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_drawn_and_what_is_no_weight_is_there(name):
    state = MODELS[name].network().state_dict()
    drawn = torch.random.get_rng_state()

    made = undrawn(MODELS[name].network)

    assert torch.equal(torch.random.get_rng_state(), drawn), "random numbers were drawn"
    assert {key: value.shape for key, value in made.state_dict().items()} == {k: v.shape for k, v in state.items()}
    for key, value in made.state_dict().items():
        if key.endswith(("running_mean", "running_var", "num_batches_tracked", "scale", "project")):
            assert torch.equal(value, state[key]), key


def test_a_state_dict_gives_the_network_that_was_meant():
    def network():
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 2)).eval()

    torch.manual_seed(0)
    images, wanted = torch.rand(2, 3, 5, 5), network()
    expected = wanted(images)
    made = undrawn(network)
    made.load_state_dict(wanted.state_dict(), strict=True)

    assert torch.equal(made(images), expected)
    assert all(parameter.requires_grad for parameter in made.parameters())


def test_numbers_are_drawn_again_afterwards():
    with pytest.raises(ZeroDivisionError):
        undrawn(lambda: 1 / 0)

    torch.manual_seed(0)
    first = nn.Linear(3, 3).weight.clone()
    torch.manual_seed(0)
    assert torch.equal(nn.Linear(3, 3).weight, first)
    assert not torch.equal(nn.Linear(3, 3).weight, first)


class Places(nn.Module):
    """With a tensor that no state dict has, drawn from a seed of its own."""

    def __init__(self, buffer):
        super().__init__()
        torch.manual_seed(7)
        places = nn.init.normal_(torch.empty(5))
        if buffer:
            self.register_buffer("places", places, persistent=False)
        else:
            self.places = places


@pytest.mark.parametrize("buffer", [True, False])
def test_what_no_state_dict_has_is_drawn(buffer):
    def network():
        return nn.Sequential(nn.Linear(5, 5), Places(buffer))

    assert torch.equal(undrawn(network)[1].places, network()[1].places)
