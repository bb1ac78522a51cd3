"""What cannot be computed again is said with its reason, never taken for the same."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from made_runs import timed

from harness.baselines import Deviation, load
from harness.case import Case
from harness.errors import DataError
from harness.judge.accuracy import judge_agreement, tail_of
from harness.judge.timing import Timing, Window
from harness.metrics.base import Score
from harness.report.recompute import _Evidence, recompute, refuse_unknown
from harness.report.records import Record, Run
from harness.report.samples import measurement_of, of_measurement, write_answers
from harness.report.speeds import best_of, best_sound, by_batch, judge_against, judge_latencies
from harness.run.windows import Measurement, judged, speed_of
from harness.vocabulary import Outcome

CASE = Case.parse("regnety_016-cpu-fp32-bs1")
CASE_FP16 = Case.parse("regnety_016-t4-fp16-bs1")
OWN_FP16 = Case.parse("own_tiny-t4-fp16-bs1")
TABLE = SimpleNamespace(digest="t")


def check(tmp_path, record):
    (found,) = recompute(Run({"baselines": "t"}, (record,), {}), tmp_path, TABLE)
    return found.result, found.why


def test_a_record_without_its_evidence_is_not_recomputed(tmp_path):
    told = {
        "throughput": "its windows are not kept", "accuracy": "its answers are not kept",
        "export": "it compares outputs, which are not kept", "targets": "no throughput of it was measured in this run",
    }  # fmt: skip
    for stage, why in told.items():
        assert check(tmp_path, Record(CASE, stage, "PASS", "fine")) == ("not recomputed", why)


def test_what_cannot_be_computed_with_does_not_come_out(tmp_path):
    sound = {"cosine": 1.0, "largest": 0.0, "rms": 0.0}
    for facts in ({"first": "GOOD"}, {"loss": {"cosine": "x"}}, {"tolerance": 5, "bound_of": "lab"}):
        assert check(tmp_path, Record(CASE, "numerics", "PASS", "fine", values=sound, facts=facts))[0] == "differs"
    ruined = Record(CASE, "accuracy", "PASS", "fine", "tail", {"ruined": 10**400, "images": 1})
    assert check(tmp_path, ruined)[0] == "differs"

    windows = tuple(Window(n, n + 1.0, 10) for n in range(20))
    line = of_measurement(CASE, Measurement(((Timing((), windows, ()),),), (), 1, (), ()), 1.0)
    line["effort"]["sessions"] = 10**12
    fine = Record(CASE, "throughput", "PASS", "fine", values={"measured": 10.0})
    (found,) = recompute(Run({"baselines": "t"}, (fine,), {}, (line,)), tmp_path, TABLE)
    assert (found.result, "sessions" in found.why) == ("differs", True)


@pytest.mark.parametrize(
    ("metric", "rms", "asked", "result"),
    [
        ("rows", 0.01, 0.005, "differs"),  # of rows, what was asked is on record
        ("rows", 0.004, 0.005, "same"),
        ("rows", 0.03, 0.04, "differs"),  # and it is never more than the table allows
        ("", 0.01, 0.005, "same"),
    ],
)
def test_rows_are_held_again_against_what_was_asked_of_them(tmp_path, metric, rms, asked, result):
    facts = {"tolerance": {"cosine": 0.999, "largest": 0.05, "rms": asked}}
    values = {"cosine": 1.0, "largest": 0.0, "rms": rms}

    record = Record(CASE_FP16, "numerics", "PASS", "", metric, values, facts=facts)

    table = load()
    (found,) = recompute(Run({"baselines": table.digest}, (record,), {}), tmp_path, table)

    assert found.result == result, found.why


@pytest.mark.parametrize(
    ("figure", "value", "bound", "result"),
    [
        ("largest", 0.04, 0.05, "same"), ("largest", 0.04, 0.03, "differs"), ("largest", 0.06, 0.07, "differs"),
        ("cosine", 0.9995, 0.9991, "same"), ("cosine", 0.9995, 0.9999, "differs"), ("cosine", 0.99, 0.9, "differs"),
    ],
)  # fmt: skip
def test_of_rows_each_figure_has_the_tighter_of_two_bounds(tmp_path, figure, value, bound, result):
    table = load()
    facts = {"tolerance": {"cosine": 0.99, "largest": 0.9, "rms": 0.9, figure: bound}}
    values = {"cosine": 1.0, "largest": 0.0, "rms": 0.0, figure: value}

    record = Record(CASE_FP16, "numerics", "PASS", "", "rows", values, facts=facts)
    (found,) = recompute(Run({"baselines": table.digest}, (record,), {}), tmp_path, table)

    assert found.result == result, found.why


def windows_of(rate, **more):
    windows = tuple(Window(n, n + 1.0, rate) for n in range(20))
    return {**of_measurement(CASE, Measurement(((Timing((), windows, ()),),), (), 1, (), ()), None), **more}


def test_a_throughput_is_that_of_its_first_measurement_and_other_lines_are_no_windows(tmp_path):
    record = Record(CASE, "throughput", "INCONCLUSIVE", "", values={"measured": 10.0}, marks=("simulated",))
    lines = (windows_of(10), windows_of(20, again=True), {"kind": "answers", "case": str(CASE)})

    (found,) = recompute(Run({}, (record,), {}, lines), tmp_path, TABLE)

    assert found.result == "same"


@pytest.mark.parametrize(("figure", "result"), [
    ("measured", "same"), ("card_measured", "same"), ("floor", "not recomputed"),
])  # fmt: skip
def test_a_throughput_that_was_not_measured_to_its_end_is_not_recomputed(figure, result, tmp_path):
    record = Record(CASE, "throughput", "INVALID", "", values={figure: 10.0}, marks=("simulated",))
    (found,) = recompute(Run({}, (record,), {}, (windows_of(10),)), tmp_path, TABLE)

    assert found.result == result
    assert (result == "same") or found.why == "INVALID: it was not measured to its end"


@pytest.mark.parametrize(("measured", "result"), [(0.7790, "same"), (0.5, "differs"), (None, "not recomputed")])
def test_an_accuracy_is_held_against_the_published_one_again(measured, result, tmp_path):
    table = load()
    record = Record(CASE, "published", "PASS", "", "top1", values={"measured": measured})

    (found,) = recompute(Run({"baselines": table.digest}, (record,), {}), tmp_path, table)

    assert found.result == result
    assert result != "not recomputed" or found.why == "nothing was measured"


def test_runs_without_a_record_cannot_be_verified():
    empty, judged = Run({}, (), {}), Run({}, (Record(CASE, "numerics", "PASS", ""),), {})

    refuse_unknown({"a.jsonl": empty, "b.jsonl": judged})
    with pytest.raises(DataError, match=r"a\.jsonl holds no record"):
        refuse_unknown({"a.jsonl": empty, "b.jsonl": empty})


def test_a_figure_that_was_taken_away_does_not_come_out(tmp_path):
    windows = tuple(Window(n, n + 1.0, 10) for n in range(20))
    line = of_measurement(CASE, Measurement(((Timing((), windows, ()),),), (), 1, (), ()), None)

    def told(**values):
        record = Record(CASE, "throughput", "INCONCLUSIVE", "", values=values, marks=("simulated",))
        return recompute(Run({}, (record,), {}, (line,)), tmp_path, TABLE)[0].result

    assert told(measured=10.0) == "same"
    assert told(measured=None) == told(measured=11.0) == "differs"


@pytest.mark.parametrize(("of", "marks", "facts", "told"), [
    (CASE_FP16, (), {}, {"INVALID": "same", "PASS": "differs"}),
    (CASE_FP16, ("simulated",), {}, {"INVALID": "same", "PASS": "same"}),
    (OWN_FP16, (), {"onnx_digest": "d"}, {"INVALID": "same", "PASS": "same"}),
])  # fmt: skip
def test_outputs_that_are_too_exact_are_invalid_again(of, marks, facts, told, tmp_path):
    values = {"cosine": 1.0, "largest": 1e-5, "rms": 1e-5, "units": 1e-3, "arithmetic_rms": 1e-2}
    table = SimpleNamespace(digest="t", deviation=lambda *case: None)

    def found(outcome, **more):
        record = Record(of, "numerics", outcome, "", values={**values, **more}, marks=marks, facts=facts)
        return recompute(Run({"baselines": "t"}, (record,), {}), tmp_path, table)[0].result

    assert {outcome: found(outcome) for outcome in told} == told
    assert found("INVALID", arithmetic_rms=1e-5, units=1.0) == "differs"
    assert found("INVALID", units=2e-3) == "differs"


@pytest.mark.parametrize("first", ["FAIL", "PASS"])
def test_what_the_figures_gave_comes_before_what_the_policy_and_a_second_measurement_made_of_it(first, tmp_path):
    """FAIL at first, PASS when it was measured again: INVALID, which the lab's policy expects."""
    values = {"cosine": 0.5, "largest": 1e-6, "rms": 1e-6}
    facts = {"first": first, "without_policy": "INVALID"}

    found = check(tmp_path, Record(CASE, "numerics", "PASS", "x", values=values, marks=("simulated",), facts=facts))

    assert found[0] == ("same" if first == "FAIL" else "differs")


