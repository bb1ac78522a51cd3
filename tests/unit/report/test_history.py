"""A series of runs says since when a figure is another one."""

from dataclasses import replace

import pytest
from made_runs import SERIES, agreed, past, run_of, timed

from harness.case import Case
from harness.errors import DataError
from harness.report.history import ALARM, FEWEST, Point, changes, read, series, trends
from harness.report.records import write_run

OTHER = Case.parse("regnety_016-ascend310p-fp16-bs4")


def real(record):
    return replace(record, marks=())


def test_history_says_since_which_run_a_figure_moved_and_which_version_changed_there():
    versions = ["CANN 6"] * 9 + ["CANN 7"] * 6
    points = series(past([100.0] * 9 + [93.0] * 6, versions), SERIES, "throughput")

    (change,) = changes(points)

    assert change.first.run.header["time"] == "2026-01-10T00:00:00Z"
    assert change.relative == pytest.approx(-0.07, abs=0.02)
    assert change.beside == (("ascend310p version", "CANN 6", "CANN 7"),)


def test_history_finds_two_changes():
    points = series(past([100.0] * 9 + [90.0] * 9 + [100.0] * 9), SERIES, "throughput")

    found = changes(points)

    assert [change.first.run.header["time"][8:10] for change in found] == ["10", "19"]
    for change, levels in zip(found, ((100, 90), (90, 100)), strict=True):
        assert (change.before, change.after) == pytest.approx(levels, rel=0.02), "as far as the next change"


def test_a_steady_series_is_given_a_change_no_more_often_than_stated():
    alarms = sum(
        bool(changes(series(past([100.0] * 12, seed=seed, noise=0.05), SERIES, "throughput"))) for seed in range(60)
    )

    assert alarms <= 3  # of 60 at 1 %: more has a chance of 0.3 %
    assert ALARM == 0.01


def test_few_runs_show_no_change_and_other_hosts_simulated_and_invalid_ones_do_not_count():
    assert changes(series(past([100.0] * 5 + [50.0] * 5), SERIES, "throughput")) == []
    assert FEWEST == 11
    here, there = past([1.0] * 3), past([5.0] * 3, host="other")
    simulated = run_of([timed(SERIES, 9.0)], time="2026-03-01")
    invalid = run_of([replace(timed(SERIES, 9.0, "INVALID"), marks=())], time="2026-03-02")

    assert len(series([*there[:1], *here[1:], simulated, invalid], SERIES, "throughput")) == 2
    assert all(isinstance(point, Point) for point in series(here, SERIES, "throughput"))


def test_a_trend_marks_the_run_from_which_a_version_of_its_own_case_is_another():
    runs = past([100.0] * 9 + [93.0] * 6, ["CANN 6"] * 12 + ["CANN 7"] * 3)
    other = [run_of([*run.records, real(timed(OTHER, 50.0))], time=run.header["time"]) for run in runs]

    (moved, alone) = trends([*other[:-1], replace(other[-1], header={**other[-1].header, "python": "3.12"})])

    assert (moved.case, alone.case) == (SERIES, OTHER)  # what changed comes first
    assert [change.first for change in moved.changes] == [moved.points[9]]
    assert dict(moved.marks) == {
        12: (("ascend310p version", "CANN 6", "CANN 7"),),
        14: (("python", "3.11", "3.12"),),
    }
    assert list(alone.marks) == [14]
    assert trends(runs[:1]) == []


def test_accuracy_on_fewer_images_is_another_figure():
    """A verdict that is decided early is one on part of the images."""
    runs = [run_of([replace(real(agreed(SERIES, "top1")), facts={"images": images})], time=f"2026-01-0{day}")
            for day, images in enumerate((512, 1024, 512, 512), 1)]  # fmt: skip

    assert [point.run.header["time"][-1] for point in series(runs, SERIES, "accuracy", "top1")] == ["1", "3", "4"]


def test_the_rate_that_a_target_repeats_is_no_figure_of_its_own():
    runs = [replace(run, records=(*run.records, replace(real(timed(SERIES, 100.0)), stage="targets", metric="t4")))
            for run in past([100.0] * 3)]  # fmt: skip

    assert [(trend.stage, trend.metric) for trend in trends(runs)] == [("throughput", "")]


def test_the_last_record_files_of_a_folder_are_read_and_what_is_none_is_named(tmp_path):
    for day, run in enumerate(past([1.0, 2.0, 3.0])):
        header = {name: value for name, value in run.header.items() if name != "kind"}
        write_run(tmp_path / f"{day}.jsonl", header, run.records, 1)
    (tmp_path / "2x.jsonl").write_text("{")

    runs, wrong = read(tmp_path, 3)

    assert [run.header["time"][8:10] for run in runs] == ["02", "03"]
    assert "2x.jsonl" in wrong[0]
    assert len(read(tmp_path)[0]) == 3
    with pytest.raises(DataError):
        read(tmp_path / "none")
