"""A data set is whole only when every published sample is there; what is damaged is named."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from harness import datasets
from harness.datasets import coco, files, imagenet, peta, widerface
from harness.datasets.base import Absent
from harness.errors import DataError, UsageError


def picture(path, size=(12, 8), value=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size[1], size[0], 3), value, np.uint8))


def published(name, ids, total=None):
    return files.Published(name, total or len(ids), files.names_digest(ids), "as in the README")


# ---------------------------------------------------------------- imagenet

NAMES = [f"ILSVRC2012_val_{i:08d}" for i in (1, 2, 3)]
THREE = published("imagenet", NAMES)


@pytest.fixture
def images(tmp_path):
    for name in NAMES:
        picture(tmp_path / "imagenet" / "val" / f"{name}.JPEG")
    labels(tmp_path, {name: 7 + i for i, name in enumerate(reversed(NAMES))})
    return tmp_path


def labels(data, entries):
    text = "".join(f"{name}.JPEG {label}\n" for name, label in entries.items())
    (data / "imagenet" / "val_label.txt").write_text(text)


def test_a_whole_set_stands_in_the_order_of_its_labels(images):
    dataset = imagenet.load(images, THREE)

    assert (dataset.kind, len(dataset), dataset.total) == ("whole", 3, 3)
    assert [sample.id for sample in dataset.samples] == NAMES[::-1]
    assert dataset.truth == [7, 8, 9]
    assert dataset.samples[0].read().shape == (8, 12, 3)


def test_the_published_imagenet_is_counted_by_number_and_name():
    ids = [f"ILSVRC2012_val_{i:08d}" for i in range(1, 50_001)]

    assert imagenet.PUBLISHED.kind(ids) == "whole"
    assert imagenet.PUBLISHED.kind(ids[:-1]) == "partial"
    assert imagenet.PUBLISHED.kind([*ids[:-1], "another"]) == "partial"


def test_as_many_pictures_of_other_names_are_not_the_whole_set(images):
    dataset = imagenet.load(images, published("imagenet", ["a", "b", "c"]))

    assert dataset.kind == "partial"


def test_part_of_the_pictures_of_a_whole_list_is_a_partial_set(images):
    (images / "imagenet" / "val" / f"{NAMES[1]}.JPEG").unlink()

    dataset = imagenet.load(images, THREE)

    assert (dataset.kind, len(dataset), dataset.total) == ("partial", 2, 3)
    assert dataset.truth == [7, 9]


def test_a_short_label_list_with_a_missing_picture_names_it(images):
    (images / "imagenet" / "val" / f"{NAMES[1]}.JPEG").unlink()

    with pytest.raises(DataError, match=f"names 1 pictures that are not there, first {NAMES[1]}"):
        imagenet.load(images, imagenet.PUBLISHED)


def test_a_picture_without_a_label_is_named(images):
    labels(images, dict.fromkeys(NAMES[:2], 1))

    with pytest.raises(DataError, match=rf"1 pictures are not in .*val_label.txt, first .*{NAMES[2]}"):
        imagenet.load(images, THREE)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{NAMES[0]}.png 3", f"twice, first {NAMES[0]}"),  # names are cut at the first dot
        ("ILSVRC2012_val_00000009.JPEG", "val_label.txt:4: .* is not a name and a label"),
        ("ILSVRC2012_val_00000009.JPEG 1000", "val_label.txt:4: .* is not a name and a label"),
        ("ILSVRC2012_val_00000009.JPEG -1", "val_label.txt:4: .* is not a name and a label"),
        ("ILSVRC2012_val_00000009.JPEG cat", "val_label.txt:4: .* is not a name and a label"),
    ],
)
def test_a_bad_label_line_is_named(images, line, message):
    path = images / "imagenet" / "val_label.txt"
    path.write_text(path.read_text() + line + "\n")

    with pytest.raises(DataError, match=message):
        imagenet.load(images, THREE)


def test_pictures_without_a_label_file_have_no_truth_and_say_so(images):
    (images / "imagenet" / "val_label.txt").unlink()

    dataset = imagenet.load(images, THREE)

    assert (dataset.kind, dataset.truth) == ("partial", None)
    assert "val_label.txt" in dataset.note


def test_an_empty_picture_is_named(images):
    (images / "imagenet" / "val" / f"{NAMES[1]}.JPEG").write_bytes(b"")

    with pytest.raises(DataError, match=rf"{NAMES[1]}\.JPEG is empty"):
        imagenet.load(images, THREE)


def test_files_that_are_no_pictures_are_counted_and_the_first_is_named(images):
    for name in NAMES[1:]:
        (images / "imagenet" / "val" / f"{name}.JPEG").write_bytes(b"\x00\x10JFIF")

    with pytest.raises(DataError, match=rf"2 of 3 files in .* are not pictures, first .*{NAMES[1]}"):
        imagenet.load(images, THREE)


def test_a_truncated_picture_is_named_when_it_is_read(images):
    path = images / "imagenet" / "val" / f"{NAMES[0]}.JPEG"
    path.write_bytes(path.read_bytes()[:200])
    dataset = imagenet.load(images, THREE)

    with pytest.raises(DataError, match=NAMES[0]):
        dataset.samples[2].read()


def test_two_pictures_of_one_name_are_named(images):
    picture(images / "imagenet" / "val" / f"{NAMES[0]}.png")

    with pytest.raises(DataError, match="are one sample"):
        imagenet.load(images, THREE)


def test_hidden_files_and_files_of_other_kinds_are_passed_over(images):
    (images / "imagenet" / "val" / ".DS_Store").write_bytes(b"")
    (images / "imagenet" / "val" / "readme.txt").write_text("hello")

    assert len(imagenet.load(images, THREE)) == 3


def test_the_digest_follows_names_sizes_and_labels(images):
    digest = imagenet.load(images, THREE).digest
    assert imagenet.load(images, THREE).digest == digest

    labels(images, dict.fromkeys(reversed(NAMES), 3))
    relabelled = imagenet.load(images, THREE).digest
    picture(images / "imagenet" / "val" / f"{NAMES[0]}.JPEG", size=(300, 200))
    resized = imagenet.load(images, THREE).digest

    assert len({digest, relabelled, resized}) == 3


def test_part_of_a_set_is_partial_and_keeps_its_truth(images):
    part = imagenet.load(images, THREE).head(2)

    assert (part.kind, len(part), part.total, part.truth) == ("partial", 2, 3, [7, 8])


@pytest.mark.parametrize(
    ("first", "order"),
    [
        ((65, 970, 230), ""),
        ((489, 360, 170), "in the order of the development kit: "),
        ((490, 361, 171), "in the order of the development kit, counted from 1: "),
        ((66, 971, 231), "in the order of the WordNet ids, but counted from 1: "),
        ((65, 360, 171), ""),
    ],
)
def test_labels_in_another_order_of_the_classes_are_said(images, first, order):
    labels(images, dict(zip(NAMES, first, strict=True)))

    note = imagenet.load(images, THREE).note

    assert order in note
    assert bool(note) == bool(order)
    assert not order or f"{NAMES[0]} is {first[0]}, in the order of the WordNet ids from 0 it is 65" in note


def test_one_known_picture_tells_the_order(images):
    labels(images, {NAMES[1]: 360, NAMES[0]: 489, NAMES[2]: 170})
    for name in NAMES[:2]:
        (images / "imagenet" / "val" / f"{name}.JPEG").unlink()
    labels(images, {NAMES[2]: 170})

    assert "development kit" in imagenet.load(images, published("imagenet", NAMES[2:])).note


@pytest.mark.parametrize("digits", ["9" * 5000, "0" * 5000, "٣"])
def test_a_label_that_python_would_not_read_is_named(images, digits):
    path = images / "imagenet" / "val_label.txt"
    path.write_text(path.read_text() + f"ILSVRC2012_val_00000009.JPEG {digits}\n", encoding="utf-8")

    with pytest.raises(DataError, match=r"val_label.txt:4: .* is not a name and a label"):
        imagenet.load(images, THREE)


# ---------------------------------------------------------------- names and texts of other encodings

GBK = "人脸".encode("gbk")
LISTS = {
    "imagenet": ("images", "imagenet/val_label.txt"),
    "peta": ("people", "peta/label.json"),
    "peta order": ("people", "peta/image.txt"),
    "widerface": ("faces", "widerface/wider_val.txt"),
    "coco": ("things", "coco/annotations/instances_val2017.json"),
}


@pytest.fixture(params=LISTS)
def listed(request):
    """Name of a data set, its folder and one of its lists."""
    fixture, path = LISTS[request.param]
    return request.param.split()[0], request.getfixturevalue(fixture), path


def refused(name, data):
    with pytest.raises(DataError) as caught:
        datasets.load(name, data)
    assert not isinstance(caught.value, Absent)
    assert caught.value.hint
    return caught.value.fact


def test_a_list_in_gbk_is_named_with_its_line(listed):
    name, data, path = listed
    (data / path).write_bytes(b"\n\n" + GBK + b".jpg 5\n")

    fact = refused(name, data)

    assert f"{data / path}:3 is not UTF-8" in fact


def test_a_list_in_utf_16_is_named(listed):
    name, data, path = listed
    (data / path).write_text("a.jpg 5\n", encoding="utf-16")

    assert f"{data / path} is UTF-16" in refused(name, data)


def test_an_empty_list_is_named(listed):
    name, data, path = listed
    (data / path).write_bytes(b"")

    assert str(data / path) in refused(name, data)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_a_folder_in_the_place_of_a_list_is_named(listed, make):
    name, data, path = listed
    (data / path).unlink(missing_ok=True)
    make(data / path)

    assert f"{data / path} is a " in refused(name, data)


@pytest.mark.parametrize(
    ("fixture", "folder"),
    [("images", "imagenet/val"), ("people", "peta/images"), ("faces", "widerface/val/images/0--Parade"),
     ("things", "coco/val2017")],
)  # fmt: skip
def test_a_picture_whose_name_is_not_utf_8_is_named(request, fixture, folder):
    data = request.getfixturevalue(fixture)
    shutil.copy(next((data / folder).iterdir()), os.fsencode(data / folder) + b"/" + GBK + b".jpg")

    fact = refused(folder.split("/")[0], data)

    assert "\\xc8\\xcb" in fact
    assert "人脸.jpg" in fact


@pytest.mark.parametrize(("name", "fixture", "path"), [("peta", *LISTS["peta"]), ("coco", *LISTS["coco"])])
@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "", "{}", '{"images": []}', '{"images": [], "annotations": []}'],
    ids=["deep list", "deep object", "long number", "nothing", "no name", "no image", "no annotation"],
)  # fmt: skip
def test_hostile_json_is_named(request, name, fixture, path, text):
    data = request.getfixturevalue(fixture)
    (data / path).write_text(text)

    assert str(data / path) in refused(name, data)


def test_labels_of_none_of_the_pictures_are_named(people, monkeypatch):
    write_people(people, {f"{i}.png": [0] * 35 for i in range(3)})

    with pytest.raises(DataError, match=r"label\.json names none of the 3 pictures"):
        peta.load(people, published("peta", PEOPLE))


# ---------------------------------------------------------------- absent


@pytest.mark.parametrize("name", list(datasets.DATASETS))
def test_an_absent_set_says_where_it_belongs(tmp_path, name):
    with pytest.raises(Absent, match="there is no folder") as error:
        datasets.load(name, tmp_path)

    assert "put under --data" in error.value.hint


def test_labels_without_pictures_are_an_absent_set(tmp_path):
    (tmp_path / "peta").mkdir()
    (tmp_path / "peta" / "label.json").write_text("{}")

    with pytest.raises(Absent, match=r"peta: there is no folder .*images"):
        datasets.load("peta", tmp_path)


def test_an_empty_picture_folder_is_an_absent_set(tmp_path):
    (tmp_path / "imagenet" / "val").mkdir(parents=True)

    with pytest.raises(Absent, match="no picture in"):
        datasets.load("imagenet", tmp_path)


def test_a_data_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is not a folder"):
        datasets.load("coco", tmp_path / "nowhere")


def test_an_unknown_data_set_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no data set 'mnist'"):
        datasets.load("mnist", tmp_path)


# ---------------------------------------------------------------- peta

PEOPLE = ["13056", "16923", "00001"]
CROPS = published("peta", PEOPLE)


@pytest.fixture
def people(tmp_path):
    for name in PEOPLE:
        picture(tmp_path / "peta" / "images" / f"{name}.png")
    write_people(tmp_path, {f"{name}.png": [i % 2] * 35 for i, name in enumerate(PEOPLE)})
    return tmp_path


def write_people(data, entries):
    (data / "peta" / "label.json").write_text(entries if isinstance(entries, str) else json.dumps(entries))


def test_people_stand_in_the_order_of_the_image_list(people):
    (people / "peta" / "image.txt").write_text("".join(f"{name}.png\n" for name in sorted(PEOPLE)))

    dataset = peta.load(people, CROPS)

    assert dataset.kind == "whole"
    assert [s.id for s in dataset.samples] == sorted(PEOPLE)
    assert [row.sum() for row in dataset.truth] == [0, 0, 35]


def test_people_without_an_image_list_stand_in_the_order_of_the_labels(people):
    assert [s.id for s in peta.load(people, CROPS).samples] == PEOPLE


def test_an_image_list_that_differs_from_the_labels_is_refused(people):
    (people / "peta" / "image.txt").write_text("13056.png\n16923.png\n")

    with pytest.raises(DataError, match=r"lacks 1 names of .*label\.json, first 00001"):
        peta.load(people, CROPS)


def test_of_all_pictures_of_peta_the_labelled_ones_are_taken(people):
    """19,000 are published, and 7,600 of them are the test set."""
    before = peta.load(people, CROPS)
    folder = people / "peta" / "images"
    shutil.copy(next(folder.iterdir()), folder / "00777.png")
    listed = people / "peta" / "image.txt"
    if listed.exists():
        listed.write_text(listed.read_text() + "00777.png\n")

    after = peta.load(people, CROPS)

    assert [sample.id for sample in after.samples] == [sample.id for sample in before.samples]
    assert (after.kind, after.digest) == (before.kind, before.digest)
    assert after.note.startswith("1 pictures that ")


def test_pictures_in_the_layout_of_training_are_named_and_not_taken_for_absent(tmp_path):
    """A folder a class, as most training programs want them: scenes would be drawn in their place."""
    (tmp_path / "imagenet" / "val" / "n01440764").mkdir(parents=True)

    with pytest.raises(DataError, match="holds 1 entries, first n01440764, and no picture") as caught:
        imagenet.load(tmp_path)
    assert not isinstance(caught.value, Absent)
    assert "one flat folder" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[1, 2]", "is not an object"),
        ("3", "is not an object"),
        ('{"13056.png": [0, 1]}', "13056.png has not 35 values"),
        (json.dumps({"13056.png": [3] * 35}), "13056.png has not 35 values"),
        (json.dumps({"13056.png": "x" * 35}), "13056.png has not 35 values"),
        (json.dumps({"13056.png": [[0]] * 35}), "13056.png has not 35 values"),
        ('{"13056.png": [], "13056.png": []}', "twice, first 13056"),
    ],
)
def test_bad_attribute_labels_are_refused(people, text, message):
    write_people(people, text)

    with pytest.raises(DataError, match=message):
        peta.load(people, CROPS)


# ---------------------------------------------------------------- widerface

FACES = {"0--Parade": ["0_a_1", "0_a_2"], "1--Handshaking": ["1_b_1"]}
FACE_IDS = [f"{event}/{stem}" for event, stems in FACES.items() for stem in stems]
THREE_FACES = published("widerface", FACE_IDS)


def cells(values):
    out = np.empty((len(values), 1), object)
    for i, value in enumerate(values):
        out[i, 0] = value
    return out


def write_mat(data, change=None):
    """The authors' four files for FACES: two faces a picture, the second easy, both hard. `change` edits the fields."""
    fields = {
        "event_list": cells(list(FACES)),
        "file_list": cells([cells(stems) for stems in FACES.values()]),
        "face_bbx_list": cells([cells([np.array([[1, 2, 3, 4], [5, 6, 7, 8]])] * len(s)) for s in FACES.values()]),
    }
    easy = cells([cells([np.array([[2]], np.uint8)] * len(s)) for s in FACES.values()])
    hard = cells([cells([np.array([[1], [2]], np.uint8)] * len(s)) for s in FACES.values()])
    contents = {"face": fields}
    contents |= {name: fields | {"gt_list": hard if name == "hard" else easy} for name in ("easy", "medium", "hard")}
    if change:
        change(contents)
    folder = data / "widerface" / "ground_truth"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        savemat(folder / f"wider_{name}_val.mat", content)


