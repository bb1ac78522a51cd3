"""The rows of MODELS, and pre- and post-processing against numbers computed with the authors' programs."""

import subprocess
import sys
from pathlib import Path

import golden_rules_data as data
import numpy as np
import pytest

from harness.arrays import boxes, images
from harness.chips import CHIPS
from harness.datasets import DATASETS
from harness.errors import DataError, RunError, UsageError
from harness.metrics import SCORERS
from harness.models import MODELS, deepmar, gfocalv2, regnety, retinaface
from harness.models.base import Frame
from harness.models.outputs import checked
from harness.vocabulary import METRICS

PROTOCOLS = [(model, protocol) for model in MODELS.values() for protocol in model.protocols]
NAMES = [f"{model.name}-{protocol.name}" for model, protocol in PROTOCOLS]
every_protocol = pytest.mark.parametrize(("model", "protocol"), PROTOCOLS, ids=NAMES)


def load(name):
    with np.load(Path(__file__).parents[2] / "support" / "golden" / name) as file:
        return dict(file)


@pytest.fixture(scope="module")
def prepared():
    return load("preprocess.npz")


@pytest.fixture(scope="module")
def faces():
    return load("retinaface_post.npz")


@pytest.fixture(scope="module")
def objects():
    return load("gfocal_post.npz")


def named(loc, conf, landm):
    return dict(zip(retinaface.OUTPUTS, (loc, conf, landm), strict=True))


# rows


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


def test_retinaface_has_its_size_on_each_vendors_chip():
    for name in ("retinaface_mobilenet025", "retinaface_resnet50"):
        assert MODELS[name].protocol("ascend310").size == (1000, 1000)
        assert MODELS[name].protocol("mlu370_x4").size == (672, 1024)


@pytest.mark.parametrize("name", MODELS)
def test_a_network_gives_the_outputs_of_its_row(name):
    import torch

    model = MODELS[name]
    with torch.inference_mode():
        found = model.network()(torch.zeros(1, 3, 224, 224))

    assert len(found) == len(model.outputs)


def test_the_table_imports_no_heavy_library():
    code = "import sys, harness.models; print(*({'torch', 'onnxruntime', 'cv2', 'PIL', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""


# before the network


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
        with pytest.raises(UsageError, match="raw"):
            protocol.preprocess(image, True)
        return
    raw, whole = protocol.preprocess(image, True), protocol.preprocess(image, False)
    mean, std = (np.array(v, np.float32) for v in (protocol.normalize.mean, protocol.normalize.std))

    assert (raw.tensor.shape, raw.tensor.dtype) == ((*protocol.size, 3), np.uint8)
    assert raw.tensor.flags.c_contiguous
    assert raw.frame == whole.frame
    normalised = ((raw.tensor - mean) / std).transpose(2, 0, 1)
    np.testing.assert_allclose(normalised, whole.tensor, rtol=0, atol=1e-6)


@pytest.mark.parametrize("picture", data.PICTURES)
@pytest.mark.parametrize(
    ("key", "make"),
    [
        ("asc_retina", lambda image: retinaface.preprocess_ascend(image, True).tensor),
        ("mlu", lambda image: retinaface.preprocess_mlu(image, True).tensor),
        ("up_retina_orig", lambda image: retinaface.preprocess_authors(image).tensor[None]),
        ("deepmar", lambda image: deepmar.preprocess(image, False).tensor),
        ("deepmar_up", lambda image: deepmar.preprocess(image, False).tensor),
        ("regnet", lambda image: regnety.preprocess(image, False).tensor),
        ("asc_gfocal", lambda image: gfocalv2.preprocess(image, False).tensor),
        ("up_gfocal", lambda image: gfocalv2.preprocess_authors(image).tensor),
    ],
)
def test_preprocessing_has_the_authors_bits(key, make, picture, prepared):
    tensor = make(data.picture(picture))

    assert tensor.shape == tuple(prepared[f"{key}_{picture}/shape"])
    assert data.crc(tensor) == prepared[f"{key}_{picture}/crc32"]


