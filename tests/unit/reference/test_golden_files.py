"""Small files of each data set: the loaders read them as the authors' readers do, and a usual mistake is seen."""

import numpy as np
import pytest

from harness.arrays import images
from harness.datasets import coco, files, imagenet, widerface
from harness.judge.golden import difference
from harness.models import MODELS
from harness.reference import golden_files

READ = images.read
NAMES = sorted({model.dataset for model in MODELS.values()})


def wrong(name):
    return [text for text in map(difference, golden_files.read(name)) if text]


@pytest.mark.parametrize("name", NAMES)
def test_each_data_set_is_read_as_its_authors_read_it(name):
    found = list(golden_files.read(name))

    assert len(found) >= 4
    assert not wrong(name)


def by(decoder):
    return lambda path, **_: READ(path, decoder)


def repeated(data, decoder, decode=images._decode):
    """Colours of half the size are repeated, as a quick decoder does."""
    image = decode(data, decoder)
    return np.repeat(np.repeat(image[::2, ::2], 2, 0), 2, 1)[: image.shape[0], : image.shape[1]]


@pytest.mark.parametrize(
    ("name", "where", "part", "faulty", "seen"),
    [
        ("imagenet", imagenet, "read", by("opencv"), "picture ILSVRC2012_val_00000001 of imagenet, decoded"),
        ("widerface", widerface, "read", by("pillow"), "picture 0--Parade/0_Parade_a_1 of widerface, decoded"),
        ("coco", coco, "read", by("opencv"), ""),
        ("imagenet", images, "_decode", repeated, "picture ILSVRC2012_val_00000003 of imagenet, decoded"),
        ("coco", images, "_decode", repeated, "picture 000000000139 of coco, decoded"),
        ("coco", coco, "CATEGORY_IDS", tuple(range(1, 91)), "labels of categories 13, 1 and 90 of coco"),
        ("imagenet", files, "present", lambda found, names, *_: sorted(found), "order of imagenet"),
        ("peta", files, "present", lambda found, names, *_: sorted(found), "order of peta"),
        ("widerface", widerface, "SETTINGS", ("hard", "medium", "easy"), "easy, medium and hard faces of widerface"),
    ],
)
def test_a_usual_mistake_is_seen(name, where, part, faulty, seen, monkeypatch):
    monkeypatch.setattr(where, part, faulty)

    assert "".join(wrong(name)[:1]).startswith(seen)
    assert bool(wrong(name)) == bool(seen)
