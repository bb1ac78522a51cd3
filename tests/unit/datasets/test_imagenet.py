"""ImageNet: pictures and one class each, whole, partial, or refused."""

import numpy as np
import pytest
from datasets_drawn import NAMES, THREE, by_pillow, labels, published, turned

from harness.datasets import imagenet
from harness.errors import DataError


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
        ("ILSVRC2012_val_00000009.JPEG 1000", r"val_label.txt:4: .* is not a name and a label of 0\.\.999\n"),
        ("ILSVRC2012_val_00000009.JPEG -1", "val_label.txt:4: .* is not a name and a label"),
        ("ILSVRC2012_val_00000009.JPEG cat", "val_label.txt:4: .* is not a name and a label"),
    ],
)
def test_a_bad_label_line_is_named(images, line, message):
    path = images / "imagenet" / "val_label.txt"
    path.write_text(path.read_text() + line + "\n")

    with pytest.raises(DataError, match=message):
        imagenet.load(images, THREE)


def test_labels_of_another_order_or_cut_have_another_digest(images):
    seen = []
    for classes in ((1, 2, 3), (2, 1, 3), (11, 2, 3), (1, 12, 3), (1, 1, 23)):
        labels(images, dict(zip(NAMES, classes, strict=True)))
        seen.append(imagenet.load(images, THREE).digest)

    assert len(set(seen)) == 5


def test_pictures_without_a_label_file_have_no_truth_and_say_so(images):
    (images / "imagenet" / "val_label.txt").unlink()

    dataset = imagenet.load(images, THREE)

    assert (dataset.kind, dataset.truth) == ("partial", None)
    assert "val_label.txt" in dataset.note


@pytest.mark.parametrize(
    ("first", "order"),
    [
        ((65, 970, 230), ""),
        ((489, 360, 170), "in the order of the development kit: "),
        ((490, 361, 171), "in the order of the development kit, counted from 1: "),
        ((66, 971, 231), "in the order of the WordNet ids, but counted from 1: "),
        ((65, 360, 171), "not the published ones: ILSVRC2012_val_00000002 is 360, "),
        ((1, 2, 3), "not the published ones: "),
    ],
)
def test_labels_in_another_order_of_the_classes_are_said(images, first, order):
    labels(images, dict(zip(NAMES, first, strict=True)))

    note = imagenet.load(images, THREE).note

    assert order in note
    assert bool(note) == bool(order)
    if first[0] != 65:
        assert f"{NAMES[0]} is {first[0]}, in the order of the WordNet ids from 0 it is 65" in note


def test_one_known_picture_tells_the_order(images):
    labels(images, {NAMES[1]: 360, NAMES[0]: 489, NAMES[2]: 170})
    for name in NAMES[:2]:
        (images / "imagenet" / "val" / f"{name}.JPEG").unlink()
    labels(images, {NAMES[2]: 170})

    assert "development kit" in imagenet.load(images, published("imagenet", NAMES[2:])).note


@pytest.mark.parametrize("before", ["val/", "n01751748/", "/data/val/", "D:\\imagenet\\val\\"])
def test_names_with_folders_before_them_are_named(images, before):
    (images / "imagenet" / "val_label.txt").write_text("".join(f"{before}{name}.JPEG 7\n" for name in NAMES))

    with pytest.raises(DataError) as error:
        imagenet.load(images, THREE)

    assert f"val_label.txt names {before}{NAMES[0]}: without {before} it is a picture here" in str(error.value)


def test_utf_16_without_a_mark_is_named(images):
    (images / "imagenet" / "val_label.txt").write_bytes(f"{NAMES[0]}.JPEG 7\n".encode("utf-16-le"))

    with pytest.raises(DataError, match=r"val_label.txt:1 holds zero bytes(.|\n)*iconv -f UTF-16LE"):
        imagenet.load(images, THREE)


@pytest.mark.parametrize("digits", ["9" * 5000, "0" * 5000, "٣"])
def test_a_label_that_python_would_not_read_is_named(images, digits):
    path = images / "imagenet" / "val_label.txt"
    path.write_text(path.read_text() + f"ILSVRC2012_val_00000009.JPEG {digits}\n", encoding="utf-8")

    with pytest.raises(DataError, match=r"val_label.txt:4: .* is not a name and a label"):
        imagenet.load(images, THREE)


def test_pictures_are_decoded_by_pillow_as_the_authors_do(images):
    path = images / "imagenet" / "val" / f"{NAMES[0]}.JPEG"
    turned(path)

    found = next(sample for sample in imagenet.load(images, THREE).samples if sample.id == NAMES[0]).read()

    assert found.shape == (20, 30, 3)
    np.testing.assert_array_equal(found, by_pillow(path))


def test_the_known_labels_are_those_of_the_first_pictures():
    """Typed a second time: from the development kit's ground truth, which counts from 1, and from a list by WordNet."""
    assert [label + 1 for label in imagenet.DEVKIT.values()] == [490, 361, 171, 822, 297]
    assert list(imagenet.WORDNET.values()) == [65, 970, 230, 809, 516]
    assert list(imagenet.DEVKIT) == list(imagenet.WORDNET) == [f"ILSVRC2012_val_0000000{n}" for n in range(1, 6)]
