"""Golden answers: what the programs of the models' authors and of the vendors gave for drawn pictures and outputs.

They ship with the suite (baselines/golden), so that a laboratory without the data sets sees a wrong preparation, a
wrong suppression or a shifted label too. baselines/golden/README.md says with which programs they were computed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import metrics
from harness.case import Image, Predictions, Tensors
from harness.judge.golden import Compared
from harness.metrics import widerface
from harness.metrics.coco import Objects
from harness.metrics.widerface import Faces
from harness.models import deepmar, gfocalv2, regnety, retinaface
from harness.models.base import Frame, Protocol
from harness.reference import by_hand, golden_files

FOLDER = golden_files.FOLDER

PICTURES = {"A": (375, 500, 11), "B": (683, 451, 12), "C": (120, 90, 13)}  # height, width, seed
ROUNDED = {"D": (171, 293, 14), "E": (60, 192, 15)}
"""The same for pictures wider than every canvas, whose other side becomes 0.55 to 0.68 more than a whole number of
pixels (E: half a pixel more), and whose size by MLU's program is another one in float64."""
ASCEND_FACES = {"img0": (2001, 1000 / 1024), "img1": (2002, 1000 / 451)}  # seed, scale
MLU_FACES = {"img0": (2011, 768, 1024), "img1": (2012, 1024, 683), "img2": (2013, 333, 500)}  # seed, height, width
AUTHORS_FACES = (2021, 160)  # seed, side of the network's input
LEVELS = ((32, 40), (16, 20), (8, 10), (4, 5), (2, 3))
RESIZED, RATIO = (250, 317), (0.625, 0.626)  # of GFocal's imagined picture: height, width; scale in x, y
PIXELS = 2e-4  # that the last bits of exp() move a decoded corner
LAST_BITS = 1e-5  # of a normalised value: the order in which a mean is subtracted and a deviation divided by
MEAN_OF_FACES = (104.0, 117.0, 123.0)  # Pytorch_Retinaface, widerface_evaluate: blue, green, red
OF_IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # timm and DeepMAR, times 255: red, green, blue


def compared(model: str, protocol: Protocol) -> list[Compared]:
    """The suite's own results beside the authors', one a picture or output; empty where none are known."""
    return list(GOLDEN[model](protocol)) if model in GOLDEN else []


@lru_cache
def load(name: str) -> Mapping[str, NDArray[Any]]:
    """The arrays of one file of baselines/golden."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def crc(array: NDArray[Any]) -> int:
    """crc32 of an array's bytes in C order."""
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


# ------------------------------------------------------------------------------------------------ drawn from seeds


