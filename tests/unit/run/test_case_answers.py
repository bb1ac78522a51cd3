"""What a case answers: how many images are asked, in which order and of which devices, and what that is scored on."""

from contextlib import contextmanager
from datetime import date
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness import matrix
from harness.backends.base import BuildSpec, Device
from harness.case import Case
from harness.datasets.base import Dataset, Sample
from harness.errors import DataError
from harness.judge.drops import looks
from harness.judge.policy import Policy
from harness.judge.verdict import Verdict
from harness.run.case_answers import CaseAnswers, answers_of
from harness.run.case_run import CaseRun
from harness.run.engine import Built, Variant
from harness.store import Store
from harness.vocabulary import Outcome

IMAGES = 2000
ONE = np.eye(1000, dtype=np.float32)


@pytest.mark.parametrize(
    ("chip", "processes", "devices", "at_once"),
    [("ascend310", 1, 4, 1), ("ascend310", 2, 1, 1), ("intel_cpu", 1, 1, 3)],
)
def test_accuracy_is_asked_of_a_card_unless_each_process_has_a_device(monkeypatch, chip, processes, devices, at_once):
    @contextmanager
    def shared(chip, device, holder, exclusive):
        assert not exclusive
        yield

    @contextmanager
    def entered(*given):
        yield SimpleNamespace(load=lambda *given: entered())

    context = SimpleNamespace(
        settings=SimpleNamespace(process=0, processes=processes, tune=False),
        lease=shared,
        worker=entered,
        prepared=SimpleNamespace(ahead=lambda name, protocol, raw, streams: streams),
        dataset=lambda model: SimpleNamespace(name="set"),
    )
    case_run = CaseRun(context, next(case for case in matrix.cases() if case.chip == chip))
    vars(case_run.engine)["present"] = SimpleNamespace(backend="acl", devices=[Device(n, "310") for n in range(4)])
    monkeypatch.setattr(
        CaseRun, "built", lambda self, variant=None: Built(Path("engine"), BuildSpec("fp16", 1, (), ()))
    )
    vars(case_run)["session"] = SimpleNamespace(places=3)

    with CaseAnswers(case_run)._card(case_run.variant) as card:
        assert list(card.sessions) == [f"device {n}" for n in range(devices)]
        assert card.ahead == devices, "they share the cores that prepare images"
        assert card.at_once == at_once, "one batch alone leaves cores of a processor idle"


# ---------------------------------------------------------------------------------------------- how many images


def images(count=IMAGES, kind="partial"):
    samples = [Sample(f"n{i}", lambda: None) for i in range(count)]
    return Dataset("imagenet", kind, samples, count, [i % 10 for i in range(count)], "digest")


def classes(*numbers):
    return [{"logits": ONE[number]} for number in numbers]


class Bench:
    """A case whose chip answers as the reference does, apart from the images that `lost` names."""

    def __init__(self, monkeypatch, tmp_path, dataset, lost=lambda place: False, precision="fp16", **more):
        self.lost, self.asked, self.opened, self.referred = lost, [], 0, []
        case = Case.parse(f"regnety_016-t4-{precision}-bs4")
        cells = more.pop("cells", {})
        table = SimpleNamespace(source=lambda model, metric: cells.get(metric), cell=lambda case, metric: None)
        settings = SimpleNamespace(
            store=Store(tmp_path), baselines=table, limit=more.pop("limit", None),
            progress=lambda what, total: lambda done: None,
        )  # fmt: skip
        held = dataset.take(range(40, len(dataset)))
        self.context = SimpleNamespace(
            settings=settings, dataset=lambda model: dataset, calibration=lambda model: (dataset.take(range(40)), held),
            references=SimpleNamespace(answers=self.reference, weights=lambda model: SimpleNamespace(seeded=False)),
        )  # fmt: skip
        model = SimpleNamespace(task="classes", metrics=("top1", "top5"), name="regnety_016", heavy=False)
        self.run = SimpleNamespace(
            context=self.context, case=case, model=model, protocol=None, variant=Variant(raw=False), anew=False,
            marks=more.pop("marks", ()), chip=SimpleNamespace(keeps=more.pop("keeps", False)), devices_agreed=False,
            bound=lambda stage: Policy().bound(case, stage, date.today()),
            built=lambda variant: Built(Path("/cache/engine/1/e"), None),
        )  # fmt: skip
        assert not more

        @contextmanager
        def card(answers, variant):
            self.opened += 1
            yield SimpleNamespace(ask=self.ask)

        monkeypatch.setattr(CaseAnswers, "_card", card)
        monkeypatch.setattr("harness.run.artefacts.key", lambda kind, inputs, model: [kind, inputs])

    def again(self):
        """The answers in another process."""
        self.asked.clear()
        return CaseAnswers(self.run)

    def ask(self, few, advance):
        self.asked.append([int(sample.id[1:]) for sample in few.samples])
        found = classes(*[(i % 10 + self.lost(i)) % 1000 for i in self.asked[-1]])
        return found, {"devices": Verdict(Outcome.PASS, "", {"asked_twice": 4, "asked": len(found), "of_devices": 2})}

    def reference(self, model, protocol, few):
        self.referred.append(len(few))
        found = classes(*[int(sample.id[1:]) % 10 for sample in few.samples])
        return [{"logits": answer["logits"] * 0.9} for answer in found], 0.5 * len(few)  # other last bits


