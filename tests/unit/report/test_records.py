"""Records are read back whole or not at all; tables and pages say what they hold."""

import json
from dataclasses import replace

import pytest

from harness.case import Case
from harness.errors import DataError, StoreError
from harness.report.records import Record, Run, head_line, merge, read_run, write_run

HEADER = {
    "time": "2026-01-01T00:00:00Z",
    "host": "lab",
    "platform": "Linux",
    "processor": "P",
    "cores": 2,
    "python": "3",
}


def record(case="regnety_016-cpu-fp32-bs1", stage="accuracy", outcome="PASS", metric="top1", text="fine", **values):
    return Record(Case.parse(case), stage, outcome, text, metric, values, ("seeded",), {"backend": "ort", "images": 8})


RECORDS = (
    record(measured=0.7785, reference=0.7786, source=0.77862, drop=0.0001, low=0.0, high=0.002),
    record(stage="throughput", metric="", measured=100.0, low=99.0, high=101.0, published=90.0, ratio=1.11),
    record("regnety_016-cpu-fp32-bs4", "throughput", "FAIL", "", "too slow", measured=80.0, low=79.0, high=81.0),
    record("regnety_016-t4-fp16-bs4", "throughput", "SKIP", "", "t4 is absent"),
)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "run.jsonl"
    write_run(path, HEADER, RECORDS, asked=9)
    return path


def test_what_is_written_reads_back_equal(written):
    run = read_run(written)

    assert run.records == RECORDS
    assert (run.header["host"], run.footer["asked"], run.footer["ran"]) == ("lab", 9, 2)


def cut_off(lines):
    return lines[:-1]


def line_missing(lines):
    return lines[:1] + lines[2:]


def figure_changed(lines):
    return [line.replace("0.7785", "0.7885") for line in lines]


def headless(lines):
    return lines[1:]


def half_a_line(lines):
    return [*lines[:-1], lines[-1][:20]]


def of_the_future(lines):
    return [lines[0].replace('"schema": 1', '"schema": 2'), *lines[1:]]


def no_object(lines):
    return [*lines, "5"]


def header_alone(lines):
    return ['{"kind": "header"}']


def without_digest(lines):
    return [*lines[:-1], '{"kind": "footer"}']


@pytest.mark.parametrize(
    "damage",
    [
        cut_off, line_missing, figure_changed, headless, half_a_line, of_the_future, no_object, header_alone,
        without_digest,
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused(written, damage):
    written.write_text("\n".join(damage(written.read_text().splitlines())) + "\n")

    with pytest.raises(DataError) as caught:
        read_run(written)
    assert str(written) in caught.value.fact


def test_a_stage_judged_twice_is_refused(tmp_path):
    write_run(tmp_path / "run.jsonl", HEADER, (RECORDS[0], RECORDS[0]), asked=1)

    with pytest.raises(DataError, match="twice"):
        read_run(tmp_path / "run.jsonl")


def test_a_folder_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "results").write_text("a file")

    with pytest.raises(StoreError, match="--results"):
        write_run(tmp_path / "results" / "run.jsonl", HEADER, RECORDS, asked=1)
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_nan_never_enters_a_record_file(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_run(tmp_path / "run.jsonl", HEADER, [record(measured=float("nan"))], asked=1)


def test_the_head_line_counts_what_ran_of_what_was_asked():
    assert head_line(RECORDS, 9) == "ran 2 of 9 cases: 1 FAIL, 2 PASS, 1 SKIP"
    assert head_line((), 9) == "ran 0 of 9 cases"


def test_of_several_runs_the_newest_record_counts_and_a_skip_gives_way():
    old = Run({**HEADER, "time": "2026-01-01T00:00:00Z"}, (record(measured=0.1),), {})
    new = Run({**HEADER, "time": "2026-01-02T00:00:00Z"}, (record(outcome="SKIP"),), {})
    newest = Run({**HEADER, "time": "2026-01-03T00:00:00Z"}, (record(measured=0.3),), {})

    merged = merge([newest, old, new])

    assert [r.values["measured"] for r in merged.records] == [0.3]
    assert [r.values["measured"] for r in merge([old, new]).records] == [0.1]


def test_a_simulated_record_never_takes_the_place_of_a_real_one():
    real = Run({**HEADER, "time": "2026-01-01T00:00:00Z"}, (record(measured=0.1),), {"asked": 7})
    simulated = Run(
        {**HEADER, "time": "2026-01-02T00:00:00Z"}, (replace(record(measured=0.2), marks=("simulated",)),), {"asked": 3}
    )

    for runs in ([real, simulated], [simulated, real]):
        merged = merge(runs)
        assert [r.values["measured"] for r in merged.records] == [0.1]
        assert merged.head_line.startswith("ran 1 of 7 cases")


def test_a_run_that_was_stopped_says_so(tmp_path):
    write_run(tmp_path / "run.jsonl", HEADER, RECORDS, asked=9, stopped="STOPPED before its end")
    run = read_run(tmp_path / "run.jsonl")

    assert "STOPPED" in merge([run, run]).head_line


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b"])
def test_what_a_vendor_says_cannot_break_a_line_in_two(tmp_path, separator):
    said = record(text=f"one{separator}two")
    write_run(tmp_path / "run.jsonl", HEADER, [said], asked=1)

    assert read_run(tmp_path / "run.jsonl").records == (said,)


def test_records_are_plain_json(written):
    assert all(isinstance(json.loads(line), dict) for line in written.read_text().splitlines())
