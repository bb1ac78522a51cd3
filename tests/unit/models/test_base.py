"""What every model keeps to: its row names what exists, its tensor has its protocol's size, its frame leads back."""

import re
import subprocess
import sys

import numpy as np
import pytest
from models_golden import every_protocol

from harness.chips import CHIPS
from harness.datasets import DATASETS
from harness.errors import DataError, UsageError
from harness.metrics import SCORERS
from harness.models import MODELS
from harness.reference import golden as data
from harness.vocabulary import METRICS


@pytest.mark.parametrize("name", MODELS)
def test_a_row_names_what_exists(name):
    model = MODELS[name]

    assert model.name == name
    assert model.task in SCORERS
    assert model.dataset in DATASETS
    assert set(model.metrics) <= set(METRICS)
    assert {chip for protocol in model.protocols for chip in protocol.chips} <= set(CHIPS)
    for protocol in model.protocols:
        assert set(protocol.normalized_by_chip) <= set(protocol.chips)
        assert not protocol.normalized_by_chip or protocol.normalize


@pytest.mark.parametrize("name", MODELS)
def test_every_chip_has_one_protocol(name):
    protocols = MODELS[name].protocols
    chips = [chip for protocol in protocols for chip in protocol.chips]

    assert len(chips) == len(set(chips))
    assert all(MODELS[name].protocol(chip) in protocols for chip in CHIPS)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_network_gives_the_outputs_of_its_row(name):
    import torch

    model = MODELS[name]
    with torch.device("meta"), torch.inference_mode():  # shapes alone: no weights are drawn, nothing is computed
        found = model.network()(torch.zeros(1, 3, 224, 224))

    assert len(found) == len(model.outputs)


def test_the_table_imports_no_heavy_library():
    code = "import sys, harness.models; print(*({'torch', 'onnxruntime', 'cv2', 'PIL', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_a_checkpoint_has_names_of_files_and_a_place_from_which_it_comes(model):
    files = model.weights.files

    assert files
    assert all(re.fullmatch(r"[\w.-]+\.(pth|pt|ckpt|safetensors|tar)", name) for name in files), files
    assert model.weights.url.startswith("https://")


@every_protocol
@pytest.mark.parametrize("picture", data.PICTURES)
def test_the_tensor_is_float32_of_the_protocols_size(model, protocol, picture):
    image = data.picture(picture)
    before = image.copy()
    done = protocol.preprocess(image, False)

    assert done.tensor.shape == (3, *protocol.size)
    assert (done.tensor.dtype, done.tensor.flags.c_contiguous) == (np.float32, True)
    assert (done.frame.height, done.frame.width) == image.shape[:2]
    np.testing.assert_array_equal(image, before)


@every_protocol
@pytest.mark.parametrize("picture", data.PICTURES)
def test_raw_bytes_normalised_afterwards_are_the_float_tensor(model, protocol, picture):
    image = data.picture(picture)
    if protocol.normalize is None:
        with pytest.raises(UsageError, match=r"raw pixels.*\n  next: "):
            protocol.preprocess(image, True)
        return
    raw, whole = protocol.preprocess(image, True), protocol.preprocess(image, False)
    mean, std = (np.array(v, np.float32) for v in (protocol.normalize.mean, protocol.normalize.std))

    assert (raw.tensor.shape, raw.tensor.dtype) == ((*protocol.size, 3), np.uint8)
    assert raw.tensor.flags.c_contiguous
    assert raw.frame == whole.frame
    normalised = ((raw.tensor - mean) / std).transpose(2, 0, 1)
    np.testing.assert_allclose(normalised, whole.tensor, rtol=0, atol=1e-6)


@every_protocol
def test_a_frame_says_where_a_pixel_of_the_picture_lies(model, protocol):
    """A white square on black: its middle is found where the frame puts it, within two pixels of either picture."""
    image = np.zeros((300, 420, 3), np.uint8)
    image[120:160, 200:260] = 255
    done = protocol.preprocess(image, False)
    bright = done.tensor.max(axis=0) > (done.tensor.max() + done.tensor[:, 0, 0].max()) / 2
    ys, xs = np.nonzero(bright)
    frame = done.frame
    reach = 2 * max(1, *frame.scale)

    assert xs.mean() + 0.5 == pytest.approx(230 * frame.scale[0] + frame.left, abs=reach)
    assert ys.mean() + 0.5 == pytest.approx(140 * frame.scale[1] + frame.top, abs=reach)


@every_protocol
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_the_narrowest_pictures_are_prepared_or_refused(model, protocol, size):
    image = np.full((*size, 3), 200, np.uint8)
    if max(size) == 5000 and model.task != "attributes":
        with pytest.raises(DataError, match="too narrow"):
            protocol.preprocess(image, False)
        return
    done = protocol.preprocess(image, False)

    assert done.tensor.shape == (3, *protocol.size)
    assert np.isfinite(done.tensor).all()
