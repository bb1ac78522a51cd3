"""A gate reads what is wrong from the exit status, and CI systems are told in their own forms."""

import csv
import io
import itertools
import re
from dataclasses import replace

import pytest
from made_runs import ALL, HEADER, run_of, timed, whole_matrix

from harness.case import Case
from harness.report import ci
from harness.report.ci import Status
from harness.report.records import Record, required

CASE = Case.parse("regnety_016-ascend310p-fp16-bs16")
OTHER = Case.parse("regnety_016-t4-fp16-bs16")


def records(*outcomes, case=CASE):
    return [Record(case, "numerics", outcome, "x", str(i)) for i, outcome in enumerate(outcomes)]


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (["PASS"], Status.GOOD),
        (["PASS", "INCONCLUSIVE", "SKIP"], Status.GOOD),
        (["SKIP"], Status.GOOD),
        ([], Status.GOOD),
        (["PASS", "FAIL"], Status.WRONG),
        (["ERROR", "INVALID", "FAIL"], Status.WRONG),
        (["PASS", "INVALID"], Status.UNTRUSTED),
        (["ERROR", "INVALID"], Status.LABORATORY),
    ],
)
def test_the_status_is_that_of_the_worst(outcomes, expected):
    for order in itertools.permutations(outcomes):
        assert ci.status(records(*order)) is expected


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], Status.LABORATORY),
        (["SKIP"], Status.LABORATORY),
        (["INCONCLUSIVE"], Status.UNDECIDED),
        (["PASS"], Status.GOOD),
    ],
)
def test_of_a_required_chip_something_must_have_been_decided(outcomes, expected):
    elsewhere = records("PASS", case=OTHER)

    assert ci.status([*elsewhere, *records(*outcomes)], ["ascend310p"]) is expected
    assert ci.status([*elsewhere, *records(*outcomes)], ["ascend310p", "t4"]) is expected


def test_a_chip_whose_name_begins_alike_is_not_the_required_one():
    assert ci.status(records("PASS"), ["ascend310"]) is Status.LABORATORY
    assert ci.idle(records("PASS"), ["ascend310", "ascend310p"]) == ["ascend310"]


@pytest.mark.parametrize("outcome", ["FAIL", "INVALID", "ERROR"])
@pytest.mark.parametrize("marks", [("observed",), ("scenes",)])
def test_what_a_policy_only_observes_does_not_decide(marks, outcome):
    told = [replace(record, marks=marks) for record in records(outcome)]

    assert (ci.status([*told, *records("PASS", case=OTHER)]) is Status.GOOD) == ("observed" in marks)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [("PASS", Status.LABORATORY), ("INCONCLUSIVE", Status.LABORATORY), ("INVALID", Status.LABORATORY),
     ("FAIL", Status.WRONG)],
)  # fmt: skip
def test_a_run_that_did_not_come_to_its_end_is_not_good(outcome, expected):
    why = "CUT OFF after line 9"
    run = run_of(records(outcome))
    told = ci.markdown(replace(run, footer={**run.footer, "stopped": why}))

    assert ci.status(records(outcome), stopped=why) is expected
    assert ci.MEANINGS[Status.GOOD] not in told
    assert why in told
    assert (ci.UNENDED in told) == (outcome in ("PASS", "INCONCLUSIVE"))


def test_one_real_verdict_beside_simulated_ones_is_no_simulation():
    simulated = [replace(record, marks=("simulated",)) for record in records("PASS", case=OTHER)]

    assert ci.conclusion(simulated) == ci.SIMULATED
    assert ci.conclusion([*simulated, *records("PASS")]) == ci.MEANINGS[Status.GOOD]


def test_records_that_cannot_be_written_are_the_laboratorys_fault():
    assert ci.status(records("PASS"), unwritten=True) is Status.LABORATORY


def test_every_status_differs_from_pytests_own_and_has_a_meaning():
    own = {int(status) for status in pytest.ExitCode} - {0, 1}

    assert own.isdisjoint(set(map(int, Status)))
    assert set(ci.MEANINGS) == set(Status)


def test_the_required_chips_are_read_from_a_header():
    assert required({"require": "['cpu', 't4']"}) == ["cpu", "t4"]
    assert required({"require": "[]"}) == required({}) == required({"require": "broken ["}) == []
    assert required({"require": "-" * 100_000 + "1"}) == []


