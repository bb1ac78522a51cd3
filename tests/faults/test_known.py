"""Known failures act at every stage, and a red test tells the way on."""

from collections import Counter
from dataclasses import replace

import pytest

from harness import matrix
from harness.baselines import Deviation
from harness.errors import BaselineError
from harness.report.recompute import recompute
from harness.report.records import read_run
from harness.run import throughput
from harness.run.references import References
from harness.worker.process import Worker


def excused(planted, monkeypatch, stage, metric="", case="tiny_classes-*"):
    row = Deviation(case, stage, metric, "known since spring", "https://example.org/7", "deviations.toml", 7)
    monkeypatch.setattr(matrix, "published", lambda: replace(planted.table, deviations=(row,)))


@pytest.mark.parametrize(
    ("stage", "metric", "fault"),
    [
        ("numerics", "", "bf16"),
        ("accuracy", "top1", "class_offset"),
        ("throughput", "throughput", "slow"),
    ],
)
def test_a_known_failure_passes_and_shows_its_reason_and_place(conform, planted, monkeypatch, stage, metric, fault):
    marks = f"tiny_classes and fp32 and bs4 and {stage}"
    monkeypatch.setenv("TESTBED", fault)
    name = metric if metric != "throughput" else ""
    before = next(r for r in conform(marks).records if (r.stage, r.metric) == (stage, name))
    excused(planted, monkeypatch, stage, metric)

    after = next(r for r in conform(marks).records if (r.stage, r.metric) == (stage, name))

    assert (before.outcome, after.outcome) == ("FAIL", "PASS")
    assert "known failure (deviations.toml:7: known since spring; https://example.org/7)" in after.text
    assert after.facts["deviation"] == "deviations.toml:7"


def test_a_known_failure_that_no_longer_fails_is_red_at_every_stage(conform, planted, monkeypatch):
    excused(planted, monkeypatch, "numerics", "repeated")

    watch = conform("tiny_classes and fp32 and bs4 and numerics")

    (record,) = [r for r in watch.records if r.metric == "repeated"]
    assert record.outcome == "FAIL"
    assert "deviations.toml:7 no longer occurs, delete the row" in record.text
    assert watch.seen["tiny_classes-fp32-bs4 numerics"] == "FAIL"


def test_a_red_test_tells_the_way_on_in_the_terminal_and_on_record(conform, planted, monkeypatch, tmp_path):
    monkeypatch.setenv("TESTBED", "bf16")
    monkeypatch.setattr("tests.session.called", lambda program, config: program)
    given = (f"--results={tmp_path}", "--device=0")
    watch = conform("tiny_classes and fp32 and bs4 and numerics and not dynamic", more=given)

    record = next(r for r in watch.records if r.outcome == "FAIL")
    case = "tiny_classes-testbed-fp32-bs4"
    (text,) = [text for text in watch.texts if f"FAIL {case} numerics" in text]
    assert record.facts["again"].startswith("python -m pytest 'tests/conformance/test_numerics.py::")
    assert record.facts["diagnose"].startswith(f"chipproof diagnose {case} ")
    assert " --device=0" in record.facts["diagnose"]
    assert record.facts["engine"].endswith(".engine")
    assert record.facts["log"] == str(tmp_path / "logs" / f"{case}.log")
    assert (tmp_path / "logs" / f"{case}.log").exists()
    for name in ("again", "diagnose", "engine", "log", "device", "version"):
        assert record.facts[name] in text, f"{name} is not in\n{text}"


def test_a_step_that_breaks_off_leaves_fact_and_hint_and_the_same_way_on(conform, monkeypatch):
    monkeypatch.setenv("TESTBED", "dies")
    watch = conform("tiny_classes and fp32 and bs4 and numerics", "twice")

    record = next(r for r in watch.records if r.outcome == "ERROR")
    assert record.facts["fact"] == record.text
    assert record.facts["hint"]
    assert record.facts["again"] in watch.texts[0]
    assert record.facts["log"] in watch.texts[0]
    assert "Traceback" not in watch.texts[0]


def test_tb_long_keeps_the_traceback(conform, monkeypatch):
    monkeypatch.setenv("TESTBED", "dies")
    watch = conform("tiny_classes and fp32 and bs4 and numerics", "twice", more=("--tb=long",))

    assert "harness/worker/pipe.py" in watch.texts[0]
    assert "python -m pytest" in watch.texts[0]


