"""Records are read back whole or not at all; tables and pages say what they hold."""

import errno
import hashlib
import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from harness.case import Case
from harness.errors import DataError, StoreError
from harness.report import ci
from harness.report.journal import Journal, text_of
from harness.report.records import (
    Record,
    Run,
    head_line,
    merge,
    not_resumed,
    read_parts,
    read_run,
    required,
    write_run,
    write_whole,
)

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


def test_a_figure_too_large_to_be_read_back_does_not_cost_the_run(tmp_path):
    path = tmp_path / "run.jsonl"
    write_run(path, HEADER, [record(outcome="FAIL", largest=1e200, cosine=0.5)], asked=1)

    (found,) = read_run(path).records
    assert found.values == {"largest": None, "cosine": 0.5}


def line_missing(lines):
    return lines[:1] + lines[2:]


def figure_changed(lines):
    return [line.replace("0.7785", "0.7885") for line in lines]


def headless(lines):
    return lines[1:]


def half_a_line_in_the_middle(lines):
    return [*lines[:2], lines[2][:20], *lines[3:]]


def order_changed(lines):
    return [lines[0], lines[2], lines[1], *lines[3:]]


def line_added(lines):
    return [*lines[:-1], lines[-2], lines[-1]]


def goes_on(lines):
    return [*lines, lines[-1]]


def of_the_future(lines):
    return [lines[0].replace('"schema": 2', '"schema": 3'), *lines[1:]]


def no_object(lines):
    return [*lines, "5"]


def header_alone(lines):
    return ['{"kind": "header"}']


def without_digest(lines):
    return [*lines[:-1], '{"kind": "footer"}']


@pytest.mark.parametrize(
    "damage",
    [
        line_missing, figure_changed, headless, half_a_line_in_the_middle, of_the_future, no_object, header_alone,
        without_digest, order_changed, line_added, goes_on,
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused(written, damage):
    written.write_text("\n".join(damage(written.read_text().splitlines())) + "\n")

    with pytest.raises(DataError) as caught:
        read_run(written)
    assert str(written) in caught.value.fact


@pytest.mark.slow
def test_a_file_cut_off_anywhere_is_read_up_to_there_and_says_so(written):
    whole = written.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    for size in range(ends[0], len(whole)):
        written.write_bytes(whole[:size])
        run = read_run(written)

        lines = sum(end <= size for end in ends)
        assert run.records == RECORDS[: lines - 1]
        assert f"CUT OFF after line {lines}" in run.head_line


def test_a_byte_changed_anywhere_is_refused(written):
    whole = written.read_bytes()
    for place in range(0, len(whole) - 1, 7):
        written.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])

        with pytest.raises(DataError):
            read_run(written)


def test_a_journal_is_on_disk_line_by_line_and_names_the_test_under_way(tmp_path):
    book = Journal(tmp_path / "run.jsonl", {**HEADER, "asked": 9})
    book.add({"kind": "begin", "test": "one"})
    book.add(RECORDS[0].as_json())
    book.add({"kind": "end", "test": "one"})
    book.add({"kind": "begin", "test": "two"})

    run = read_run(tmp_path / "run.jsonl")
    assert run.records == RECORDS[:1]
    assert run.head_line == "ran 1 of 9 cases: 1 PASS; CUT OFF after line 5, in two"


def test_what_cannot_be_written_leaves_the_lines_before_it_whole(tmp_path, monkeypatch):
    book = Journal(tmp_path / "run.jsonl", HEADER)
    write = os.write

    def full(file, text):
        write(file, text[:9])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="No space left"):
        book.add(RECORDS[0].as_json())
    monkeypatch.undo()
    book.add(RECORDS[1].as_json())

    assert read_run(tmp_path / "run.jsonl").records == (RECORDS[1],)


def test_a_line_that_a_signal_ended_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    book = Journal(tmp_path / "run.jsonl", HEADER)
    write = os.write

    def interrupted(size, file, text):
        write(file, text[:size])
        raise KeyboardInterrupt

    for size in (9, None):
        monkeypatch.setattr(os, "write", partial(interrupted, size))
        with pytest.raises(KeyboardInterrupt):
            book.add({"kind": "begin", "test": str(size)})
        monkeypatch.undo()
    book.add(RECORDS[1].as_json())

    run = read_run(tmp_path / "run.jsonl")
    assert run.records == (RECORDS[1],)
    assert [line["test"] for line in run.lines] == ["None"]


def test_a_name_that_is_no_utf8_loses_no_record(tmp_path):
    said = record(text="cannot read \udcff.jpg")
    write_run(tmp_path / "run.jsonl", HEADER, [said], asked=1)

    assert read_run(tmp_path / "run.jsonl").records == (said,)
    write_whole(tmp_path / "latest.md", ci.markdown(read_run(tmp_path / "run.jsonl"), "en"))