@pytest.fixture
def case_run(monkeypatch, tmp_path):
    return lambda *given, **more: Bench(monkeypatch, tmp_path, *(given or (images(),)), **more)


def test_asking_ends_when_the_verdicts_are_decided(case_run):
    case = case_run()
    answers = CaseAnswers(case.run)
    scored = answers.evaluation

    assert [len(block) for block in case.asked] == case.referred == [512]
    assert scored.marks == ("partial", "sampled")
    assert (scored.facts["images"], scored.sampled.look, scored.sampled.of) == (512, 1, IMAGES)
    assert {name: verdict.outcome for name, verdict in answers.verdicts(scored).items()} == dict.fromkeys(
        ("top1", "top5", "tail"), Outcome.PASS
    )
    assert answers.verdicts(scored)["top1"].text.endswith("; look 1, at 512 of 2000 images")


def test_images_are_asked_in_the_random_order_of_limit_and_scored_in_that_of_the_set(case_run):
    case = case_run(lost=lambda i: i % 100 == 7)
    scored = CaseAnswers(case.run).evaluation
    whole = images()

    for number, end in enumerate(looks(IMAGES), 1):
        together = sorted(i for block in case.asked[:number] for i in block)
        assert [f"n{i}" for i in together] == [sample.id for sample in whole.sample(end).samples]
    assert [sample.id for sample in scored.dataset.samples] == [sample.id for sample in whole.samples]
    assert case.asked[0][-1] > 1500, "not the first images"


def test_what_is_not_decided_is_asked_on_until_all_images_are(case_run, monkeypatch):
    """1 of 100 lost is what is allowed. A block takes a second on the chip."""
    monkeypatch.setattr("harness.run.case_answers.time", SimpleNamespace(perf_counter=count().__next__))
    case = case_run(lost=lambda i: i % 100 == 7)
    answers = CaseAnswers(case.run)
    scored = answers.evaluation
    top1 = answers.verdicts(scored)["top1"]

    assert [len(block) for block in case.asked] == [512, 512, 976]
    assert case.opened == 1, "one card for all blocks"
    assert (top1.outcome, scored.sampled.look, scored.marks) == (Outcome.INCONCLUSIVE, 3, ("partial",))
    assert scored.sampled.image_s == pytest.approx(0.5 + 3 / IMAGES), "the reference takes half a second an image"
    assert scored.also["devices"].details == {"asked_twice": 12, "asked": IMAGES, "of_devices": 2}
    assert case.run.devices_agreed


@pytest.mark.parametrize(("limit", "told"), [(IMAGES, True), (IMAGES + 1, False), (None, False)])
def test_another_limit_is_asked_for_where_it_was_in_the_way(case_run, limit, told):
    answers = CaseAnswers(case_run(lost=lambda i: i % 140 == 7, limit=limit).run)

    assert (": --limit " in answers.verdicts(answers.evaluation)["top1"].text) is told


def test_a_chip_that_is_wrong_is_known_at_the_first_look(case_run):
    case = case_run(lost=lambda i: i % 10 == 7)
    answers = CaseAnswers(case.run)

    assert answers.verdicts(answers.evaluation)["top1"].outcome is Outcome.FAIL
    assert [len(block) for block in case.asked] == [512]


@pytest.mark.parametrize(
    ("kind", "more", "every"),
    [
        ("whole", {}, True),
        ("whole", {"marks": ("emulated",)}, True),
        ("whole", {"marks": ("seeded",)}, False),
        ("whole", {"marks": ("simulated",)}, False),
        ("whole", {"cells": {}}, False),
        ("whole", {"limit": IMAGES}, False),
        ("partial", {}, False),
        ("scenes", {}, False),
    ],
)
def test_every_image_is_asked_where_published_accuracy_is_judged_and_only_there(case_run, kind, more, every):
    case = case_run(images(kind=kind), **{"cells": {"top1": "78.0"}, **more})
    answers = CaseAnswers(case.run)

    assert answers.all_asked is every
    assert [len(block) for block in case.asked] == []
    answers.evaluation  # noqa: B018
    assert [len(block) for block in case.asked] == ([IMAGES] if every else [512])
    if every:
        assert answers.on_the_whole_set.marks == ()
        assert answers.evaluation.sampled.confidence(IMAGES) == 0.95, "one look has all of the allowed error"
        assert sum(case.referred) == IMAGES
    else:
        with pytest.raises(DataError, match="512 of 2000 images were asked"):
            answers.on_the_whole_set  # noqa: B018