@pytest.fixture
def faces(tmp_path):
    for sample in FACE_IDS:
        picture(tmp_path / "widerface" / "val" / "images" / f"{sample}.jpg")
    write_mat(tmp_path)
    return tmp_path


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
        (put("hard", "gt_list", cells([cells([np.array([[1]])])] * 2)), "event 0: 2 pictures, but 1 in hard"),
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


# ---------------------------------------------------------------- coco


@pytest.fixture
def things(tmp_path, monkeypatch):
    """Four pictures: one with two objects, one with a crowd, one without objects, one too small."""
    sizes = {632: (60, 40), 285: (50, 40), 724: (31, 90), 139: (60, 50)}  # the file is not in the order of the ids
    for i, size in sizes.items():
        picture(tmp_path / "coco" / "val2017" / f"{i:012d}.jpg", size)
    write_things(tmp_path, sizes)
    monkeypatch.setattr(coco, "ALL", files.Published("coco", 4, "", "here"))
    monkeypatch.setattr(coco, "ANNOTATED", files.Published("coco", 2, "", "here"))
    monkeypatch.setattr(coco, "ANNOTATIONS", 4)
    return tmp_path


def write_things(data, sizes, change=None):
    entry = {"area": 8.0, "iscrowd": 0, "bbox": [1, 2, 3, 4]}
    content = {
        "images": [{"id": i, "file_name": f"{i:012d}.jpg", "width": w, "height": h} for i, (w, h) in sizes.items()],
        "annotations": [
            {"image_id": 285, "category_id": 90, **entry, "iscrowd": 1},
            {"image_id": 139, "category_id": 1, **entry},
            {"image_id": 139, "category_id": 13, **entry},
            {"image_id": 724, "category_id": 1, **entry},
        ],
    }
    if change:
        change(content)
    path = data / "coco" / "annotations" / "instances_val2017.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def test_the_published_figure_is_of_pictures_with_objects_and_sides_of_32_pixels(things):
    dataset = coco.load(things)

    assert (dataset.kind, dataset.total) == ("whole", 2)
    assert [s.id for s in dataset.samples] == [f"{i:012d}" for i in (139, 285)]
    assert [t.labels.tolist() for t in dataset.truth] == [[0, 11], [79]]
    assert dataset.truth[1].crowd.tolist() == [True]