def picture(name: str) -> Image:
    """uint8 BGR: two gradients and a diagonal one under a chequer of 7 x 11, with noise."""
    height, width, seed = (PICTURES | ROUNDED)[name]
    y, x = np.indices((height, width))
    chequer = 40 * ((x // 7 + y // 11) % 2)
    ramps = np.dstack((255 * x // (width - 1), 255 * y // (height - 1), 3 * x + 5 * y))
    noise = np.random.RandomState(seed).randint(0, 32, size=ramps.shape)
    return np.asarray((ramps + chequer[..., None] + noise) % 256, np.uint8)


def squared(values: NDArray[Any], times: int) -> NDArray[Any]:
    """values ** (2 ** times), by multiplication alone: the same bits everywhere."""
    for _ in range(times):
        values = values * values
    return values


def faces(priors: int, seed: int, squarings: int = 7) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """loc, conf, landm of one picture; a face is likelier the fewer the squarings."""
    draw = np.random.RandomState(seed)
    loc = (0.8 * draw.standard_normal((priors, 4))).astype(np.float32)
    face = squared(draw.random_sample(priors), squarings).astype(np.float32)
    landm = draw.standard_normal((priors, 10)).astype(np.float32)
    return loc, np.stack((np.float32(1) - face, face), axis=1), landm


def heads(case: int) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """GFocal's score maps (81, h, w) and box logits (68, h, w), five levels each. Case 1 has more than 10,000
    candidates; but for case 2, the class that means nothing has the best score of each level."""
    draw = np.random.RandomState(6001 if case == 1 else 6000)
    scores, logits = [], []
    for level, size in enumerate(LEVELS):
        score = squared(draw.random_sample((81, *size)), 4 if case == 1 else 6).astype(np.float32)
        score[80] = 0 if case == 2 else score[80]
        if case != 2:
            score[80, 0, 0] = 0.999 - 0.0005 * level
        scores.append(score)
        logits.append((2.0 * draw.standard_normal((68, *size))).astype(np.float32))
    return scores, logits


def attributes(case: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Labels (N, 35) of 0 and 1, and logits (N, 35). In case 1 some have no attribute, some answers find none and some
    logits are 0; in case 2 nobody has attribute 4 and everybody has 9."""
    state = np.random.RandomState(4000 + case)
    shape = ((200, 64, 50)[case], 35)
    labels = np.where(state.random_sample(shape) < 0.3, 1.0, 0.0)
    logits = (state.standard_normal(shape) + 1.2 * (2 * labels - 1)).astype(np.float32)
    if case == 1:
        labels[::9] = 0
        logits[::7] = -1
        logits[3::11, ::5] = 0
    if case == 2:
        labels[:, 4], labels[:, 9] = 0, 1
    return labels.astype(np.int8), logits


def classes() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits (60, 1000), and the label of each row, counted from 0."""
    state = np.random.RandomState(5000)
    logits = state.standard_normal((60, 1000)).astype(np.float32)
    labels = state.randint(0, 1000, size=60)
    ranked = np.argsort(-logits, axis=1, kind="stable")
    for i in range(60):
        if i % 3:
            labels[i] = ranked[i, i % 8]
    return logits, labels


def matched_faces() -> tuple[NDArray[Any], Faces, NDArray[Any], NDArray[Any]]:
    """Rows (40, 5) best first, faces of which some do not count; recalls and precisions (50,) of a curve."""
    state = np.random.RandomState(8000)

    def corners(n: int) -> NDArray[Any]:
        near = np.floor(state.random_sample((n, 2)) * 200)
        return np.hstack([near, near + np.floor(state.random_sample((n, 2)) * 90)])

    found, _ = corners(40), corners(15)
    scores = -np.sort(-state.random_sample(40))
    sized = np.hstack([found[:, :2], found[:, 2:] - found[:, :2]])
    moved = sized[::3] + np.array([1, 1, 0, 0])
    counted = np.arange(len(moved)) % 4 != 0
    recall = np.sort(state.random_sample(50))
    recall[10:14] = recall[10]
    faces = Faces(moved, np.tile(counted, (3, 1)))
    return np.column_stack([sized, scores]), faces, recall, state.random_sample(50)


def objects() -> tuple[list[Objects], list[Predictions]]:
    """(truth, predictions) of 12 images and five categories, with crowds; labels count the categories."""
    state = np.random.RandomState(7000)
    images = range(101, 137, 3)
    labelled: dict[int, list[Any]] = {i: [] for i in images}
    found: dict[int, list[Any]] = {i: [] for i in images}

    def box() -> NDArray[Any]:
        x, y = state.random_sample(2) * (300, 200)
        w, h = 4 + state.random_sample(2) * (140, 120)
        return np.round([x, y, w, h], 2)

    for image in images[:-1]:
        for label in range(5):
            for _ in range(state.randint(0, 4)):
                b = box()
                crowd = state.random_sample() < 0.1
                labelled[image].append((b, label, np.round(b[2] * b[3] * 0.8, 3), crowd))
                for _ in range(state.randint(0, 3)):
                    d = np.round(b + state.standard_normal(4) * 0.08 * max(b[2], b[3]), 2)
                    d[2:] = d[2:].clip(min=1)
                    found[image].append((d, label, np.round(state.random_sample(), 4)))
    for image in images:
        for label in range(5):
            for _ in range(state.randint(0, 3)):
                b = box()
                found[image].append((b, label, np.round(state.random_sample() * 0.7, 4)))
    return [_truth(labelled[i]) for i in images], [_found(found[i]) for i in images]


def _truth(entries: list[Any]) -> Objects:
    return Objects(
        np.array([e[0] for e in entries]).reshape(-1, 4),
        np.array([e[1] for e in entries], np.int64),
        np.array([e[2] for e in entries], np.float64),
        np.array([e[3] for e in entries], bool),
    )


def _found(entries: list[Any]) -> Predictions:
    entries = sorted(entries, key=lambda e: -e[2])
    boxes = np.array([e[0] for e in entries])
    return {
        "boxes": np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]).astype(np.float32),
        "scores": np.array([e[2] for e in entries], np.float32),
        "labels": np.array([e[1] for e in entries], np.int64),
    }


# ------------------------------------------------------------------------------------------------ ours and the authors'


def _pictures(key: str, protocol: Protocol, raw: bool) -> Iterator[Compared]:
    """Pictures prepared; `raw`: the authors' program feeds pixels, and the chip or the engine normalises."""
    known = load("preprocess")
    for name in (name for name in PICTURES | ROUNDED if f"{key}_{name}/shape" in known):
        tensor = protocol.preprocess(picture(name), raw).tensor
        stored = f"{key}_{name}"
        step = next(int(k.split("/every")[1]) for k in known if k.startswith(f"{stored}/every") and k[-1].isdigit())
        yield Compared(f"shape of picture {name}, prepared", np.array(tensor.shape), known[f"{stored}/shape"])
        yield Compared(f"picture {name}, prepared", tensor.ravel()[::step], known[f"{stored}/every{step}"])
        yield Compared(f"checksum of picture {name}, prepared", np.array(crc(tensor)), known[f"{stored}/crc32"])


def _normalised(protocol: Protocol, mean: Sequence[float], std: Sequence[float], order: str) -> Iterator[Compared]:
    """What the chip is fed when the host normalises, against the pixels normalised by the authors' numbers (of 0..255);
    and the numbers by which a chip normalises."""
    row = protocol.normalize
    assert row is not None
    yield Compared("mean that a chip subtracts", np.array(row.mean), np.array(mean), LAST_BITS)
    yield Compared("deviation that a chip divides by", np.array(row.std), np.array(std), LAST_BITS)
    yield Compared("order of colours", np.array(row.order), np.array(order))
    for name in PICTURES:
        pixels = protocol.preprocess(picture(name), True).tensor.astype(np.float64)
        wanted = ((pixels - np.array(mean)) / np.array(std)).transpose(2, 0, 1)
        yield Compared(
            f"picture {name}, normalised", protocol.preprocess(picture(name), False).tensor, wanted, LAST_BITS
        )


def _counted_faces() -> Iterator[Compared]:
    """How found faces are counted for WIDER FACE, and the area under the curve."""
    rows, faces, recall, precision = matched_faces()
    known, tally = load("metrics"), widerface.tally([rows], [faces], (0.0, 1.0))
    counts = np.stack([tally.proposals[0], tally.found[0]], axis=1)
    yield Compared("proposals and faces found at each threshold", counts, known["wider/img_pr_info"])
    yield Compared("area under a curve", np.array(widerface.area(recall, precision)), known["wider/voc_ap"], 1e-12)
    # by hand: with 1 added to each side, boxes of 10 x 10 moved by 3 and by 4 pixels overlap by 70/130 and 60/140
    one = Faces(np.array([[0.0, 0, 9, 9]]), np.ones((3, 1), bool))
    moved = [np.array([[x, 0.0, 9, 9, 1.0]]) for x in (3, 4)]
    found = [widerface.tally([row], [one], (0.0, 1.0)).found[0, -1] for row in moved]
    yield Compared("faces found by boxes that overlap by 0.54 and 0.43", np.array(found), np.array([1.0, 0.0]))
    yield from by_hand.counted_faces()
    corners, score = np.array([[1.9, -1.9, 9.5, 4.2]], np.float32), np.array([0.5], np.float32)
    read = widerface.rows({"boxes": corners, "scores": score})
    yield Compared("a face as its result file has it", read, np.array([[1, -1, 8, 5, 0.5]]))


def _named(loc: NDArray[Any], conf: NDArray[Any], landm: NDArray[Any]) -> Tensors:
    return dict(zip(retinaface.OUTPUTS, (loc, conf, landm), strict=True))


def _ranked(found: Predictions) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes and scores, as float32."""
    return np.asarray(found["boxes"], np.float32), np.asarray(found["scores"], np.float32)


def _faces_ascend(protocol: Protocol) -> Iterator[Compared]:
    yield from golden_files.read("widerface")
    yield from _pictures("asc_retina", protocol, raw=True)
    yield from _normalised(protocol, MEAN_OF_FACES, (1.0, 1.0, 1.0), "BGR")
    yield from _counted_faces()
    yield from by_hand.faces(protocol, 41236, kept=False)
    known = load("retinaface_post")
    for name, (seed, scale) in ASCEND_FACES.items():
        kept = float(np.float32(scale))
        found = protocol.postprocess(_named(*faces(41236, seed)), Frame(1, 1, (kept, kept)))
        lines = retinaface.lines_ascend(*_ranked(found))
        wanted = str(known[f"ascend/{name}_text"]).splitlines()[2:]
        yield Compared(f"faces of {name}, as lines", np.array(lines), np.array(wanted))
    seed, side = AUTHORS_FACES
    for key, scale in (("dets", 1.0), ("dets_resize", 1600 / 375)):
        frame = Frame(side, side, (scale, scale))
        found = retinaface.postprocess(_named(*faces(1050, seed, 5)), frame, (side, side))
        rows = known[f"upstream160/{key}"]
        yield Compared(f"scores of faces ({key})", found["scores"], rows[:, 4])
        yield Compared(f"corners of faces ({key})", found["boxes"], rows[:, :4], PIXELS)
        yield Compared(f"landmarks of faces ({key})", found["landmarks"].reshape(-1, 10), rows[:, 5:], PIXELS)


def _faces_mlu(protocol: Protocol) -> Iterator[Compared]:
    yield from golden_files.read("widerface")
    yield from _pictures("mlu", protocol, raw=True)
    yield from _normalised(protocol, MEAN_OF_FACES, (1.0, 1.0, 1.0), "BGR")
    yield from _counted_faces()
    yield from by_hand.faces(protocol, 28224, kept=True)
    known = load("retinaface_post")
    for name, (seed, height, width) in MLU_FACES.items():
        frame = protocol.preprocess(np.zeros((height, width, 3), np.uint8), True).frame
        found = protocol.postprocess(_named(*faces(28224, seed)), frame)
        lines = retinaface.lines_mlu(*_ranked(found))
        wanted = str(known[f"mlu/{name}_text"]).splitlines()[2:]
        yield Compared(f"faces of {name}, as lines", np.array(lines), np.array(wanted))
        yield Compared(f"scores of faces of {name}", found["scores"], known[f"mlu/{name}_score"])


def _people(protocol: Protocol) -> Iterator[Compared]:
    yield from golden_files.read("peta")
    yield from _pictures("deepmar", protocol, raw=False)
    yield from _normalised(protocol, *OF_IMAGENET, "RGB")
    names = {
        "instance_accuracy": "instance_acc",
        "instance_precision": "instance_precision",
        "instance_recall": "instance_recall",
        "instance_f1": "instance_F1",
    }
    for case in range(2):  # the third has attributes that nobody has: the authors' mean is nan
        labels, logits = attributes(case)
        found = [protocol.postprocess({deepmar.OUTPUT: row}, Frame(1, 1, (1.0, 1.0))) for row in logits]
        values = metrics.score("attributes", found, list(labels)).values
        for ours, theirs in names.items():
            known = load("metrics")[f"deepmar{case}/{theirs}"]
            yield Compared(f"{ours} of answers {case}", np.array(values[ours]), known, 1e-12)
        mean = load("metrics")[f"deepmar{case}/label_acc"].mean()
        yield Compared(f"mean_accuracy of answers {case}", np.array(values["mean_accuracy"]), mean, 1e-12)
    yield from by_hand.attributes()


def _classes(protocol: Protocol) -> Iterator[Compared]:
    yield from golden_files.read("imagenet")
    yield from _pictures("regnet", protocol, raw=False)
    yield from _normalised(protocol, *OF_IMAGENET, "RGB")
    logits, labels = classes()
    found = [protocol.postprocess({regnety.OUTPUT: row}, Frame(1, 1, (1.0, 1.0))) for row in logits]
    values = metrics.score("classes", found, labels.tolist()).values
    printed = {entry["key"]: entry["value"] for entry in json.loads(str(load("metrics")["imagenet/json"]))["value"]}
    for k in (1, 5):
        ours = f"{round(100 * values[f'top{k}'], 2)}%"
        yield Compared(f"top {k} of 60 answers", np.array(ours), np.array(printed[f"Top{k} accuracy"]))
    yield from by_hand.classes()


def _objects(protocol: Protocol) -> Iterator[Compared]:
    yield from golden_files.read("coco")
    yield from _pictures("asc_gfocal", protocol, raw=False)
    known = load("gfocal_post")
    for case in range(3):
        outputs = dict(zip(gfocalv2.OUTPUTS, (array for part in heads(case) for array in part), strict=True))
        _, scores = gfocalv2.candidates(*heads(case), RESIZED, gfocalv2.SCORE)
        count = np.array(np.count_nonzero(scores > np.float32(gfocalv2.SCORE)))
        yield Compared(f"number of candidates {case}", count, known[f"case{case}/n_candidates"])
        for rescale, scale in enumerate(((1.0, 1.0), RATIO)):
            found = gfocalv2.postprocess(outputs, Frame(RESIZED[1], RESIZED[0], scale), RESIZED)
            rows, labels = known[f"case{case}/dets_rescale{rescale}"], known[f"case{case}/labels_rescale{rescale}"]
            real = labels < gfocalv2.CLASSES
            what = f"of objects {case}, scaled by {scale[0]:g}"
            yield Compared(f"labels {what}", found["labels"], labels[real])
            yield Compared(f"scores {what}", found["scores"], rows[real, 4])
            yield Compared(f"corners {what}", found["boxes"], rows[real, :4], PIXELS)
    yield from by_hand.objects()
    yield from by_hand.suppressed_by_chip(protocol)
    truth, predictions = objects()
    ap = metrics.score("objects", predictions, truth).values["ap"]
    yield Compared("AP of 12 pictures", np.array(ap), load("metrics")["coco/stats"][0], 1e-12)


def _faces(protocol: Protocol) -> Iterator[Compared]:
    return _faces_mlu(protocol) if protocol.name == "mlu" else _faces_ascend(protocol)


GOLDEN: dict[str, Callable[[Protocol], Iterator[Compared]]] = {
    "retinaface_mobilenet025": _faces,
    "retinaface_resnet50": _faces,
    "deepmar_resnet50": _people,
    "regnety_016": _classes,
    "gfocalv2_r50_fpn": _objects,
}
"""Model -> its comparisons under a protocol."""
