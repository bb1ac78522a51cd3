"""GFocalV2: candidates and objects against numbers computed with the authors' program."""

import numpy as np
import pytest
from models_golden import blank, load

from harness.arrays import boxes
from harness.models import MODELS, gfocalv2
from harness.models.base import Frame
from harness.reference import golden as data


@pytest.mark.parametrize("picture", data.PICTURES)
@pytest.mark.parametrize(
    ("key", "make"),
    [
        ("asc_gfocal", lambda image: gfocalv2.preprocess(image, False).tensor),
        ("up_gfocal", lambda image: gfocalv2.preprocess_authors(image).tensor),
    ],
)
def test_preprocessing_has_the_authors_bits(key, make, picture, prepared):
    tensor = make(data.picture(picture))

    assert tensor.shape == tuple(prepared[f"{key}_{picture}/shape"])
    assert data.crc(tensor) == prepared[f"{key}_{picture}/crc32"]


@pytest.fixture(scope="module")
def objects():
    return load("gfocal_post.npz")


@pytest.mark.parametrize("which", [0, 1, 2])
def test_candidates_are_the_authors(which, objects):
    found, scores = gfocalv2.candidates(*data.heads(which), data.RESIZED, threshold=-1)
    background = np.zeros((len(scores), 1), np.float32)

    np.testing.assert_allclose(found, objects[f"case{which}/boxes_before_nms"], rtol=0, atol=2e-4)
    assert data.crc(np.hstack((scores, background))) == objects[f"case{which}/scores_crc32"]
    assert (scores > np.float32(0.05)).sum() == objects[f"case{which}/n_candidates"]


@pytest.mark.parametrize("rescale", [0, 1])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_objects_are_the_authors(which, rescale, objects):
    found, scores = gfocalv2.candidates(*data.heads(which), data.RESIZED, 0.05)
    if rescale:
        found = found / np.array(data.RATIO * 2, np.float32)
    kept, values, labels = boxes.multiclass_nms(found, scores, 0.05, 0.6, 100)
    authors = objects[f"case{which}/dets_rescale{rescale}"]

    np.testing.assert_array_equal(labels, objects[f"case{which}/labels_rescale{rescale}"])
    np.testing.assert_array_equal(values, authors[:, 4])
    np.testing.assert_allclose(kept, authors[:, :4], rtol=0, atol=2e-4)
    if rescale:
        real = np.bincount(labels[labels < 80], minlength=80)
        np.testing.assert_array_equal(real, objects[f"case{which}/per_class_counts_80"])


def test_the_meaningless_class_takes_a_place_and_is_dropped():
    model = MODELS["gfocalv2_r50_fpn"]
    protocol = model.protocols[0]
    outputs = blank(model, protocol)
    outputs["score_0"][:3].reshape(3, -1)[:, ::40] = 0.5  # 380 cells apart, of three classes
    outputs["score_0"][80].reshape(-1)[::400] = 0.9  # 38 cells of the meaningless one
    outputs["bbox_0"][1::17] = 9
    found = protocol.postprocess(outputs, Frame(1216, 800, (1.0, 1.0)))

    assert len(found["boxes"]) == 100 - 38
    assert found["labels"].max() < 80
    assert {key: value.dtype.name for key, value in found.items()} == {
        "boxes": "float32", "scores": "float32", "labels": "int64",
    }  # fmt: skip


@pytest.mark.parametrize("label", [0, 79])
def test_objects_are_cut_at_the_canvas_and_scaled_to_the_picture(label):
    model = MODELS["gfocalv2_r50_fpn"]
    outputs = blank(model, model.protocols[0])
    outputs["score_4"][label, 6, 9] = 0.8
    outputs["bbox_4"][16::17] = 9
    found = model.protocols[0].postprocess(outputs, Frame(608, 400, (2.0, 2.0)))

    assert found["boxes"].tolist() == [[0, 0, 608, 400]]
    assert found["labels"].tolist() == [label]