def hostile(tmp_path):
    brackets = b"[" * 100_000
    (tmp_path / "deep.jsonl").write_bytes(brackets + b"]" * 100_000 + b"\n")
    (tmp_path / "binary.jsonl").write_bytes(b"\x80\x81\n")
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "fifo.jsonl")
    for name, change in (("no_case", {"case": 5}), ("no_outcome", {"outcome": "GOOD"}), ("no_marks", {"marks": None})):
        book = Journal(tmp_path / f"{name}.jsonl", HEADER)
        book.add({**RECORDS[0].as_json(), **change})
        book.close()
    lines = {
        "text": ({"values": {"measured": "1"}}, {"values": {"measured": 10**400}}, {"values": []}, {"facts": "x"},
                 {"marks": [5]}, {"marks": "abc"}, {"text": 5}, {"stage": None}, {"metric": {}}, {"test": []},
                 {"facts": {"attempt": "x"}}, {"facts": {"loss": [1]}}),
        "header": ({"asked": "x"}, {"asked": 1.5}, {"options": 5}, {"resumes": 5}, {"resumes": ["../x"]},
                   {"resumes": [""]}, {"time": 5}),
        "footer": ({"asked": None}, {"stopped": 5}),
        "begin": ({"attempt": "x"}, {"test": 5}),
        "end": ({"seconds": "x"},),
    }  # fmt: skip
    for kind, changes in lines.items():
        for number, change in enumerate(changes):
            book = Journal(tmp_path / f"{kind}{number}.jsonl", {**HEADER, **(change if kind == "header" else {})})
            book.add({**RECORDS[0].as_json(), **(change if kind == "text" else {})})
            if kind in ("footer", "begin", "end"):
                book.add({"kind": kind, **change})
            book.close()
    body = text_of({"kind": "header", "schema": 2}, "")[0]
    plain = b'{"kind": "begin", "test": NaN}'
    chain = hashlib.sha256(json.loads(body)["chain"].encode() + plain).hexdigest()
    (tmp_path / "nan.jsonl").write_bytes(body + plain[:-1] + f', "chain": "{chain}"}}\n'.encode())
    return sorted(tmp_path.glob("*.jsonl"))


def test_hostile_files_are_refused_in_words(tmp_path):
    for path in hostile(tmp_path):
        with pytest.raises(DataError) as caught:
            read_run(path)
        assert str(path) in caught.value.fact


def test_what_a_file_says_cannot_drive_a_terminal(tmp_path):
    said = record(text="a\x1b[2J\u202eb\u2067")
    said = {**said.as_json(), "marks": ["c\x1b[31m"]}
    book = Journal(tmp_path / "run.jsonl", {**HEADER, "host": "h\x1b[2J", "asked": 1})
    book.add(said)
    book.add({"kind": "begin", "test": "t\x1b[2J"})
    book.close()

    run = read_run(tmp_path / "run.jsonl")

    assert run.records[0].text == r"a\x1b[2J\u202eb\u2067"
    assert run.records[0].marks == (r"c\x1b[31m",)
    assert run.header["host"] == r"h\x1b[2J"
    assert r"t\x1b[2J" in run.footer["stopped"]


def test_a_second_attempt_takes_the_place_of_the_first(tmp_path):
    book = Journal(tmp_path / "run.jsonl", HEADER)
    again = replace(RECORDS[0], facts={"attempt": 2}, outcome="FAIL")
    for line in (RECORDS[0], again):
        book.add(line.as_json())

    assert read_run(tmp_path / "run.jsonl").records == (again,)


def test_parts_of_several_processes_come_together(tmp_path):
    paths = [tmp_path / f"run.gw{i}.part" for i in (0, 1)]
    books = [Journal(path, {**HEADER, "asked": 5}) for path in paths]
    books[0].add(RECORDS[0].as_json())
    books[0].add(RECORDS[3].as_json())
    books[1].add(replace(RECORDS[3], outcome="PASS").as_json())

    run = read_parts(paths)

    assert {(str(r.case), r.outcome) for r in run.records} == {
        (str(RECORDS[0].case), "PASS"), (str(RECORDS[3].case), "PASS"),
    }  # fmt: skip
    assert run.head_line.startswith("ran 2 of 5 cases: 2 PASS; CUT OFF")


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


def test_what_a_resumed_run_did_again_is_told_of_that_alone():
    """A process that died in a test that had told nothing left an error under another metric than the verdict has."""
    died = replace(record(outcome="ERROR", metric="the same input"), stage="numerics")
    busy, judged = record(stage="throughput", metric="", outcome="INVALID"), record(stage="export", metric="")
    first = Run({"time": "1"}, (died, busy, judged), {"asked": 1, "stopped": "STOPPED by SIGTERM"})
    now = replace(record(metric="repeated"), stage="numerics")
    second = Run({"time": "2", "resumes": ["a.jsonl"]}, (now,), {"asked": 1, "stopped": ""})

    told = merge(not_resumed({Path("a.jsonl"): first, Path("b.jsonl"): second}))
    alone = merge(not_resumed({Path("a.jsonl"): first, Path("c.jsonl"): replace(second, header={"time": "2"})}))

    def of(run):
        return sorted((r.stage, r.metric, r.outcome.value) for r in run.records)

    assert of(told) == of(Run({}, (busy, judged, now), {}))
    assert told.footer["stopped"] == ""
    assert of(alone) == of(Run({}, (died, busy, judged, now), {}))
    assert alone.footer["stopped"] == "STOPPED by SIGTERM"


