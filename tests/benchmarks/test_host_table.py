"""What one image costs the host, by model and step; docs/measured.md has the table that this prints.

Pictures and outputs are drawn: as large as the data set's usual ones, with as many candidates as a busy image has.
Processor time of one thread, the median of many runs. The transfer to the chip is not the host's.
"""

import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_work import heads, picture, street

from harness.arrays import boxes, images
from harness.metrics import SCORERS, TRUTHS
from harness.models import MODELS

pytestmark = pytest.mark.benchmark

DOCUMENT = Path(__file__).parents[2] / "docs" / "measured.md"
STEPS = ("read", "decode", "resize", "normalise", "outputs", "suppression", "score")
TIMES, SCORED = 41, 200  # runs, and images that are scored together
SLACK = 3  # a busy machine shares its cores' parts: the same work takes up to twice the processor's time


def faces():
    loc, conf, landm = street(2, 300, 1100)
    return {"output0": loc, "output1": conf, "output2": landm}


def objects():
    scores, logits = heads(0, 40)
    maps = {f"score_{i}": score for i, score in enumerate(scores)}
    return maps | {f"bbox_{i}": logit for i, logit in enumerate(logits)}


def numbers(name, count):
    return {name: np.random.RandomState(0).standard_normal(count).astype(np.float32)}


CASES = {  # raw, size of the picture, reader, ending of its file, outputs of the network
    "retinaface_mobilenet025": (True, (768, 1024), "opencv", ".jpg", faces),
    "deepmar_resnet50": (False, (300, 120), "pillow", ".png", partial(numbers, "output1", 35)),
    "regnety_016": (False, (375, 500), "pillow", ".jpg", partial(numbers, "class", 1000)),
    "gfocalv2_r50_fpn": (False, (480, 640), "opencv", ".jpg", objects),
}


class Watch:
    """Processor time of this thread that some functions take, each wrapped where it is called by."""

    def __init__(self, monkeypatch, *places):
        self.taken, self._deep = 0.0, 0
        for module, name in places:
            monkeypatch.setattr(module, name, self._timed(getattr(module, name)))

    def _timed(self, function):
        def timed(*arguments, **options):
            self._deep += 1
            begun = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                self._deep -= 1
                if not self._deep:
                    self.taken += time.thread_time() - begun

        return timed


def clocked(watch, function, *arguments):
    """(result, seconds outside the watched functions, seconds inside)."""
    watch.taken = 0.0
    begun = time.thread_time()
    result = function(*arguments)
    return result, time.thread_time() - begun - watch.taken, watch.taken


def measured(name, folder, monkeypatch):
    """Milliseconds an image of each of STEPS."""
    raw, size, decoder, ending, outputs = CASES[name]
    model, given = MODELS[name], outputs()
    protocol = model.protocols[0]
    path = folder / f"{name}{ending}"
    path.write_bytes(cv2.imencode(ending, picture(*size))[1].tobytes())
    normalising = Watch(monkeypatch, (images, "normalize"), (images, "rgb"))
    suppressing = Watch(monkeypatch, (boxes, "survivors"))
    nothing = Watch(monkeypatch)
    runs = []
    for _ in range(TIMES):
        data, read, _ = clocked(nothing, path.read_bytes)
        image, decode, _ = clocked(nothing, images._decode, data, decoder)
        prepared, resize, normalise = clocked(normalising, protocol.preprocess, image, raw)
        found, decoded, suppress = clocked(suppressing, protocol.postprocess, given, prepared.frame)
        runs.append((read, decode, resize, normalise, decoded, suppress))
    predictions = [found] * SCORED
    truth = TRUTHS[model.task](predictions)
    scores = [clocked(nothing, SCORERS[model.task], predictions, truth)[1] / SCORED for _ in range(5)]
    return dict(zip(STEPS, 1000 * np.array([*np.median(runs, axis=0), np.median(scores)]), strict=True))


def row(name, times):
    cells = " | ".join(f"{value:.2f}" for value in (*times.values(), sum(times.values())))
    return f"| {name} | {cells} |"


def published():
    """Model -> milliseconds of an image in the document's table."""
    lines = [line.split("|")[1:-1] for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    rows = [cells for cells in lines if cells[0].strip() in CASES and len(cells) == len(STEPS) + 2]
    return {cells[0].strip(): float(cells[-1]) for cells in rows}


@pytest.fixture(autouse=True)
def one_thread():
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


@pytest.mark.parametrize("name", CASES)
def test_an_image_costs_the_host_what_the_document_says(name, tmp_path, monkeypatch, capsys):
    times = measured(name, tmp_path, monkeypatch)

    with capsys.disabled():
        print(f"\n| model, ms an image | {' | '.join(STEPS)} | all |\n{row(name, times)}")
    assert all(value >= 0 for value in times.values())
    assert sum(times.values()) <= SLACK * published()[name], f"the document says {published()[name]} ms"