def test_an_engine_that_suppresses_by_itself_gives_the_same_objects():
    heads = dict(zip(gfocalv2.OUTPUTS, (a for part in data_heads() for a in part), strict=True))
    frame = Frame(608, 400, (2.0, 2.0))
    alone = gfocalv2.postprocess(heads, frame)
    found, scores = gfocalv2.candidates(*data_heads(), gfocalv2.SIZE, 0.05)
    kept, values, labels = boxes.multiclass_nms(found, scores, 0.05, 0.6, 100)
    rows = np.zeros((100, 5), np.float32)
    rows[: len(kept)] = np.hstack((kept, values[:, None]))
    rows[len(kept) :, :4] = 7  # padding may hold anything but a score
    filled = np.zeros(100, np.int64)
    filled[: len(kept)] = labels
    again = gfocalv2.postprocess_suppressed({"1760": rows, "1762": filled}, frame)

    assert 0 < len(alone["boxes"]) < 100
    for key in alone:
        np.testing.assert_array_equal(alone[key], again[key])


def data_heads():
    draw = np.random.RandomState(9)
    sizes = [(-(-800 // s), -(-1216 // s)) for s in gfocalv2.STRIDES]
    scores = [np.zeros((81, *size), np.float32) for size in sizes]
    for score in scores:
        score.ravel()[draw.randint(0, score.size, 15)] = draw.uniform(0.06, 0.9, 15)
    return scores, [draw.standard_normal((68, *size)).astype(np.float32) for size in sizes]


def test_float16_on_the_chip_moves_objects_little():
    found, scores = gfocalv2.candidates(*data_heads(), gfocalv2.SIZE, 0.05)
    exact = boxes.multiclass_nms(found, scores, 0.05, 0.6, 100)
    rounded = boxes.batch_multiclass_nms(found, scores, 0.05, 0.6, 100, 100)
    _, common, paired = np.intersect1d(
        exact[2] * 2000 + np.round(exact[0][:, 0]), rounded[2] * 2000 + np.round(rounded[0][:, 0]), return_indices=True
    )

    assert len(common) > 0.8 * len(exact[0])
    np.testing.assert_allclose(exact[0][common], rounded[0][paired], atol=0.51)


@pytest.mark.parametrize("picture", data.PICTURES)
def test_frames_hold_the_authors_scales(picture, prepared):
    scale = gfocalv2.preprocess_authors(data.picture(picture)).frame.scale

    np.testing.assert_array_equal(np.float32((*scale, *scale)), prepared[f"up_gfocal_sf_{picture}"])


@pytest.mark.parametrize(
    ("size", "ours", "authors"),  # height and width; scales x and y worked by hand
    [
        ((333, 500), 800 / 333, (1201 / 500, 800 / 333)),  # 500 * 800 / 333 = 1201.2
        ((500, 333), 800 / 500, (800 / 333, 1201 / 500)),
        ((100, 800), 1216 / 800, (1333 / 800, 167 / 100)),  # the long side ends it: 100 * 1333 / 800 = 166.6
    ],
)
def test_a_frame_holds_the_pictures_size_and_both_scales(size, ours, authors):
    picture = np.zeros((*size, 3), np.uint8)
    height, width = size

    frame = gfocalv2.preprocess(picture, False).frame
    theirs = gfocalv2.preprocess_authors(picture).frame

    assert frame == Frame(width, height, (ours, ours), 0.0, 0.0)
    assert theirs == Frame(width, height, tuple(float(np.float32(scale)) for scale in authors), 0.0, 0.0)


def test_boxes_are_divided_by_the_scale_of_their_axis():
    model = MODELS["gfocalv2_r50_fpn"]
    outputs = blank(model, model.protocols[0])
    outputs["score_4"][7, 6, 9] = 0.8
    outputs["bbox_4"][16::17] = 9
    found = model.protocols[0].postprocess(outputs, Frame(304, 400, (4.0, 2.0)))

    assert found["boxes"].tolist() == [[0, 0, 304, 400]]


def test_it_is_heavy_for_a_processor():
    assert gfocalv2.R50_FPN.heavy
