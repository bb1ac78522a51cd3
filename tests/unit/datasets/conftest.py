"""A small data set of each kind, and the real ones where --data names them."""

from pathlib import Path

import pytest
from datasets_drawn import FACE_IDS, NAMES, PEOPLE, labels, picture, write_mat, write_people, write_things

from harness.datasets import coco, files


@pytest.fixture
def images(tmp_path):
    for name in NAMES:
        picture(tmp_path / "imagenet" / "val" / f"{name}.JPEG")
    labels(tmp_path, {name: 7 + i for i, name in enumerate(reversed(NAMES))})
    return tmp_path


@pytest.fixture
def people(tmp_path):
    for name in PEOPLE:
        picture(tmp_path / "peta" / "images" / f"{name}.png")
    write_people(tmp_path, {f"{name}.png": [i % 2] * 35 for i, name in enumerate(PEOPLE)})
    return tmp_path


@pytest.fixture
def faces(tmp_path):
    for sample in FACE_IDS:
        picture(tmp_path / "widerface" / "val" / "images" / f"{sample}.jpg")
    write_mat(tmp_path)
    return tmp_path


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


@pytest.fixture
def data(request):
    folder = request.config.getoption("--data", default=None)
    if folder is None:
        pytest.skip("needs --data with pictures of the real data sets")
    return Path(folder)
