"""A lab's policy at work: on a chip with a planted fault."""

import pytest

from harness.report.ci import Status

FAULTY = "tiny_classes and fp32 and bs4 and numerics and not dynamic"


def rows(kind, **more):
    given = {"case": "tiny_classes-testbed-*", "stage": "numerics", "reason": "known", **more}
    lines = [f"{name} = {value if isinstance(value, int | float) else repr(value)}" for name, value in given.items()]
    return "\n".join([f"[[{kind}]]", *lines, ""])


@pytest.fixture
def judged(conform, monkeypatch, tmp_path):
    """(outcomes on record, exit status, texts) of a run under a policy."""

    def run(text, fault="", marks=FAULTY):
        monkeypatch.setenv("TESTBED", fault)
        (tmp_path / "lab.toml").write_text(text)
        watch = conform(marks, more=("--policy", str(tmp_path / "lab.toml")))
        return {r.metric: r.outcome.value for r in watch.records}, watch.status, watch.records

    return run


def test_without_a_row_it_fails(judged):
    outcomes, status, _ = judged("decided = 0.1", "mean_forgotten")

    assert outcomes[""] == "FAIL"
    assert status == Status.WRONG


def test_what_is_expected_is_green_and_not_measured_twice(judged):
    outcomes, status, records = judged(rows("expect"), "mean_forgotten")

    assert set(outcomes.values()) == {"PASS"}, records
    assert status == Status.GOOD
    (record,) = [r for r in records if r.metric == ""]
    assert record.text.startswith("expected by lab.toml:1 (known; ): FAIL: ")
    assert "second" not in record.facts


def test_what_is_expected_and_no_longer_occurs_is_red(judged):
    outcomes, status, _ = judged(rows("expect"))

    assert outcomes[""] == "FAIL"
    assert status == Status.WRONG


def test_what_is_observed_is_told_and_does_not_decide(judged):
    outcomes, status, records = judged(rows("observe"), "mean_forgotten")

    assert outcomes[""] == "FAIL"
    assert status == Status.GOOD
    assert all("observed" in r.marks for r in records if r.outcome.red)


def test_an_error_can_be_expected_and_observed(judged):
    expected = rows("expect", outcome="ERROR", stage="*")

    outcomes, status, _ = judged(expected, "dies")
    assert status == Status.GOOD
    assert set(outcomes.values()) == {"PASS"}

    outcomes, status, _ = judged(rows("observe", stage="*"), "dies")
    assert status == Status.GOOD
    assert set(outcomes.values()) == {"ERROR"}


@pytest.mark.parametrize(("figure", "most", "status"), [
    ("rms", 1e-12, Status.WRONG), ("rms", 1.0, Status.GOOD), ("worker_peak_mb", 1, Status.WRONG),
    ("engine_mb", 100, Status.GOOD), ("build_s", 600, Status.GOOD), ("rsm", 1.0, Status.UNDECIDED),
    ("device_peak_mb", 47, Status.WRONG), ("device_peak_mb", 49, Status.GOOD),
])  # fmt: skip
def test_a_figure_is_gated(figure, most, status, judged):
    assert judged(rows("gate", figure=figure, most=most))[1] == status


def test_too_few_decided_verdicts_are_no_success(judged):
    throughput = "tiny_classes and fp16 and bs1 and throughput"

    assert judged("decided = 1.0", marks=throughput)[1] == Status.UNDECIDED


@pytest.mark.parametrize(("bound", "outcome"), [({"rms": 0.1, "largest": 0.1, "cosine": 0.99}, "PASS"), ({}, "FAIL")])
def test_a_lab_may_ask_less_of_numerics_and_every_record_says_so(bound, outcome, judged):
    given = {"case": "tiny_classes-testbed-*", "reason": "our resize", **bound}
    lines = [f"{name} = {value if isinstance(value, float) else repr(value)}" for name, value in given.items()]
    outcomes, _, records = judged("\n".join(["[[bound]]", *lines, ""]) if bound else "", "leaks_into_the_next_row")

    assert outcomes[""] == outcome
    (record,) = [r for r in records if r.metric == ""]
    assert ("bound of lab.toml:1" in record.text) is bool(bound)
    assert record.facts.get("bound_of") == ("lab.toml:1" if bound else None)


@pytest.mark.parametrize(("floor", "outcome"), [(0.5, "PASS"), (1.6, "FAIL")])
def test_a_lab_may_ask_another_share_of_the_published_throughput(floor, outcome, judged):
    text = f'[[bound]]\ncase = "tiny_classes-testbed-*"\nreason = "x"\nfloor = {floor}\n'
    outcomes, _, records = judged(text, marks="tiny_classes and fp32 and bs4 and throughput")

    assert outcomes == {"": outcome}, records
    assert records[0].values["floor"] == floor
    assert records[0].values["device_peak_mb"] == 48


@pytest.mark.parametrize(("drop", "outcome"), [("drop = 0.3", "PASS"), ("rms = 0.1", "FAIL")])
def test_a_lab_may_allow_another_drop_of_accuracy(drop, outcome, judged):
    text = f'[[bound]]\ncase = "tiny_classes-testbed-*"\nreason = "x"\n{drop}\n'
    _, _, records = judged(text, "wrong_sometimes", "tiny_classes and fp32 and bs4 and accuracy")

    (record,) = [r for r in records if (r.stage, r.metric) == ("accuracy", "top1")]
    assert record.outcome == outcome, record.text


def test_a_chip_has_its_own_variables_and_they_stand_in_its_records(judged):
    text = '[environment.testbed]\nTESTBED = "mean_forgotten"\n'
    outcomes, _, records = judged(text, "none", "tiny_classes and fp32 and bs1 and numerics")

    assert outcomes[""] == "FAIL", "the backend has read it"
    assert {str(r.facts["environment"]) for r in records} == {"{'TESTBED': 'mean_forgotten'}"}


def test_a_limit_of_a_chip_ends_its_hang(judged):
    text = "[limits]\nrun = 600\n[limits.testbed]\nrun = 1\n"
    outcomes, _, records = judged(text, "hangs", "tiny_classes and fp32 and bs1 and numerics")

    assert set(outcomes.values()) == {"ERROR"}
    assert "for more than 1 s" in records[0].text
