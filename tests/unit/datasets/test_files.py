"""Folders of pictures and lists of names: what is absent, damaged, doubled or in another encoding is named."""

import os
import shutil
from pathlib import Path

import pytest
from datasets_drawn import NAMES, THREE, labels, picture, published

from harness import datasets
from harness.datasets import files, imagenet
from harness.datasets.base import Absent
from harness.errors import DataError, UsageError


def test_as_many_pictures_of_other_names_are_not_the_whole_set(images):
    dataset = imagenet.load(images, published("imagenet", ["a", "b", "c"]))

    assert dataset.kind == "partial"


def test_part_of_the_pictures_of_a_whole_list_is_a_partial_set(images):
    (images / "imagenet" / "val" / f"{NAMES[1]}.JPEG").unlink()

    dataset = imagenet.load(images, THREE)

    assert (dataset.kind, len(dataset), dataset.total) == ("partial", 2, 3)
    assert dataset.truth == [7, 9]


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


def there(*names):
    return {name: files.Picture(Path(f"{name}.jpg"), 1) for name in names}


def test_names_in_a_list_are_cut_at_the_first_dot_with_a_folder_before_them_or_without(tmp_path):
    (tmp_path / "list.txt").write_text("a.b.jpg\n\n/0--Parade/1.x.jpg\n")

    assert files.listed(tmp_path / "list.txt", THREE) == ["a", "0--Parade/1"]


def test_a_list_that_cannot_be_read_is_named_with_the_reason(tmp_path):
    with pytest.raises(DataError, match=r"^.*list\.txt cannot be read: No such file or directory\n"):
        files.text(tmp_path / "list.txt")


def test_zero_bytes_in_a_list_are_named_with_their_line(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"a.jpg 5\nb.jpg 6\n" + "c.jpg 7\n".encode("utf-16-le"))

    with pytest.raises(DataError, match=r"^.*list\.txt:3 holds zero bytes: UTF-16 without a byte-order mark"):
        files.text(tmp_path / "list.txt")


def test_pictures_that_are_not_in_the_list_are_counted_and_the_first_is_named():
    with pytest.raises(DataError, match=r"^2 pictures are not in list\.txt, first b\.jpg\n"):
        files.present(there("c", "a", "b"), ["a"], Path("list.txt"), THREE)


def test_a_list_with_folders_before_the_names_is_told_which():
    with pytest.raises(DataError, match=r"^list\.txt names val/deep/a: without val/deep/ it is a picture here\n"):
        files.present(there("a"), ["val/deep/a"], Path("list.txt"), THREE)


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


def test_pictures_in_the_layout_of_training_are_named_and_not_taken_for_absent(tmp_path):
    """A folder a class, as most training programs want them: scenes would be drawn in their place."""
    (tmp_path / "imagenet" / "val" / "n01440764").mkdir(parents=True)

    with pytest.raises(DataError, match="holds 1 entries, first n01440764, and no picture") as caught:
        imagenet.load(tmp_path)
    assert not isinstance(caught.value, Absent)
    assert "one flat folder" in caught.value.hint


@pytest.mark.parametrize("name", list(datasets.DATASETS))
def test_the_real_pictures_can_be_read(data, name):
    try:
        dataset = datasets.load(name, data)
    except DataError as error:
        pytest.skip(f"the set there cannot be used: {error}")

    assert dataset.kind == ("whole" if len(dataset) == dataset.total else "partial")
    for sample in dataset.samples[:50]:
        assert sample.read().ndim == 3
