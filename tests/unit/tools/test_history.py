"""chipproof history reads the runs of a folder."""

import json
from dataclasses import replace

import pytest
from made_runs import SERIES, past

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


def test_a_case_without_figures_is_told_with_the_runs_that_were_read(files, capsys, tmp_path):
    for run in past([100.0]):
        files("a.jsonl", replace(run, records=tuple(replace(r, marks=("simulated",)) for r in run.records)))

    with pytest.raises(SystemExit):
        cli.main(["history", str(SERIES), "--results", str(tmp_path)])

    assert f"in the 1 run of {tmp_path}; what is simulated or INVALID does not" in capsys.readouterr().err


def test_the_history_verb_reads_a_folder(files, capsys, tmp_path):
    for day, run in enumerate(past([100.0] * 9 + [90.0] * 6)):
        files(f"{day:02d}.jsonl", run)
    (tmp_path / "cut.jsonl").write_text("{")

    status, text = run_verb(capsys, "history", SERIES, "--results", tmp_path, "--lang", "en")

    assert status == 1
    assert "since 2026-01-10T00:00:00Z" in text
    told = json.loads(run_verb(capsys, "history", SERIES, "--results", tmp_path, "--json")[1])
    assert len(told["series"][0]["points"]) == 15
    assert run_verb(capsys, "history", "regnety_016-t4-fp16-bs1", "--results", tmp_path)[0] == 2
    assert run_verb(capsys, "history", SERIES, "--results", tmp_path / "none")[0] == 2
