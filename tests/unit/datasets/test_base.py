"""What a data set is: counted samples in order, of which a part is partial and keeps its truth."""

from dataclasses import replace

import pytest
from datasets_drawn import THREE

from harness.datasets import imagenet
from harness.datasets.base import Absent, Dataset, Sample
from harness.errors import DataError


def four(kind="whole", truth=(10, 11, 12, 13)):
    samples = [Sample(name, lambda: None) for name in "abcd"]
    return Dataset("letters", kind, samples, 4, truth and list(truth), "digest")


def test_part_of_a_set_is_partial_and_keeps_its_truth(images):
    part = imagenet.load(images, THREE).head(2)

    assert (part.kind, len(part), part.total, part.truth) == ("partial", 2, 3, [7, 8])


def test_samples_are_taken_with_their_truth_in_the_order_asked_for():
    part = four().take([3, 1])

    assert [sample.id for sample in part.samples] == ["d", "b"]
    assert part.truth == [13, 11]
    assert (part.kind, part.total) == ("partial", 4)


def test_all_samples_in_order_are_the_set_itself():
    whole = four()

    assert whole.take(range(4)) is whole
    assert whole.head(9) is whole
    assert whole.take([1, 0, 2, 3]).kind == "partial", "another order is another set"


def test_a_sample_is_drawn_by_name_keeps_the_order_and_grows():
    whole = replace(four(), samples=[Sample(f"s{i}", lambda: None) for i in range(200)], truth=list(range(200)))

    small, large = whole.sample(20), whole.sample(50)

    places = large.truth
    assert (len(small), len(large)) == (20, 50)
    assert places == sorted(places)
    assert places != list(range(50)), "not the first"
    assert set(small.truth) < set(large.truth)
    assert whole.sample(20).digest == small.digest
    assert whole.sample(200) is whole
    assert 60 < sum(places) / 50 < 140


def test_parts_are_disjoint_and_together_those_of_a_sample():
    whole = replace(four(), samples=[Sample(f"s{i}", lambda: None) for i in range(200)], truth=list(range(200)))

    parts = whole.parts((20, 50, 200))

    assert [len(part) for part in parts] == [20, 30, 150]
    assert all(part.truth == sorted(part.truth) for part in parts)
    assert sorted(parts[0].truth + parts[1].truth) == whole.sample(50).truth
    assert sorted(part for one in parts for part in one.truth) == whole.truth
    assert parts[0].digest == whole.sample(20).digest
    assert whole.parts([200]) == [whole]


def test_parts_of_scenes_are_scenes_and_truth_may_be_absent():
    part = four("scenes", truth=None).head(2)

    assert (part.kind, part.truth, len(part)) == ("scenes", None, 2)


def test_every_choice_has_a_digest_of_its_own():
    whole = four()
    choices = [
        whole,
        whole.take([0]),
        whole.take([1]),
        whole.take([0, 1]),
        whole.take([1, 0]),
        whole.take([0]).take([]),
    ]

    assert len({choice.digest for choice in choices}) == len(choices)
    assert whole.take([1]).digest == four().take([1]).digest


def test_an_absent_set_is_told_from_a_damaged_one():
    with pytest.raises(DataError):
        raise Absent("no folder", "put it there")
    assert not isinstance(DataError("damaged", "copy it again"), Absent)