@pytest.mark.parametrize(("facts", "result"), [({"bound_of": "lab.toml:3"}, "same"), ({}, "differs")])
def test_an_accuracy_is_judged_again_by_the_bound_of_the_lab(facts, result, tmp_path):
    """3 % were lost, and the lab allows 5 %."""
    reference, chip = np.arange(1000) < 900, np.arange(1000) < 873
    found = [{"logits": np.zeros(4, np.float32)}] * 1000
    run = SimpleNamespace(case=CASE, task="classes", found=found, chip=scored(chip), reference=scored(reference))
    line = write_answers(tmp_path / "run", "case", "", run)
    verdict = judge_agreement(scored(chip), scored(reference), "top1", 0.05)
    values = {name: value for name, value in verdict.details.items() if isinstance(value, float | int)}
    record = Record(CASE, "accuracy", "PASS", "fine", "top1", values, ("simulated",), facts)

    (again,) = recompute(Run({"baselines": "t"}, (record,), {}, (line,)), tmp_path, TABLE)

    assert (verdict.outcome, again.result) == ("PASS", result), again.why


@pytest.mark.parametrize("alone", [True, False])
def test_whether_an_engine_is_launched_alone_is_kept(alone):
    """Rate and latency may disagree by less there."""
    run = Measurement(((Timing((), (Window(0, 1, 10),), ()),),), (), 1, (), (), launched_alone=alone)

    assert measurement_of(of_measurement(CASE, run, None)).launched_alone is alone


