"""Part of a data set is partial, and keeps its truth."""

from datasets_drawn import THREE

from harness.datasets import imagenet


def test_part_of_a_set_is_partial_and_keeps_its_truth(images):
    part = imagenet.load(images, THREE).head(2)

    assert (part.kind, len(part), part.total, part.truth) == ("partial", 2, 3, [7, 8])
