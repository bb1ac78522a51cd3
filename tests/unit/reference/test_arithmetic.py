"""What arithmetic alone costs a network: each operator rounded, against sums written out."""

import numpy as np
import pytest
import torch
from torch import nn

from harness.case import Precision
from harness.reference import arithmetic

FP32, FP16, BF16, INT8 = Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8


def half(x):
    return np.asarray(x, np.float32).astype(np.float16).astype(np.float32)


def brain(x):
    """Written out: the upper 16 bits of FP32, to the nearest, ties to even."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def eight(x, axis=None):
    """Written out: 256 levels with a whole zero point, or 255 symmetric ones for each row of `axis`."""
    if axis is None:
        low, high = min(x.min(), 0.0), max(x.max(), 0.0)
        step = np.float32((high - low) / 255)
        zero = round(float(-low / step))
        return (np.clip(np.round(x / step) + zero, 0, 255) - zero) * step
    moved = np.moveaxis(x, axis, 0)
    steps = np.abs(moved).reshape(len(moved), -1).max(axis=1) / np.float32(127)
    steps = steps.reshape(-1, *[1] * (moved.ndim - 1))
    return np.moveaxis(np.clip(np.round(moved / steps), -127, 127) * steps, 0, axis)


class Layers(nn.Module):
    """A point-wise convolution, batch norm, a hard threshold and a matrix product."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.last = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Linear(8, 5)
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)
        self.eval()

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.conv(x))).mean(dim=(2, 3)))


IMAGES = np.random.RandomState(0).uniform(-2, 2, (2, 3, 4, 4)).astype(np.float32)


def written_out(image, rounded):
    """`rounded(values, what)` for what in: the operands of a product, and the result of another operator."""
    net = {name: value.numpy() for name, value in Layers().state_dict().items()}
    kernel, pixels = rounded(net["conv.weight"][:, :, 0, 0], "weight"), rounded(image.reshape(3, -1), "input")
    x = kernel @ pixels + rounded(net["conv.bias"], "bias")[:, None]
    scale = net["norm.weight"] / np.sqrt(net["norm.running_var"] + 1e-5)
    x = rounded((x - net["norm.running_mean"][:, None]) * scale[:, None] + net["norm.bias"][:, None], "result")
    x = rounded(np.maximum(x, 0).mean(axis=1), "result")
    return rounded(net["last.weight"], "weight") @ rounded(x, "input") + rounded(net["last.bias"], "bias")


@pytest.mark.parametrize(("precision", "rounded", "near"), [(FP16, half, 2e-3), (BF16, brain, 1.6e-2)])
def test_16_bits_round_weights_inputs_and_results(precision, rounded, near):
    (found,) = arithmetic.outputs(Layers(), ["y"], IMAGES, precision).values()

    wanted = np.stack([written_out(image, lambda values, what: rounded(values)) for image in IMAGES])
    exact = np.stack([written_out(image, lambda values, what: values) for image in IMAGES])
    assert found == pytest.approx(wanted, rel=near, abs=near / 10)
    assert np.linalg.norm(found - wanted) < np.linalg.norm(found - exact) / 4


def test_int8_rounds_what_is_multiplied_and_nothing_else():
    (found,) = arithmetic.outputs(Layers(), ["y"], IMAGES, INT8).values()

    def rounded(values, what):
        return eight(values, 0) if what == "weight" else eight(values) if what == "input" else values

    assert found == pytest.approx(np.stack([written_out(image, rounded) for image in IMAGES]), rel=1e-4, abs=1e-5)


def test_fp32_is_compared_with_fp64():
    (found,) = arithmetic.outputs(Layers(), ["y"], IMAGES, FP32).values()

    assert found.dtype == np.float64
    with torch.inference_mode():
        single = Layers()(torch.from_numpy(IMAGES)).numpy()
    assert 0 < np.abs(found - single).max() < 1e-5


def test_fp64_has_pytorchs_own_memory_layout_which_is_the_quicker_one_there():
    seen = []

    class Conv(nn.Conv2d):
        def forward(self, x):
            seen.append((self.weight.dtype, self.weight.is_contiguous(), x.is_contiguous()))
            return super().forward(x)

    network = Conv(3, 4, 3).to(memory_format=torch.channels_last)
    images = np.ones((1, 3, 5, 6), np.float32)

    for precision in (FP32, INT8):
        arithmetic.outputs(network, ["y"], images, precision)

    assert seen == [(torch.float64, True, True), (torch.float32, False, True)]


def test_the_network_itself_is_left_as_it_was():
    network = Layers()
    before = {name: value.clone() for name, value in network.state_dict().items()}

    for precision in Precision:
        arithmetic.outputs(network, ["y"], IMAGES, precision)

    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_several_outputs_keep_their_names_and_images_are_run_one_by_one():
    class Two(nn.Module):
        def forward(self, x):
            return x.mean(dim=(2, 3)), x.amax(dim=(2, 3))

    found = arithmetic.outputs(Two(), ["mean", "most"], IMAGES, INT8)

    assert list(found) == ["mean", "most"]
    assert found["most"] == pytest.approx(IMAGES.max(axis=(2, 3)))


@pytest.mark.parametrize("value", [np.zeros((2, 3)), np.full((2, 3), -4.0), np.full((2, 3), 7.0)])
def test_a_tensor_of_one_value_is_rounded_to_itself(value):
    rounded = arithmetic.to_eight_bits(torch.from_numpy(value.astype(np.float32)))

    assert rounded.numpy() == pytest.approx(value)
    assert arithmetic.to_eight_bits(torch.from_numpy(value.astype(np.float32)), 0).numpy() == pytest.approx(value)