@pytest.mark.parametrize(("marks", "outcome"), [(("simulated",), "FAIL"), (("simulated", "seeded"), "INCONCLUSIVE")])
def test_what_reduced_precision_costs_a_seeded_network_is_reported_again(marks, outcome, tmp_path):
    reference, chip = np.arange(1000) < 900, np.arange(1000) < 800
    found = [{"logits": np.zeros(4, np.float32)}] * 1000
    run = SimpleNamespace(case=CASE_FP16, task="classes", found=found, chip=scored(chip), reference=scored(reference))
    line = write_answers(tmp_path / "run", "case", "", run)
    verdict = judge_agreement(scored(chip), scored(reference), "top1")
    values = {name: value for name, value in verdict.details.items() if isinstance(value, float | int)}

    for told in ("FAIL", "INCONCLUSIVE"):
        record = Record(CASE_FP16, "accuracy", told, "", "top1", values, marks)
        (again,) = recompute(Run({"baselines": "t"}, (record,), {}, (line,)), tmp_path, TABLE)
        assert again.result == ("same" if told == outcome else "differs"), again.why


@pytest.mark.parametrize(("of", "why"), [
    ("regnety_016-t4-fp16-bs1", "the published figures are not those that it was judged by"), (str(CASE), ""),
])  # fmt: skip
def test_a_throughput_is_judged_again_by_the_table_that_judged_it(of, why, tmp_path):
    windows = tuple(Window(n, n + 1.0, 10) for n in range(20))
    run = Measurement(((Timing((), windows, ()),),), (), 1, (), ())
    line = of_measurement(Case.parse(of), run, None)
    record = Record(Case.parse(of), "throughput", "INCONCLUSIVE", "", values={"measured": 10.0})

    (found,) = recompute(Run({"baselines": "another"}, (record,), {}, (line,)), tmp_path, load())

    assert (found.result, found.why) == ("not recomputed", why) if why else found.result == "same"


