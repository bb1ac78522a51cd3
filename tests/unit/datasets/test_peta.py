"""PETA: pictures and 35 attributes each, whole, partial, or refused."""

import json
import shutil

import numpy as np
import pytest
from datasets_drawn import PEOPLE, by_pillow, published, turned, write_people

from harness.datasets import peta
from harness.errors import DataError


def test_labels_of_none_of_the_pictures_are_named(people, monkeypatch):
    write_people(people, {f"{i}.png": [0] * 35 for i in range(3)})

    with pytest.raises(DataError, match=r"label\.json names none of the 3 pictures"):
        peta.load(people, published("peta", PEOPLE))


def test_labels_of_names_with_folders_before_them_are_named(people):
    write_people(people, {f"images/{name}.png": [0] * 35 for name in PEOPLE})

    with pytest.raises(DataError, match=r"label\.json names images/13056: without images/ it is a picture here"):
        peta.load(people, published("peta", PEOPLE))


CROPS = published("peta", PEOPLE)


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


def test_that_there_are_no_labels_is_noted_and_only_then(people):
    assert peta.load(people, CROPS).note == ""
    (people / "peta" / "label.json").unlink()

    unlabelled = peta.load(people, CROPS)

    assert (unlabelled.kind, unlabelled.truth) == ("partial", None)
    assert unlabelled.note.endswith("label.json: pictures without labels")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[1, 2]", "is not an object"),
        ("3", "is not an object"),
        ('{"13056.png": [0, 1]}', "13056.png does not have 35 values"),
        (json.dumps({"13056.png": [3] * 35}), "13056.png does not have 35 values"),
        (json.dumps({"13056.png": "x" * 35}), "13056.png does not have 35 values"),
        (json.dumps({"13056.png": [[0]] * 35}), "13056.png does not have 35 values"),
        ('{"13056.png": [], "13056.png": []}', "twice, first 13056"),
    ],
)
def test_bad_attribute_labels_are_refused(people, text, message):
    write_people(people, text)

    with pytest.raises(DataError, match=message):
        peta.load(people, CROPS)


def test_pictures_are_decoded_by_pillow_as_the_authors_do(people):
    path = people / "peta" / "images" / f"{PEOPLE[0]}.png"
    turned(path)

    found = next(sample for sample in peta.load(people, CROPS).samples if sample.id == PEOPLE[0]).read()

    assert found.shape == (20, 30, 3)
    np.testing.assert_array_equal(found, by_pillow(path))


def test_an_attribute_that_nobody_knows_is_neither_there_nor_absent(people):
    write_people(people, {f"{name}.png": [0, 1, 2] + [0] * 32 for name in PEOPLE})

    for row in peta.load(people, CROPS).truth:
        assert row[:4].tolist() == [0, 1, 2, 0]
