"""One case on the case_run: how chip and eager PyTorch are timed in turn, and which devices of a card are timed."""

import math
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness import matrix
from harness.backends import registry
from harness.backends.base import BuildSpec, Device, Health
from harness.backends.registry import BACKENDS
from harness.baselines import load
from harness.case import Case
from harness.errors import InvalidMeasurement
from harness.judge.policy import Policy
from harness.judge.throughput import Effort
from harness.judge.timing import Plan, Timing, Window
from harness.judge.verdict import Verdict
from harness.run import idle, peers, side
from harness.run import throughput as measuring
from harness.run.case_run import CaseRun
from harness.run.case_speed import CaseSpeed, untold
from harness.run.devices import Presence
from harness.run.engine import Built, CaseEngine
from harness.run.side import Side
from harness.run.windows import Measurement
from harness.vocabulary import Outcome

FP32 = next(case for case in matrix.cases() if str(case).endswith("cpu-fp32-bs1"))
IMAGES = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
BESIDE = next(case for case in matrix.cases() if str(case).endswith("intel_cpu-fp32-bs1"))
INT8 = next(case for case in matrix.cases() if str(case).endswith("cpu-int8-bs1"))
CASE_310P = next(case for case in matrix.cases() if case.chip == "ascend310p")


def unseen(what, total):
    return lambda done: None


@pytest.fixture
def paired(monkeypatch):
    """What happens, in order, while a case is timed; chip, eager PyTorch and clock stand in."""

    def happen(case, eager_after=1.0):
        told = []

        def timed(side):
            def measure(inputs, plan):
                told.append(side if plan is measuring.PAIR_PLAN else f"{side} alone")
                return Timing((), (Window(0.0, 1.0, 2),), () if plan is measuring.PAIR_PLAN else (1.0,) * 5)

            return measure

        @contextmanager
        def peer(context, name, engine):
            told.append(f"{name}: {engine.model.name} at batch {engine.plain_spec().batch}")
            yield SimpleNamespace(
                run=lambda images: told.append("run") or {"y": np.ones(2, np.float32)},
                measure=timed(name),
                read=lambda: {"y": np.full(2, eager_after, np.float32)},
            )
            told.append("gone")

        def settled(*case):
            return None

        settings = SimpleNamespace(
            policy=Policy(),
            process=0,
            tune=False,
            processes=1,
            patience=0.0,
            baselines=SimpleNamespace(cell=settled),
            progress=unseen,
        )
        case_run = CaseRun(SimpleNamespace(settings=settings, simulated=settled), case)
        answers = {"y": IMAGES.ravel()}
        vars(case_run.engine).update(present=Presence("ort", "", (Device(0, "CPU"),), ""))
        vars(case_run).update(
            first=answers,
            different=case.batch,
            session=SimpleNamespace(
                measure=timed("chip"),
                read=lambda: answers,
                run=lambda inputs: {"y": next(iter(inputs.values())).ravel()},
                places=1,
                resident_mb=None,
            ),
            worker=SimpleNamespace(health=lambda device: None),
        )  # fmt: skip
        monkeypatch.setattr(peers, "opened", peer)
        monkeypatch.setattr(CaseEngine, "calibration", lambda self: None)
        monkeypatch.setattr(CaseRun, "inputs", lambda self, raw=False: {self.model.input: IMAGES})
        monkeypatch.setattr(measuring.Load, "now", lambda: None)
        monkeypatch.setattr(measuring, "PAIRS_LIMIT_S", math.inf)
        monkeypatch.setattr(Side, "check_fresh", lambda self, *timed: None)
        monkeypatch.setattr(measuring.time, "sleep", lambda seconds: told.append(f"{seconds} s"))
        return CaseSpeed(case_run).measurement, told

    return happen


