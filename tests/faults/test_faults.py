"""Planted mistakes: the conformance tests must catch each, at the stage that says what is wrong."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.judge.accuracy import judge_agreement, judge_tail
from harness.run import accuracy
from harness.run.case_run import CaseRun
from harness.vocabulary import STAGE_MARKERS, Outcome
from tests.faults import answers, circumstances, tiny  # noqa: F401 - they fill the list
from tests.faults.plant import FAULTS, Plant

README = Path(__file__).with_name("README.md")


def told(fault):
    return fault.name.replace("__", ": ").replace("_", " ")


def test_nothing_is_found_where_nothing_is_planted(conform):
    watch = conform("fp32")

    assert set(watch.seen.values()) == {"PASS"}, "\n".join(watch.texts)
    assert {key.split()[1] for key in watch.seen} == {*STAGE_MARKERS, "published"}


def test_nothing_is_found_at_lower_precision_either(conform):
    watch = conform("tiny_classes and not fp32 and numerics")

    assert set(watch.seen.values()) == {"PASS"}, "\n".join(watch.texts)


def test_a_network_that_nobody_trained_is_held_to_its_own_answers_not_to_labels(conform, planted, tmp_path):
    data = shutil.copytree(planted.data, tmp_path / "data")
    shutil.rmtree(data / "weights")

    records = conform("tiny_classes and fp32 and bs1 and accuracy", data=data).records

    judged = [record for record in records if "drop" in record.values]
    assert judged
    assert all(record.values["reference"] == 1 and "seeded" in record.marks for record in judged), judged


def test_an_int8_engine_is_not_asked_about_its_calibration_images_but_where_the_published_figure_was(conform):
    records = conform("tiny_classes and int8 and bs1 and accuracy").records

    by_stage = {record.stage: record for record in records if record.metric == "top1"}
    assert (by_stage["accuracy"].facts["images"], by_stage["published"].facts["images"]) == (318, 350)
    assert (by_stage["accuracy"].marks, by_stage["published"].marks) == (("partial",), ())
    assert {record.facts["calibration"] for record in by_stage.values()} == {"32 images of tiny_classes, partial"}


class Scored:
    """What was scored in a run: the fewest of those images with which the accuracy is red."""

    def __init__(self, monkeypatch):
        self.asked = []
        sound = accuracy.evaluate
        monkeypatch.setattr(accuracy, "evaluate", lambda *given: self.asked.append(given) or sound(*given))
        self.sound = sound

    def red(self, images):
        """Whether that many images, drawn as by --limit, show the fault in a metric or in the tail."""
        case, task, answered, reference, dataset, whole, sampled, seeded, _ = self.asked[-1]
        few = dataset.sample(images)
        run = self.sound(case, task, answered, reference, few, whole, sampled, seeded, images)
        found = [judge_agreement(run.chip, run.reference, metric) for metric in tiny.MODELS[case.model].metrics]
        shares = {sample.id: one.share for sample, one in zip(run.dataset.samples, run.changes, strict=True)}
        return any(verdict.outcome is Outcome.FAIL for verdict in (*found, judge_tail(shares, case.precision)))

    def fewest(self):
        """By bisection: one image fewer does not show it; None where all do not."""
        few, enough = 0, len(self.asked[-1][4])
        if not self.red(enough):
            return None
        while enough - few > 1:
            middle = (few + enough) // 2
            few, enough = (few, middle) if self.red(middle) else (middle, enough)
        return enough


def test_the_fewest_images_are_those_that_show_a_fault_and_one_fewer_does_not(conform, planted, monkeypatch):
    monkeypatch.setenv("TESTBED", "wrong_sometimes")
    scored = Scored(monkeypatch)
    conform("tiny_classes and fp32 and bs4 and accuracy")

    fewest = scored.fewest()

    assert 5 < fewest < 150, "one picture in ten is wrong"
    assert scored.red(fewest)
    assert not scored.red(fewest - 1)


def test_of_a_sound_chip_no_number_of_images_is_red(conform, planted, monkeypatch):
    scored = Scored(monkeypatch)
    conform("tiny_classes and fp32 and bs4 and accuracy")

    assert scored.fewest() is None


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_planted_fault_is_caught(
    fault, conform, planted, cache, monkeypatch, tmp_path, record_property, pytestconfig
):
    plant = Plant(planted, monkeypatch, tmp_path, conform, planted.data, cache)
    fault.plant(plant)
    scored = Scored(monkeypatch)

    watch = conform(fault.marks, fault.names, plant.data, plant.cache)

    found, beside = {}, {}
    for key, outcome in watch.seen.items():
        case, stage = key.split(" ")
        if outcome == "PASS" or (outcome == "SKIP" and stage != "published"):
            continue
        own = fault.batch is None or case.endswith(f"-bs{fault.batch}") or stage == "protocol"  # of all batches
        (found if own else beside)[stage] = outcome
    record_property("fault", told(fault))  # chipproof selftest reads these
    record_property("found", ", ".join(f"{stage} {outcome}" for stage, outcome in found.items()))
    record_property("message", next(iter(watch.messages), ""))
    if fault.caught.get("accuracy") == "FAIL" and pytestconfig.option.xmlpath:  # nobody else reads it
        record_property("images", scored.fewest() or "")
    assert watch.seen, "no conformance test was selected"
    assert found == fault.caught, f"{fault.field}\n" + "\n".join(watch.texts)
    assert not beside, f"another case was not clean: {beside}\n" + "\n".join(watch.texts)


@pytest.mark.parametrize(
    ("plants", "selected", "said"),
    [
        (circumstances.an_engine_outlives_its_weights, "numerics", "the engine in the cache was stale or damaged"),
        (circumstances.the_device_is_wrong_at_first, "numerics", "the device or its runtime is not steady"),
        (circumstances.the_device_is_wrong_and_then_dies, "numerics", "it crashed: worker of"),
        (circumstances.a_load_passes, "throughput", "other load passed, or the device is not steady"),
    ],
)
def test_what_does_not_repeat_is_named(plants, selected, said, conform, planted, cache, monkeypatch, tmp_path):
    plant = Plant(planted, monkeypatch, tmp_path, conform, planted.data, cache)
    plants(plant)

    records = conform(f"tiny_classes and fp32 and bs4 and {selected}", "", plant.data, plant.cache).records

    (record,) = [record for record in records if record.outcome == "INVALID"]
    assert record.text.startswith(("does not repeat: ", "not confirmed: ")), record.text
    assert said in record.text
    assert record.facts["first"] in ("FAIL", "INVALID")
    assert record.facts["second"] in ("PASS", "ERROR")
    assert record.facts["second_values"]


def test_a_red_verdict_is_measured_twice_and_a_green_one_once(conform, planted, cache, monkeypatch, tmp_path):
    plant = Plant(planted, monkeypatch, tmp_path, conform, planted.data, cache)
    sound = conform("tiny_classes and fp32 and bs4 and numerics").records
    plant.chip("mean_forgotten")

    wrong = [r for r in conform("tiny_classes and fp32 and bs4 and numerics").records if r.outcome == "FAIL"]

    assert not any("second" in record.facts for record in sound)
    assert wrong
    assert all(record.facts["second"] == "FAIL" for record in wrong)
    assert all("measured again in a new process" in record.text for record in wrong)


@pytest.mark.parametrize(
    ("fault", "anew"), [("busy_before", False), ("throttled", False), ("skips_every_second", True)]
)
def test_a_new_engine_is_built_where_it_may_be_the_engines_fault(conform, monkeypatch, fault, anew):
    began, sound = [], CaseRun.__init__
    monkeypatch.setattr(
        CaseRun, "__init__", lambda run, suite, case, anew=False: began.append(anew) or sound(run, suite, case, anew)
    )
    monkeypatch.setenv("TESTBED", fault)

    (record,) = conform("tiny_classes and fp32 and bs4 and throughput").records

    assert began == [False, anew]
    assert record.text.count("and with a new engine") == anew


@pytest.fixture
def reduced(monkeypatch):
    """The chip runs batch 4 at lower precision too."""
    monkeypatch.setattr(tiny, "CHIP", replace(tiny.CHIP, reduced_batches=(1, 4)))


@pytest.mark.parametrize(("fault", "outcome"), [("", "PASS"), ("leaks_a_tenth", "FAIL")])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_row_that_depends_on_its_neighbours_is_found_at_low_precision_too(
    reduced, conform, monkeypatch, precision, fault, outcome
):
    """What INT8 costs an output hides a tenth of its neighbour in it; an engine held against itself does not."""
    monkeypatch.setenv("TESTBED", fault)

    records = conform(f"tiny_classes and {precision} and bs4 and numerics", "neighbours").records

    assert [(record.metric, record.outcome) for record in records] == [("rows", outcome)]


@pytest.fixture
def keeping(monkeypatch):
    """The chip's answers are kept, as those of the cpu are."""
    monkeypatch.setattr(tiny, "CHIP", replace(tiny.CHIP, keeps=True))