def test_all_pictures_can_be_scored_as_the_authors_do(things):
    dataset = coco.load_all(things)

    assert (dataset.name, dataset.kind, len(dataset)) == ("coco_5000", "whole", 4)


def test_the_counts_are_those_published():
    assert (coco.ANNOTATED.total, coco.ALL.total, coco.ANNOTATIONS) == (4_952, 5_000, 36_781)


def test_an_annotation_file_with_less_annotations_is_not_the_whole_set(things, monkeypatch):
    monkeypatch.setattr(coco, "ANNOTATIONS", 5)

    assert coco.load(things).kind == "partial"


def test_pictures_without_the_annotation_file_have_no_truth_and_say_so(things):
    annotations = things / "coco" / "annotations"
    (annotations / "instances_val2017.json").rename(annotations / "instances_val2017_first100annotations.json")

    dataset = coco.load(things)

    assert (dataset.kind, len(dataset), dataset.truth) == ("partial", 4, None)
    assert "instances_val2017.json" in dataset.note


def test_a_picture_of_another_size_than_annotated_is_named_when_it_is_read(things):
    picture(things / "coco" / "val2017" / f"{139:012d}.jpg", (50, 60))

    with pytest.raises(DataError, match=r"139\.jpg is 50x60, its annotation says 60x50"):
        coco.load(things).samples[0].read()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("images"), "a field is missing or wrong: KeyError"),
        (lambda c: c["annotations"][0].pop("bbox"), "a field is missing or wrong: KeyError"),
        (lambda c: c["annotations"][0].update(category_id=12), "a field is missing or wrong"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), "a field is missing or wrong"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, -3, 4]), "a bbox is not"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, float("nan"), 4]), "a bbox is not"),
        (lambda c: c["annotations"][0].update(image_id=5), "annotates image 5, which it does not list"),
        (lambda c: c["images"][0].update(width="wide"), "a field is missing or wrong"),
        (lambda c: c["images"].append(dict(c["images"][0])), "twice, first"),
        (lambda c: c["images"].append({**c["images"][0], "file_name": "7.jpg"}), "twice, first"),
        (lambda c: c["images"].append({**c["images"][0], "id": 7, "file_name": "000000000139.png"}), "twice, first"),
        (lambda c: [a.update(id=1) for a in c["annotations"]], "twice, first annotation 1"),
        (lambda c: c["images"][0].update(height=float("inf")), "a field is missing or wrong"),
    ],
)
def test_wrong_annotations_are_refused(things, change, message):
    write_things(things, {139: (60, 50), 285: (50, 40), 632: (60, 40), 724: (31, 90)}, change)

    with pytest.raises(DataError, match=message):
        coco.load(things)


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_an_annotation_file_that_is_none_is_refused(things, content):
    (things / "coco" / "annotations" / "instances_val2017.json").write_text(content)

    with pytest.raises(DataError, match="instances_val2017"):
        coco.load(things)


# ---------------------------------------------------------------- real data


@pytest.fixture
def data(request):
    folder = request.config.getoption("--data", default=None)
    if folder is None:
        pytest.skip("needs --data with pictures of the real data sets")
    return Path(folder)


@pytest.mark.parametrize("name", list(datasets.DATASETS))
def test_the_real_pictures_can_be_read(data, name):
    try:
        dataset = datasets.load(name, data)
    except DataError as error:
        pytest.skip(f"the set there cannot be used: {error}")

    assert dataset.kind == ("whole" if len(dataset) == dataset.total else "partial")
    for sample in dataset.samples[:50]:
        assert sample.read().ndim == 3


def test_real_faces_lie_inside_their_pictures(data):
    dataset = datasets.load("widerface", data)

    for sample, faces in list(zip(dataset.samples, dataset.truth, strict=True))[:25]:
        height, width = sample.read().shape[:2]
        assert (faces.boxes[:, :2] >= -2).all()
        assert (faces.boxes[:, :2] + faces.boxes[:, 2:] <= (width + 2, height + 2)).all(), sample.id