def test_chip_and_eager_pytorch_take_turns_when_its_threads_have_gone_to_sleep(paired):
    """Eager PyTorch has run before: once when it was loaded, and once more."""
    measurement, told = paired(FP32)

    begun = [f"eager PyTorch: {FP32.model} at batch {FP32.batch}", "run"]
    turns = [f"{measuring.PAUSE_S} s", "chip", "eager PyTorch"] * measuring.PAIRS
    assert told == [*begun, *turns, "chip alone", "gone"]
    assert len(measurement.timings[0].windows) == len(measurement.peer) == measuring.PAIRS
    assert not measurement.beside


def test_every_peer_of_the_chips_row_takes_its_turn_and_eager_pytorch_is_last(paired):
    measurement, told = paired(BESIDE)

    turns = [f"{measuring.PAUSE_S} s", "chip", "ONNX Runtime", "eager PyTorch"] * measuring.PAIRS
    assert told[4:-3] == turns
    assert told[0].startswith(f"ONNX Runtime: {BESIDE.model}")
    assert [*measurement.beside] == ["ONNX Runtime"]
    assert len(measurement.timings) == 1
    assert len(measurement.beside["ONNX Runtime"]) == len(measurement.peer) == measuring.PAIRS


def test_eager_pytorch_that_skips_work_while_it_is_timed_is_no_peer(paired):
    with pytest.raises(InvalidMeasurement, match=f"eager PyTorch beside {FP32}: output y differs"):
        paired(FP32, eager_after=0.0)


def test_a_chip_without_a_peer_does_not_wait(paired):
    measurement, told = paired(INT8)

    assert told == [*["chip"] * measuring.PAIRS, "chip alone"]
    assert not measurement.peer
    assert not measurement.launched_alone


@pytest.mark.parametrize("batch", [4, 5, 16])
def test_no_two_rows_of_a_timed_batch_are_alike(batch):
    """The five pictures that the reference has answered lead; those that repeat one are the same picture, moved."""
    pictures = np.random.default_rng(3).random((5, 3, 8, 8))
    inputs = {"image": pictures[np.arange(batch) % 5]}
    case = Case.parse(f"regnety_016-t4-fp16-bs{batch}")
    real = SimpleNamespace(simulated=lambda chip: False)
    run = SimpleNamespace(context=real, chip=None, case=case, different=min(5, batch))

    timed = CaseSpeed(run).timed(inputs)["image"]

    assert len(np.unique(timed, axis=0)) == batch
    assert np.array_equal(timed[:5], inputs["image"][:5])
    assert np.array_equal(np.sort(timed, axis=2), np.sort(inputs["image"], axis=2))
    run.different = batch
    assert CaseSpeed(run).timed(inputs) is inputs, "a user's inputs have to fit one another"


@pytest.mark.parametrize(
    ("chip", "backend", "alone"),
    [("t4", "trt", True), ("ascend310p", "acl", True), ("mlu370_s4", "magicmind", True), ("cuda", "torch_cuda", False),
     ("cuda", "ort_cuda", False), ("cpu", "ort", False)],
)  # fmt: skip
def test_only_the_launch_lengthens_a_single_execute_where_an_engine_is_launched_whole(chip, backend, alone):
    settings = SimpleNamespace(baselines=SimpleNamespace(cell=lambda case, stage: None))
    context = SimpleNamespace(settings=settings, simulated=lambda chip: False)
    run = SimpleNamespace(
        context=context, case=FP32, chip=matrix.chips()[chip], present=SimpleNamespace(backend=backend),
        peers=["eager PyTorch"], bound=lambda stage: SimpleNamespace(floor=1.0),
    )  # fmt: skip
    timing = Timing((), tuple(Window(n, n + 1, 133) for n in range(40)), (0.01,) * 20)

    found = CaseSpeed(run).conclude(((timing, timing),), Effort())

    assert (found.outcome is Outcome.INVALID) == alone, found


