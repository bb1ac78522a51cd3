"""chipproof selftest: what it says of healthy chips and of planted faults."""

import json

import pytest

from harness import baselines
from harness.errors import UsageError
from harness.judge import throughput as judging
from tools import cli, selftest
from tools.healthy import NOISES

CAUGHT = selftest.Planted("the chip is slow", "throughput FAIL", "FAIL: 0.25 of the published", True)


def test_many_runs_are_judged_in_several_processes(capsys, monkeypatch):
    monkeypatch.setattr(selftest, "FEW", 1)
    status, out, _ = run(capsys, "--runs", "2", "--noise", "independent", "--no-faults", "--json")
    monkeypatch.setattr(selftest, "FEW", 2)
    _, alone, _ = run(capsys, "--runs", "1", "--noise", "independent", "--no-faults", "--json")

    assert status == 0
    assert json.loads(out)["noises"]["independent"]["runs"] == 2
    assert json.loads(alone)["noises"]["independent"]["runs"] == 1


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(["selftest", *arguments])
    return ended.value.code, *capsys.readouterr()


def test_the_command_prints_a_line_for_each_noise_and_every_planted_fault(capsys, monkeypatch):
    monkeypatch.setattr(selftest, "plant", lambda tests: [CAUGHT])
    status, out, _ = run(capsys, "--runs", "2")

    assert status == 0
    figures = sum(cell.chosen and cell.metric == "throughput" for cell in baselines.load().cells)
    assert f"2 healthy runs of {figures} figures" in out
    for noise in NOISES:
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
