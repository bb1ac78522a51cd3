"""What all cases of a run share: chips are looked for once, images are held out."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from harness import baselines
from harness.backends.base import Device, Health
from harness.backends.registry import Pythons
from harness.chips import CHIPS
from harness.datasets.base import Absent, Dataset, Sample
from harness.errors import DataError, DeviceError
from harness.judge.policy import Policy
from harness.models import MODELS
from harness.run import context
from harness.run.context import CALIBRATION, RunContext
from harness.run.devices import Presence
from harness.run.settings import Settings
from harness.store import Store

MODEL = MODELS["regnety_016"]


def run(tmp_path, **settings):
    return RunContext(Settings(Store(tmp_path), baselines.load(), **settings))


def whole(count):
    return Dataset("imagenet", "whole", [Sample(f"n{i:05d}", lambda: None) for i in range(count)], count, None, "d")


@pytest.fixture
def looked_for(monkeypatch):
    """The backends of each chip that was looked for; four devices are always there."""
    asked = []

    def find(chip, start):
        asked.append(chip.backends)
        return Presence(chip.backends[0], "1", tuple(Device(i, "Ascend310") for i in range(4)), "4 devices")

    monkeypatch.setattr(context.devices, "find", find)
    return asked


def test_a_chip_is_looked_for_once(tmp_path, looked_for):
    shared = run(tmp_path)

    assert shared.present(CHIPS["ascend310"]) is shared.present(CHIPS["ascend310"])
    assert looked_for == [CHIPS["ascend310"].backends]


def test_a_run_that_needed_no_device_removes_what_a_killed_one_noted_of_its_leases(tmp_path, monkeypatch):
    """It resumed one that was killed after its last verdict, before the device was given back."""
    roots = [tmp_path / "leases", tmp_path / "leases" / "simulated"]
    monkeypatch.setattr(context.leases, "LEASES", roots[0])
    monkeypatch.setattr(context.leases, "SIMULATED", roots[1])
    roots[1].mkdir(parents=True)
    for root in roots:
        (root / "310-0.4-0.json").write_text('{"pid": 4000000000, "born": 1}')
        (root / "310-1.4-0.json").write_text("no note")

    run(tmp_path).close()

    assert sorted(path.name for path in tmp_path.rglob("*.json")) == ["310-1.4-0.json"] * 2


def test_a_runner_is_the_only_backend_that_is_asked(tmp_path, looked_for):
    run(tmp_path, runner="msame").present(CHIPS["ascend310"])

    assert looked_for == [("msame",)]


@pytest.mark.parametrize(("device", "left"), [(2, [2]), (7, [])])
def test_only_the_device_that_was_asked_for_is_left_and_the_evidence_says_so(device, left, tmp_path, looked_for):
    present = run(tmp_path, device=device).present(CHIPS["ascend310"])

    assert [found.index for found in present.devices] == left
    assert present.evidence == ("4 devices; of these --device 2" if left else "no device 7; 4 devices")
    assert present.hint == ("" if left else "give --device one of 0, 1, 2, 3")


def test_a_device_is_chosen_by_the_number_that_the_runtime_gives_it():
    """The vendor's tools count those that *_VISIBLE_DEVICES hides, too."""
    there = Presence("acl", "CANN", (Device(0, "310P3", physical=1), Device(1, "310P3", physical=0)), "seen")

    assert [device.physical for device in there.only(1).devices] == [0]


def test_a_simulated_chip_is_one_whose_worker_gets_another_environment(tmp_path):
    shared = run(tmp_path, environment=lambda chip: {"SDK": "ours"} if chip.name == "t4" else None)

    assert shared.simulated(CHIPS["t4"])
    assert not shared.simulated(CHIPS["cpu"])


def test_a_worker_gets_the_labs_variables_and_a_simulators_before_them(tmp_path, monkeypatch):
    monkeypatch.setattr(context, "Worker", lambda backend, env, **_: env)
    rules = Policy(environment={"t4": {"LAB": "1", "PATH": "/lab"}})
    shared = run(tmp_path, policy=rules, environment=lambda chip: {"PATH": "/simulated"})

    assert shared.worker(CHIPS["t4"], "trt") == {"LAB": "1", "PATH": "/simulated"}
    assert shared.worker(CHIPS["ascend310"], "acl") == {"PATH": "/simulated"}


