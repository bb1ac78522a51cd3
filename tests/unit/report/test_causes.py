"""Failures of one cause are one group, and each group names the command that repeats one of them."""

import time

from made_runs import whole_matrix

from harness import matrix
from harness.report.causes import causes, command
from harness.report.records import Record
from harness.vocabulary import Outcome


def test_what_failed_for_the_same_reason_is_one_cause_and_another_code_is_another():
    cases = matrix.cases()[:4]
    texts = (
        "stream 0x7f01 gave 507018 after 3 ms in /tmp/a/b.om",
        "stream 0x7f99 gave 507018 after 12.5 ms in /opt/c.om",
        "stream 0x7f01 gave 507011 after 3 ms in /tmp/a/b.om",
    )
    records = [Record(case, "numerics", "ERROR", text) for case, text in zip(cases, texts, strict=False)]

    assert [len(cause.records) for cause in causes(records, [Outcome.ERROR])] == [2, 1]


def test_one_long_word_takes_no_time():
    began = time.process_time()
    said = causes([Record(matrix.cases()[0], "numerics", "ERROR", "x" * 200_000)], [Outcome.ERROR])

    assert len(said) == 1
    assert time.process_time() - began < 5


def test_a_figure_of_six_digits_with_its_unit_is_no_code():
    texts = ("an execute takes 27894.2 us", "an execute takes 128508 us")
    records = [Record(case, "throughput", "INVALID", text) for case, text in zip(matrix.cases(), texts, strict=False)]

    assert len(causes(records, [Outcome.INVALID])) == 1


def test_names_of_cases_models_and_outputs_are_no_causes():
    records = [
        Record(
            case, "numerics", "FAIL", f"{case}: {case.model} class[0, {i}] is off on {case.chip} at {case.precision}"
        )
        for i, case in enumerate(matrix.cases())
    ]

    assert len(causes(records, [Outcome.FAIL])) == 1


def test_causes_stand_in_the_order_of_their_weight_with_their_stages_and_cases():
    found = causes(whole_matrix(), [outcome for outcome in Outcome if outcome.red])

    assert [cause.outcome for cause in found] == ["FAIL", "FAIL", "ERROR"]
    assert len(found[0].cases) >= len(found[1].cases)
    assert found[2].stages == ("numerics", "accuracy", "throughput")
    assert found[2].next.startswith("npu-smi info")


def test_a_command_names_the_case_by_its_markers_and_passes_on_what_changes_the_run():
    record = Record(matrix.cases()[0], "throughput", "FAIL", "slow")
    case = record.case

    told = command(record, {"data": "/d", "limit": "None", "simulate": "True", "tune": "True", "require": "['t4']"})

    markers = f"{case.model} and {case.chip} and {case.precision} and bs{case.batch} and throughput"
    assert told == f"pytest -m '{markers}' --data=/d --tune --simulate"