def test_another_variant_is_asked_until_it_is_decided_though_the_published_one_is_asked_all(case_run):
    case = case_run(images(kind="whole"), cells={"top1": "78.0"})
    answers = CaseAnswers(case.run)

    assert len(answers.evaluation.dataset) == IMAGES
    assert len(answers.evaluate(Variant(raw=False, nms=True)).dataset) == 512


def test_a_small_set_is_asked_at_once(case_run):
    case = case_run(images(300))
    scored = CaseAnswers(case.run).evaluation

    assert [len(block) for block in case.asked] == [300]
    assert scored.marks == ("partial",)
    assert scored.sampled.confidence(300) == 0.95


def test_an_int8_engine_is_not_scored_on_its_calibration_images(case_run):
    case = case_run(precision="int8")
    scored = CaseAnswers(case.run).evaluation
    ids = {int(sample.id[1:]) for sample in scored.dataset.samples}

    assert len(case.asked[0]) == 512
    assert ids == set(case.asked[0]) - set(range(40))
    assert scored.sampled.of == IMAGES - 40


@pytest.mark.slow
def test_published_accuracy_of_an_int8_engine_is_on_all_images(case_run):
    answers = CaseAnswers(case_run(images(kind="whole"), precision="int8", cells={"top1": "78.0"}).run)

    assert len(answers.evaluation.dataset) == IMAGES - 40
    assert len(answers.on_the_whole_set.dataset) == IMAGES


def test_kept_answers_are_compared_block_by_block_and_lead_to_the_same_verdict(case_run):
    case = case_run(lost=lambda i: i % 100 == 7, keeps=True)
    first = CaseAnswers(case.run)
    before = first.verdicts(first.evaluation)
    again = case.again()

    assert {name: v.text for name, v in again.verdicts(again.evaluation).items()} == {
        n: v.text for n, v in before.items()
    }
    assert again.evaluation.marks == ("partial", "kept")
    assert [len(block) for block in case.asked] == [12, 12, 12], "a few of each block"


@pytest.mark.parametrize(("count", "heavy", "few"), [(300, False, 12), (301, False, 13), (300, True, 4)])
def test_a_few_images_are_asked_again_and_the_last_batch_where_it_is_filled_up(case_run, count, heavy, few):
    case = case_run(images(count), keeps=True)
    case.run.model.heavy = heavy
    CaseAnswers(case.run).evaluation  # noqa: B018
    again = case.again().evaluation

    (asked,) = case.asked
    assert len(asked) == few
    assert (count - 1 in asked) or count % 4 == 0
    assert "devices" not in again.also, "a few images are too few to say that the devices agree"
    assert not case.run.devices_agreed


def test_of_fewer_images_than_are_asked_again_all_are(case_run):
    case = case_run(images(10), keeps=True)
    CaseAnswers(case.run).evaluation  # noqa: B018

    assert case.again().evaluation.marks == ("partial", "kept")
    assert [sorted(block) for block in case.asked] == [list(range(10))]


def test_one_image_that_is_answered_otherwise_today_is_enough_to_ask_them_all_again(case_run):
    """A chip that broke in part since does not hide behind what it answered before."""
    case = case_run(images(10), keeps=True)
    assert CaseAnswers(case.run).evaluation.marks == ("partial",)
    case.lost = lambda place: place == 3

    again = case.again()

    assert again.evaluation.marks == ("partial",)
    assert again.answers.found[3]["logits"].argmax() == 4


def test_answers_of_which_some_are_kept_are_kept_and_their_seconds_are_those_of_all(case_run, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("harness.run.case_answers.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    case = case_run(keeps=True)
    CaseAnswers(case.run).evaluation  # noqa: B018
    monkeypatch.setattr("harness.run.case_answers.images_decide", lambda verdicts: False)
    scored = case.again().evaluation

    assert [len(block) for block in case.asked] == [12, 512, 976]
    assert scored.marks == ("partial", "kept")
    assert scored.facts["end_to_end"] == pytest.approx(IMAGES / 3), "a second a block"


def test_a_chip_that_broke_since_is_asked_all_again(case_run):
    """Its kept answers to the second block are wrong today, so those to the first are not trusted either. They are
    right, and decide nothing alone: the second block is asked as well."""
    case = case_run(lost=lambda i: i % 100 == 7, keeps=True)
    CaseAnswers(case.run).evaluation  # noqa: B018
    second = {sample.id for sample in images().parts(looks(IMAGES))[1].samples}
    case.lost = lambda i: i % 100 == 7 or f"n{i}" in second
    again = case.again()

    assert again.answers.kept is False
    assert [len(block) for block in case.asked] == [12, 12, 512, 512]
    assert again.verdicts(again.evaluation)["top1"].outcome is Outcome.FAIL


def test_tests_of_one_case_share_its_answers(case_run):
    class Run(SimpleNamespace):
        __hash__ = object.__hash__

    one, other = (Run(**vars(case_run().run)) for _ in range(2))

    assert answers_of(one) is answers_of(one)
    assert answers_of(other) is not answers_of(one)
