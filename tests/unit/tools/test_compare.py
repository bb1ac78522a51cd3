"""chipproof compare tells what changed in three forms, and by its exit status."""

import json
from dataclasses import replace

import pytest
from made_runs import SERIES, run_of, timed

from harness.report.records import write_run
from tools import cli


@pytest.fixture
def files(tmp_path):
    def write(name, run):
        header = {name: value for name, value in run.header.items() if name != "kind"}
        write_run(tmp_path / name, header, run.records, asked=len(run.records))
        return tmp_path / name

    return write


def run_verb(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(list(map(str, arguments)))
    return ended.value.code, capsys.readouterr().out


def test_the_verb_tells_it_as_table_markdown_and_json_and_by_its_status(files, capsys, tmp_path):
    a = files("a.jsonl", run_of([timed(SERIES, 100.0)]))
    b = files("b.jsonl", run_of([timed(SERIES, 90.0)]))

    status, table = run_verb(capsys, "compare", a, b, "--md", tmp_path / "out.md", "--lang", "en")
    as_json = run_verb(capsys, "compare", a, b, "--json")

    assert status == as_json[0] == 1
    told = json.loads(as_json[1])
    assert (told["worse"], len(told["moves"]), told["moves"][0]["case"]) == (True, 1, str(SERIES))
    for text in (table, (tmp_path / "out.md").read_text()):
        assert str(SERIES) in text
        assert "1 figure moved" in text
    assert run_verb(capsys, "compare", a, a)[0] == 0
    assert run_verb(capsys, "compare", a, tmp_path / "none.jsonl")[0] == 2


def test_runs_without_a_record_in_common_are_no_equal_runs(files, capsys):
    a = files("a.jsonl", run_of([timed(SERIES, 100.0)]))
    b = files("b.jsonl", run_of([timed(replace(SERIES, batch=4), 100.0)]))

    status, told = run_verb(capsys, "compare", a, b, "--lang", "en")

    assert status == 2
    assert "ran before, not now" in told
