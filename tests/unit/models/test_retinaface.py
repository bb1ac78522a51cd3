"""RetinaFace: pre- and post-processing against numbers computed with the programs of its authors and vendors."""

import numpy as np
import pytest
from models_golden import frame_of, load, named, quiet

from harness.arrays import boxes
from harness.errors import RunError
from harness.models import MODELS, retinaface
from harness.models.base import Frame
from harness.reference import golden as data


@pytest.mark.parametrize("picture", data.PICTURES)
@pytest.mark.parametrize(
    ("key", "make"),
    [
        ("asc_retina", lambda image: retinaface.preprocess_ascend(image, True).tensor),
        ("mlu", lambda image: retinaface.preprocess_mlu(image, True).tensor),
        ("up_retina_orig", lambda image: retinaface.preprocess_authors(image).tensor[None]),
    ],
)
def test_preprocessing_has_the_authors_bits(key, make, picture, prepared):
    tensor = make(data.picture(picture))

    assert tensor.shape == tuple(prepared[f"{key}_{picture}/shape"])
    assert data.crc(tensor) == prepared[f"{key}_{picture}/crc32"]


@pytest.fixture(scope="module")
def faces():
    return load("retinaface_post.npz")


def test_retinaface_has_its_size_on_each_vendors_chip():
    for name in ("retinaface_mobilenet025", "retinaface_resnet50"):
        assert MODELS[name].protocol("ascend310").size == (1000, 1000)
        assert MODELS[name].protocol("mlu370_x4").size == (672, 1024)


@pytest.mark.parametrize("picture", data.PICTURES)
def test_the_authors_enlarged_faces_agree_up_to_the_build_of_opencv(picture, prepared):
    """float32 bilinear resizing depends on Intel's primitives: 0.015 of 255 between builds."""
    done = retinaface.preprocess_authors(data.picture(picture), short=1600)

    assert done.frame.scale[0] == prepared[f"up_retina_1600_resize_{picture}"]
    assert (1, *done.tensor.shape) == tuple(prepared[f"up_retina_1600_{picture}/shape"])
    few = done.tensor.ravel()[::4999]
    np.testing.assert_allclose(few, prepared[f"up_retina_1600_{picture}/every4999"], rtol=0, atol=0.02)


@pytest.mark.parametrize(("key", "scale"), [("dets", 1.0), ("dets_resize", 1600 / 375)])
def test_faces_are_the_authors(key, scale, faces):
    seed, side = data.AUTHORS_FACES
    found = retinaface.postprocess(named(*data.faces(1050, seed, 5)), Frame(side, side, (scale, scale)), (side, side))
    authors = faces[f"upstream160/{key}"]

    np.testing.assert_allclose(found["boxes"], authors[:, :4], rtol=0, atol=2e-4)
    np.testing.assert_array_equal(found["scores"], authors[:, 4])
    np.testing.assert_allclose(found["landmarks"].reshape(-1, 10), authors[:, 5:], rtol=0, atol=2e-4)


def test_faces_of_an_input_that_is_wider_than_high_lie_where_their_priors_do():
    """The last prior of 64 x 96: stride 32, row 1 and column 2, whose centre is (80, 48); its side is 512."""
    rows = 2 * (8 * 12 + 4 * 6 + 2 * 3)
    conf = np.tile(np.array([1, 0], np.float32), (rows, 1))
    conf[-1] = 0.1, 0.9
    outputs = named(np.zeros((rows, 4), np.float32), conf, np.zeros((rows, 10), np.float32))

    found = retinaface.postprocess(outputs, Frame(192, 128, (2.0, 2.0)), (64, 96))

    np.testing.assert_allclose(found["boxes"], [[-88, -104, 168, 152]], rtol=1e-6)
    np.testing.assert_allclose(found["landmarks"], [[[40, 24]] * 5], rtol=1e-6)


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


every_face_protocol = pytest.mark.parametrize("protocol", MODELS["retinaface_resnet50"].protocols, ids=lambda p: p.name)


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


@every_face_protocol
def test_faces_of_infinite_size_are_an_error(protocol):
    outputs = quiet(protocol)
    outputs["output1"][:2] = (0.5, 0.5)
    outputs["output0"][0, 2:] = 1e6

    with pytest.raises(RunError, match=r"1 of 2 faces .* infinite"):
        protocol.postprocess(outputs, frame_of(protocol))


@pytest.mark.parametrize("picture", data.PICTURES)
def test_frames_hold_the_authors_scales(picture, prepared):
    scale = retinaface.preprocess_ascend(data.picture(picture), True).frame.scale

    assert scale[0] == float(prepared[f"asc_retina_resize_{picture}"][0])


@pytest.mark.parametrize(
    ("prepare", "size", "scale", "corner"),  # height and width of the picture, its scale, left and top: by hand
    [
        (lambda image: retinaface.preprocess_ascend(image, True), (375, 500), 2.0, (0.0, 0.0)),
        (lambda image: retinaface.preprocess_ascend(image, True), (800, 300), 1.25, (0.0, 0.0)),
        (lambda image: retinaface.preprocess_mlu(image, True), (480, 640), 1.4, (64.0, 0.0)),  # 896 of 1024 wide
        (lambda image: retinaface.preprocess_mlu(image, True), (500, 1000), 1.024, (0.0, 80.0)),  # 512 of 672 high
        (lambda image: retinaface.preprocess_mlu(image, True), (1344, 1000), 0.5, (262.0, 0.0)),
        (retinaface.preprocess_authors, (375, 500), 1.0, (0.0, 0.0)),
        (lambda image: retinaface.preprocess_authors(image, 30), (20, 40), 1.5, (0.0, 0.0)),
        (lambda image: retinaface.preprocess_authors(image, 30, 59), (20, 40), 1.475, (0.0, 0.0)),
        (lambda image: retinaface.preprocess_authors(image, 30, 60), (20, 40), 1.5, (0.0, 0.0)),
    ],
)
def test_a_frame_holds_the_pictures_size_its_scale_and_its_corner(prepare, size, scale, corner):
    frame = prepare(np.full((*size, 3), 90, np.uint8)).frame

    assert (frame.height, frame.width) == size
    assert frame.scale == pytest.approx((scale, scale), rel=1e-7)
    assert (frame.left, frame.top) == corner


def test_only_the_large_network_takes_seconds_an_image():
    assert not MODELS["retinaface_mobilenet025"].heavy
    assert MODELS["retinaface_resnet50"].heavy
