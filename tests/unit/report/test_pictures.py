"""The pictures of a report are those on which the chip is furthest from the reference, their boxes in place."""

import os
import threading

import cv2
import numpy as np
import pytest

from harness.case import Case
from harness.datasets.base import Dataset, Sample
from harness.judge.sampled import Sampled
from harness.metrics import changes
from harness.metrics.changes import BOXES
from harness.report.messages import translation
from harness.report.pictures import OF_A_CASE, outlines, read, told, write
from harness.run.accuracy import evaluate
from harness.run.predict import Answers

CASE = Case.parse("retinaface_mobilenet025-cpu-fp32-bs1")
EN = translation("en")


def image(number, height=600, width=960):
    """A picture whose colour tells its number."""
    return np.full((height, width, 3), 20 * number, np.uint8)


def boxes(*rows, labels=None):
    """Predictions of rows x1, y1, x2, y2, score."""
    rows = np.array(rows, np.float32).reshape(-1, 5)
    found = {"boxes": rows[:, :4], "scores": rows[:, 4]}
    return found if labels is None else {**found, "labels": np.array(labels, np.int64)}


def of(task, found, wanted, truth=None, height=600, width=960):
    samples = [Sample(f"n{i}", lambda i=i: image(i, height, width)) for i in range(len(found))]
    data = Dataset("drawn", "scenes", samples, len(found), truth, "digest")
    answers = Answers(data, found, 1.0, False)
    return evaluate(CASE, task, answers, wanted, data, data, Sampled(), seeded=truth is None, limit=None)


def logits(*best, size=1000):
    """Scores of a classifier with these classes first."""
    scores = np.zeros(size, np.float32)
    scores[list(best)] = np.arange(len(best), 0, -1)
    return {"logits": scores}


FACE, OTHER = (96, 60, 192, 180, 0.9), (480, 240, 672, 480, 0.8)
BOTH = boxes(FACE, OTHER)


@pytest.fixture
def written(tmp_path):
    """Facts of three images, of which the chip misses a face, misses two and invents one."""
    made = boxes(FACE, OTHER, (700, 20, 800, 120, 0.95))
    run = of("faces", [boxes(FACE), boxes(), made, BOTH], [BOTH] * 4)
    return write(tmp_path / "run", "case", run)


def test_the_furthest_come_first_and_what_is_alike_is_left_out(written):
    assert [fact["image"] for fact in written] == ["n1", "n2", "n0"]  # 1.7, 0.95 and 0.8 of a score
    assert [fact["counts"] for fact in written] == [[0, 0, 2, 2], [3, 1, 2, 0], [1, 0, 2, 1]]


def test_boxes_are_in_pixels_of_the_small_picture_and_say_who_is_alone(written):
    """960 x 600 pixels become 480 x 300."""
    assert (written[1]["width"], written[1]["height"]) == (480, 300)
    assert written[1]["chip"][0] == [350, 10, 400, 60, pytest.approx(0.95), 1]
    assert [box[5] for box in written[1]["chip"]] == [1, 0, 0]
    assert written[2]["reference"] == [[240, 120, 336, 240, 0.8, 1], [48, 30, 96, 90, 0.9, 0]]


def test_the_file_is_that_image_as_a_small_jpeg_beside_the_records(tmp_path, written):
    body = read([tmp_path / "elsewhere", tmp_path], written[1])
    picture = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)

    assert written[1]["file"] == "run/case.2.jpg"
    assert picture.shape == (300, 480, 3)
    assert abs(int(picture.mean()) - 40) < 3  # image n2
    assert len(body) < 50_000


def test_at_most_three_and_none_where_all_agree(tmp_path):
    assert len(write(tmp_path, "x", of("faces", [boxes(FACE)] * 5, [BOTH] * 5))) == OF_A_CASE == 3
    assert write(tmp_path / "none", "x", of("faces", [BOTH] * 5, [BOTH] * 5)) == []
    assert not (tmp_path / "none").exists()


def test_a_small_picture_is_not_made_larger(tmp_path):
    (fact,) = write(tmp_path, "x", of("faces", [boxes(FACE)], [BOTH], height=300, width=200))

    assert (fact["width"], fact["height"]) == (200, 300)
    assert fact["chip"] == [[96, 60, 192, 180, pytest.approx(0.9), 0]]


def test_rounding_is_no_difference_and_a_box_that_moved_is(tmp_path):
    near = boxes((96.5, 60, 192.5, 180, 0.89), (480, 241, 672, 480, 0.81))
    moved = boxes((128, 60, 224, 180, 0.9), OTHER)  # overlap (IoU) 0.5: half of it is gone

    facts = write(tmp_path, "x", of("faces", [near, moved], [BOTH] * 2))

    assert [fact["image"] for fact in facts] == ["n1"]