@pytest.fixture
def duo(monkeypatch):
    """A case of the Ascend 310P on a card of two chips; what was asked of which device, and its health, stand in."""
    asked, busy, found = [], {0: 0.0, 1: 0.0}, {}

    @contextmanager
    def loaded(engine, device, spec, rows):
        asked.append(("load", device.index))
        yield SimpleNamespace(
            run=lambda inputs: inputs, start=lambda inputs, plan: None, read=lambda: {"image": IMAGES},
            finish=lambda: Timing((), (Window(0.0, 1.0, 1),), ()), places=1, resident_mb=None,
        )  # fmt: skip
        asked.append(("unload", device.index))

    def health(device):
        asked.append(("health", device.index))
        return Health(busy=busy[device.index], **found.get(device.index, {}))

    @contextmanager
    def worker(chip, backend, who=""):
        yield SimpleNamespace(health=health, load=loaded)

    @contextmanager
    def lease(chip, device, holder, exclusive):
        assert exclusive
        asked.append(("lease", device.index))
        yield

    monkeypatch.setattr(Side, "check_fresh", lambda self, *timed: None)
    monkeypatch.setattr(CaseRun, "inputs", lambda self, raw=False: {self.model.input: IMAGES})
    monkeypatch.setattr(CaseRun, "different", property(lambda self: self.case.batch))
    monkeypatch.setattr(CaseRun, "built", lambda self: Built(Path("engine"), BuildSpec("fp16", 1, (), ())))
    monkeypatch.setattr(
        CaseEngine, "built", lambda self, worker, variant: Built(Path("engine"), BuildSpec("fp16", 1, (), ()))
    )
    nothing = SimpleNamespace(cell=lambda *case: None)
    settings = SimpleNamespace(
        process=0,
        tune=False,
        processes=1,
        policy=Policy(),
        plan=Plan(),
        patience=0.0,
        baselines=nothing,
        progress=unseen,
    )
    case_run = CaseRun(
        SimpleNamespace(
            worker=worker,
            settings=settings,
            simulated=lambda chip: False,
            lease=lease,
            vacated=lambda chip, device, ask: ask(),
        ),
        CASE_310P,
    )
    vars(case_run.engine)["present"] = Presence("acl", "", tuple(Device(n, "310P3", card=2) for n in (0, 1)), "")
    return SimpleNamespace(case_run=case_run, asked=asked, busy=busy, found=found)


