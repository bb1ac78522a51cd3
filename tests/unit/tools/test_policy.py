"""chipproof policy shows what a file covers, and writes rows for what a run found red."""

import pytest

from harness.case import Case
from harness.report.records import Record, write_run
from tools import cli

GOOD = '[[expect]]\ncase = "regnety_016-cpu-*"\nstage = "numerics"\nreason = "known"\n'


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(["policy", *map(str, arguments)])
    return ended.value.code


def test_rows_are_shown_with_what_they_cover(tmp_path, capsys):
    (tmp_path / "p.toml").write_text(GOOD)

    assert run("show", "--policy", tmp_path / "p.toml") == 0
    out = capsys.readouterr().out
    assert "p.toml:1: expected regnety_016-cpu-* numerics: 4 cases: known" in out
    assert out.endswith("1 row\n")


def test_a_wrong_file_is_refused(tmp_path, capsys):
    (tmp_path / "p.toml").write_text("decide = 1")

    assert run("show", "--policy", tmp_path / "p.toml") == 2
    assert "did you mean decided?" in capsys.readouterr().err


def test_update_writes_rows_for_what_is_red_and_not_covered(tmp_path, capsys):
    (tmp_path / "p.toml").write_text(GOOD)
    cases = [Case.parse(f"{name}-cpu-fp32-bs1") for name in ("regnety_016", "deepmar_resnet50", "gfocalv2_r50_fpn")]
    outcomes = ("FAIL", "FAIL", "PASS")
    records = [Record(case, "numerics", outcome, "x") for case, outcome in zip(cases, outcomes, strict=True)]
    write_run(tmp_path / "r" / "a.jsonl", {"time": "2026-11-29T00:00:00Z"}, records, 3, "", [])

    assert run("update", tmp_path / "r", "--policy", tmp_path / "p.toml") == 0
    assert "1 row written; fill their reasons in" in capsys.readouterr().out
    text = (tmp_path / "p.toml").read_text()
    assert text.startswith(GOOD)
    assert text.count("[[expect]]") == 2
    assert 'case = "deepmar_resnet50-cpu-fp32-bs1"' in text


def test_update_without_results_says_what_to_give(tmp_path, capsys):
    assert run("update", "--policy", tmp_path / "p.toml") == 2
    assert "chipproof policy update RESULTS" in capsys.readouterr().err