@pytest.mark.parametrize("picture", data.PICTURES)
def test_the_authors_enlarged_faces_agree_up_to_the_build_of_opencv(picture, prepared):
    """float32 bilinear resizing depends on Intel's primitives: 0.015 of 255 between builds."""
    done = retinaface.preprocess_authors(data.picture(picture), short=1600)

    assert done.frame.scale[0] == prepared[f"up_retina_1600_resize_{picture}"]
    assert (1, *done.tensor.shape) == tuple(prepared[f"up_retina_1600_{picture}/shape"])
    few = done.tensor.ravel()[::4999]
    np.testing.assert_allclose(few, prepared[f"up_retina_1600_{picture}/every4999"], rtol=0, atol=0.02)


@pytest.mark.parametrize("picture", data.PICTURES)
def test_frames_hold_the_authors_scales(picture, prepared):
    image = data.picture(picture)

    assert retinaface.preprocess_ascend(image, True).frame.scale[0] == float(
        prepared[f"asc_retina_resize_{picture}"][0]
    )
    scale = gfocalv2.preprocess_authors(image).frame.scale
    np.testing.assert_array_equal(np.float32((*scale, *scale)), prepared[f"up_gfocal_sf_{picture}"])


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


def test_a_short_side_of_256_is_not_resampled():
    image = np.random.RandomState(4).randint(0, 256, (256, 300, 3), dtype=np.uint8)
    raw = regnety.preprocess(image, True).tensor

    np.testing.assert_array_equal(raw, images.middle(image, 224)[..., ::-1])


# after the network


@pytest.mark.parametrize(("key", "scale"), [("dets", 1.0), ("dets_resize", 1600 / 375)])
def test_faces_are_the_authors(key, scale, faces):
    seed, side = data.AUTHORS_FACES
    found = retinaface.postprocess(named(*data.faces(1050, seed, 5)), Frame(side, side, (scale, scale)), (side, side))
    authors = faces[f"upstream160/{key}"]

    np.testing.assert_allclose(found["boxes"], authors[:, :4], rtol=0, atol=2e-4)
    np.testing.assert_array_equal(found["scores"], authors[:, 4])
    np.testing.assert_allclose(found["landmarks"].reshape(-1, 10), authors[:, 5:], rtol=0, atol=2e-4)


def test_the_authors_lines_are_written(faces):
    seed, side = data.AUTHORS_FACES
    found = retinaface.postprocess(named(*data.faces(1050, seed, 5)), Frame(side, side, (1.0, 1.0)), (side, side))

    assert retinaface.lines_ascend(found["boxes"], found["scores"]) == str(faces["upstream160/text"]).splitlines()[2:]


@pytest.mark.parametrize("picture", data.ASCEND_FACES)
def test_ascends_lines_are_written(picture, faces):
    seed, scale = data.ASCEND_FACES[picture]
    kept = float(np.float32(scale))
    protocol = MODELS["retinaface_mobilenet025"].protocol("ascend310")
    found = protocol.postprocess(named(*data.faces(41236, seed)), Frame(1, 1, (kept, kept)))

    assert (
        retinaface.lines_ascend(found["boxes"], found["scores"])
        == str(faces[f"ascend/{picture}_text"]).splitlines()[2:]
    )


@pytest.mark.parametrize("picture", data.MLU_FACES)
def test_cambricons_lines_are_written(picture, faces):
    seed, height, width = data.MLU_FACES[picture]
    frame = retinaface.preprocess_mlu(np.zeros((height, width, 3), np.uint8), True).frame
    found = MODELS["retinaface_resnet50"].protocol("mlu370_s4").postprocess(named(*data.faces(28224, seed)), frame)

    np.testing.assert_array_equal(found["scores"], faces[f"mlu/{picture}_score"])
    np.testing.assert_array_equal(
        found["boxes"][:, 2:] - found["boxes"][:, :2], faces[f"mlu/{picture}_box_cxcywh"][:, 2:]
    )
    assert retinaface.lines_mlu(found["boxes"], found["scores"]) == str(faces[f"mlu/{picture}_text"]).splitlines()[2:]


