"""Runs are compared by what they recorded of their own noise: a planted change is named, equal runs name nothing."""

from dataclasses import replace

import numpy as np
import pytest
from made_runs import HEADER, agreed, run_of, timed

from harness import matrix
from harness.case import Case
from harness.judge import drops, stats
from harness.report import compare as comparing
from harness.report.compare import compare
from harness.report.html import page
from harness.report.records import Record

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
        drop = drops.paired_drop(reference ^ flipped, reference)
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


@pytest.mark.slow
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


def test_rates_that_no_measurement_gives_are_not_compared():
    assert compare(run_of([timed(CASE, -100.0)]), run_of([timed(CASE, 100.0)])).moves == ()


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
    alone = run_of([timed(CASE, 50.0)])  # of a run whose eager PyTorch could not be started
    assert [move.figure for move in compare(before, alone).moves] == ["measured"]


def test_a_drop_that_grew_beyond_its_bounds_is_worse():
    before, after = (run_of([agreed(CASE, "top1", drop=drop)]) for drop in (0.001, 0.03))

    (move,) = compare(before, after).moves
    assert (move.figure, move.worse) == ("drop", True)
    assert move.change == pytest.approx(0.029)


def test_bounds_of_a_later_look_are_wider_and_tell_the_same_error():
    """An error of 0.4 %: at the second of several looks a bound lies 2.39 of them away, and a change of 2 % is 3.5."""
    values = {"look": 2, "images_of": 5000, "samples": 1024}
    before, after = (
        run_of([replace(record, values={**record.values, **values, "low": drop - 0.00958, "high": drop + 0.00958})])
        for drop in (0.0, 0.02)
        for record in [agreed(CASE, "top1", drop=drop)]
    )

    (move,) = compare(before, after).moves
    assert move.p == pytest.approx(0.0004, rel=0.05)


def test_what_an_engine_costs_is_told_where_it_changed():
    usual = {"build_s": 10.0, "engine_mb": 40.0, "worker_peak_mb": 800.0, "device_peak_mb": 500.0}
    before, alike, heavier = (
        run_of([Record(CASE, "numerics", "PASS", "equal", "", {name: factor * v for name, v in usual.items()})])
        for factor in (1.0, 1.01, 1.6)
    )

    kept = run_of([Record(CASE, "numerics", "PASS", "equal", "", {**usual, "build_s": 0.0})])
    assert compare(before, alike).beside == compare(kept, before).beside == compare(before, kept).beside == ()
    assert [what for what, *_ in compare(before, heavier).beside] == [f"{CASE} {name}" for name in usual]
    assert compare(before, heavier).beside[-1][1:] == ("500", "800 (+60 %)")


def test_figures_of_other_images_are_not_compared():
    before, after = (
        run_of([replace(agreed(CASE, "top1", drop=drop), facts={"images": n, "dataset_digest": f"of {n}"})])
        for drop, n in ((0.0, 512), (0.3, 5000))
    )
    found = compare(before, after)

    assert found.moves == ()
    assert "512 and 5000 images" in found.unlike[0]
    assert found.beside == (), "the data set is the same"


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


@pytest.mark.parametrize("broken", ["FAIL", "ERROR", "INVALID"])
def test_a_case_that_breaks_is_worse_and_one_that_recovers_is_not(broken):
    sound, red = (run_of([Record(CASE, "numerics", outcome, "x")]) for outcome in ("PASS", broken))

    (worse,), (better,) = compare(sound, red).flips, compare(red, sound).flips

    assert (worse.before, worse.after, worse.worse) == ("PASS", broken, True)
    assert (better.before, better.after, better.worse) == (broken, "PASS", False)


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


def test_an_option_that_changed_cannot_drive_a_terminal():
    bad = run_of([], options={"runner": "a\x1b[2J\u202e", "x\x1b[2J": "1"})

    told = "".join("".join(row) for row in compare(run_of([]), bad).beside)

    assert r"a\x1b[2J\u202e" in told
    assert told.isprintable()


def test_changes_are_the_second_block_of_a_report_and_escaped():
    before = run_of([Record(CASE, "numerics", "PASS", "x")])
    after = run_of([Record(CASE, "numerics", "FAIL", "<script>alert(1)</script>")])
    text = page(after, changes=comparing.html(compare(before, after)))

    assert text.index('id="failures"') < text.index('id="changes"') < text.index('id="grid"')
    assert "<script>alert" not in text


@pytest.mark.parametrize(("errors", "named"), [(3.2, False), (-3.2, False), (3.4, True), (-3.4, True)])
def test_a_change_of_one_figure_is_named_from_3_3_standard_errors_on_whichever_way_it_goes(errors, named):
    """Two-sided, at one in a thousand: 3.29 errors of the normal distribution."""
    error = 0.02

    def run(value):
        low, high = (value * np.exp(sign * 1.959964 * error) for sign in (-1, 1))
        figures = {"measured": value, "low": low, "high": high, "samples": 1_000_000}
        return run_of([Record(CASE, "throughput", "PASS", "fast", "", figures)])

    found = compare(run(100.0), run(100.0 * np.exp(errors * error * np.sqrt(2))))

    assert bool(found.moves) is named