def test_the_log_of_an_earlier_worker_is_not_told_as_this_ones(conform, monkeypatch, tmp_path):
    log = tmp_path / "logs" / "tiny_classes-testbed-fp32-bs4.log"
    log.parent.mkdir()
    log.write_text("said yesterday\n")
    monkeypatch.setenv("TESTBED", "says_done")

    watch = conform("tiny_classes and fp32 and bs4 and numerics", cache=tmp_path, more=(f"--results={tmp_path}",))

    assert "said yesterday" not in watch.texts[0]


def test_a_row_that_matches_no_case_is_refused_with_file_and_line(monkeypatch):
    row = Deviation("regnety_016-t5-*", "numerics", "", "renamed", "nowhere", "baselines/deviations.toml", 40)
    table = replace(matrix.published(), deviations=(row,))
    monkeypatch.setattr(matrix.baselines, "load", lambda **options: table)

    with pytest.raises(BaselineError, match=r"baselines/deviations\.toml:40: .* matches no case of the matrix"):
        matrix.published()


def test_a_hang_is_paid_for_once_a_case_and_ended_by_the_limit_that_was_set(conform, monkeypatch):
    monkeypatch.setenv("TESTBED", "hangs:1")
    marks = "tiny_classes and fp32 and bs1 and (numerics or accuracy)"

    watch = conform(marks, more=("--time-limit=run=3",))

    facts = [r.facts["fact"] for r in watch.records if r.outcome == "ERROR"]
    assert len(facts) >= 3
    assert "for more than 3 s" in facts[0]
    assert "--time-limit run=SECONDS" in watch.records[0].facts["hint"]
    assert all(fact.startswith("not tried again, because it failed before") for fact in facts[1:])


def test_a_failed_build_is_tried_once_a_case(conform, monkeypatch, tmp_path):
    built = []
    build = Worker.build

    def counted(worker, onnx, engine, spec):
        built.append(engine)
        return build(worker, onnx, engine, spec)

    monkeypatch.setattr(Worker, "build", counted)
    monkeypatch.setenv("TESTBED", "says_done")
    conform("tiny_classes and fp32 and bs1 and (numerics or accuracy)", "not normalising", cache=tmp_path)

    assert len(built) == 1


@pytest.fixture
def cards(conform, monkeypatch, present, tmp_path):
    """Run throughput on three cards, of which one has a fault: (records by metric, file of the run)."""

    def run(fault, policy=""):
        present.clear()
        monkeypatch.setenv("TESTBED_CARDS", "3")
        monkeypatch.setenv("TESTBED", fault)
        monkeypatch.setenv("TESTBED_DEVICE", "1")
        (tmp_path / "lab.toml").write_text(policy)
        more = ("--all-cards", f"--results={tmp_path}", f"--policy={tmp_path / 'lab.toml'}")
        watch = conform("tiny_classes and fp32 and bs4 and throughput", more=more)
        (path,) = tmp_path.glob("*.jsonl")
        return {r.metric: r for r in watch.records}, path

    yield run
    present.clear()


def test_every_card_is_judged_and_the_slow_one_named(cards, planted):
    found, path = cards("at_60_percent")

    assert {name: record.outcome for name, record in found.items()} == {
        "": "PASS", "card 0": "PASS", "card 1": "FAIL", "card 2": "PASS"
    }  # fmt: skip
    assert "slower than the median of 3 cards" in found["card 1"].text
    assert not any("slower" in record.text for name, record in found.items() if name != "card 1")
    again = [check for check in recompute(read_run(path), path.parent, planted.table) if check.record.metric]
    assert {check.record.metric: check.result for check in again} == {f"card {n}": "same" for n in range(3)}, again


def test_cards_are_measured_once_judged_by_the_labs_floor_and_come_out_again(cards, planted, monkeypatch):
    measured, measure = [], throughput.card_until_decided
    monkeypatch.setattr(throughput, "card_until_decided", lambda *given: measured.append(given) or measure(*given))

    found, path = cards("at_60_percent", '[[bound]]\ncase = "tiny_*"\nreason = "x"\nfloor = 0.4\n')

    assert {record.outcome for record in found.values()} == {"PASS"}, found
    assert len(measured) == 3
    assert all(record.facts["bound_of"] == "lab.toml:1" for record in found.values())
    again = [check for check in recompute(read_run(path), path.parent, planted.table) if check.record.metric]
    assert {check.result for check in again} == {"same"}, again


def test_a_card_whose_outputs_no_other_stage_saw_is_held_against_the_reference(cards):
    found, _ = cards("mean_forgotten")

    assert found["card 1"].outcome == "INVALID"
    assert "wrong outputs" in found["card 1"].text
    assert {found[name].outcome for name in ("", "card 0", "card 2")} == {"PASS"}


