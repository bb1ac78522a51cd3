"""A classifier and a detector so small that a whole conformance run of them takes a second, with data and figures.

They are made as published models are: weights in a file, pictures with truth, figures in a table. The truth is what
the network says when nobody has planted anything, with some answers changed, so that it is not always right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from harness import metrics
from harness.arrays import boxes, images
from harness.backends.base import Normalize
from harness.baselines import Baselines, Cell
from harness.case import Precision
from harness.chips import Chip
from harness.datasets import files, imagenet
from harness.datasets.base import Dataset, Sample
from harness.judge.golden import Compared
from harness.metrics.coco import Objects
from harness.metrics.widerface import Faces
from harness.models.base import Frame, Model, Prepared, Protocol, Weights
from harness.models.outputs import checked
from harness.reference import golden_files

CHIP = Chip(
    "testbed", "a chip for planting faults", ("tests.faults.testbed",), r"testbed \d+", "testbed",
    (Precision.FP32, Precision.FP16, Precision.INT8), (1, 4), reduced_batches=(1,), normalizes=True,
)  # fmt: skip

SIDE, CLASSES = 64, 1000  # pixels
ATTRIBUTES = 35
PICTURES = 350  # two more than a multiple of 4; nine in ten are right, and none lost of 300 excludes 1 %
MEAN, STD = (123.0, 117.0, 104.0), (58.0, 57.0, 57.5)  # red, green, blue
TABLE = ((np.arange(256)[None] - np.array(MEAN)[:, None]) / np.array(STD)[:, None]).astype(np.float32)

WIDE, STRIDE, CELLS = 64, 8, 64  # pixels of the detector's input, and of its cells
SCENES = 30
SCORE, IOU, MOST = 0.02, 0.5, 100
GREY = 114

SPEEDS = {1: 200, 4: 500}  # images a second, exactly what testbed.SECONDS come to


# ------------------------------------------------------------------------------------------- networks


def block(wide: int, to: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(wide, to, 3, 2, 1, bias=False), nn.BatchNorm2d(to), nn.ReLU())


class Classifier(nn.Module):
    """(N, 3, 64, 64) -> logits (N, 1000)."""

    def __init__(self, answers: int = CLASSES) -> None:
        super().__init__()
        self.trunk = nn.Sequential(block(3, 8), block(8, 12), block(12, 16), nn.AvgPool2d(2))
        self.head = nn.Linear(16 * 4 * 4, answers)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.head(self.trunk(images).flatten(1)),)


class Detector(nn.Module):
    """(N, 3, 64, 64) -> distances (N, 64, 4) of a box's sides from its cell's corner, in cells, and scores
    (N, 64, 4) of three classes and of nothing, after softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(block(3, 8), block(8, 12), block(12, 16))
        self.sides = nn.Conv2d(16, 4, 1)
        self.kinds = nn.Conv2d(16, 4, 1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = self.trunk(images)
        sides, kinds = (head(maps).permute(0, 2, 3, 1).flatten(1, 2) for head in (self.sides, self.kinds))
        return 0.3 + 2.2 * torch.sigmoid(sides), torch.softmax(kinds, dim=-1)


@torch.no_grad()
def drawn(network: nn.Module, inputs: torch.Tensor, seed: int) -> nn.Module:
    """Weights drawn by a seed, batch norms with the statistics of the inputs, and heads whose outputs spread."""
    random = torch.Generator().manual_seed(seed)
    for value in network.parameters():
        if value.ndim > 1:
            value.copy_(torch.randn(value.shape, generator=random) * (2 / value[0].numel()) ** 0.5)
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = None
        norm.bias.fill_(0.5)
    features = network.train().trunk(inputs)
    if isinstance(network, Classifier):
        flat = features.flatten(1)
        head = network.head
        head.weight.mul_(1.0 / (flat.std(0) + 0.1))
        head.bias.copy_(-head.weight @ flat.mean(0))
    else:
        for head, spread in ((network.sides, 1.5), (network.kinds, 2.0)):
            seen = nn.functional.conv2d(features, head.weight)
            head.weight.mul_((spread / seen.std((0, 2, 3)))[:, None, None, None])
            head.bias.copy_(-nn.functional.conv2d(features, head.weight).mean((0, 2, 3)))
    return network.eval()


# ------------------------------------------------------------------------------------------- before and after


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return images.antialiased(image, height, width, bicubic=True)


def classes_in(image: np.ndarray, raw: bool) -> Prepared:
    """The short side becomes 64, the middle is kept; RGB."""
    height, width = image.shape[:2]
    scale = SIDE / min(height, width)
    rgb = images.middle(resize(image, round(height * scale), round(width * scale)), SIDE)[..., ::-1]
    frame = Frame(width, height, (scale, scale))
    return Prepared(np.ascontiguousarray(rgb) if raw else images.normalize(rgb, TABLE), frame)


def classes_out(outputs: dict, frame: Frame) -> dict:
    (logits,) = checked(outputs, {"class": (CLASSES,)})
    return {"logits": logits}


def attributes_out(outputs: dict, frame: Frame) -> dict:
    (logits,) = checked(outputs, {"class": (ATTRIBUTES,)})
    return {"logits": logits}


def boxes_in(image: np.ndarray, raw: bool) -> Prepared:
    """Letterbox in the middle of 64 x 64; RGB."""
    height, width = image.shape[:2]
    content = tuple(round(side * WIDE / max(height, width)) for side in (height, width))
    top, left = (WIDE - content[0]) // 2, (WIDE - content[1]) // 2
    rgb = images.letterbox(image, content, (WIDE, WIDE), (top, left), GREY)[..., ::-1]
    frame = Frame(width, height, (content[1] / width, content[0] / height), left, top)
    return Prepared(np.ascontiguousarray(rgb) if raw else images.normalize(rgb, TABLE), frame)


def decoded(sides: np.ndarray, frame: Frame) -> np.ndarray:
    """Boxes in pixels of the picture."""
    points = np.tile(boxes.points(WIDE // STRIDE, WIDE // STRIDE, STRIDE), 2)
    found = points + STRIDE * sides * np.array([-1, -1, 1, 1], np.float32)
    return (found - np.tile((frame.left, frame.top), 2)) / np.tile(frame.scale, 2)


def suppressed(found: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return boxes.multiclass_nms(found.astype(np.float32), scores, SCORE, IOU, MOST)


def objects_out(outputs: dict, frame: Frame) -> dict:
    sides, scores = checked(outputs, {"boxes": (CELLS, 4), "scores": (CELLS, 4)})
    found, best, labels = suppressed(decoded(sides, frame), scores[:, :3])
    return {"boxes": found, "scores": best, "labels": labels}


def faces_out(outputs: dict, frame: Frame) -> dict:
    """The first class is a face."""
    sides, scores = checked(outputs, {"boxes": (CELLS, 4), "scores": (CELLS, 4)})
    found, best, _ = suppressed(decoded(sides, frame), scores[:, :1])
    return {"boxes": found, "scores": best}


# The rows look their functions up when they are called, so that a test can put another in the place of each.
NORMALIZE = Normalize(MEAN, STD, "RGB")


def row(
    name: str, task: str, outputs: tuple[str, ...], figures: tuple[str, ...], network: Callable[[], nn.Module]
) -> Model:
    into, side = ("classes_in", SIDE) if task in ("classes", "attributes") else ("boxes_in", WIDE)
    protocol = Protocol(
        "tiny", (side, side), ("testbed",),
        lambda image, raw: globals()[into](image, raw),
        lambda tensors, frame: globals()[f"{task}_out"](tensors, frame),
        NORMALIZE,
    )  # fmt: skip
    return Model(
        name, name, task, name, "image", outputs, network, (protocol,), Weights((f"{name}.pth",), "nowhere"), figures
    )


MODELS = {
    "tiny_classes": row("tiny_classes", "classes", ("class",), ("top1", "top5"), Classifier),
    "tiny_attributes": row(
        "tiny_attributes", "attributes", ("class",), ("instance_f1", "mean_accuracy"), partial(Classifier, ATTRIBUTES)
    ),
    "tiny_objects": row("tiny_objects", "objects", ("boxes", "scores"), ("ap",), Detector),
    "tiny_faces": row("tiny_faces", "faces", ("boxes", "scores"), ("ap_hard",), Detector),
}


# ------------------------------------------------------------------------------------------- data


def picture(number: int, height: int, width: int) -> np.ndarray:
    """Blots of colour under a fine grain."""
    random = np.random.default_rng(number)
    blots = random.integers(0, 256, (5, 6, 3)).astype(np.float32)
    image = cv2.resize(blots, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + random.normal(0, 25, (height, width, 1)), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class World:
    """Where the data lies, the loaders of the sets, and the published figures."""

    data: Path
    loaders: dict
    table: Baselines
    golden: dict  # model -> what its functions gave before anything was planted


def make(data: Path) -> World:
    """Everything that a user would bring: weights, pictures, truth, figures."""
    (data / "weights").mkdir(parents=True)
    truths, figures, loaders, golden = {}, [], {}, {}
    sizes = [(80 + 8 * (i % 5), 96 + 8 * (i % 7)) for i in range(PICTURES)]
    shots = {"tiny_classes": [picture(i, *size) for i, size in enumerate(sizes)]}
    shots["tiny_attributes"] = shots["tiny_classes"]
    shots["tiny_objects"] = [picture(1000 + i, *((150, 200), (200, 130), (160, 160))[i % 3]) for i in range(SCENES)]
    shots["tiny_faces"] = shots["tiny_objects"]
    for name, model in MODELS.items():
        protocol = model.protocols[0]
        prepared = [protocol.preprocess(shot, False) for shot in shots[name]]
        inputs = torch.from_numpy(np.stack([p.tensor for p in prepared]))
        network = drawn(model.network(), inputs, seed=7)
        torch.save(network.state_dict(), data / "weights" / model.weights.files[0])
        with torch.inference_mode():
            outputs = network(inputs)
        rows = [{n: v[i].numpy() for n, v in zip(model.outputs, outputs, strict=True)} for i in range(len(inputs))]
        found = [protocol.postprocess(o, p.frame) for o, p in zip(rows, prepared, strict=True)]
        truths[name] = truth = [
            {"classes": label_of, "attributes": answers_of, "objects": objects_of, "faces": faces_of}[model.task](i, p)
            for i, p in enumerate(found)
        ]
        values = metrics.score(model.task, found, truth).values
        golden[name] = list(zip(shots[name], prepared, rows, found, strict=True))[:12]
        told = set(model.metrics) - {"top5"}  # one metric without a figure, as in the documents
        figures += [figure(name, metric, values[metric]) for metric in model.metrics if metric in told]
        figures += [figure(name, "throughput", float(s), batch) for batch, s in SPEEDS.items()]

    names = [f"shot_{i:04d}" for i in range(PICTURES)]
    (data / "tiny_classes" / "val").mkdir(parents=True)
    for name, shot in zip(names, shots["tiny_classes"], strict=True):
        cv2.imwrite(str(data / "tiny_classes" / "val" / f"{name}.bmp"), shot)
    lines = [f"{name} {label}\n" for name, label in zip(names, truths["tiny_classes"], strict=True)]
    (data / "tiny_classes" / "val_label.txt").write_text("".join(lines))
    published = files.Published("tiny_classes", PICTURES, files.names_digest(names), "tiny_classes/val")
    loaders["tiny_classes"] = partial(imagenet.load, published=published)
    for name in ("tiny_attributes", "tiny_objects", "tiny_faces"):
        samples = tuple(Sample(f"shot_{i}", shot.copy) for i, shot in enumerate(shots[name]))
        loaders[name] = partial(_set, name, samples, truths[name])
    return World(data, loaders, Baselines(tuple(figures), (), (), (), (), (), (), (), "tiny"), golden)


FILES = {"tiny_classes": "imagenet", "tiny_attributes": "peta", "tiny_objects": "coco", "tiny_faces": "widerface"}


def compared(answers: list, name: str, protocol: Protocol) -> Iterator[Compared]:
    """What the functions give now, and what they gave before: the stand-in for the authors' programs; and the small
    files of the data set of that task."""
    yield from golden_files.read(FILES[name])
    for i, (shot, prepared, outputs, found) in enumerate(answers):
        yield Compared(f"picture {i}, prepared", protocol.preprocess(shot, False).tensor, prepared.tensor)
        again = protocol.postprocess(outputs, prepared.frame)
        yield from (Compared(f"{key} of picture {i}", again[key], found[key]) for key in found)


def _set(name: str, samples: tuple[Sample, ...], truth: list, data: Path) -> Dataset:
    return Dataset(name, "whole", samples, len(samples), truth, name)


def label_of(i: int, found: dict) -> int:
    """The answer; one in ten is another class."""
    best = int(np.argmax(found["logits"]))
    return best if i % 10 else (best + 7) % CLASSES


def answers_of(i: int, found: dict) -> np.ndarray:
    """What the answer says; one attribute of one picture in three is the opposite."""
    answers = np.greater_equal(found["logits"], 0).astype(np.int8)
    if i % 3 == 0:
        answers[i % ATTRIBUTES] ^= 1
    return answers


def marked(i: int, found: dict) -> tuple[np.ndarray, np.ndarray]:
    """Boxes x, y, width, height of what was found for certain, drawn by an unsteady hand, and which those are; one
    in six was overlooked."""
    sure = np.flatnonzero(found["scores"] > 0.15)
    sure = sure[np.arange(len(sure)) % 6 != i % 6]
    corners = found["boxes"][sure].astype(np.float64)
    size = np.tile(corners[:, 2:] - corners[:, :2], 2)
    corners += np.random.default_rng(i).normal(0, 0.03, corners.shape) * size
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1), sure


def objects_of(i: int, found: dict) -> Objects:
    drawn_boxes, sure = marked(i, found)
    areas = drawn_boxes[:, 2] * drawn_boxes[:, 3]
    return Objects(drawn_boxes, found["labels"][sure], areas, np.zeros(len(sure), bool))


def faces_of(i: int, found: dict) -> Faces:
    drawn_boxes, sure = marked(i, found)
    return Faces(drawn_boxes, np.ones((3, len(sure)), bool))


def figure(model: str, metric: str, value: float, batch: int | None = None) -> Cell:
    printed = Decimal(f"{value:.4f}")
    speed = metric == "throughput"
    return Cell(
        model, "testbed" if speed else None, Precision.FP32 if speed else None, batch, metric, float(printed),
        "images/s" if speed else "fraction", "cell" if speed else "source", "tiny", "figures", "tiny", True, "",
        "tiny.toml", 1, printed,
    )  # fmt: skip
