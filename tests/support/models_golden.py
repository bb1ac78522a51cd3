"""Inputs and outputs of the models, and results of the authors' programs for them."""

import numpy as np
import pytest

from harness.arrays import boxes
from harness.models import MODELS, gfocalv2, retinaface
from harness.reference.golden import FOLDER

PROTOCOLS = [(model, protocol) for model in MODELS.values() for protocol in model.protocols]
NAMES = [f"{model.name}-{protocol.name}" for model, protocol in PROTOCOLS]
every_protocol = pytest.mark.parametrize(("model", "protocol"), PROTOCOLS, ids=NAMES)


def load(name):
    with np.load(FOLDER / name) as file:
        return dict(file)


def named(loc, conf, landm):
    return dict(zip(retinaface.OUTPUTS, (loc, conf, landm), strict=True))


def quiet(protocol):
    """Outputs of a RetinaFace that sees no face."""
    n = len(boxes.priors(*protocol.size))
    conf = np.zeros((n, 2), np.float32)
    conf[:, 0] = 1
    return named(np.zeros((n, 4), np.float32), conf, np.zeros((n, 10), np.float32))


def frame_of(protocol, height=500, width=700):
    return protocol.preprocess(np.zeros((height, width, 3), np.uint8), protocol.normalize is not None).frame


def blank(model, protocol):
    if model.task == "faces":
        return quiet(protocol)
    if model.task == "objects":
        levels = [(-(-800 // s), -(-1216 // s)) for s in gfocalv2.STRIDES]
        shapes = [(81, *level) for level in levels] + [(68, *level) for level in levels]
        return {name: np.zeros(shape, np.float32) for name, shape in zip(model.outputs, shapes, strict=True)}
    return {model.outputs[0]: np.zeros(35 if model.task == "attributes" else 1000, np.float32)}