def test_a_crash_on_a_card_is_an_error_of_the_case_and_no_verdict_on_a_card(cards):
    found, _ = cards("dies")

    assert found.pop("").outcome == "PASS", "the first card"
    assert [record.outcome for record in found.values()] == ["ERROR"], found
    assert not any(name.startswith("card ") for name in found)


def test_a_device_that_hung_twice_is_reset_where_that_is_asked(conform, monkeypatch, tmp_path):
    monkeypatch.setenv("TESTBED", "hangs")
    monkeypatch.setenv("TESTBED_RESET", str(tmp_path / "reset"))

    more = ("--time-limit=run=2", "--device-reset", f"--results={tmp_path}")
    records = conform("(tiny_classes or tiny_objects) and fp32 and numerics", "outputs_are_those", more=more).records

    assert Counter(r.outcome for r in records) == {"ERROR": 2, "PASS": 2}
    (path,) = tmp_path.glob("*.jsonl")
    (line,) = [line for line in read_run(path).lines if line["kind"] == "reset"]
    assert (line["chip"], line["said"]) == ("testbed", "testbed-smi --reset: OK")


def test_a_reset_that_fails_is_told_with_the_hangs(conform, monkeypatch):
    monkeypatch.setenv("TESTBED", "hangs")

    more = ("--time-limit=run=2", "--device-reset")
    records = conform("(tiny_classes or tiny_objects) and fp32 and numerics", "outputs_are_those", more=more).records

    left_alone = [r.text for r in records if "is not used again" in r.text]
    assert len(left_alone) == 2
    assert all("; it could not be reset: " in text for text in left_alone)


def test_a_device_that_hung_twice_costs_no_third_limit(conform, monkeypatch):
    monkeypatch.setenv("TESTBED", "hangs")

    records = conform("(tiny_classes or tiny_objects) and fp32 and numerics", more=("--time-limit=run=2",)).records

    facts = [r.facts["fact"] for r in records if r.outcome == "ERROR"]
    assert sum("for more than 2 s" in fact and "not tried" not in fact for fact in facts) == 2
    left_alone = [fact for fact in facts if "is not used again: its device hung in" in fact]
    assert left_alone
    assert all("testbed" in fact for fact in left_alone)


def test_a_device_that_hung_twice_as_it_was_given_back_costs_no_third_limit(conform, monkeypatch):
    """No test runs then: the case before is closed."""
    monkeypatch.setenv("TESTBED", "hangs_at_unload")

    more = ("--time-limit=load=2", "--time-limit=close=2")
    marks = "(tiny_classes or tiny_objects) and fp32 and numerics"
    records = conform(marks, "outputs_are_those", more=more).records

    facts = [r.facts["fact"] for r in records if r.outcome == "ERROR"]
    assert sum("hung in unload" in fact and "not tried" not in fact for fact in facts) == 2, facts
    assert len([fact for fact in facts if "is not used again: its device hung in" in fact]) == 2, facts


@pytest.mark.parametrize(("more", "told"), [((), True), (("--tier", "quick"), False)])
def test_an_error_at_fp32_is_told_in_units_unless_there_is_no_time_for_fp64(more, told, conform):
    (record,) = [r for r in conform("tiny_classes and fp32 and bs1 and numerics", more=more).records if not r.metric]

    assert ("units" in record.values) is told


def test_no_bar_stays_after_a_test(conform, monkeypatch):
    cleared = []
    monkeypatch.setattr("harness.report.progress.Shown.clear", lambda self: cleared.append(1))

    tests = len(conform("tiny_classes and fp32 and bs1 and numerics").seen)

    assert len(cleared) >= tests > 0


@pytest.mark.parametrize(("seeded", "outcome"), [(False, "FAIL"), (True, "INCONCLUSIVE")])
def test_the_drop_of_a_seeded_network_at_fp16_is_reported(seeded, outcome, conform, monkeypatch):
    resolved = References.weights
    monkeypatch.setattr(References, "weights", lambda self, model: replace(resolved(self, model), seeded=seeded))
    monkeypatch.setenv("TESTBED", "wrong_sometimes")

    records = conform("tiny_classes and fp16 and bs1 and accuracy").records

    (record,) = [r for r in records if (r.stage, r.metric) == ("accuracy", "top1")]
    assert record.outcome == outcome, record.text
    assert ("reported, not judged" in record.text) is seeded
