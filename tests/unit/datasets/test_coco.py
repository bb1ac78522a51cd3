"""COCO: pictures and their annotations, whole, partial, or refused."""

import pytest
from datasets_drawn import picture, write_things

from harness.datasets import coco
from harness.errors import DataError


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
        (lambda c: c["annotations"][0].update(category_id=12), "category_id 12 is none of COCO's 80"),
        (lambda c: c["annotations"][0].update(category_id="person"), "category_id 'person' is none of COCO's 80"),
        (
            lambda c: c.update(categories=[{"id": 13, "name": "parking meter"}]),
            "category 13 is parking meter, in COCO it",
        ),
        (
            lambda c: [i.update(file_name=f"val2017/{i['file_name']}") for i in c["images"]],
            "without val2017/ it is a pic",
        ),
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


@pytest.mark.parametrize(("number", "name"), [(1, "person"), (13, "stop sign"), (44, "bottle"), (90, "toothbrush")])
def test_categories_have_the_published_names_or_are_refused(things, number, name):
    """Stop sign is the twelfth of the 80, bottle the fortieth."""
    pictures = {139: (60, 50), 285: (50, 40), 632: (60, 40), 724: (31, 90)}
    write_things(things, pictures, lambda c: c.update(categories=[{"id": number, "name": name}]))
    assert coco.load(things).kind == "whole"

    write_things(things, pictures, lambda c: c.update(categories=[{"id": number, "name": "car"}]))
    with pytest.raises(DataError, match=f"category {number} is car, in COCO it is {name}"):
        coco.load(things)


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_an_annotation_file_that_is_none_is_refused(things, content):
    (things / "coco" / "annotations" / "instances_val2017.json").write_text(content)

    with pytest.raises(DataError, match="instances_val2017"):
        coco.load(things)


def test_an_object_is_as_large_as_its_segments_and_not_as_its_box(things):
    """Small, medium and large are told apart by it."""
    assert [truth.areas.tolist() for truth in coco.load(things).truth] == [[8.0, 8.0], [8.0]]
    assert [truth.boxes[:, 2:].prod(axis=1).tolist() for truth in coco.load(things).truth] == [[12.0, 12.0], [12.0]]
