"""chipproof selftest: it counts what is wrong, and would see a judge that is wrong."""

import json

import numpy as np
import pytest

from harness import baselines
from harness.errors import UsageError
from harness.judge import stats
from harness.judge import throughput as judging
from harness.run import throughput, windows
from tools import cli, selftest

CAUGHT = selftest.Planted("the chip is slow", "throughput FAIL", "FAIL: 0.25 of the published", True)


def count(noise="independent", runs=20, seed=1, **more):
    more = {"outlasting": noise in selftest.OUTLASTING, **more}
    return selftest.healthy(baselines.load(), selftest.NOISES[noise], runs, np.random.default_rng(seed), **more)


def figures():
    return sum(cell.chosen and cell.metric == "throughput" for cell in baselines.load().cells)


@pytest.mark.parametrize("noise", selftest.NOISES)
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
    kept = selftest._sessions

    def same(noise, rng, figures, patience_s):
        for rows in kept(noise, rng, figures, patience_s):
            fresh = rows.first[20 : 20 + 10 * 4].reshape(10, 4)
            yield selftest.Sessions(rows.first, np.concatenate([fresh, fresh]), rows.patience_s)

    monkeypatch.setattr(selftest, "_sessions", same)

    assert not count("slow clock").holds


def test_counts_of_several_processes_are_added():
    parts = [("independent", 1, (0, n), 60.0) for n in range(2)]
    one, two = map(selftest._part, parts)
    both = selftest.Count()
    for part in (one, two):
        both.add(part)

    assert (both.runs, both.figures, both.at_floor.total()) == (2, 2 * figures(), 2 * selftest.AT_FLOOR)
    assert both.seconds == one.seconds + two.seconds
    assert both.outcomes == one.outcomes + two.outcomes
    both.add(selftest.Count(reds=list("abcdefgh")))
    assert len(both.reds) == selftest.TOLD_REDS


def test_many_runs_are_judged_in_several_processes(capsys, monkeypatch):
    monkeypatch.setattr(selftest, "FEW", 1)
    status, out, _ = run(capsys, "--runs", "2", "--noise", "independent", "--no-faults", "--json")
    monkeypatch.setattr(selftest, "FEW", 2)
    _, alone, _ = run(capsys, "--runs", "1", "--noise", "independent", "--no-faults", "--json")

    assert status == 0
    assert json.loads(out)["noises"]["independent"]["runs"] == 2
    assert json.loads(alone)["noises"]["independent"]["runs"] == 1


def test_an_interval_that_trusts_correlated_windows_is_seen(monkeypatch):
    monkeypatch.setattr(stats, "CORRELATED", 1.0)
    monkeypatch.setattr(judging, "ONE_STATE", 0.0)  # no fresh sessions, which would decide most of them

    found = count("AR(0.9)")

    assert found.silent > 0.07
    assert not found.holds


@pytest.mark.parametrize("noise", selftest.NOISES)
def test_the_noises_are_those_they_say(noise):
    x = selftest.NOISES[noise](np.random.default_rng(0), 400, 200)
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


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(["selftest", *arguments])
    return ended.value.code, *capsys.readouterr()


def test_the_command_prints_a_line_for_each_noise_and_every_planted_fault(capsys, monkeypatch):
    monkeypatch.setattr(selftest, "plant", lambda tests: [CAUGHT])
    status, out, _ = run(capsys, "--runs", "2")

    assert status == 0
    assert f"2 healthy runs of {figures()} figures" in out
    for noise in selftest.NOISES:
        assert f"\n{noise} " in out
    assert "\n1 fault planted, 1 caught, 0 not as tests/faults says\n  the chip is slow: throughput FAIL\n" in out
    assert "\n    FAIL: 0.25 of the published" in out


def test_the_command_speaks_json_and_fails_when_runs_are_red(capsys, monkeypatch):
    monkeypatch.setattr(judging, "BETWEEN", 0.0)
    status, out, _ = run(capsys, "--runs", "30", "--noise", "independent", "--json", "--no-faults")

    found = json.loads(out)
    assert status == 1
    assert found["noises"]["independent"]["red_runs"] > 1
    assert found["faults"] == []