def test_small_scores_are_written_as_each_program_writes_them():
    box = np.array([[-1.7, 2.2, 10.9, 20.1]], np.float32)
    score = np.array([0.020000005], np.float32)

    assert retinaface.lines_ascend(box, score) == ["-1 2 11 18 0.020000005 "]
    assert retinaface.lines_mlu(np.trunc(box), score) == ["-1 2 11 18 0.02"]


def test_halves_are_rounded_away_from_zero():
    values = np.array([0.5, 1.5, 2.5, -0.5, -2.5, 0.49999997, -3.2, 8388609.0], np.float32)

    assert retinaface.half_away(values).tolist() == [1, 2, 3, -1, -3, 0, -3, 8388609]


def quiet(protocol):
    """Outputs of a RetinaFace that sees no face."""
    n = len(boxes.priors(*protocol.size))
    conf = np.zeros((n, 2), np.float32)
    conf[:, 0] = 1
    return named(np.zeros((n, 4), np.float32), conf, np.zeros((n, 10), np.float32))


every_face_protocol = pytest.mark.parametrize("protocol", MODELS["retinaface_resnet50"].protocols, ids=lambda p: p.name)


def frame_of(protocol, height=500, width=700):
    return protocol.preprocess(np.zeros((height, width, 3), np.uint8), protocol.normalize is not None).frame


@every_face_protocol
def test_no_face_and_one_face(protocol):
    outputs = quiet(protocol)
    none = protocol.postprocess(outputs, frame_of(protocol))
    outputs["output1"][4321] = (0.1, 0.9)
    one = protocol.postprocess(outputs, frame_of(protocol))

    assert [none[key].shape for key in ("boxes", "scores", "landmarks")] == [(0, 4), (0,), (0, 5, 2)]
    assert [one[key].shape for key in ("boxes", "scores", "landmarks")] == [(1, 4), (1,), (1, 5, 2)]
    assert one["scores"].tolist() == pytest.approx([0.9])
    assert {value.dtype for value in one.values()} == {np.dtype(np.float32)}


@every_face_protocol
def test_a_score_at_the_threshold_counts_only_for_cambricon(protocol):
    outputs = quiet(protocol)
    outputs["output1"][4321, 1] = np.float32(0.02)

    assert len(protocol.postprocess(outputs, frame_of(protocol))["scores"]) == (protocol.name == "mlu")


@every_face_protocol
def test_ten_thousand_faces_of_equal_score_are_suppressed_to_few_apart(protocol):
    outputs = quiet(protocol)
    outputs["output1"][:10_000] = (0.5, 0.5)
    found = protocol.postprocess(outputs, frame_of(protocol))["boxes"]

    assert 100 < len(found) < 10_000
    assert len(np.unique(found, axis=0)) == len(found)


@pytest.mark.parametrize("order", ["C", "F"])
def test_candidates_are_those_whose_face_score_is_above_whatever_the_other_score(order):
    just = np.float32(retinaface.SCORE)
    near = [-1, -0.0, 0, 1e-38, np.nextafter(just, 0), just, np.nextafter(just, np.float32(1)), 0.5, 1, 3e38]
    pairs = np.array([(other, face) for face in near for other in (-3e38, -0.0, 0, just, 1, 3e38)], np.float32)
    conf = np.asarray(pairs, order=order)

    assert retinaface.above(conf, just).tolist() == [i for i, (_, face) in enumerate(pairs) if face > just]


