"""A card's devices answer a data set together; what one of them answers differently is found and named."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from harness.case import Case, Precision
from harness.datasets.base import Dataset, Sample
from harness.errors import DataError, RunError
from harness.models.base import Frame, Prepared
from harness.reference import predictions
from harness.run.card import ASKED_TWICE, TRACED, Card, together, unlike
from harness.vocabulary import Outcome

MODEL = SimpleNamespace(input="image", heavy=False)


def preprocess(image, raw):
    return Prepared(image.astype(np.float32), Frame(2, 2, (1.0, 1.0)))


PROTOCOL = SimpleNamespace(
    preprocess=preprocess, postprocess=lambda outputs, frame: {"value": outputs["y"].ravel()[:1]}
)


def ahead(samples):
    return (preprocess(sample.read(), False) for sample in samples)


def images(count):
    samples = [Sample(str(i), lambda i=i: np.full((2, 2, 3), i, np.float32)) for i in range(count)]
    return Dataset("numbers", "whole", samples, count, None, "digest")


class Device:
    """Answers with 1 + the number of the image, or with what `wrong` makes of that; notes the images it was given."""

    def __init__(self, wrong=lambda numbers: numbers):
        self.wrong, self.given, self.most = wrong, [], 1

    def run(self, inputs):
        numbers = inputs["image"][:, 0, 0, 0]
        self.given += numbers.tolist()
        return {"y": self.wrong(numbers + 1)[:, None]}

    def together(self, batches):
        self.most = max(self.most, len(batches))
        return [self.run(inputs) for inputs in batches]


def card(*devices, batch=4, nms=False, at_once=1):
    case = Case("numbers", "chip", Precision.FP16, batch)
    sessions = {f"device {n}": device for n, device in enumerate(devices)}
    return Card(sessions, MODEL, PROTOCOL, case, ahead, nms, at_once)


def asked(whole, data):
    found, verdicts = whole.ask(data, lambda done: None)
    return [answer["value"].tolist() for answer in found], verdicts


@pytest.mark.parametrize(
    ("answers", "expected"),
    [("aaaa", ()), ("aaba", (2,)), ("baaa", (0,)), ("abca", (1, 2)), ("ab", (0, 1)), ("aabb", (0, 1, 2, 3))],
)
def test_who_is_unlike_the_majority(answers, expected):
    assert unlike(answers, lambda one, other: one == other) == expected


def test_batches_are_dealt_and_answers_come_in_order(monkeypatch):
    devices = [Device() for _ in range(3)]
    monkeypatch.setattr("harness.run.card.ASKED_TWICE", 0)

    found, _ = asked(card(*devices), images(30))

    assert found == [[i + 1] for i in range(30)]
    assert [sorted(set(device.given)) for device in devices] == [
        [*range(4), *range(12, 16), *range(24, 28)],
        [0, 1, *range(4, 8), *range(16, 20), 28, 29],  # the last batch again, beside the first images
        [*range(8, 12), *range(20, 24)],
    ]


@pytest.mark.parametrize(("count", "at_once"), [(1, 1), (11, 3), (12, 3), (16, 2), (30, 3)])
def test_batches_that_are_computed_at_the_same_time_are_those_of_one_after_the_other(count, at_once):
    processor = Device()

    found, verdicts = asked(card(processor, at_once=3), images(count))

    alone, told = asked(card(Device()), images(count))
    assert found == alone == [[i + 1] for i in range(count)]
    assert list(verdicts) == list(told)
    assert processor.most == at_once, "batches without an image would be computed"
    assert all(verdict.outcome is Outcome.PASS for verdict in verdicts.values())


def test_a_batch_is_traced_and_repeated_although_others_are_computed_at_the_same_time():
    """The first batch answers otherwise when it is asked again, the others do not."""
    device = Device()
    device.wrong = lambda numbers: numbers if len(device.given) <= 36 else numbers + 1

    _, verdicts = asked(card(device, at_once=3), images(36))

    assert verdicts["first batch"].outcome is Outcome.FAIL


def test_a_device_may_be_left_without_images():
    assert asked(card(Device(), Device(), Device()), images(3))[0] == [[1], [2], [3]]


def test_progress_counts_every_image():
    done = []

    card(Device(), Device()).ask(images(10), done.append)

    assert sum(done) == 10


def test_a_card_whose_devices_answer_alike_passes_and_says_on_how_many_images():
    _, verdicts = asked(card(Device(), Device()), images(100))

    assert verdicts["devices"].outcome is Outcome.PASS
    assert verdicts["devices"].details == {"asked_twice": ASKED_TWICE, "asked": 100, "of_devices": 2}
    assert list(verdicts) == ["devices", "first batch"], "the last batch is full"


def test_two_blocks_are_told_as_one():
    first, second = (asked(card(Device(), Device()), images(count))[1] for count in (100, 20))

    both = together(first, second)["devices"]
    assert both.text == f"{ASKED_TWICE + 20} of 120 images were run by two of the 2 devices each, with the same outputs"
    assert both.details == {"asked_twice": ASKED_TWICE + 20, "asked": 120, "of_devices": 2}


def test_what_is_wrong_in_one_block_is_wrong_in_both():
    _, sound = asked(card(Device(), Device()), images(10))
    _, broken = asked(card(Device(), Device(lambda numbers: -numbers)), images(8))

    assert together(sound, broken)["devices"] is together(broken, sound)["devices"] is broken["devices"]
    assert together({}, sound) == together(sound, {}) == sound
    assert list(together(sound, broken)) == ["devices", "last batch", "first batch"]


@pytest.mark.parametrize("bad", [0, 2])
def test_the_device_that_is_wrong_on_one_image_in_ten_is_named(bad):
    def wrong(numbers):
        return np.where(numbers % 10 == 3, -numbers, numbers)

    devices = [Device(wrong if place == bad else lambda numbers: numbers) for place in range(4)]

    _, verdicts = asked(card(*devices, batch=1), images(64))

    assert verdicts["devices"].outcome is Outcome.FAIL
    assert verdicts["devices"].text.startswith(f"device {bad} gives other outputs for ")
    assert verdicts["devices"].text.endswith("than the other 3 devices")


def test_of_two_devices_neither_is_blamed():
    _, verdicts = asked(card(Device(), Device(lambda numbers: -numbers)), images(8))

    assert verdicts["devices"].outcome is Outcome.FAIL
    assert "device 0, device 1 give different outputs" in verdicts["devices"].text
    assert "--device" in verdicts["devices"].text


def test_an_answer_that_is_wrong_once_is_told_as_that():
    once = iter([True])
    _, verdicts = asked(
        card(Device(), Device(lambda numbers: -numbers if next(once, False) else numbers), batch=8), images(16)
    )

    assert verdicts["devices"].outcome is Outcome.FAIL
    assert "when run together, and equal ones one by one" in verdicts["devices"].text


def test_a_difference_within_the_tolerance_is_rounding():
    _, verdicts = asked(card(Device(), Device(lambda numbers: 1.01 * numbers)), images(10))

    assert {verdict.outcome for verdict in verdicts.values()} == {Outcome.PASS}


def test_what_a_chip_suppresses_itself_is_not_compared():
    protocol = SimpleNamespace(**vars(PROTOCOL), postprocess_suppressed=lambda outputs, frame: {"boxes": outputs["y"]})
    whole = card(Device(), Device(lambda numbers: -numbers), nms=True)
    whole.protocol = protocol

    assert whole.ask(images(10), lambda done: None)[1] == {}


def test_one_device_has_no_other_to_be_compared_with():
    assert list(asked(card(Device()), images(8))[1]) == ["first batch"]
    assert asked(card(Device()), images(4))[1] == {}, "a batch that is the only one"


def test_a_last_batch_that_is_filled_up_is_asked_beside_other_images():
    device = Device()

    _, verdicts = asked(card(device), images(10))

    assert verdicts["last batch"].outcome is Outcome.PASS
    assert device.given[-8:-4] == [8, 9, 0, 1]


def test_a_last_batch_that_is_filled_up_wrongly_fails(monkeypatch):
    """The filling stands before the images: their answers are those of the filling."""
    sound = np.stack

    def before(rows, *args, **kwargs):
        rows = list(rows)
        return sound([*rows[-2:], *rows[:-2]] if len(rows) == 4 and rows[-1] is rows[-2] else rows, *args, **kwargs)

    monkeypatch.setattr(np, "stack", before)

    found, verdicts = asked(card(Device()), images(10))

    assert found[8:] == [[10], [10]]
    assert verdicts["last batch"].outcome is Outcome.FAIL
    assert "8 has other outputs in a full batch" in verdicts["last batch"].text


def test_a_device_that_moves_away_with_time_is_seen():
    """By two percent from the fortieth image on."""
    device = Device()
    device.wrong = lambda numbers: numbers * (1.02 if len(device.given) > 40 else 1)

    _, verdicts = asked(card(device), images(44))

    assert verdicts["first batch"].outcome is Outcome.FAIL
    assert verdicts["first batch"].text == (
        "the first batch run again after 44 images: output y differs by 0.02 of its largest value from that at the "
        "beginning"
    )
    assert asked(card(Device()), images(44))[1]["first batch"].outcome is Outcome.PASS


def test_outputs_that_are_all_zero_do_not_move():
    _, verdicts = asked(card(Device(lambda numbers: 0 * numbers)), images(8))

    assert verdicts["first batch"].outcome is Outcome.PASS
    assert verdicts["first batch"].details == {"drift": 0.0}


def test_the_way_of_a_few_images_is_gone_again_and_that_of_the_last_one_always():
    groups = [list(range(start, start + 4)) for start in range(0, 400, 4)]
    drawn = [card(Device())._drawn([*groups, [400, 401]]) for _ in range(20)]

    assert {places[100] for places in drawn} == {1}
    assert all(TRACED <= len(places) <= TRACED + 1 for places in drawn)
    assert len({number for places in drawn for number in places}) > 10
    assert {row for places in drawn for number, row in places.items() if number < 100} == set(range(4))


def test_images_that_change_places_on_their_way_are_an_error_of_the_suite(monkeypatch):
    whole = card(Device(), batch=1)
    whole.ahead = lambda samples: ahead(samples[::-1])

    with pytest.raises(DataError, match=r"the chip was fed another tensor instead of \d") as caught:
        asked(whole, images(10))
    assert "a fault of the suite" in caught.value.hint


def test_an_answer_that_is_not_that_of_its_outputs_is_an_error_of_the_suite(monkeypatch):
    sound = predictions._interpret
    first = lambda interpret, outputs, frames: sound(interpret, outputs, frames)[:1] * len(frames)  # noqa: E731
    monkeypatch.setattr(predictions, "_interpret", first)

    with pytest.raises(DataError, match="the answer on record for 9 is not the one that its outputs give"):
        asked(card(Device(), batch=10), images(10))


def test_an_answer_with_more_than_its_outputs_give_is_an_error_of_the_suite(monkeypatch):
    sound = predictions._interpret
    more = lambda *given: [{**one, "labels": one["value"]} for one in sound(*given)]  # noqa: E731
    monkeypatch.setattr(predictions, "_interpret", more)

    with pytest.raises(DataError, match="is not the one that its outputs give"):
        asked(card(Device()), images(10))


def test_a_device_that_breaks_off_stops_the_others():
    def breaks(numbers):
        raise RunError("device lost", hint="reset it")

    slow = Device(lambda numbers: time.sleep(0.01) or numbers)

    with pytest.raises(RunError, match="device lost"):
        asked(card(slow, Device(breaks)), images(400))
    assert len(slow.given) < 100