def test_a_worker_runs_under_the_interpreter_of_its_chip(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(context, "Worker", lambda backend, python, **_: started.append((backend, python)))
    shared = run(tmp_path, pythons=Pythons("/every", {"t4": "/of/t4"}))

    shared.worker(CHIPS["t4"], "trt")
    shared.worker(CHIPS["rk3588"], "rknn")

    assert started == [("trt", "/of/t4"), ("rknn", "/every")]


# ---------------------------------------------------------------- images


@pytest.mark.parametrize(
    ("health", "refused"),
    [
        (Health(), ""),
        (Health(processes=("1 init",)), "is not reset, because it is used by 1 init"),
        (Health(unseen_mb=5000.0), "is not reset, because it is used by a program not visible here"),
    ],
)
def test_a_card_that_others_use_is_not_reset(tmp_path, monkeypatch, health, refused):
    """The second device of the card is the one that is in use."""
    pair = tuple(Device(number, "310P3", card=4) for number in (0, 1))
    worker = SimpleNamespace(health=lambda one: Health() if one is pair[0] else health, reset=lambda one: "done")
    monkeypatch.setattr(RunContext, "present", lambda self, chip: Presence("acl", "8.0", pair, "here"))
    monkeypatch.setattr(RunContext, "lease", lambda self, chip, device, holder, exclusive: nullcontext())
    monkeypatch.setattr(RunContext, "worker", lambda self, chip, backend, who="": nullcontext(worker))
    context = run(tmp_path)

    if refused:
        with pytest.raises(DeviceError, match=refused):
            context.reset(CHIPS["ascend310p"])
    else:
        assert context.reset(CHIPS["ascend310p"]) == "done"


def test_without_data_scenes_are_drawn_as_many_as_the_model_says(tmp_path):
    dataset = run(tmp_path).dataset(MODEL)

    assert (dataset.kind, len(dataset), dataset.note) == ("scenes", MODEL.scenes, "")


def test_an_absent_set_gives_scenes_that_say_what_is_missing_and_a_damaged_one_an_error(tmp_path, monkeypatch):
    def load(error):
        def loader(data):
            raise error

        monkeypatch.setitem(context.DATASETS, "imagenet", loader)
        return run(tmp_path, data=tmp_path).dataset(MODEL)

    assert load(Absent("no folder imagenet", "put it there")).note == "no folder imagenet; put it there"
    with pytest.raises(DataError, match="short list"):
        load(DataError("short list", "copy it again"))


def test_a_limit_cuts_the_data_set_once_for_all(tmp_path, monkeypatch):
    monkeypatch.setitem(context.DATASETS, "imagenet", lambda data: whole(100))
    shared = run(tmp_path, data=tmp_path, limit=7)

    assert len(shared.dataset(MODEL)) == 7
    assert shared.dataset(MODEL) is shared.dataset(MODEL)


def test_images_to_calibrate_on_are_none_of_those_to_evaluate_on(tmp_path):
    shared = run(tmp_path)
    shared._datasets[MODEL.name] = whole(500)

    held, rest = shared.calibration(MODEL)

    names = [{sample.id for sample in part.samples} for part in (held, rest)]
    assert len(names[0]) == CALIBRATION
    assert not names[0] & names[1]
    assert names[0] | names[1] == {sample.id for sample in whole(500).samples}


def test_images_are_held_out_by_their_names_and_not_by_their_places(tmp_path):
    """Else a list in another order would calibrate another engine."""
    one, other = run(tmp_path), run(tmp_path)
    one._datasets[MODEL.name] = whole(500)
    other._datasets[MODEL.name] = replace(whole(500), samples=whole(500).samples[::-1])

    held = [{sample.id for sample in shared.calibration(MODEL)[0].samples} for shared in (one, other)]

    assert held[0] == held[1]


@pytest.mark.parametrize("count", [1, 2 * CALIBRATION - 1])
def test_a_small_set_is_kept_whole_and_other_scenes_are_calibrated_on(count, tmp_path):
    shared = run(tmp_path)
    shared._datasets[MODEL.name] = whole(count)

    held, rest = shared.calibration(MODEL)

    assert held.kind == "scenes"
    assert rest is shared.dataset(MODEL)


def test_scenes_to_calibrate_on_are_none_of_those_to_evaluate_on(tmp_path):
    held, rest = run(tmp_path).calibration(MODEL)

    assert not {s.id for s in held.samples} & {s.id for s in rest.samples}
