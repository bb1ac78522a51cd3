"""The ResNet-50 trunk: its size, its strides, and where the stride stands in a block."""

import pytest
import torch

from harness.models.networks.resnet import trunk

WIDTHS = {"layer1": (256, 4), "layer2": (512, 8), "layer3": (1024, 16), "layer4": (2048, 32)}  # channels, stride


@pytest.fixture(scope="module")
def whole():
    return trunk(*WIDTHS).eval()


def test_stages_have_the_widths_and_strides_of_resnet_50(whole):
    with torch.inference_mode():
        outputs = whole(torch.zeros(2, 3, 96, 64))

    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        name: (2, channels, 96 // stride, 64 // stride) for name, (channels, stride) in WIDTHS.items()
    }


def test_the_trunk_has_the_weights_of_resnet_50_without_its_classifier(whole):
    state = whole.state_dict()

    assert len(state) == 318
    assert not [key for key in state if key.startswith("fc")]
    assert sum(parameter.numel() for parameter in whole.parameters()) == 25_557_032 - 2048 * 1000 - 1000


def test_the_stride_is_on_the_3x3_convolution(whole):
    """Version 1.5: He et al. had it on the 1x1 convolution before."""
    block = whole.layer2[0]

    assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2))


def test_stages_behind_the_last_one_asked_for_are_left_out():
    short = trunk("layer2")

    assert "layer3" not in dict(short.named_children())
    with torch.inference_mode():
        assert list(short(torch.zeros(1, 3, 32, 32))) == ["layer2"]