def test_a_box_of_another_class_is_another_box(tmp_path):
    wanted = boxes(FACE, OTHER, labels=[1, 2])
    facts = write(tmp_path, "x", of("objects", [boxes(FACE, OTHER, labels=[1, 3])], [wanted]))

    assert facts[0]["counts"] == [2, 1, 2, 1]


def test_a_box_below_the_threshold_is_drawn_where_it_is_the_counterpart(tmp_path):
    """The reference scores 0.6, the chip 0.4: less than sure, and more than half of it."""
    wanted, found = boxes(FACE, (480, 240, 672, 480, 0.6)), boxes(FACE, (480, 240, 672, 480, 0.4))
    (fact,) = write(tmp_path, "x", of("faces", [found], [wanted]))

    assert fact["counts"] == [2, 0, 2, 0]


def test_of_many_boxes_those_without_counterpart_are_drawn(tmp_path):
    grid = [(20 * (i % 40), 20 * (i // 40), 20 * (i % 40) + 15, 20 * (i // 40) + 15, 0.9) for i in range(200)]
    (fact,) = write(tmp_path, "x", of("faces", [boxes(*grid[:150])], [boxes(*grid)]))

    assert fact["counts"] == [150, 0, 200, 50]
    assert len(fact["reference"]) == BOXES
    assert sum(box[5] for box in fact["reference"]) == 50
    assert told(fact, EN).endswith("; 240 of 350 boxes are drawn")


def test_classes_are_told_apart_by_the_place_of_the_references_best(tmp_path):
    found = [logits(7, 8, 9), logits(4, 3, 5), logits(4, 5, 3), logits(2, 1, 0)]
    wanted = [logits(7, 9, 8), logits(3, 4), logits(3, 4), logits(2)]

    facts = write(tmp_path, "x", of("classes", found, wanted))

    assert [(fact["image"], fact["chip"], fact["reference"][:2]) for fact in facts] == [
        ("n2", [4, 5, 3], [3, 4]), ("n1", [4, 3, 5], [3, 4])
    ]  # fmt: skip
    assert told(facts[1], EN) == "best classes (numbers from 0): reference 3, 4, 0; chip 4, 3, 5"
    assert outlines(facts[0], EN) == ""


def test_images_that_the_chip_lost_come_before_those_that_it_won(tmp_path):
    """By the labels: the chip is right about the first and wrong about the second, where it is less far apart."""
    found, wanted = [logits(1, 2, 3, 4), logits(5, 6)], [logits(4, 1), logits(6, 5)]

    facts = write(tmp_path, "x", of("classes", found, wanted, truth=[1, 6]))

    assert [fact["image"] for fact in facts] == ["n1", "n0"]


def test_attributes_are_told_apart_by_how_many_differ(tmp_path):
    def yes(*places):
        scores = np.full(35, -1.0, np.float32)
        scores[list(places)] = 1.0
        return {"logits": scores}

    facts = write(tmp_path, "x", of("attributes", [yes(1, 2), yes(1), yes(5)], [yes(1), yes(1), yes(6)]))

    assert [fact["image"] for fact in facts] == ["n2", "n0"]
    assert told(facts[0], EN) == "attributes (numbers from 0) that only the reference finds: 6; only the chip: 5"
    assert told(facts[1], EN).endswith("finds: -; only the chip: 2")


def test_an_image_on_which_neither_finds_anything_is_alike():
    difference = changes._of_boxes(boxes(), boxes(), 0.5)

    assert difference.size == 0
    assert difference.counts == (0, 0, 0, 0)


@pytest.mark.parametrize("change", [{"file": "run/none.jpg"}, {"file": "../x.jpg"}, {"sha256": "0"}, {"file": "run"}])
def test_a_picture_that_is_missing_outside_or_another_is_not_shown(tmp_path, written, change):
    (tmp_path.parent / "x.jpg").write_bytes((tmp_path / "run/case.1.jpg").read_bytes())

    assert read([tmp_path], written[0]) is not None
    assert read([tmp_path], {**written[0], **change}) is None


def test_a_pipe_in_the_place_of_a_picture_is_not_waited_for(tmp_path, written):
    path = tmp_path / written[0]["file"]
    body = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    threading.Thread(target=path.write_bytes, args=[body], daemon=True).start()  # whoever reads it gets the picture

    assert read([tmp_path], written[0]) is None


def test_the_reference_is_drawn_above_the_chip_and_each_box_has_its_score(written):
    drawn = outlines(written[1], EN)

    assert drawn.index('class="rim"') < drawn.index('class="chip alone"') < drawn.index('class="reference"')
    assert '<path class="chip alone" d="M350 10H400V60H350z"><title>chip 0.95</title></path>' in drawn
    assert told(written[2], EN) == (
        "reference: 2 boxes, 1 that the chip does not have; chip: 1 box, 0 that the reference does not have"
    )
    assert "<title>参考" in outlines(written[2], translation("zh"))
