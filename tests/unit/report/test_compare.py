"""Runs are compared by what they recorded of their own noise: a planted change is named, equal runs name nothing."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from made_runs import HEADER, agreed, run_of, timed

from harness import matrix
from harness.case import Case
from harness.judge import stats
from harness.report import compare as comparing
from harness.report.compare import compare
from harness.report.history import ALARM, FEWEST, Point, changes, series
from harness.report.html import page
from harness.report.records import Record, write_run
from tools import cli

CASE = Case.parse("regnety_016-ascend310p-fp16-bs16")
CASES = [case for case in matrix.cases() if case.chip in ("ascend310", "ascend310p", "t4", "cpu")]


def noisy(seed, noise=0.01, windows=stats.FULL, correlation=0.3, change=None, cases=None, marks=()):
    """A run whose throughputs are windows with that noise, judged as the suite judges them, and whose drops come from
    samples of right answers."""
    chance = np.random.default_rng(seed)
    records = []
    for case in CASES if cases is None else cases:
        rate = 100.0 * (1 + case.batch) * (change or {}).get(case, 1.0)
        shocks = chance.normal(0, noise, windows + 10)
        for i in range(1, shocks.size):
            shocks[i] += correlation * shocks[i - 1]
        seen = stats.throughput(rate * np.exp(shocks[10:]))
        values = {"measured": seen.value, "low": seen.low, "high": seen.high, "samples": windows}
        records.append(Record(case, "throughput", "PASS", "fast", "", values, marks))
        reference = chance.random(400) < 0.8
        flipped = chance.random(400) < 0.004
        drop = stats.paired_drop(reference ^ flipped, reference)
        values = {"measured": 0.8, "reference": 0.8, "drop": drop.value, "low": drop.low, "high": drop.high}
        records.append(Record(case, "accuracy", "PASS", "agrees", "top1", values, (), {"images": 400}))
        records.append(Record(case, "numerics", "PASS", "equal", ""))
    return run_of(records)


def with_outcome(run, case, stage, outcome):
    changed = (
        replace(r, outcome=outcome, text="now it is so") if (r.case, r.stage) == (case, stage) else r
        for r in run.records
    )
    return replace(run, records=tuple(changed))


@pytest.mark.parametrize("seed", range(0, 40, 2))
def test_equal_runs_with_noise_name_nothing(seed):
    found = compare(noisy(seed), noisy(seed + 1))

    assert (found.flips, found.moves) == ((), ())
    assert found.figures == 2 * len(CASES)
    assert not found.worse


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_loss_of_five_percent_and_a_flipped_verdict_are_named_and_nothing_else(seed):
    slow, flipped = CASES[17], CASES[40]
    before = noisy(100 + seed, correlation=0.0)
    after = with_outcome(noisy(200 + seed, correlation=0.0, change={slow: 0.95}), flipped, "numerics", "FAIL")

    found = compare(before, after)

    assert [(m.case, m.stage, m.worse) for m in found.moves] == [(str(slow), "throughput", True)]
    assert found.moves[0].change == pytest.approx(-0.05, abs=0.02)
    assert [(f.case, f.stage, f.before, f.after, f.worse) for f in found.flips] == [
        (str(flipped), "numerics", "PASS", "FAIL", True)
    ]


def test_a_gain_is_named_and_is_not_worse():
    found = compare(noisy(1), noisy(2, change={CASES[3]: 1.06}))

    assert [(m.case, m.worse) for m in found.moves] == [(str(CASES[3]), False)]
    assert not found.worse


def test_a_change_within_wide_intervals_is_not_named():
    assert compare(noisy(1, noise=0.1), noisy(2, noise=0.1, change={CASES[3]: 0.95})).moves == ()


def test_a_certain_change_that_does_not_matter_is_not_named():
    exact = dict.fromkeys(("half",), 1e-6)

    assert compare(run_of([timed(CASE, 100.0, **exact)]), run_of([timed(CASE, 99.5, **exact)])).moves == ()
    assert len(compare(run_of([timed(CASE, 100.0, **exact)]), run_of([timed(CASE, 98.5, **exact)])).moves) == 1


def test_a_ratio_measured_in_turn_is_compared_in_place_of_the_rate():
    """The machine was half as fast, for the chip and for eager PyTorch."""
    ratio = {"ratio": 1.2, "ratio_low": 1.19, "ratio_high": 1.21}
    before, after = (run_of([timed(CASE, rate, **ratio)]) for rate in (100.0, 50.0))
    slower = run_of([timed(CASE, 50.0, ratio=0.9, ratio_low=0.89, ratio_high=0.91)])

    assert compare(before, after).moves == ()
    assert [move.figure for move in compare(before, slower).moves] == ["ratio"]


def test_a_drop_that_grew_beyond_its_bounds_is_worse():
    before, after = (run_of([agreed(CASE, "top1", drop=drop)]) for drop in (0.001, 0.03))

    (move,) = compare(before, after).moves
    assert (move.figure, move.worse) == ("drop", True)
    assert move.change == pytest.approx(0.029)


def test_figures_of_other_images_are_not_compared():
    before, after = (
        run_of([replace(agreed(CASE, "top1", drop=drop), facts={"images": n})]) for drop, n in ((0.0, 96), (0.3, 5000))
    )
    found = compare(before, after)

    assert found.moves == ()
    assert "96 and 5000 images" in found.unlike[0]


def test_what_ran_in_one_run_only_and_what_is_decided_in_one_only_is_listed_and_not_worse():
    other = Case.parse("regnety_016-t4-fp16-bs1")
    before = run_of([timed(CASE, 1.0), Record(other, "export", "PASS", "x"), Record(CASE, "export", "PASS", "x")])
    after = run_of(
        [timed(CASE, 1.0), Record(CASE, "export", "INCONCLUSIVE", "x"), Record(other, "export", "SKIP", "x")]
    )
    found = compare(before, after)

    assert found.gone == (str(other),)
    assert compare(after, before).new == (str(other),)
    assert "PASS -> INCONCLUSIVE" in found.undecided[0]
    assert not found.worse


def test_what_changed_beside_is_named():
    packages = {**HEADER["packages"], "torch": "2.6"}
    options = {**HEADER["options"], "limit": "100", "require": "['t4']"}
    record = timed(CASE, 1.0)
    before = run_of([replace(record, facts={"version": "CANN 6", "device": "310P3"})])
    after = run_of([replace(record, facts={"version": "CANN 7", "device": "310P3"})], packages=packages,
                   options=options, host="lab2", time="2026-02-02")  # fmt: skip

    assert set(compare(before, after).beside) == {
        ("packages.torch", "2.5", "2.6"), ("options.limit", "None", "100"), ("host", "lab", "lab2"),
        ("ascend310p version", "CANN 6", "CANN 7"),
    }  # fmt: skip


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
    a = files("a.jsonl", noisy(1, cases=CASES[:6]))
    b = files("b.jsonl", noisy(2, cases=CASES[:6], change={CASES[3]: 0.9}))

    status, table = run_verb(capsys, "compare", a, b, "--md", tmp_path / "out.md", "--lang", "en")
    as_json = run_verb(capsys, "compare", a, b, "--json")

    assert status == as_json[0] == 1
    told = json.loads(as_json[1])
    assert (told["worse"], len(told["moves"]), told["moves"][0]["case"]) == (True, 1, str(CASES[3]))
    for text in (table, (tmp_path / "out.md").read_text()):
        assert str(CASES[3]) in text
        assert "1 figures moved" in text
    assert run_verb(capsys, "compare", a, a)[0] == 0
    assert run_verb(capsys, "compare", a, tmp_path / "none.jsonl")[0] == 2


def test_changes_are_the_second_block_of_a_report_and_escaped():
    before = run_of([Record(CASE, "numerics", "PASS", "x")])
    after = run_of([Record(CASE, "numerics", "FAIL", "<script>alert(1)</script>")])
    text = page(after, changes=comparing.html(compare(before, after)))

    assert text.index('id="failures"') < text.index('id="changes"') < text.index('id="grid"')
    assert "<script>alert" not in text


def past(values, versions=None, noise=0.01, seed=0, **header):
    chance = np.random.default_rng(seed)
    runs = []
    for day, value in enumerate(values):
        facts = {"version": versions[day]} if versions else {}
        record = Record(CASE, "throughput", "PASS", "x", "", {"measured": value * math.exp(chance.normal(0, noise))},
                        (), facts)  # fmt: skip
        runs.append(run_of([record], time=f"2026-01-{day + 1:02d}T00:00:00Z", **header))
    return runs


def test_history_says_since_which_run_a_figure_moved_and_which_version_changed_there():
    versions = ["CANN 6"] * 9 + ["CANN 7"] * 6
    points = series(past([100.0] * 9 + [93.0] * 6, versions), CASE, "throughput")

    (change,) = changes(points)

    assert change.first.run.header["time"] == "2026-01-10T00:00:00Z"
    assert change.relative == pytest.approx(-0.07, abs=0.02)
    assert change.beside == (("ascend310p version", "CANN 6", "CANN 7"),)


def test_history_finds_two_changes():
    points = series(past([100.0] * 9 + [90.0] * 9 + [100.0] * 9), CASE, "throughput")

    assert [change.first.run.header["time"][8:10] for change in changes(points)] == ["10", "19"]


def test_a_steady_series_is_given_a_change_no_more_often_than_stated():
    alarms = sum(
        bool(changes(series(past([100.0] * 12, seed=seed, noise=0.05), CASE, "throughput"))) for seed in range(60)
    )

    assert alarms <= 3  # of 60 at 1 %: more has a chance of 0.3 %
    assert ALARM == 0.01


def test_few_runs_show_no_change_and_other_hosts_simulated_and_invalid_ones_do_not_count():
    assert changes(series(past([100.0] * 5 + [50.0] * 5), CASE, "throughput")) == []
    assert FEWEST == 11
    here, there = past([1.0] * 3), past([5.0] * 3, host="other")
    simulated = run_of([timed(CASE, 9.0)], time="2026-03-01")
    invalid = run_of([replace(timed(CASE, 9.0, "INVALID"), marks=())], time="2026-03-02")

    assert len(series([*there[:1], *here[1:], simulated, invalid], CASE, "throughput")) == 2
    assert all(isinstance(point, Point) for point in series(here, CASE, "throughput"))


def test_the_history_verb_reads_a_folder(files, capsys, tmp_path):
    for day, run in enumerate(past([100.0] * 9 + [90.0] * 6)):
        files(f"{day:02d}.jsonl", run)
    (tmp_path / "cut.jsonl").write_text("{")

    status, text = run_verb(capsys, "history", CASE, "--results", tmp_path, "--lang", "en")

    assert status == 1
    assert "since 2026-01-10T00:00:00Z" in text
    told = json.loads(run_verb(capsys, "history", CASE, "--results", tmp_path, "--json")[1])
    assert len(told["series"][0]["points"]) == 15
    assert run_verb(capsys, "history", "regnety_016-t4-fp16-bs1", "--results", tmp_path)[0] == 2
    assert run_verb(capsys, "history", CASE, "--results", tmp_path / "none")[0] == 2