@pytest.mark.parametrize(
    ("digest", "facts", "results"),
    [
        ("t", {}, ("differs", "same")),  # a known failure that no longer occurs is a FAIL
        ("t", {"deviation": "x.toml:1"}, ("differs", "same")),
        ("another", {}, ("same", "differs")),
        ("another", {"deviation": "x.toml:1"}, ("not recomputed", "not recomputed")),
    ],
)
def test_known_failures_are_applied_again_where_they_are_those_of_the_run(digest, facts, results, tmp_path):
    known = Deviation("*", "numerics", "", "example", "here", "x.toml", 1)
    table = SimpleNamespace(digest="t", deviation=lambda *asked: known if asked == (CASE, "numerics", "") else None)
    sound = {"cosine": 1.0, "largest": 0.0, "rms": 0.0}

    for told, result in zip(("PASS", "FAIL"), results, strict=True):
        record = Record(CASE, "numerics", told, "", values=sound, facts=facts)
        (found,) = recompute(Run({"baselines": digest}, (record,), {}), tmp_path, table)
        assert found.result == result, (told, found.why)


@pytest.mark.parametrize(("lost", "outcome"), [(1, "PASS"), (6, "FAIL")])
def test_ruined_images_are_counted_again_in_the_answers_that_are_kept(lost, outcome, monkeypatch):
    """Of 12, some have the reference's class at the sixth place."""
    right, wrong = ({"logits": np.array(row, np.float32)} for row in ([9, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6]))
    kept = SimpleNamespace(task="classes", found=[wrong] * lost + [right] * (12 - lost), wanted=[right] * 12)
    monkeypatch.setattr(_Evidence, "kept", lambda self, case, suffix="": ({}, kept))

    for number, result in ((lost, "same"), (lost - 1, "differs")):
        told = tail_of(number, 12, CASE.precision).details
        values = {name: value for name, value in told.items() if isinstance(value, float | int)}
        assert check(Path(), Record(CASE, "accuracy", outcome, "", "tail", values, ("simulated",)))[0] == result


@pytest.mark.parametrize("there", [True, False])
def test_a_metric_that_is_no_share_of_right_answers_is_computed_again_from_the_answers(there, monkeypatch):
    def means(value):
        rows = value + 0.01 * (-1.0) ** np.arange(60)
        return Score(
            {"ap": value}, 60, lambda weights: {"ap": float(weights @ rows / weights.sum())}, answers={"ap": 900}
        )

    kept = SimpleNamespace(chip=means(0.9), reference=means(0.9))
    monkeypatch.setattr(_Evidence, "kept", lambda self, case, suffix="": ({}, kept if there else None))
    verdict = judge_agreement(kept.chip, kept.reference, "ap")
    values = {name: value for name, value in verdict.details.items() if isinstance(value, float | int)}

    found = check(Path(), Record(CASE, "accuracy", "PASS", "", "ap", values, ("simulated",)))

    assert found[0] == ("same" if there else "not recomputed")
    assert there or "the answers of the reference are not kept" in found[1]


def test_a_known_failure_of_a_published_accuracy_is_found_by_case_stage_and_metric(tmp_path):
    asked = []
    table = SimpleNamespace(
        digest="t", source=lambda model, metric: None, cell=lambda case, metric: replace(figure, value=0.7),
        deviation=lambda *what: asked.append(what),
    )  # fmt: skip
    figure = load().best("regnety_016", "t4")

    record = Record(CASE, "published", "PASS", "", "top1", {"measured": 0.7})
    (found,) = recompute(Run({"baselines": "t"}, (record,), {}), tmp_path, table)

    assert (found.result, asked) == ("same", [(CASE, "published", "top1")])


def test_errors_that_are_infinite_are_told_as_none_and_judged_again(tmp_path):
    """Of a reference of zeros."""
    values = {"cosine": 0.0, "largest": None, "rms": None}

    for told, result in (("FAIL", "same"), ("PASS", "differs")):
        assert check(tmp_path, Record(CASE, "numerics", told, "", values=values, marks=("simulated",)))[0] == result


def test_no_ruined_image_is_none_again(tmp_path):
    told = tail_of(0, 300, CASE.precision).details
    values = {name: value for name, value in told.items() if isinstance(value, float | int)}
    record = Record(CASE, "accuracy", "PASS", "fine", "tail", values, ("simulated",))

    assert check(tmp_path, record)[0] == "same"


