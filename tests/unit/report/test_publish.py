"""Reports are written after every run, whatever came of it."""

from made_runs import SERIES, past, run_of, timed

from harness.report.publish import PAST, publish
from harness.report.records import write_run


def test_a_run_of_nothing_is_published_too(tmp_path):
    (tmp_path / "latest.md").write_text("yesterday: all green")

    publish(tmp_path, run_of([], asked=3), {})

    assert "nothing ran" in (tmp_path / "latest.md").read_text()
    assert "nothing ran" in (tmp_path / "latest.html").read_text()
    assert (tmp_path / "latest.csv").read_text().startswith("case,model")


def test_what_changed_since_a_baseline_stands_in_both_reports(tmp_path):
    before, after = (run_of([timed(SERIES, rate)]) for rate in (100.0, 50.0))

    publish(tmp_path, after, {}, "en", before)

    for name in ("latest.md", "latest.html"):
        assert "Changed since the baseline" in (tmp_path / name).read_text()
    assert "| 100 img/s | 50 img/s | -50 % |" in (tmp_path / "latest.md").read_text()


def test_lines_over_time_are_those_of_the_last_runs_in_the_folder(tmp_path):
    runs = past([100.0] * (PAST + 5))
    for day, run in enumerate(runs):
        header = {name: value for name, value in run.header.items() if name != "kind"}
        write_run(tmp_path / f"{day:02d}.jsonl", header, run.records, 1)

    publish(tmp_path, runs[-1], {})

    text = (tmp_path / "latest.html").read_text()
    assert f"throughput, {PAST} runs, " in text
    assert ">2026-01-06<" in text
