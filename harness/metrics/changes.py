"""How far the chip's answer to one image is from the reference's: an average over images hides ruined ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.case import Predictions
from harness.metrics.base import confident

SURE = {"faces": 0.5, "objects": 0.3}  # scores from which a reference's box is truth: metrics.*.truth_from_reference
ROUNDING = 0.1  # a box whose counterpart has nine tenths of its score and place is the same box
ALONE = 0.5  # a box whose best counterpart is worth less than half of it has none
BOXES = 120  # of each side that are told, first those that the other side does not have
NAMED = 3  # best classes that are told
FEW = 4  # attributes: a picture with fewer is not changed by half when one turns over
FAR = 5  # place of the reference's best class among the chip's from which it counts as lost


@dataclass(frozen=True)
class Difference:
    """How far two answers to one image are apart, 0 for alike: `size` ranks images, `share` (0..1) is how much of what
    is found changed. `chip` and `reference` are what is shown of each side, as JSON values. `counts` are boxes of the
    chip, those that the reference does not have, boxes of the reference, those that the chip does not have."""

    size: float
    share: float
    chip: Any
    reference: Any
    counts: tuple[int, ...] = ()


def compared(task: str, found: Sequence[Predictions], wanted: Sequence[Predictions]) -> list[Difference]:
    """One Difference for each image, of what the chip `found` and what the reference `wanted`."""
    if task in SURE:
        scores = [np.asarray(one["scores"], np.float64) for one in wanted]
        cut = confident(scores, SURE[task]) if any(map(len, scores)) else SURE[task]
        return [_of_boxes(*pair, cut) for pair in zip(found, wanted, strict=True)]
    how = _of_classes if task == "classes" else _of_attributes
    return [how(*pair) for pair in zip(found, wanted, strict=True)]


def _of_classes(found: Predictions, wanted: Predictions) -> Difference:
    """By the place that the reference's best class has among the chip's; at `FAR` and behind all is changed."""
    chip, reference = (np.asarray(side["logits"], np.float64) for side in (found, wanted))
    place = int(np.count_nonzero(chip > chip[reference.argmax()]))
    if not place:  # most images: only the others are worth their sorting
        return Difference(0, 0.0, [], [])
    best = (np.argsort(-side, kind="stable")[:NAMED].tolist() for side in (chip, reference))
    return Difference(place, min(place / FAR, 1.0), *best)


def _of_attributes(found: Predictions, wanted: Predictions) -> Difference:
    """By the number of attributes that are positive on one side only (0 or more: metrics.attributes)."""
    chip, reference = (np.asarray(side["logits"], np.float64) >= 0 for side in (found, wanted))
    differing, positive = int((chip != reference).sum()), int(max(chip.sum(), reference.sum()))
    told = (np.flatnonzero(side).tolist() for side in (chip, reference))
    return Difference(differing, min(differing / max(positive, FEW), 1.0), *told)


def _of_boxes(found: Predictions, wanted: Predictions, cut: float) -> Difference:
    """By the scores that boxes of one side have and the other side's do not; as a share, of the side that has more. A
    box is compared with the box of its class that has most of its score and place: the smaller score times the overlap
    (IoU)."""
    chip, reference = (_boxes(side, cut / 2) for side in (found, wanted))
    worth = _worth(chip, reference)
    size, drawn, counts, whole = 0.0, [], [], [0.0]
    for own, other, gains in ((chip, reference, worth), (reference, chip, worth.T)):
        sure = own[:, 4] >= cut
        gap = 1 - gains.max(axis=1, initial=0.0) / np.maximum(own[:, 4], 1e-9)
        size += float((own[:, 4] * gap)[sure & (gap > ROUNDING)].sum())
        whole.append(float(own[sure, 4].sum()))
        partner = np.zeros(len(own), bool)  # of a sure box of the other side
        close = gains.max(axis=0, initial=0.0) >= ALONE * other[:, 4]
        partner[gains.argmax(axis=0)[close & (other[:, 4] >= cut)] if len(own) else []] = True
        alone = gap > ALONE
        shown = np.flatnonzero(sure | partner)
        counts += [len(shown), int(alone[shown].sum())]
        shown = shown[np.argsort(~alone[shown], kind="stable")][:BOXES]
        drawn.append(np.column_stack([own[shown, :5], alone[shown]]))
    return Difference(size, min(size / max(*whole, 1e-9), 1.0), drawn[0], drawn[1], tuple(counts))


def _boxes(side: Predictions, least: float) -> NDArray[np.float64]:
    """(k, 6): x1, y1, x2, y2, score, class (0 for faces), of the boxes from that score on, best first."""
    scores = np.asarray(side["scores"], np.float64)
    labels = np.asarray(side.get("labels", np.zeros(len(scores))), np.float64)
    rows = np.column_stack([np.asarray(side["boxes"], np.float64).reshape(-1, 4), scores, labels])
    return rows[np.argsort(-scores, kind="stable")][: np.count_nonzero(scores >= least)]


def _worth(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, m): the smaller score of each pair times its overlap; 0 for boxes of two classes."""
    if not len(ours) or not len(theirs):
        return np.zeros((len(ours), len(theirs)))
    from pycocotools import mask

    corner = [np.column_stack([side[:, :2], side[:, 2:4] - side[:, :2]]) for side in (ours, theirs)]
    overlap = mask.iou(*corner, [0] * len(theirs))
    same = ours[:, None, 5] == theirs[None, :, 5]
    return np.asarray(np.minimum(ours[:, None, 4], theirs[None, :, 4]) * overlap * same)
