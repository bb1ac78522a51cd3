"""COCO val2017: 5,000 pictures; the published Ascend figures score 4,952 of them.

The authors' program scores all 5,000 (GFocalV2: AP 0.410). Ascend's program builds its data set in training mode, which
drops pictures without annotations and pictures with a side under 32 pixels: 4,952 remain (AP 0.406). `load` gives
Ascend's set, whose figure is the baseline; `load_all` gives the authors' set.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.arrays.images import read
from harness.case import Image
from harness.datasets import files
from harness.datasets.base import Dataset, Sample
from harness.errors import DataError
from harness.metrics.coco import CATEGORY_IDS, Objects

SHORTEST_SIDE = 32  # pixels; mmdet drops smaller pictures in training mode
ANNOTATIONS = 36_781  # in instances_val2017.json
_LAYOUT = "coco/val2017/000000000139.jpg ... and coco/annotations/instances_val2017.json"
ALL = files.Published("coco", 5_000, "", _LAYOUT)
ANNOTATED = files.Published("coco", 4_952, "", _LAYOUT)


def load(data: Path, images: Path | None = None) -> Dataset:
    """Pictures with annotations, in the order of their COCO ids; truth is one Objects per picture. Without the
    annotation file: all pictures, without truth. Raises Absent, DataError, UsageError."""
    return _load(data, "coco", ANNOTATED, images, drop=True)


def load_all(data: Path, images: Path | None = None) -> Dataset:
    """All pictures, also those that show none of the 80 classes; otherwise like `load`."""
    return _load(data, "coco_5000", ALL, images, drop=False)


def _load(data: Path, name: str, published: files.Published, images: Path | None, drop: bool) -> Dataset:
    root = files.folder(data, published)
    folder = images or root / "val2017"
    found = files.pictures(folder, published)
    source = root / "annotations" / "instances_val2017.json"
    if not source.exists():
        ids = sorted(found)
        note = f"there is no {source}: pictures without objects to find"
        samples = [Sample(i, partial(read, found[i].path)) for i in ids]
        return Dataset(name, "partial", samples, published.total, None, files.digest(ids, found), note)
    annotated = read_annotations(source)
    ids = files.present(found, list(annotated.truth), source, ALL)
    if drop:
        ids = [i for i in ids if len(annotated.truth[i].labels) and min(annotated.sizes[i]) >= SHORTEST_SIDE]
    if not ids:
        raise files.absent(published, f"{source} annotates none of the pictures in {folder}")
    whole = annotated.count == (ALL.total, ANNOTATIONS) and len(ids) == published.total
    return Dataset(
        name,
        "whole" if whole else "partial",
        [Sample(i, partial(_read, found[i].path, annotated.sizes[i])) for i in ids],
        published.total,
        [annotated.truth[i] for i in ids],
        files.digest(ids, found, [_bytes(annotated.truth[i]) for i in ids]),
    )


def _bytes(objects: Objects) -> bytes:
    return b"".join(a.tobytes() for a in (objects.boxes, objects.labels, objects.areas, objects.crowd))


def _read(path: Path, size: tuple[int, int]) -> Image:
    image = read(path)
    if image.shape[:2] != size[::-1]:
        raise DataError(
            f"{path} is {image.shape[1]}x{image.shape[0]}, its annotation says {size[0]}x{size[1]}",
            hint="fetch the picture again",
        )
    return image


@dataclass(frozen=True)
class Annotations:
    """The content of instances_val2017.json by picture, in the order of the ids."""

    truth: dict[str, Objects]
    sizes: dict[str, tuple[int, int]]  # width, height
    count: tuple[int, int]  # pictures, annotations


def read_annotations(path: Path) -> Annotations:
    """The annotations of the file. Raises DataError when it is not JSON, a field is missing or wrong, a picture occurs
    twice, an annotation belongs to no picture, or a category is not COCO's."""
    hint = "fetch instances_val2017.json of COCO 2017"
    content = files.parsed(path, hint)
    try:
        files.once([str(image["id"]) for image in content["images"]], path)
        files.once([str(image["file_name"]).split(".")[0] for image in content["images"]], path)
        files.once([f"annotation {each['id']}" for each in content["annotations"] if "id" in each], path)
        _numbered_as_published(content)
        images = {int(image["id"]): image for image in content["images"]}
        names = {i: str(image["file_name"]).split(".")[0] for i, image in sorted(images.items())}
        sizes = {names[i]: (int(image["width"]), int(image["height"])) for i, image in images.items()}
        by_image: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        for annotation in content["annotations"]:
            by_image[int(annotation["image_id"])].append(annotation)
        truth = {name: _objects(by_image.pop(i, [])) for i, name in names.items()}
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(f"{path}: a field is missing or wrong: {error!r}", hint=hint) from error
    if by_image:
        raise DataError(f"{path} annotates image {min(by_image)}, which it does not list", hint=hint)
    return Annotations(truth, sizes, (len(images), len(content["annotations"])))


NAMED = {1: "person", 13: "stop sign", 44: "bottle", 90: "toothbrush"}
"""Names of some of the 80 ids, which lie in 1..90."""


def _numbered_as_published(content: Mapping[str, Any]) -> None:
    """Raises ValueError when categories have other ids than COCO's, as tools that renumber them write."""
    for category in content.get("categories", []):
        meant = NAMED.get(category["id"], category["name"])
        if category["name"] != meant:
            raise ValueError(f"category {category['id']} is {category['name']}, in COCO it is {meant}")
    for annotation in content["annotations"]:
        if annotation["category_id"] not in CATEGORY_IDS:
            raise ValueError(
                f"category_id {annotation['category_id']!r} is none of COCO's 80, which are numbers in 1..90"
            )


def _objects(annotations: list[Mapping[str, Any]]) -> Objects:
    boxes = np.array([a["bbox"] for a in annotations], np.float64).reshape(len(annotations), 4)
    areas = np.array([a["area"] for a in annotations], np.float64)
    if not np.isfinite(boxes).all() or not np.isfinite(areas).all() or (boxes[:, 2:] < 0).any():
        raise ValueError("a bbox is not x, y, width, height")
    labels = np.array([CATEGORY_IDS.index(a["category_id"]) for a in annotations], np.int64)
    return Objects(boxes, labels, areas, np.array([bool(a["iscrowd"]) for a in annotations], bool))
