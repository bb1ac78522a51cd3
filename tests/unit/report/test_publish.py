"""Reports are written after every run, whatever came of it."""

from made_runs import past, run_of

from harness.report.publish import publish


def test_a_run_of_nothing_is_published_too(tmp_path):
    (tmp_path / "latest.md").write_text("yesterday: all green")

    publish(tmp_path, run_of([], asked=3), {})

    assert "nothing ran" in (tmp_path / "latest.md").read_text()
    assert "nothing ran" in (tmp_path / "latest.html").read_text()
    assert (tmp_path / "latest.csv").read_text().startswith("case,model")


def test_what_changed_since_a_baseline_stands_in_both_reports(tmp_path):
    before, after = past([100.0, 50.0])

    publish(tmp_path, after, {}, "en", before)

    for name in ("latest.md", "latest.html"):
        assert "Changed since the baseline" in (tmp_path / name).read_text()
