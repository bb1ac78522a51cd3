"""chipproof verify says of each record what came out, and fails when one does not."""

import json

import pytest

from harness.case import Case
from harness.report.journal import Journal
from harness.report.records import Record, write_run
from tools import cli

CASE = Case.parse("regnety_016-cpu-fp32-bs1")


@pytest.mark.parametrize(("outcome", "status", "result"), [("PASS", 0, "same"), ("FAIL", 1, "differs")])
def test_numerics_are_computed_again_from_their_errors(tmp_path, capsys, outcome, status, result):
    values = {"cosine": 1.0, "largest": 1e-6, "rms": 1e-6}
    write_run(tmp_path / "a.jsonl", {}, [Record(CASE, "numerics", outcome, "as it was", values=values)], 1)

    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", str(tmp_path), "--json"])

    assert (ended.value.code or 0) == status
    assert [row["result"] for row in json.loads(capsys.readouterr().out)] == [result]


def test_a_later_file_that_comes_out_does_not_hide_one_that_does_not(tmp_path, capsys):
    values = {"cosine": 1.0, "largest": 1e-6, "rms": 1e-6}
    for name, outcome in (("a", "FAIL"), ("b", "PASS")):
        write_run(tmp_path / f"{name}.jsonl", {}, [Record(CASE, "numerics", outcome, "as it was", values=values)], 1)

    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", str(tmp_path)])

    assert ended.value.code == 1


def test_an_edited_file_is_refused(tmp_path, capsys):
    write_run(tmp_path / "a.jsonl", {}, [Record(CASE, "numerics", "PASS", "as it was")], 1)
    path = tmp_path / "a.jsonl"
    path.write_text(path.read_text().replace("as it was", "as it is"))

    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", str(path)])
    assert ended.value.code == 2
    assert "was changed after it was written" in capsys.readouterr().err


@pytest.mark.parametrize(("outcome", "status"), [("PASS", 0), ("FAIL", 1)])
def test_what_the_processes_of_a_killed_run_left_is_verified_too(tmp_path, capsys, outcome, status):
    values = {"cosine": 1.0, "largest": 1e-6, "rms": 1e-6}
    for name, records in (
        ("a.gw0.part", [Record(CASE, "numerics", outcome, "as it was", values=values)]),
        ("b.jsonl", []),
    ):
        book = Journal(tmp_path / name, {"asked": 1})
        for record in records:
            book.add(record.as_json())

    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", str(tmp_path)])

    assert (ended.value.code or 0) == status
    told = capsys.readouterr().out
    assert "a.gw0.part: 1 record: " in told
    assert "b.jsonl: 0 records: " in told


def test_where_no_file_has_a_record_nothing_was_verified(tmp_path, capsys):
    Journal(tmp_path / "a.jsonl", {"asked": 1})

    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", str(tmp_path)])

    assert ended.value.code == 2
    assert "holds no record" in capsys.readouterr().err