def test_devices_that_accuracy_has_asked_are_not_asked_again_and_those_of_another_card_are(duo, monkeypatch):
    case_run, checked = duo.case_run, []
    case = next(case for case in matrix.cases() if case.chip == "ascend310")
    four = [Device(n, "310", card=n // 4) for n in range(8)]
    case_run.case, case_run.chip = case, matrix.chip("ascend310")
    duo.busy.update(dict.fromkeys(range(8), 0.0))
    duo.asked.clear()
    monkeypatch.setattr(CaseRun, "compare_devices", lambda self, sessions: checked.append(sorted(sessions)))
    monkeypatch.setattr(CaseRun, "judged", lambda self, outputs: Verdict(Outcome.PASS, ""))
    monkeypatch.setattr(Side, "audit", lambda self: None)
    vars(case_run.engine)["present"] = Presence("acl", "", tuple(four), "")

    CaseSpeed(case_run).on_card(0)
    assert checked == [[f"device {n}" for n in range(4)]]
    case_run.devices_agreed = True
    CaseSpeed(case_run).on_card(0)
    assert len(checked) == 1
    CaseSpeed(case_run).on_card(1)
    assert checked[1:] == [[f"device {n}" for n in range(4, 8)]]


def test_fresh_sessions_are_new_processes_one_at_a_time_on_the_devices_that_are_held(duo, monkeypatch):
    wanted = Verdict(Outcome.INCONCLUSIVE, "", {"needed_sessions": 5})
    verdicts = iter([wanted, Verdict(Outcome.PASS, "")])
    monkeypatch.setattr(CaseSpeed, "conclude", property(lambda self: lambda blocks, effort: next(verdicts)))
    monkeypatch.setattr(Side, "look", lambda self, draw: None)
    monkeypatch.setattr(Side, "turned", (None, None))
    duo.case_run.context.settings.patience = 3600.0

    run = CaseSpeed(duo.case_run).measurement

    what = [what for what, index in duo.asked if what in ("load", "unload", "lease")]
    assert what == ["lease", "lease", *["load", "unload"] * 6]
    assert run.effort.sessions == len(run.blocks) == 6


def test_outputs_of_an_earlier_process_are_those_of_the_timed_one(duo):
    vars(duo.case_run)["first"] = {duo.case_run.model.input: IMAGES + 1}

    with pytest.raises(InvalidMeasurement, match="differs from that of an earlier process"):
        CaseSpeed(duo.case_run).measurement  # noqa: B018


def test_another_card_is_held_against_the_reference_before_it_is_timed(duo, monkeypatch):
    vars(duo.case_run.engine)["present"] = Presence("acl", "", tuple(Device(n, "310P3", card=n) for n in (0, 1)), "")
    monkeypatch.setattr(CaseRun, "judged", lambda self, outputs: Verdict(Outcome.FAIL, "cosine 0"))

    CaseSpeed(duo.case_run).on_card(0)  # its numerics are a stage of their own
    with pytest.raises(InvalidMeasurement, match="wrong outputs: cosine 0"):
        CaseSpeed(duo.case_run).on_card(1)


def test_a_card_is_timed_without_waiting_for_the_first(duo, monkeypatch):
    """Card 0 is in use elsewhere."""
    vars(duo.case_run.engine)["present"] = Presence("acl", "", tuple(Device(n, "310P3", card=n) for n in (0, 1)), "")
    monkeypatch.setattr(CaseRun, "judged", lambda self, outputs: Verdict(Outcome.PASS, ""))
    monkeypatch.setattr(CaseRun, "built", None)

    measurement = CaseSpeed(duo.case_run).on_card(1)
    assert [index for what, index in duo.asked if what == "lease"] == [1]
    assert measurement.launched_alone


def test_one_chip_of_a_duo_is_measured_while_the_other_is_held_and_idle(duo):
    run = CaseSpeed(duo.case_run).measurement

    assert (run.mark, run.scaled, len(run.timings), run.numbers) == ("1-of-2", 1, 1, (0,))
    assert [index for what, index in duo.asked if what == "lease"] == [0, 1]
    assert [index for what, index in duo.asked if what == "load"] == [0]


def test_a_device_that_shows_no_load_is_noted_after_the_measurement(duo, monkeypatch):
    monkeypatch.setattr(idle, "seeing", lambda card, after, during: (Health(untold=f"{len(card)} {len(after)}"),))

    assert CaseSpeed(duo.case_run).measurement.after == (Health(untold="1 1"),)


def test_devices_are_asked_whether_they_work_and_what_they_count(duo, monkeypatch):
    asked = []
    monkeypatch.setattr(idle, "check_working", lambda card, during: asked.append(len(card)))
    monkeypatch.setattr(idle, "counters", lambda during: {"device_busy": 0.9})

    assert CaseSpeed(duo.case_run).measurement.counters == {"device_busy": 0.9}
    assert asked == [1]


def test_bits_are_compared_where_the_backend_promises_them(duo, monkeypatch):
    promises, row = [], BACKENDS["acl"]
    vars(duo.case_run)["first"] = {}
    monkeypatch.setattr(side, "check_processes", lambda one, earlier, promise: promises.append(promise))
    for said in ("", "the vendor"):
        told = replace(row, same_bytes=lambda options, said=said: said)
        monkeypatch.setattr(registry, "backend", lambda name, told=told: told)
        CaseSpeed(duo.case_run).measurement  # noqa: B018

    assert promises == ["", "the vendor"]


def test_a_duo_whose_other_chip_works_is_not_measured(duo):
    duo.busy[1] = 0.6

    with pytest.raises(InvalidMeasurement, match="310P3 1 is 60% busy"):
        CaseSpeed(duo.case_run).measurement  # noqa: B018
    assert not [index for what, index in duo.asked if what == "load"]


@pytest.fixture
def cards(duo, monkeypatch):
    """Two cards of one device each."""
    vars(duo.case_run.engine)["present"] = Presence("acl", "", tuple(Device(n, "310P3", card=n) for n in (0, 1)), "")
    monkeypatch.setattr(CaseRun, "judged", lambda self, outputs: Verdict(Outcome.PASS, ""))
    return duo


def test_a_card_whose_work_runs_on_the_first_one_is_not_measured(cards):
    CaseSpeed(cards.case_run).on_card(1)
    cards.found[0] = {"own": 1}

    with pytest.raises(InvalidMeasurement, match="310P3 1 shows no process of this run, and another"):
        CaseSpeed(cards.case_run).on_card(1)


def test_each_device_of_a_card_is_asked_while_it_works(cards, monkeypatch):
    four = [Device(n, "310", card=n // 4) for n in range(4)]
    vars(cards.case_run.engine)["present"] = Presence("acl", "", tuple(four), "")
    cards.case_run.chip, cards.case_run.devices_agreed = matrix.chip("ascend310"), True
    cards.busy.update(dict.fromkeys(range(4), 0.0))
    monkeypatch.setattr(Side, "audit", lambda self: None)
    asked = []
    monkeypatch.setattr(idle, "check_same", lambda card, before, after, during, elsewhere: asked.append(cards.asked[:]))

    CaseSpeed(cards.case_run).on_card(0)

    ((*told,),) = asked
    assert [index for what, index in told if what == "health"] == [*range(4)] * 3, "before, meanwhile, after"


def test_one_device_of_the_four_of_an_ascend_310_counts_fourfold_once(duo):
    """In the figure, in its mark and in the verdict that ends the measurement."""
    case = Case.parse("regnety_016-ascend310-fp16-bs16")
    table = load()
    case_run = CaseRun(duo.case_run.context, case)
    vars(case_run.engine)["present"] = Presence("acl", "", (Device(0, "310", card=2),), "")
    windows = tuple(Window(n, n + 1, 9.0) for n in range(30))  # 9 batches of 16 a second: 576 images/s a card

    speed = CaseSpeed(case_run)
    measured = speed.measurement
    duo.case_run.context.settings.baselines = table
    verdict = speed.conclude(((Timing((), windows, ()),),), Effort(1, 1.0))

    assert (measured.mark, measured.scaled) == ("x4", 4)
    assert measured.rates == (4.0,)
    assert verdict.details["measured"] == pytest.approx(4 * 9 * 16)
    assert verdict.details["published"] == 2917.84


def test_what_a_device_did_not_tell_is_a_fact_of_the_measurement():
    silent, told = Health(untold="processes unknown"), Health()

    def run(*after):
        return Measurement((), (), 1, (told,), after)

    assert untold() == untold(run(told)) == {}
    assert untold(run(told), run(silent)) == {"untold": "processes unknown"}


def test_each_look_shows_how_many_seconds_of_the_patience_are_spent(monkeypatch):
    begun, done = [], []

    def progress(what, total):
        begun.append((what, total))
        return done.append

    verdict = Verdict(Outcome.INCONCLUSIVE, "not yet", {})
    monkeypatch.setattr(CaseSpeed, "conclude", property(lambda self: lambda blocks, effort: verdict))
    case = Case.parse("regnety_016-cpu-fp32-bs1")
    context = SimpleNamespace(settings=SimpleNamespace(progress=progress))
    speed = CaseSpeed(SimpleNamespace(context=context, case=case, chip=matrix.chips()["cpu"]))

    look = speed._shown(30.4)

    assert [look((), Effort(n, seconds, "windows", 1)) for n, seconds in enumerate((3.2, 9.9, 29.0), 1)] == [
        verdict
    ] * 3
    assert begun == [(f"throughput {case}", 30)]
    assert done == [3, 7, 19]