def test_an_unknown_noise_is_refused(capsys):
    status, _, err = run(capsys, "--noise", "pink")

    assert status == 2
    assert "there are independent, AR(0.9), two clocks, slow clock, heavy tails, AR(0.5), clock 0.005" in err


def test_a_fault_that_nobody_catches_fails_the_command(capsys, monkeypatch):
    missed = selftest.Planted("the mean is forgotten", "", "", False)
    monkeypatch.setattr(selftest, "plant", lambda tests: [CAUGHT, missed])
    status, out, _ = run(capsys, "--runs", "1", "--noise", "independent")

    assert status == 1
    assert "2 faults planted, 1 caught, 1 not as tests/faults says" in out
    assert "\n! the mean is forgotten: nothing is red\n" in out


def test_the_table_has_the_fewest_images():
    shown = list(selftest._faults([selftest.Planted("a row is wrong", "accuracy FAIL", "", True, 31), CAUGHT]))

    assert "  a row is wrong: accuracy FAIL; accuracy shows it from 31 images on" in shown
    assert "  the chip is slow: throughput FAIL" in shown


def test_without_the_tests_no_fault_is_planted(tmp_path):
    assert selftest.plant(tmp_path / "test_faults.py") is None
    assert list(selftest._faults(None))[1].startswith("no planted faults here")


def test_the_faults_are_planted_by_their_tests(tmp_path):
    """Three tests as those of tests/faults are: caught as told, caught elsewhere, and one that broke off."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("")
    tests = tmp_path / "a" / "b" / "test_faults.py"
    tests.write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('n', [0, 1, 2])\n"
        "def test_a_planted_fault_is_caught(n, record_property):\n"
        "    if n == 2: raise KeyError('n')\n"
        "    record_property('fault', f'fault {n}')\n"
        "    record_property('found', 'numerics FAIL')\n"
        "    record_property('message', 'FAIL class <b>')\n"
        "    record_property('images', 7 if n else '')\n"
        "    assert n == 0\n"
    )

    planted = selftest.plant(tests)

    assert planted == [
        selftest.Planted("fault 1", "numerics FAIL", "FAIL class <b>", False, 7),
        selftest.Planted("test_a_planted_fault_is_caught[2]", "", "", False),
        selftest.Planted("fault 0", "numerics FAIL", "FAIL class <b>", True),
    ]
    assert [one.caught for one in planted] == [True, False, True]


def test_tests_that_cannot_be_run_are_an_error(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = ['--no-such-option']\n")
    tests = tmp_path / "a" / "b" / "test_faults.py"
    tests.write_text("")

    with pytest.raises(UsageError, match=r"(?s)could not be run: .*--no-such-option"):
        selftest.plant(tests)


def test_windows_are_taken_one_after_the_other_and_those_of_a_fresh_session_from_its_row(monkeypatch):
    cell = next(c for c in baselines.load().cells if c.chosen and c.metric == "throughput" and c.batch == 8)
    near = 0.96 + 0.001 * (-1.0) ** np.arange(80)
    rows = selftest.Sessions(near, np.arange(64.0).reshape(16, 4) / 1e5 + 0.96, throughput.CHIP_PATIENCE_S)
    taken = []
    whole = windows.speed_of
    monkeypatch.setattr(selftest, "speed_of", lambda run, batch: taken.append(run) or whole(run, batch))

    effort, speed, _ = selftest.measured(rows, cell.value / 8, 8, cell)

    rates = [w.executes / (cell.value / 8) for block in taken[-1].blocks for w in block[0].windows]
    assert speed.sessions == effort.sessions >= 6
    assert rates[:20] == pytest.approx(near[:20])
    assert rates[20:] == pytest.approx(rows.fresh.ravel()[: len(rates) - 20])
    assert effort.seconds == len(rates)
