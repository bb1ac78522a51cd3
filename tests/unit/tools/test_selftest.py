"""chipproof selftest: it counts what is wrong, and would see a judge that is wrong."""

import json

import numpy as np
import pytest

from harness import baselines
from harness.judge import stats, verdict
from harness.run import throughput
from tools import cli, selftest


def count(noise="independent", runs=20, seed=1, **more):
    return selftest.healthy(baselines.load(), selftest.NOISES[noise], runs, np.random.default_rng(seed), **more)


def figures():
    return sum(cell.chosen and cell.metric == "throughput" for cell in baselines.load().cells)


@pytest.mark.parametrize("noise", selftest.NOISES)
def test_healthy_chips_are_hardly_ever_red_and_no_interval_misses_unsaid(noise):
    found = count(noise)

    assert found.figures == 20 * figures()
    assert found.holds, found.as_json()
    assert found.red == 0
    assert found.undecided < (0.6 if noise in ("AR(0.9)", "two clocks") else 0.15)
    assert found.doubted_held >= 0.97 * found.doubted


def test_a_judge_that_forgets_that_runs_differ_is_seen(monkeypatch):
    monkeypatch.setattr(verdict, "BETWEEN", 0.0)

    found = count(runs=30)

    assert found.red > 1
    assert not found.holds
    assert found.reds[0].startswith("FAIL: ")


def test_an_interval_that_trusts_correlated_windows_is_seen(monkeypatch):
    monkeypatch.setattr(stats, "CORRELATED", 1.0)

    found = count("AR(0.9)")

    assert found.silent > 0.07
    assert not found.holds


@pytest.mark.parametrize("noise", selftest.NOISES)
def test_the_noises_are_those_they_say(noise):
    x = selftest.NOISES[noise](np.random.default_rng(0), 400, 200)
    d = x - x.mean()
    correlation = float((d[:, 1:] * d[:, :-1]).mean() / (d * d).mean())

    wanted = {"independent": 0.0, "AR(0.9)": 0.9, "two clocks": 0.77, "heavy tails": 0.0}[noise]
    assert correlation == pytest.approx(wanted, abs=0.03)
    assert x.mean() == pytest.approx(1, abs=0.004)
    assert x.std() == pytest.approx(0.0255 if noise == "two clocks" else 0.02, rel=0.15)


def test_patience_is_what_a_figure_may_take():
    short, long = count(runs=3, patience_s=20.0), count(runs=3, patience_s=120.0)

    assert short.seconds / short.figures == 20
    assert short.undecided > long.undecided
    assert long.seconds / long.figures < 60


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(["selftest", *arguments])
    return ended.value.code, *capsys.readouterr()


def test_the_command_prints_a_line_for_each_noise_and_every_planted_fault(capsys):
    status, out, _ = run(capsys, "--runs", "2")

    assert status == 0
    assert f"2 healthy runs of {figures()} figures" in out
    for noise in selftest.NOISES:
        assert f"\n{noise} " in out
    assert "the chip is slow" in out
    assert "every second timed execute is skipped" in out


def test_the_command_speaks_json_and_fails_when_runs_are_red(capsys, monkeypatch):
    monkeypatch.setattr(verdict, "BETWEEN", 0.0)
    status, out, _ = run(capsys, "--runs", "30", "--noise", "independent", "--json")

    found = json.loads(out)
    assert status == 1
    assert found["noises"]["independent"]["red_runs"] > 1
    assert found["faults"]["the chip is slow"] == {"throughput": "FAIL"}


def test_an_unknown_noise_is_refused(capsys):
    status, _, err = run(capsys, "--noise", "pink")

    assert status == 2
    assert "there are independent, AR(0.9), two clocks, heavy tails" in err


def test_without_the_tests_there_is_no_list_of_faults(tmp_path):
    assert selftest.caught(tmp_path / "README.md") == {}
    assert list(selftest._faults({})) == ["no list of planted faults here: it comes with a checkout of the project"]


def test_windows_are_taken_one_after_the_other():
    cell = next(c for c in baselines.load().cells if c.chosen and c.metric == "throughput" and c.batch == 8)
    rates = np.linspace(0.99, 1.01, 80) * cell.value / 8

    blocks, effort, _ = selftest.measured(rates, 8, cell, throughput.CHIP_PATIENCE_S)

    taken = [window.executes for block in blocks for window in block[0].windows]
    assert taken == list(rates[: len(taken)])
    assert effort.seconds == len(taken)