def test_equal_scores_keep_the_order_of_the_priors_as_two_reversed_sorts_leave_it():
    protocol = MODELS["retinaface_resnet50"].protocols[0]
    outputs = quiet(protocol)
    outputs["output1"][[0, 20_000, 40_000], 1] = 0.5
    found = protocol.postprocess(outputs, Frame(1000, 1000, (1.0, 1.0)))["boxes"]
    centres = (found[:, :2] + found[:, 2:]) / 2

    np.testing.assert_allclose(centres, boxes.priors(1000, 1000)[[0, 20_000, 40_000], :2] * 1000, atol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@every_protocol
def test_numbers_that_are_not_finite_are_an_error_that_names_the_output(model, protocol, bad):
    frame = frame_of(protocol)
    for name in model.outputs:
        outputs = blank(model, protocol)
        outputs[name].ravel()[[0, 5, 7]] = bad
        with pytest.raises(RunError, match=rf"3 of \d+ values of output {name} are not finite"):
            protocol.postprocess(outputs, frame)


@every_protocol
def test_an_output_that_is_absent_or_of_another_shape_is_an_error(model, protocol):
    frame, name = frame_of(protocol), model.outputs[0]
    short, none = blank(model, protocol), blank(model, protocol)
    short[name] = short[name][:-1]
    del none[name]

    with pytest.raises(RunError, match=f"output {name} has shape"):
        protocol.postprocess(short, frame)
    with pytest.raises(RunError, match=f"output {name} is missing"):
        protocol.postprocess(none, frame)


def blank(model, protocol):
    if model.task == "faces":
        return quiet(protocol)
    if model.task == "objects":
        levels = [(-(-800 // s), -(-1216 // s)) for s in gfocalv2.STRIDES]
        shapes = [(81, *level) for level in levels] + [(68, *level) for level in levels]
        return {name: np.zeros(shape, np.float32) for name, shape in zip(model.outputs, shapes, strict=True)}
    return {model.outputs[0]: np.zeros(35 if model.task == "attributes" else 1000, np.float32)}


@every_face_protocol
def test_faces_of_infinite_size_are_an_error(protocol):
    outputs = quiet(protocol)
    outputs["output1"][:2] = (0.5, 0.5)
    outputs["output0"][0, 2:] = 1e6

    with pytest.raises(RunError, match=r"1 of 2 faces .* infinite"):
        protocol.postprocess(outputs, frame_of(protocol))


def test_half_precision_outputs_are_taken_as_they_are():
    array = np.linspace(-1, 1, 35).astype(np.float16)

    assert checked({"output1": array}, {"output1": (35,)})[0].dtype == np.float32
    np.testing.assert_array_equal(deepmar.postprocess({"output1": array}, Frame(1, 1, (1, 1)))["logits"], array)


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


def test_objects_are_cut_at_the_canvas_and_scaled_to_the_picture():
    model = MODELS["gfocalv2_r50_fpn"]
    outputs = blank(model, model.protocols[0])
    outputs["score_4"][7, 6, 9] = 0.8
    outputs["bbox_4"][16::17] = 9
    found = model.protocols[0].postprocess(outputs, Frame(608, 400, (2.0, 2.0)))

    assert found["boxes"].tolist() == [[0, 0, 608, 400]]
    assert found["labels"].tolist() == [7]


def test_an_engine_that_suppresses_by_itself_gives_the_same_objects():
    heads = dict(zip(gfocalv2.OUTPUTS, (a for part in data_heads() for a in part), strict=True))
    frame = Frame(608, 400, (2.0, 2.0))
    alone = gfocalv2.postprocess(heads, frame)
    found, scores = gfocalv2.candidates(*data_heads(), gfocalv2.SIZE, 0.05)
    kept, values, labels = boxes.multiclass_nms(found, scores, 0.05, 0.6, 100)
    rows = np.zeros((100, 5), np.float32)
    rows[: len(kept)] = np.hstack((kept, values[:, None]))
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
