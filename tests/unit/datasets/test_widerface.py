"""WIDER FACE: the authors' four files and the pictures beside them, whole, partial, or refused."""

import cv2
import numpy as np
import pytest
from datasets_drawn import FACE_IDS, FACES, cells, picture, published, turned, write_mat

from harness import datasets
from harness.datasets import widerface
from harness.errors import DataError

THREE_FACES = published("widerface", FACE_IDS)


def test_faces_stand_in_the_order_of_the_list(faces):
    (faces / "widerface" / "wider_val.txt").write_text("".join(f"/{sample}.jpg\n" for sample in FACE_IDS[::-1]))

    dataset = widerface.load(faces, THREE_FACES)

    assert dataset.kind == "whole"
    assert [s.id for s in dataset.samples] == FACE_IDS[::-1]
    assert dataset.truth[0].boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert dataset.truth[0].counted.tolist() == [[False, True], [False, True], [True, True]]


def test_faces_without_a_list_stand_in_the_order_of_the_ground_truth(faces):
    assert [s.id for s in widerface.load(faces, THREE_FACES).samples] == FACE_IDS


def test_faces_of_some_pictures_are_a_partial_set(faces):
    (faces / "widerface" / "val" / "images" / f"{FACE_IDS[0]}.jpg").unlink()

    dataset = widerface.load(faces, THREE_FACES)

    assert (dataset.kind, len(dataset), dataset.total) == ("partial", 2, 3)


def test_faces_without_ground_truth_have_no_truth_and_say_so(faces):
    for path in (faces / "widerface" / "ground_truth").iterdir():
        path.unlink()
    (faces / "widerface" / "ground_truth").rmdir()

    dataset = widerface.load(faces, THREE_FACES)

    assert (dataset.kind, dataset.truth) == ("partial", None)
    assert "ground_truth" in dataset.note


def test_a_picture_that_the_ground_truth_lacks_is_named(faces):
    picture(faces / "widerface" / "val" / "images" / "0--Parade" / "stray.jpg")

    with pytest.raises(DataError, match=r"1 pictures are not in .*stray\.jpg"):
        widerface.load(faces, THREE_FACES)


def test_a_list_that_names_what_the_ground_truth_lacks_is_refused(faces):
    (faces / "widerface" / "wider_val.txt").write_text("0--Parade/other.jpg\n")

    with pytest.raises(DataError, match="names 0--Parade/other, the ground truth does not"):
        widerface.load(faces, THREE_FACES)


def test_a_doubled_line_of_the_list_is_named(faces):
    (faces / "widerface" / "wider_val.txt").write_text(f"{FACE_IDS[0]}.jpg\n" * 2)

    with pytest.raises(DataError, match=f"twice, first {FACE_IDS[0]}"):
        widerface.load(faces, THREE_FACES)


def drop(name, field):
    return lambda contents: contents.__setitem__(name, {k: v for k, v in contents[name].items() if k != field})


def put(name, field, value):
    return lambda contents: contents.__setitem__(name, contents[name] | {field: value})


def everywhere(value):
    return cells([cells([value] * len(stems)) for stems in FACES.values()])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("easy", "gt_list"), "wider_easy_val.mat has no field gt_list"),
        (drop("face", "face_bbx_list"), "wider_face_val.mat has no field face_bbx_list"),
        (put("face", "event_list", np.zeros((2, 1))), "event_list is float64"),
        (put("hard", "gt_list", cells([cells([np.array([[1]])] * 2)])), "2 events, but 1 rows of hard"),
        (put("hard", "gt_list", cells([cells([np.array([[1]])])] * 2)), "truth: event 0: 2 pictures, but 1 in hard"),
        (put("hard", "gt_list", cells([np.ones((2, 1)), np.ones((1, 1))])), "hard row 0 is not a column of cells"),
        (put("medium", "gt_list", everywhere(np.array([[3]]))), "medium names a face that is not there"),
        (put("medium", "gt_list", everywhere(np.array([[0]]))), "medium names a face that is not there"),
        (put("medium", "gt_list", everywhere(np.array([[2], [2]]))), "or one twice"),
        (put("face", "face_bbx_list", everywhere(np.zeros((2, 3)))), r"the boxes are not \(n, 4\) numbers"),
        (put("face", "face_bbx_list", everywhere(np.full((2, 4), np.nan))), r"the boxes are not \(n, 4\) numbers"),
        (put("face", "file_list", everywhere("same")), "0--Parade/same is there twice"),
        (put("face", "file_list", everywhere(np.array([[7]]))), "is not a text"),
    ],
)
def test_a_wrong_ground_truth_file_is_refused(faces, change, message):
    write_mat(faces, change)

    with pytest.raises(DataError, match=message):
        widerface.load(faces, THREE_FACES)


def test_a_missing_ground_truth_file_is_named(faces):
    (faces / "widerface" / "ground_truth" / "wider_hard_val.mat").unlink()

    with pytest.raises(DataError, match=r"there is no .*wider_hard_val\.mat"):
        widerface.load(faces, THREE_FACES)


@pytest.mark.parametrize("content", [b"", b"not a mat file", b"MATLAB 5.0 MAT-file" + b"\x01" * 400])
def test_a_damaged_ground_truth_file_is_named(faces, content):
    (faces / "widerface" / "ground_truth" / "wider_face_val.mat").write_bytes(content)

    with pytest.raises(DataError, match=r"wider_face_val\.mat is not a readable"):
        widerface.load(faces, THREE_FACES)


def test_real_faces_lie_inside_their_pictures(data):
    dataset = datasets.load("widerface", data)

    for sample, faces in list(zip(dataset.samples, dataset.truth, strict=True))[:25]:
        height, width = sample.read().shape[:2]
        assert (faces.boxes[:, :2] >= -2).all()
        assert (faces.boxes[:, :2] + faces.boxes[:, 2:] <= (width + 2, height + 2)).all(), sample.id


def test_pictures_are_decoded_by_opencv_as_the_authors_do(faces):
    path = faces / "widerface" / "val" / "images" / f"{FACE_IDS[0]}.jpg"
    turned(path)

    found = next(sample for sample in widerface.load(faces, THREE_FACES).samples if sample.id == FACE_IDS[0]).read()

    assert found.shape == (30, 20, 3)
    np.testing.assert_array_equal(found, cv2.imread(str(path)))


def test_other_faces_that_count_are_another_data_set(faces):
    """What was scored by them is not kept."""
    before = widerface.load(faces, THREE_FACES)

    def harder(contents):
        contents["easy"]["gt_list"][0, 0][0, 0] = np.array([[1]], np.uint8)

    write_mat(faces, harder)

    after = widerface.load(faces, THREE_FACES)
    assert np.array_equal(before.truth[0].boxes, after.truth[0].boxes)
    assert before.digest != after.digest
