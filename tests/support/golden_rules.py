"""Weights and network inputs drawn from a key, a shape or a seed alone, so that another program can draw the same."""

import zlib

import numpy as np

INPUTS = {  # seed, shape, scale of a network input
    "retinaface_mobilenet025": (1001, (1, 3, 160, 160), 40.0),
    "retinaface_resnet50": (1002, (1, 3, 160, 160), 1.0),
    "deepmar_resnet50": (1003, (1, 3, 224, 224), 1.0),
    "regnety_016": (1004, (1, 3, 224, 224), 1.0),
    "gfocalv2_r50_fpn": (1005, (1, 3, 128, 192), 1.0),
}


def network_input(model):
    """float32 N x 3 x H x W, normal with the model's scale."""
    seed, shape, scale = INPUTS[model]
    return (scale * np.random.RandomState(seed).standard_normal(shape)).astype(np.float32)


def entry(key, shape):
    """One state-dict entry: the key's crc32 seeds it, its last word and rank say how it is spread."""
    word = key.split(".")[-1]
    if word == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if word == "project":
        return np.arange(*shape, dtype=np.float32)
    draw = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(int(np.prod(shape, dtype=int)))
    if word == "running_var":
        draw = 1 + 0.1 * abs(draw)
    elif word in ("running_mean", "bias"):
        draw = 0.1 * draw
    elif word == "scale" or len(shape) == 1:
        draw = 1 + 0.1 * draw
    else:
        draw = draw * np.sqrt(1.2 / np.prod(shape[1:]))
    return draw.reshape(shape).astype(np.float32)


def state(network):
    """State dict of a torch module, every entry drawn by the rule."""
    import torch

    return {key: torch.from_numpy(entry(key, tuple(old.shape))) for key, old in network.state_dict().items()}


def crc(state):
    """crc32 over keys and bytes, in order."""
    total = 0
    for key, value in state.items():
        total = zlib.crc32(np.ascontiguousarray(value).tobytes(), zlib.crc32(key.encode(), total))
    return total
