"""The pictures on which chip and reference differ most: chosen and written while the run has them, for the report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import StoreError
from harness.metrics.changes import SURE
from harness.report.messages import Translate
from harness.report.records import write_whole
from harness.run.accuracy import Evaluation

OF_A_CASE = 3  # pictures
SIDE = 480  # pixels of a picture's longer side
QUALITY = 80  # of the JPEG, as OpenCV counts it: 0..100
SIDES = ("chip", "reference")


def write(folder: Path, name: str, run: Evaluation) -> list[dict[str, Any]]:
    """Write `folder`/`name`.N.jpg for the at most `OF_A_CASE` images on which chip and reference differ most, first
    those that the reference got right and the chip wrong. Returns a fact for each: `file` relative to the parent of the
    folder, its `sha256`, `image` (its name in the data set), `width` and `height` in pixels, `task`, `counts` of boxes
    (Difference), `chip` and `reference`. These are boxes (x1, y1, x2, y2 in pixels of the JPEG, score, 1 where the
    other side has no such box), or the numbers of the best classes, or those of the positive attributes. Raises
    DataError (an image cannot be read) and StoreError."""
    import cv2

    task, found = run.task, run.changes
    lost = np.zeros(len(found), bool)
    for metric in run.chip.hits.keys() & run.reference.hits.keys():
        hits, wanted = run.chip.hits[metric], run.reference.hits[metric]
        if len(hits) == len(found):
            lost |= wanted & ~hits
    order = sorted(range(len(found)), key=lambda i: (not lost[i], -found[i].size))
    facts = []
    for number, place in enumerate([i for i in order if found[i].size > 0][:OF_A_CASE], start=1):
        sample, difference = run.dataset.samples[place], found[place]
        image = sample.read()
        scale = min(1.0, SIDE / max(image.shape[:2]))
        width, height = (max(1, round(length * scale)) for length in image.shape[1::-1])
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        done, coded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not done:
            raise StoreError(f"{sample.id} cannot be written as JPEG", hint="this is a fault of the suite: report it")
        body = coded.tobytes()
        write_whole(folder / f"{name}.{number}.jpg", body)
        facts.append({
            "file": f"{folder.name}/{name}.{number}.jpg", "sha256": hashlib.sha256(body).hexdigest(),
            "image": sample.id, "width": width, "height": height, "task": task, "counts": list(difference.counts),
            "chip": _scaled(task, difference.chip, scale), "reference": _scaled(task, difference.reference, scale),
        })  # fmt: skip
    return facts


def read(folders: Sequence[Path], fact: Mapping[str, Any]) -> bytes | None:
    """The JPEG of a fact of `write` from the first of the folders of results that has it unchanged, or None."""
    for folder in folders:
        path = (folder / str(fact["file"])).resolve()
        if not path.is_relative_to(folder.resolve()):
            continue
        with suppress(OSError):
            body = path.read_bytes() if path.is_file() else b""
            if hashlib.sha256(body).hexdigest() == fact["sha256"]:
                return body
    return None


def outlines(fact: Mapping[str, Any], t: Translate) -> str:
    """The boxes of a fact of `write` as SVG paths in pixels of the picture, "" without boxes: a dark rim below all, the
    chip's, and above them the reference's. Classes `chip`, `reference` and `alone` give them their looks."""
    if fact["task"] not in SURE:
        return ""

    def path(x1: float, y1: float, x2: float, y2: float) -> str:
        return f"M{x1:g} {y1:g}H{x2:g}V{y2:g}H{x1:g}z"

    drawn = [f'<path class="rim" d="{"".join(path(*box[:4]) for side in SIDES for box in fact[side])}"/>']
    for side in SIDES:
        for *corners, score, alone in fact[side]:
            name = f"{side} alone" if alone else side
            drawn.append(f'<path class="{name}" d="{path(*corners)}"><title>{t(side)} {score:.2f}</title></path>')
    return "".join(drawn)


def told(fact: Mapping[str, Any], t: Translate) -> str:
    """What each side says of the picture, as a sentence."""
    chip, reference = fact["chip"], fact["reference"]
    if fact["task"] in SURE:
        counts = dict(zip("kjnm", fact["counts"], strict=True))
        text = t("reference: {n} boxes, {m} that the chip does not have; chip: {k} boxes, {j} that the reference does "
                 "not have", **counts)  # fmt: skip
        drawn, there = len(chip) + len(reference), counts["k"] + counts["n"]
        return text if drawn == there else t("{text}; {n} of {m} boxes are drawn", text=text, n=drawn, m=there)
    if fact["task"] == "classes":
        best = (", ".join(map(str, side)) for side in (reference, chip))
        return t("best classes (numbers from 0): reference {n}; chip {m}", **dict(zip("nm", best, strict=True)))
    only = (sorted({*own} - {*other}) for own, other in ((reference, chip), (chip, reference)))
    named = {name: ", ".join(map(str, numbers)) or "-" for name, numbers in zip("nm", only, strict=True)}
    return t("attributes (numbers from 0) that only the reference finds: {n}; only the chip: {m}", **named)


def _scaled(task: str, answer: Any, scale: float) -> Any:
    if task not in SURE:
        return answer
    rounded = np.column_stack([(scale * answer[:, :4]).round(1), answer[:, 4].round(3)]).tolist()
    return [[*box, int(alone)] for box, alone in zip(rounded, answer[:, 5], strict=True)]
