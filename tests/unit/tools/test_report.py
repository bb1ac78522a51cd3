"""chipproof report is given files: what is none is said as that, and not as a damaged run."""

import base64
import hashlib
import os

import pytest

from harness.case import Case
from harness.report.journal import Journal
from harness.report.records import Record, footer, read_run
from tools import cli


@pytest.fixture
def refused(capsys):
    def refused(path):
        with pytest.raises(SystemExit) as ended:
            cli.main(["report", str(path)])
        out, err = capsys.readouterr()
        assert (ended.value.code, out) == (2, "")
        assert "move it away" not in err
        assert "run the suite again" not in err
        return err

    return refused


def test_a_folder_stands_for_the_record_files_and_the_left_parts_in_it(tmp_path, capsys):
    for name, case, outcome in (
        ("a.jsonl", "bs1", "PASS"),
        ("b.gw0.part", "bs4", "PASS"),
        ("b.gw1.part", "bs8", "FAIL"),
    ):
        book = Journal(tmp_path / name, {"time": "2026-01-01T00:00:00Z", "asked": 3})
        book.add(Record(Case.parse(f"regnety_016-cpu-fp32-{case}"), "numerics", outcome, "as it is").as_json())
    for name in ("c.jsonl", "d.gw0.part"):
        (tmp_path / name).write_text("")  # of a run that was killed as it began

    with pytest.raises(SystemExit) as ended:
        cli.main(["report", str(tmp_path)])

    told = capsys.readouterr().out
    assert ended.value.code == 1
    assert "ran 3 of 3 cases: 1 FAIL, 2 PASS" in told
    assert "CUT OFF" in told


def test_one_record_file_holds_what_several_hosts_wrote(tmp_path, capsys):
    for host, batch in (("lab1", 1), ("lab2", 4)):
        book = Journal(tmp_path / f"{host}.jsonl", {"time": f"2026-01-0{batch}T00:00:00Z", "host": host, "asked": 1})
        book.add({"kind": "end", "test": host, "seconds": batch})
        book.add(Record(Case.parse(f"regnety_016-cpu-fp32-bs{batch}"), "numerics", "PASS", "as it is").as_json())

        book.add(footer([], 1))

    with pytest.raises(SystemExit, match="0"):
        cli.main(["report", str(tmp_path), "--records", str(tmp_path / "night" / "all.jsonl")])

    night = read_run(tmp_path / "night" / "all.jsonl")
    assert night.header["host"] == "lab1 + lab2"
    assert {record.case.batch for record in night.records} == {1, 4}
    assert {line["seconds"] for line in night.lines} == {1, 4}


def test_a_folder_without_records_is_named(refused, tmp_path):
    err = refused(tmp_path)

    assert f"there is no record file in {tmp_path}" in err
    assert "--results" in err


def test_a_missing_file_is_missing(refused, tmp_path):
    err = refused(tmp_path / "gone.jsonl")

    assert f"there is no file {tmp_path / 'gone.jsonl'}" in err
    assert "--results DIR" in err


def test_a_mistyped_name_is_answered_with_those_there(refused, tmp_path):
    (tmp_path / "right.jsonl").write_text("")

    assert "record files there: right.jsonl" in refused(tmp_path / "wrong.jsonl")


def test_a_pipe_is_no_record_file(refused, tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")

    assert "is a pipe or a device" in refused(tmp_path / "pipe.jsonl")


@pytest.mark.parametrize("given", ["", "a.jsonl"])
def test_the_page_shows_pictures_that_lie_beside_the_records(tmp_path, capsys, given):
    body = b"a picture"
    fact = {"file": "a/x.1.jpg", "sha256": hashlib.sha256(body).hexdigest(), "image": "n1", "width": 9, "height": 9,
            "task": "classes", "counts": [], "chip": [1], "reference": [2]}  # fmt: skip
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.1.jpg").write_bytes(body)
    record = Record(Case.parse("regnety_016-cpu-fp32-bs1"), "accuracy", "PASS", "x", "top1", facts={"pictures": [fact]})
    book = Journal(tmp_path / "a.jsonl", {"time": "2026-01-01T00:00:00Z", "asked": 1})
    book.add(record.as_json())
    book.add(footer([record], 1))

    with pytest.raises(SystemExit, match="0"):
        cli.main(["report", str(tmp_path / given), "--html", str(tmp_path / "page.html")])

    assert base64.b64encode(body).decode() in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("require", "ended", "status"), [([], True, 0), (["t4"], True, 11), ([], False, 11)], ids=["", "t4", "cut off"]
)
def test_the_exit_status_knows_what_was_required_and_whether_the_run_came_to_its_end(tmp_path, require, ended, status):
    record = Record(Case.parse("regnety_016-cpu-fp32-bs1"), "numerics", "PASS", "x")
    book = Journal(tmp_path / "a.jsonl", {"asked": 2, "options": {"require": require}})
    book.add(record.as_json())
    if ended:
        book.add(footer([record], 2))

    with pytest.raises(SystemExit) as told:
        cli.main(["report", str(tmp_path)])

    assert told.value.code == status


def test_parts_beside_the_file_that_sums_them_up_are_not_read_twice(tmp_path, capsys):
    """The process that was to remove them was killed before."""
    record = Record(Case.parse("regnety_016-cpu-fp32-bs1"), "numerics", "PASS", "x")
    for name, outcome in (("a.gw0.part", "FAIL"), ("a.jsonl", "PASS")):
        book = Journal(tmp_path / name, {"time": "2026-01-01T00:00:00Z", "asked": 1})
        book.add({**record.as_json(), "outcome": outcome})
        book.add(footer([record], 1))

    with pytest.raises(SystemExit) as ended:
        cli.main(["report", str(tmp_path)])

    assert (ended.value.code, "1 PASS" in capsys.readouterr().out) == (0, True)