def test_markdown_holds_every_figure_its_failures_and_escapes_what_it_is_given():
    failed = Record(CASE, "numerics", "FAIL", "<b>|x|", facts={"next": "look at it"})
    told = ci.markdown(run_of([timed(CASE, 100.0), failed, Record(OTHER, "export", "SKIP", "no t4")]))

    for part in ("100.00", "99.00..101.00", "no t4", "next: look at it", "again: `pytest -m"):
        assert part in told, part
    assert "\\|x\\|" in told
    assert "<b>" not in told


def test_nothing_that_a_run_says_is_markup_in_its_markdown():
    bad = "<b>`` [a](javascript:1)"
    red = Record(CASE, "numerics", "FAIL", bad, bad, marks=(bad,), facts={"next": bad, "again": bad})
    run = run_of([red])

    told = ci.markdown(replace(run, footer={**run.footer, "stopped": bad}))

    plain = re.sub(r"(`+) .*? \1(?!`)", "", told)  # code, in a fence that is longer than any in it
    assert "``` <b>`` [a](javascript:1) ```" in told
    assert "<b>" not in plain.lower()
    assert "[a](" not in plain.lower()


def test_the_job_summary_is_added_to_and_annotations_name_the_cause(tmp_path):
    place = tmp_path / "summary.md"
    place.write_text("before\n")
    environment = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(place)}

    lines = ci.github(run_of(whole_matrix()), environment)

    assert place.read_text().startswith(f"before\n# chipproof: ran {ALL} of {ALL} cases")
    assert [line.split()[1] for line in lines] == ["title=FAIL", "title=FAIL", "title=ERROR"]
    assert all("%0Aagain: pytest -m" in line and "\n" not in line for line in lines)


def test_a_summary_stays_below_what_github_takes(tmp_path):
    place = tmp_path / "summary.md"
    place.write_text("x" * 1_000_000)
    ci.github(run_of(whole_matrix()), {"GITHUB_STEP_SUMMARY": str(place)})

    assert 1_000_000 < place.stat().st_size <= ci.SUMMARY


def test_there_are_ten_annotations_at_most_and_they_cannot_be_forged():
    evil = [Record(CASE, "numerics", "ERROR", f"100 %\n::error::{word}", "m") for word in "abcdefghijklmno"]
    lines = ci.workflow_commands(run_of(evil))

    assert len(lines) == 10
    assert all(line.startswith("::error title=ERROR") and "100 %25" in line for line in lines)


def test_elsewhere_nothing_is_said():
    assert ci.github(run_of(records("FAIL")), {}) == []


def test_csv_holds_every_record_with_its_figures():
    made = [timed(CASE, 100.0, text='a, "b"\nc', drop=0.0), *records("PASS")]
    rows = list(csv.DictReader(io.StringIO(ci.comma_separated(made))))

    assert [row["case"] for row in rows] == [str(CASE)] * 2
    assert (rows[0]["measured"], rows[0]["drop"], rows[0]["text"]) == ("100.0", "0.0", 'a, "b"\nc')
    named = ("model", "chip", "precision", "batch", "stage", "metric", "outcome", "marks")
    assert tuple(rows[0][name] for name in named) == (
        "regnety_016", "ascend310p", "fp16", "16", "throughput", "", "PASS", "simulated",
    )  # fmt: skip
    assert rows[1]["measured"] == ""


def test_junit_is_told_figures_limits_versions_and_the_command_of_a_failure():
    failed = Record(CASE, "throughput", "FAIL", "x", "", {"measured": 90.0, "bound": 95.0, "p": None, "drop": 0.0},
                    ("x4",), {"backend": "acl", "version": "CANN 7"})  # fmt: skip
    told = dict(ci.properties(failed, HEADER["options"]))

    assert told["throughput.outcome"] == "FAIL"
    assert (told["throughput.measured"], told["throughput.bound"], told["throughput.marks"]) == ("90", "95", "x4")
    assert (told["backend"], told["version"]) == ("acl", "CANN 7")
    assert told["again"].startswith("pytest -m 'regnety_016 and ascend310p")
    assert "throughput.p" not in told
    assert told["throughput.drop"] == "0", "a figure that is zero was measured"
    assert "again" not in dict(ci.properties(timed(CASE, 1.0), {}))
