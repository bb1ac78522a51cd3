"""What a run is without any option: on real SDKs, strict, on the lab's own data."""

from dataclasses import FrozenInstanceError

import pytest

from harness import baselines
from harness.case import Case
from harness.chips import CHIPS
from harness.errors import UsageError
from harness.run.settings import CHIP_PLAN, Settings, lab_policy
from harness.store import Store


@pytest.fixture
def settings(tmp_path):
    return Settings(Store(tmp_path), baselines.load())


@pytest.mark.parametrize("chip", CHIPS.values(), ids=CHIPS)
def test_no_simulator_is_chosen_unasked(settings, chip):
    assert settings.environment(chip) is None


def test_nothing_is_left_out_unasked(settings):
    assert settings.exact
    assert settings.limit is None
    assert settings.runner is None


ROW = '[[observe]]\ncase = "*-bs7"\nstage = "*"\nreason = "x"\n'


def test_the_policy_is_the_given_file_or_that_of_the_folder_and_knows_the_users_cases(tmp_path):
    own = Case.parse("own_lane-cpu-fp32-bs7")
    assert lab_policy(None, tmp_path).observed == ()
    (tmp_path / "chipproof.toml").write_text(ROW)
    (tmp_path / "other.toml").write_text(ROW.replace("bs7", "bs1"))

    assert [row.case for row in lab_policy(None, tmp_path, [own]).observed] == ["*-bs7"]
    assert [row.case for row in lab_policy(tmp_path / "other.toml", tmp_path).observed] == ["*-bs1"]
    with pytest.raises(UsageError, match=r"no case matches '\*-bs7'"):
        lab_policy(None, tmp_path)


def test_options_are_fixed_for_the_run(settings):
    with pytest.raises(FrozenInstanceError):
        settings.exact = False


def test_a_chip_is_timed_long_enough_for_its_99th_percentile():
    """100 executes lie beyond it where an execute takes 0.5 ms, 10 where it takes 5 ms."""
    for latency_s, beyond in ((0.0005, 100), (0.005, 10)):
        assert min(CHIP_PLAN.latencies, CHIP_PLAN.latency_s / latency_s) * 0.01 >= beyond