@pytest.mark.parametrize(("slack", "result"), [(0.0, "differs"), (0.05, "same")])
def test_a_lab_may_allow_no_drop_at_all(slack, result, tmp_path):
    hits = np.arange(1000) < 900
    found = [{"logits": np.zeros(4, np.float32)}] * 1000
    run = SimpleNamespace(case=CASE, task="classes", found=found, chip=scored(hits), reference=scored(hits))
    line = write_answers(tmp_path / "run", "case", "", run)
    record = Record(CASE, "accuracy", "PASS", "", "top1", {"slack": slack}, ("simulated",), {"bound_of": "lab.toml:3"})

    (again,) = recompute(Run({"baselines": "t"}, (record,), {}, (line,)), tmp_path, TABLE)

    assert again.result == result, again.why


def scored(hits):
    return Score({"top1": float(np.mean(hits))}, len(hits), lambda weights: {}, {"top1": np.array(hits)})


@pytest.mark.parametrize(("stage", "metric", "values", "outcome"), [
    ("export", "", {"differing": 0}, "PASS"), ("protocol", "", {"differing": 2}, "FAIL"),
    ("numerics", "repeated", {"differing": 1}, "FAIL"), ("accuracy", "last batch", {"differing": 0}, "PASS"),
    ("accuracy", "devices", {"asked_twice": 64}, "PASS"), ("accuracy", "devices", {"differing": 1}, "FAIL"),
    ("accuracy", "first batch", {"drift": 1e-4}, "PASS"), ("accuracy", "first batch", {"drift": 0.1}, "FAIL"),
])  # fmt: skip
def test_what_was_compared_at_hand_comes_out_by_its_own_count(stage, metric, values, outcome, tmp_path):
    def result(told):
        return check(tmp_path, Record(CASE, stage, told, "", metric, values, ("simulated",)))[0]

    other = {"PASS": "FAIL", "FAIL": "PASS"}[outcome]
    assert (result(outcome), result(other)) == ("same", "differs")


LINEUP = Case.parse("regnety_016-ascend310p-fp16-bs1")


def targets(records, record, table=None, digest=None):
    """What came of a record of the stage "targets" of a run with those throughputs."""
    table = table or load()
    run = Run({"baselines": digest or table.digest}, (*records, record), {})
    found = recompute(run, Path(), table)[-1]
    return found.result, found.why


def speeds(*rates, chip="ascend310p"):
    return [
        replace(timed(Case.parse(f"regnety_016-{chip}-fp16-bs{batch}"), rate), marks=())
        for batch, rate in zip((1, 4, 8), rates, strict=False)
    ]


def judged_targets(mine, other):
    """The record of a ratio as the run wrote it."""
    (target,) = (row for row in load().targets("ascend310p") if row.other == "ascend310")
    best = best_sound(by_batch(mine, LINEUP))
    verdict = judge_against(best, best_of(other, LINEUP, "ascend310"), target, LINEUP.model, load())
    values = {name: value for name, value in verdict.details.items() if isinstance(value, float)}
    facts = {name: value for name, value in verdict.details.items() if isinstance(value, str)}
    return Record(LINEUP, "targets", verdict.outcome, verdict.text, "ascend310", values, (), facts)


@pytest.mark.parametrize("measured", [True, False])
def test_a_ratio_to_another_chip_is_computed_again_from_the_throughputs(measured):
    mine = speeds(1500.0, 3900.0, 3000.0)
    record = judged_targets(mine, speeds(900.0, 1000.0, chip="ascend310") if measured else [])

    assert (record.facts["against"] == "measured") == measured
    assert targets(mine, record)[0] == "same"
    assert targets(speeds(1500.0, 900.0), record)[0] == "differs"
    assert (
        targets(mine, replace(record, outcome=Outcome.FAIL if record.outcome is Outcome.PASS else Outcome.PASS))[0]
        == "differs"
    )
    assert targets(mine, record, digest="another") == (
        "not recomputed", "the published figures are not those that it was judged by"
    )  # fmt: skip
    assert targets([], record) == ("not recomputed", "no throughput of it was measured in this run")
    if measured:
        bare = replace(record, values={**record.values, "other_low": None})
        assert targets(mine, bare) == ("not recomputed", "the figure of the other chip has no interval on record")


def test_latencies_of_batches_are_judged_again():
    mine = speeds(1500.0, 3900.0, 4200.0)
    verdict = judge_latencies(by_batch(mine, LINEUP), LINEUP)
    record = Record(LINEUP, "targets", verdict.outcome, verdict.text, "latency", {"slope": verdict.details["slope"]})

    assert targets(mine, record)[0] == "same"
    assert targets(speeds(1500.0, 3900.0, 5200.0), record)[0] == "differs"


