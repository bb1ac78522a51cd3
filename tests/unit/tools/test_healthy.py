"""Healthy chips under noise: what is wrong is counted, and a judge that is wrong would be seen."""

import numpy as np
import pytest

from harness import baselines
from harness.chips import CHIP_PATIENCE_S
from harness.judge import stats
from harness.judge import throughput as judging
from harness.run import windows
from tools import healthy


def count(noise="independent", runs=20, seed=1, **more):
    more = {"outlasting": noise in healthy.OUTLASTING, **more}
    return healthy.healthy(baselines.load(), healthy.NOISES[noise], runs, np.random.default_rng(seed), **more)


def figures():
    return sum(cell.chosen and cell.metric == "throughput" for cell in baselines.load().cells)


@pytest.mark.parametrize("noise", healthy.NOISES)
def test_healthy_chips_are_hardly_ever_red_and_no_interval_misses_unsaid(noise):
    found = count(noise)

    assert found.figures == 20 * figures()
    assert found.holds, found.as_json()
    assert found.red == 0
    assert found.undecided < (0.4 if noise in ("AR(0.9)", "two clocks", "slow clock") else 0.15)
    assert found.doubted_held >= 0.97 * found.doubted
    assert found.at_floor.total() == 100
    assert found.wrong <= 0.06


def test_a_judge_that_forgets_that_runs_differ_is_seen(monkeypatch):
    monkeypatch.setattr(judging, "BETWEEN", 0.0)

    found = count(runs=30)

    assert found.red > 1
    assert not found.holds
    assert found.reds[0].startswith("FAIL: ")


@pytest.mark.parametrize("name", ["ONE_STATE", "SESSIONS"])
def test_a_judge_that_takes_one_session_for_the_device_is_seen(monkeypatch, name):
    """As before fresh sessions were measured: of devices at the floor, 26 to 44 % passed."""
    monkeypatch.setattr(judging, name, 0)

    found = count("slow clock")

    assert found.wrong > 0.15
    assert not found.holds


def test_sessions_that_are_not_fresh_are_seen(monkeypatch):
    """One process is kept, and with it the clock state of the first session."""
    kept = healthy._sessions

    def same(noise, rng, figures, patience_s):
        for rows in kept(noise, rng, figures, patience_s):
            fresh = rows.first[20 : 20 + 10 * 4].reshape(10, 4)
            yield healthy.Sessions(rows.first, np.concatenate([fresh, fresh]), rows.patience_s)

    monkeypatch.setattr(healthy, "_sessions", same)

    assert not count("slow clock").holds


def test_counts_of_several_processes_are_added():
    parts = [("independent", 1, (0, n), 60.0) for n in range(2)]
    one, two = map(healthy.judge, parts)
    both = healthy.Count()
    for part in (one, two):
        both.add(part)

    assert (both.runs, both.figures, both.at_floor.total()) == (2, 2 * figures(), 2 * healthy.AT_FLOOR)
    assert both.seconds == one.seconds + two.seconds
    assert both.outcomes == one.outcomes + two.outcomes
    both.add(healthy.Count(reds=list("abcdefgh")))
    assert len(both.reds) == healthy.TOLD_REDS


def test_an_interval_that_trusts_correlated_windows_is_seen(monkeypatch):
    monkeypatch.setattr(stats, "CORRELATED", 1.0)
    monkeypatch.setattr(judging, "ONE_STATE", 0.0)  # no fresh sessions, which would decide most of them

    found = count("AR(0.9)")

    assert found.silent > 0.07
    assert not found.holds


@pytest.mark.parametrize("noise", healthy.NOISES)
def test_the_noises_are_those_they_say(noise):
    x = healthy.NOISES[noise](np.random.default_rng(0), 400, 200)
    d = x - x.mean()
    correlation = float((d[:, 1:] * d[:, :-1]).mean() / (d * d).mean())

    wanted = {"independent": 0.0, "AR(0.9)": 0.9, "two clocks": 0.77, "slow clock": 0.95, "heavy tails": 0.0}[noise]
    assert correlation == pytest.approx(wanted, abs=0.03)
    assert x.mean() == pytest.approx(1, abs=0.004)
    assert x.std() == pytest.approx(0.0255 if "clock" in noise else 0.02, rel=0.15)


def test_patience_is_what_a_figure_may_take():
    short, long = count(runs=3, patience_s=20.0), count(runs=3, patience_s=120.0)

    assert short.seconds / short.figures == 20
    assert short.undecided > long.undecided
    assert long.seconds / long.figures < 60


def test_windows_are_taken_one_after_the_other_and_those_of_a_fresh_session_from_its_row(monkeypatch):
    cell = next(c for c in baselines.load().cells if c.chosen and c.metric == "throughput" and c.batch == 8)
    near = 0.96 + 0.001 * (-1.0) ** np.arange(80)
    rows = healthy.Sessions(near, np.arange(64.0).reshape(16, 4) / 1e5 + 0.96, CHIP_PATIENCE_S)
    taken = []
    whole = windows.speed_of
    monkeypatch.setattr(healthy, "speed_of", lambda run, batch: taken.append(run) or whole(run, batch))

    effort, speed, _ = healthy.measured(rows, cell.value / 8, 8, cell)

    rates = [w.executes / (cell.value / 8) for block in taken[-1].blocks for w in block[0].windows]
    assert speed.sessions == effort.sessions >= 6
    assert rates[:20] == pytest.approx(near[:20])
    assert rates[20:] == pytest.approx(rows.fresh.ravel()[: len(rates) - 20])
    assert effort.seconds == len(rates)