@pytest.mark.parametrize("outcome", ["ERROR", "INVALID"])
@pytest.mark.parametrize("stage", ["accuracy", "throughput"])
def test_what_was_broken_off_is_gone_once_a_resumed_run_judged_it(stage, outcome):
    """A measurement that cannot be trusted is on record without a metric, its verdicts have one each."""
    broken, metric = record(stage=stage, metric="", outcome=outcome), "top1" if stage == "accuracy" else "card 1"
    other = replace(broken, stage="numerics")
    first = Run({"time": "1"}, (broken, other), {"asked": 1, "stopped": ""})
    second = Run({"time": "2", "resumes": ["a.jsonl"]}, (record(stage=stage, metric=metric),), {"asked": 1})

    told = merge(not_resumed({Path("a.jsonl"): first, Path("b.jsonl"): second}))

    assert {(r.stage, r.metric) for r in told.records} == {(stage, metric), ("numerics", "")}


def test_a_verdict_of_the_run_that_resumed_counts_though_the_clock_was_set_back():
    """It was undecided, and was measured again with more --patience."""
    first = Run({"time": "2026"}, (record(outcome="INCONCLUSIVE"), record(metric="top5")), {"asked": 1})
    second = Run({"time": "2019", "resumes": ["a.jsonl"]}, (record(),), {"asked": 1})

    told = merge(not_resumed({Path("a.jsonl"): first, Path("b.jsonl"): second}))

    assert {(r.metric, r.outcome) for r in told.records} == {("top1", "PASS"), ("top5", "PASS")}


def run_at(time, *records, asked=1, stopped="", **header):
    return Run({**HEADER, "time": time, **header}, records, {"asked": asked, "stopped": stopped})


def test_what_one_host_requires_is_required_of_all_together():
    """The newest run has other options, and a chip on which nothing ran is not forgotten."""
    absent, there = record("regnety_016-t4-fp16-bs4", outcome="SKIP"), record()
    one = run_at("1", absent, options={"require": ["t4"]})
    other = run_at("2", there, options={"require": ["cpu"], "limit": "8"})

    merged = merge([one, other])

    assert merged.header["options"]["limit"] == "8"
    assert required(merged.header["options"]) == ["t4", "cpu"]
    assert ci.status(merged.records, required(merged.header["options"])) is ci.Status.LABORATORY


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_shard_that_is_not_here_is_missed(k):
    parts = {k: run_at(str(k), record(f"regnety_016-cpu-fp32-bs{k}"), shard=f"{k}/3") for k in (1, 2, 3)}

    whole = merge(list(parts.values()))
    lacking = merge([*(part for number, part in parts.items() if number != k), run_at("4", RECORDS[1])])

    assert (whole.footer["stopped"], whole.footer["asked"]) == ("", 3)
    assert lacking.footer["stopped"] == f"no record file of shard {k}/3 is here: copy it beside the others"
    assert ci.status(lacking.records, stopped=lacking.footer["stopped"]) is ci.Status.LABORATORY
    assert merge([parts[1], replace(parts[1], header={**parts[1].header, "time": "5"})]).footer["stopped"] == ""


def test_what_a_shard_was_asked_and_did_not_reach_is_counted():
    cut = run_at("1", record(), asked=40, stopped="CUT OFF after line 9", shard="1/2")
    other = run_at("2", record("regnety_016-cpu-fp32-bs4"), asked=41, shard="2/2")

    assert merge([cut, other]).head_line == "ran 2 of 81 cases: 2 PASS; CUT OFF after line 9"


@pytest.mark.parametrize(
    ("time", "cases", "asked", "gone"),
    [("2", (1, 4), 2, True), ("0", (1, 4), 2, False), ("2", (4, 8), 2, False), ("2", (1, 4), 1, False)],
)
def test_a_run_that_was_cut_off_is_forgotten_where_a_later_one_did_it_all(time, cases, asked, gone):
    cut = run_at("1", record("regnety_016-cpu-fp32-bs1"), asked=2, stopped="CUT OFF after line 9")
    later = run_at(time, *(record(f"regnety_016-cpu-fp32-bs{batch}") for batch in cases), asked=asked)

    assert merge([cut, later]).footer["stopped"] == ("" if gone else "CUT OFF after line 9")


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


def test_a_skip_in_the_journal_gives_way_to_what_ran_later(tmp_path):
    """A test that is skipped is on record before another test of its stage runs."""
    path = tmp_path / "run.jsonl"
    book = Journal(path, HEADER)
    for outcome in ("SKIP", "PASS"):
        book.add(record(outcome=outcome).as_json())
    book.close()

    assert [one.outcome for one in read_run(path).records] == ["PASS"]