def test_an_error_has_no_figure(tmp_path):
    assert check(tmp_path, Record(CASE, "numerics", "ERROR", "died"))[0] == "not recomputed"


def test_ruined_images_are_counted_again_and_comparisons_of_outputs_are_not():
    def record(metric, outcome, **values):
        return SimpleNamespace(
            case=Case.parse("regnety_016-cpu-fp32-bs1"), stage="accuracy", metric=metric, outcome=Outcome(outcome),
            values=values, facts={}, marks=(), text="",
        )  # fmt: skip

    records = [
        record("tail", "PASS", ruined=1, images=12), record("tail", "PASS", ruined=6, images=12),
        record("devices", "PASS"), record("last batch", "PASS"), record("first batch", "PASS"),
    ]  # fmt: skip
    table = SimpleNamespace(digest="", deviation=lambda *case: None)

    checks = recompute(SimpleNamespace(records=records, lines=[], header={}), None, table)

    assert [check.result for check in checks] == ["same", "differs", *["not recomputed"] * 3]
    assert "FAIL instead of PASS" in checks[1].why


def test_a_tail_is_judged_again_at_the_level_of_its_look():
    def record(look):
        values = {"ruined": 13, "images": 512, "look": look, "images_of": 5000}
        return SimpleNamespace(
            case=Case.parse("regnety_016-cpu-fp32-bs1"), stage="accuracy", metric="tail", outcome=Outcome.FAIL,
            values=values, facts={}, marks=(), text="",
        )  # fmt: skip

    table = SimpleNamespace(digest="", deviation=lambda *case: None)
    checks = recompute(SimpleNamespace(records=[record(1), record(2)], lines=[], header={}), None, table)

    assert [check.result for check in checks] == ["same", "differs"]


def test_a_tail_that_was_not_measured_is_not_recomputed(tmp_path):
    assert check(tmp_path, Record(CASE, "accuracy", "INVALID", "busy", "tail")) == (
        "not recomputed", "nothing was measured"
    )  # fmt: skip


def test_a_ratio_that_was_only_told_is_computed_again_too(tmp_path):
    def windows(rate):
        return tuple(Window(n, n + 1.0, rate) for n in range(20))

    run = Measurement(((Timing((), windows(10), ()),),), windows(5), 1, (), (), beside={"ONNX Runtime": windows(8)})
    verdict, table = judged(run, speed_of(run, 1), 1, None, 1.0), SimpleNamespace(digest="t", cell=lambda *case: None)
    table.deviation = lambda *case: None
    line = of_measurement(CASE, run, 1.0)
    figures = {name: value for name, value in verdict.details.items() if isinstance(value, float)}

    def told(**more):
        record = Record(CASE, "throughput", verdict.outcome, "", values={**figures, **more})
        return recompute(Run({"baselines": "t"}, (record,), {}, lines=(line,)), tmp_path, table)[0]

    assert told().result == "same"
    assert told(onnx_runtime_ratio=1.5).why == "onnx_runtime_ratio 1.25 instead of 1.5"


OWN = Case.parse("own_tiny-cpu-fp32-bs1")


def test_the_throughput_of_a_model_of_ones_own_is_computed_without_a_bound(tmp_path):
    run = Measurement(((Timing((), tuple(Window(n, n + 1.0, 10) for n in range(20)), ()),),), (), 1, (), ())
    speed = speed_of(run, 1)
    figures = {"measured": speed.value, "low": speed.low, "high": speed.high}
    line = {**of_measurement(OWN, run, None), "again": False}

    def told(outcome, **more):
        record = Record(OWN, "throughput", outcome, "", values={**figures, **more}, facts={"onnx_digest": "d"})
        table = SimpleNamespace(digest="t", cell=lambda *case: None)
        (found,) = recompute(Run({"baselines": "t"}, (record,), {}, lines=(line,)), tmp_path, table)
        return found.result

    assert told("PASS") == "same"
    assert told("PASS", measured=11.0) == "differs"


def test_whole_numbers_of_a_model_of_ones_own_are_not_kept(tmp_path):
    values = {"cosine": 1.0, "largest": 0.0, "rms": 0.0}
    record = Record(OWN, "numerics", "FAIL", "labels differ", values=values, facts={"onnx_digest": "d"})

    assert check(tmp_path, record) == ("not recomputed", "outputs of whole numbers differ, which are not kept")