def test_kept_answers_do_not_hide_a_chip_that_broke_since(keeping, conform, monkeypatch, tmp_path):
    def judged():
        return conform("tiny_classes and fp32 and bs4 and accuracy", "agrees", cache=tmp_path / "cache").records

    first, second = judged(), judged()
    monkeypatch.setenv("TESTBED", "channels_swapped")
    broken = judged()

    assert {r.outcome for r in (*first, *second)} == {"PASS"}
    assert {r.metric for r in first} == {r.metric for r in second}, "the last batch is asked anew"
    assert not any("kept" in r.marks for r in first)
    assert all("kept" in r.marks for r in second)
    assert {r.outcome for r in broken if r.metric not in ("first batch", "last batch")} == {"FAIL"}
    assert not any("kept" in r.marks for r in broken)


def test_executes_in_flight_with_buffers_of_their_own_are_sound(conform, monkeypatch):
    monkeypatch.setenv("TESTBED", "flies")

    (record,) = conform("tiny_classes and fp32 and bs4 and throughput").records

    assert record.outcome == "PASS", record.text
    assert record.values["memory_growth_mb"] < 4
    assert record.values["memory_executes"] > 100


def test_a_figure_of_windows_that_vary_is_marked(conform, monkeypatch):
    steady = conform("tiny_classes and fp32 and bs4 and throughput").records

    monkeypatch.setenv("TESTBED", "now_and_then_another")
    varying = conform("tiny_classes and fp32 and bs4 and throughput").records
    assert [record.marks for record in steady] == [()]
    assert [record.marks for record in varying] == [("unsteady",)]
    assert "vary by" in varying[0].facts["unsteady"][0]


def test_the_readme_lists_every_fault_with_what_catches_it():
    rows = [
        f"| {told(fault)} | {fault.field} | {', '.join(f'{k} {v}' for k, v in fault.caught.items())} |"
        for fault in FAULTS
    ]

    listed = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
    assert listed == rows
