"""What the verbs that use the suite have in common."""

import json

import pytest

from harness import matrix
from harness.errors import StoreError, UsageError
from harness.judge.policy import Policy
from harness.run.context import RunContext
from tools import cli
from tools.suite import deliver, suite


def test_a_file_is_delivered_whole_or_not_at_all(tmp_path):
    kept = tmp_path / "engine"
    kept.write_bytes(b"engine")
    (tmp_path / "folder").mkdir()

    deliver(kept, tmp_path / "new" / "engine.om")
    assert (tmp_path / "new" / "engine.om").read_bytes() == b"engine"
    with pytest.raises(StoreError, match="folder cannot be written") as caught:
        deliver(kept, tmp_path / "folder")
    assert str(kept) in caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["engine", "folder", "new"]


def test_a_data_folder_that_is_not_there_is_refused_before_random_weights_are_taken(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        suite(tmp_path / "typo", tmp_path)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("regnety_016-ascend-fp16-bs1", "there is no chip 'ascend'"),
        ("regnety-cpu-fp32-bs1", "there is no model 'regnety'"),
        ("regnety_016-cpu", "is not a case"),
    ],
)
@pytest.mark.parametrize("verb", ["build", "diagnose"])
def test_a_mistyped_case_is_no_defect_of_ours(verb, wrong, says, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([verb, wrong, "--cache", str(tmp_path), "--json"])

    said = capsys.readouterr()
    assert ended.value.code == 2
    assert says in json.loads(said.out)["fact"]
    assert "defect" not in said.err


def test_a_verb_puts_the_simulated_sdk_in_the_vendors_place(tmp_path):
    simulated, real = suite(None, tmp_path, simulate=True), suite(None, tmp_path)
    chip = matrix.chips()["ascend310p"]

    assert simulated.simulated(chip)
    assert "sdk/ascend" in simulated.settings.environment(chip)["PYTHONPATH"]
    assert not simulated.simulated(matrix.chips()["cpu"])
    assert not real.simulated(chip)


@pytest.mark.parametrize("verb", ["build", "diagnose"])
def test_verbs_that_use_a_chip_take_a_simulated_one(verb, tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(RunContext, "worker", lambda self, chip, backend: asked.append(self.simulated(chip)) or 1 / 0)

    with pytest.raises(SystemExit):
        cli.main([verb, "regnety_016-ascend310p-fp16-bs1", "--simulate", f"--cache={tmp_path}"])

    assert asked[0] is True


@pytest.mark.parametrize("verb", ["build", "diagnose"])
def test_verbs_that_use_a_chip_take_its_interpreter_and_settings(verb, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(RunContext, "worker", lambda self, chip, backend: asked.append(self.settings) or 1 / 0)
    given = ["--sdk-python=t4=sh", "--sdk-python=cat", "--backend-option=threads=2", "--backend-option=cpu:threads=4"]

    with pytest.raises(SystemExit):
        cli.main([verb, "regnety_016-cpu-fp32-bs1", f"--cache={tmp_path}", *given])

    assert asked[0].pythons.chips == {"t4": "sh"}
    assert asked[0].pythons.every == "cat"
    assert asked[0].backend_options.of("cpu") == {"threads": "4"}


@pytest.mark.parametrize("verb", ["build", "diagnose"])
def test_verbs_that_use_a_chip_look_at_what_the_run_looked_at(verb, tmp_path, monkeypatch):
    """The backend, the device, the engine and the surroundings of the lab: else another chip would be diagnosed."""
    asked = []
    monkeypatch.setattr(
        RunContext, "worker", lambda self, chip, backend: asked.append((backend, self.settings)) or 1 / 0
    )
    (tmp_path / "lab.toml").write_text('environment.t4 = { LD_LIBRARY_PATH = "/opt/lab" }\nsdk_python.t4 = "sh"\n')
    given = ["--runner=torch_cuda", "--device=3", "--tune", f"--policy={tmp_path / 'lab.toml'}"]

    with pytest.raises(SystemExit):
        cli.main([verb, "regnety_016-t4-fp32-bs1", f"--cache={tmp_path}", *given])

    ((backend, settings),) = asked
    assert (backend, settings.device, settings.tune) == ("torch_cuda", 3, True)
    assert settings.policy.environment["t4"] == {"LD_LIBRARY_PATH": "/opt/lab"}
    assert settings.pythons.chips == {"t4": "sh"}


def test_the_simulated_sdk_is_that_of_the_backend_that_is_asked_for(tmp_path):
    asked = suite(None, tmp_path, simulate=True, runner="acl").settings

    assert "sdk/ascend" in asked.environment(matrix.chips()["mlu370_s4"])["PYTHONPATH"]


def test_an_option_names_the_interpreter_before_the_policy(tmp_path):
    policy = Policy(pythons=("t4=cat",))

    assert suite(None, tmp_path, ["t4=sh"], policy=policy).settings.pythons.chips == {"t4": "sh"}


def test_the_policy_of_the_current_folder_holds_for_verbs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chipproof.toml").write_text("decided = 2\n")

    with pytest.raises(SystemExit) as ended:
        cli.main(["build", "regnety_016-cpu-fp32-bs1", f"--cache={tmp_path}"])

    assert ended.value.code == 2
    assert "decided = 2 is not a share" in capsys.readouterr().err


def test_a_backend_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--runner tensorrtt: no such backend"):
        suite(None, tmp_path, runner="tensorrtt")


@pytest.mark.parametrize(
    ("option", "said"), [("--sdk-python=rk3589=sh", "no such chip"), ("--backend-option=thread=2", "no backend knows")]
)
def test_a_wrong_interpreter_or_setting_is_refused(option, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["build", "regnety_016-cpu-fp32-bs1", f"--cache={tmp_path}", option])

    assert ended.value.code == 2
    assert said in capsys.readouterr().err
