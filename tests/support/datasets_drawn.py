"""Small data sets in the layouts of the real ones."""

import json

import cv2
import numpy as np
from PIL import Image
from scipy.io import savemat

from harness.datasets import files


def picture(path, size=(12, 8), value=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size[1], size[0], 3), value, np.uint8))


def turned(path):
    """A JPEG 30 wide and 20 high whose EXIF asks to be turned by 90 degrees: OpenCV does so, Pillow does not."""
    noise = Image.fromarray(np.random.RandomState(3).randint(0, 256, (20, 30, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    noise.save(path, "JPEG", quality=90, exif=exif)


def by_pillow(path):
    """BGR as Pillow decodes it."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))[..., ::-1]


def published(name, ids, total=None):
    return files.Published(name, total or len(ids), files.names_digest(ids), "as in the README")


NAMES = [f"ILSVRC2012_val_{i:08d}" for i in (1, 2, 3)]
THREE = published("imagenet", NAMES)


def labels(data, entries):
    text = "".join(f"{name}.JPEG {label}\n" for name, label in entries.items())
    (data / "imagenet" / "val_label.txt").write_text(text)


PEOPLE = ["13056", "16923", "00001"]


def write_people(data, entries):
    (data / "peta" / "label.json").write_text(entries if isinstance(entries, str) else json.dumps(entries))


FACES = {"0--Parade": ["0_a_1", "0_a_2"], "1--Handshaking": ["1_b_1"]}
FACE_IDS = [f"{event}/{stem}" for event, stems in FACES.items() for stem in stems]


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
