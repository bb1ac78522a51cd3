"""One case on the bench: how chip and eager PyTorch are timed in turn, and which devices of a card are timed."""

import math
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness import matrix
from harness.backends.base import BuildSpec, Device, Health
from harness.baselines import load
from harness.case import Case
from harness.errors import InvalidMeasurement
from harness.judge.policy import Policy
from harness.judge.timing import Plan, Timing, Window
from harness.judge.verdict import Verdict
from harness.run import throughput as measuring
from harness.run.case_run import CaseRun
from harness.run.engine import Built, CaseEngine
from harness.vocabulary import Outcome

FP32 = next(case for case in matrix.cases() if str(case).endswith("cpu-fp32-bs1"))
IMAGES = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
INT8 = next(case for case in matrix.cases() if str(case).endswith("cpu-int8-bs1"))
CASE_310P = next(case for case in matrix.cases() if case.chip == "ascend310p")


@pytest.fixture
def paired(monkeypatch):
    """What happens, in order, while a case is timed; chip, eager PyTorch and clock stand in."""

    def happen(case, eager_after=1.0):
        told = []

        def timed(side):
            def measure(inputs, plan):
                told.append(side if plan is measuring.PAIR_PLAN else f"{side} alone")
                return Timing((), (Window(0.0, 1.0, 1),), () if plan is measuring.PAIR_PLAN else (1.0,) * 5)

            return measure

        @contextmanager
        def peer(model, device, spec):
            told.append(f"{model.name} at batch {spec.batch}")
            yield SimpleNamespace(
                run=lambda images: told.append("run") or {"y": np.ones(2, np.float32)},
                measure=timed("eager"),
                read=lambda: {"y": np.full(2, eager_after, np.float32)},
            )
            told.append("gone")

        def settled(*case):
            return None

        settings = SimpleNamespace(
            policy=Policy(), process=0, tune=False, processes=1, patience=0.0, baselines=SimpleNamespace(cell=settled)
        )
        bench = CaseRun(SimpleNamespace(peer=peer, settings=settings, simulated=settled), case)
        answers = {"y": IMAGES.ravel()}
        vars(bench.engine).update(present=SimpleNamespace(devices=[Device(0, "CPU")]))
        vars(bench).update(
            first=answers,
            session=SimpleNamespace(
                measure=timed("chip"),
                read=lambda: answers,
                run=lambda inputs: {"y": next(iter(inputs.values())).ravel()},
            ),
            worker=SimpleNamespace(health=lambda device: None),
        )  # fmt: skip
        monkeypatch.setattr(CaseEngine, "calibration", lambda self: None)
        monkeypatch.setattr(CaseRun, "inputs", lambda self, raw=False: {self.model.input: IMAGES})
        monkeypatch.setattr(measuring.Load, "now", lambda: None)
        monkeypatch.setattr(measuring, "PAIRS_LIMIT_S", math.inf)
        monkeypatch.setattr(measuring.Side, "check_fresh", lambda self: None)
        monkeypatch.setattr(measuring.time, "sleep", lambda seconds: told.append(f"{seconds} s"))
        return bench.measurement, told

    return happen


def test_chip_and_eager_pytorch_take_turns_when_its_threads_have_gone_to_sleep(paired):
    """Eager PyTorch has run before: once when it was loaded, and once more."""
    measurement, told = paired(FP32)

    begun = [f"{FP32.model} at batch {FP32.batch}", "run"]
    assert told == [*begun, *[f"{measuring.PAUSE_S} s", "chip", "eager"] * measuring.PAIRS, "chip alone", "gone"]
    assert len(measurement.timings[0].windows) == len(measurement.peer) == measuring.PAIRS


def test_eager_pytorch_that_skips_work_while_it_is_timed_is_no_peer(paired):
    with pytest.raises(InvalidMeasurement, match=f"eager PyTorch beside {FP32}: output y differs"):
        paired(FP32, eager_after=0.0)


def test_a_chip_without_a_peer_does_not_wait(paired):
    measurement, told = paired(INT8)

    assert told == [*["chip"] * measuring.PAIRS, "chip alone"]
    assert not measurement.peer


def test_sides_in_turn_are_fed_with_their_first_window_and_keep_that(monkeypatch):
    fed = []

    def measure(inputs, plan):
        fed.append(inputs)
        return Timing((), (Window(0.0, 1.0, 1),), ())

    monkeypatch.setattr(measuring, "PAIRS_LIMIT_S", math.inf)
    ours = {"x": np.ones(1)}
    measuring.in_turn([measuring.Side("chip", SimpleNamespace(measure=measure, read=dict), ours, {})])

    assert fed[0] is ours
    assert fed[1:] == [None] * (measuring.PAIRS - 1)


@pytest.mark.parametrize("batch", sorted({case.batch for case in matrix.cases()} - {1}))
def test_a_part_of_a_batch_is_no_copy_of_another(batch):
    """Else a chip that computes a half and copies it would equal the reference."""
    bench = CaseRun(
        SimpleNamespace(
            witnesses=lambda model, protocol, count: {"y": np.arange(count)}, dataset=lambda model: range(99)
        ),
        replace(FP32, batch=batch),
    )
    vars(bench).update(first={}, worker=None)

    rows = bench.outputs()[1]["y"]

    assert len(rows) == batch
    for shift in (2**n for n in range(batch.bit_length()) if 2**n < batch):
        assert (rows[shift:] != rows[:-shift]).all()


def test_one_engine_is_loaded_at_every_batch_with_the_first_rows(monkeypatch):
    case = next(case for case in matrix.cases() if case.chip == "mlu370_s4" and case.batch == 8)
    loaded = []

    @contextmanager
    def load(path, device, spec):
        loaded.append((path, spec.batch))
        yield SimpleNamespace(run=lambda given, finite: {"y": given["x"] * 2})

    built = Built(Path("engine"), BuildSpec("fp16", 8, (), ()))
    rows = np.arange(8)
    monkeypatch.setattr(CaseRun, "built", lambda self, variant: asked.append(variant.tiers) or built)
    monkeypatch.setattr(CaseRun, "inputs", lambda self, raw=False: {"x": rows})
    asked = []
    witnesses = lambda model, protocol, count: {"y": np.arange(count)}  # noqa: E731
    settings = SimpleNamespace(runner=None)
    bench = CaseRun(SimpleNamespace(witnesses=witnesses, dataset=lambda model: range(99), settings=settings), case)
    vars(bench)["worker"] = SimpleNamespace(load=load)
    bench.context.settings = SimpleNamespace(process=0)
    vars(bench.engine)["present"] = SimpleNamespace(backend="magicmind", devices=[Device(0, "MLU370-S4")])

    found = bench.served()

    assert asked == [(1, 4, 8)]
    assert loaded == [(Path("engine"), batch) for batch in (1, 4, 8)]
    for batch, (chip, reference) in found.items():
        assert chip["y"].tolist() == (2 * rows[:batch]).tolist()
        assert reference["y"].tolist() == [row % 5 for row in range(batch)]


@pytest.fixture
def duo(monkeypatch):
    """A case of the Ascend 310P on a card of two chips; what was asked of which device, and its health, stand in."""
    asked, busy = [], {0: 0.0, 1: 0.0}

    @contextmanager
    def loaded(engine, device, spec, rows):
        asked.append(("load", device.index))
        yield SimpleNamespace(
            run=lambda inputs: inputs, start=lambda inputs, plan: None, read=lambda: {"image": IMAGES},
            finish=lambda: Timing((), (Window(0.0, 1.0, 1),), ()),
        )  # fmt: skip

    def health(device):
        asked.append(("health", device.index))
        return Health(busy=busy[device.index])

    @contextmanager
    def worker(chip, backend, who=""):
        yield SimpleNamespace(health=health, load=loaded)

    @contextmanager
    def lease(chip, device, holder, exclusive):
        assert exclusive
        asked.append(("lease", device.index))
        yield

    monkeypatch.setattr(measuring.Side, "check_fresh", lambda self: None)
    monkeypatch.setattr(CaseRun, "inputs", lambda self, raw=False: {self.model.input: IMAGES})
    monkeypatch.setattr(CaseRun, "built", lambda self: Built(Path("engine"), None))
    monkeypatch.setattr(CaseEngine, "built", lambda self, worker, variant: Built(Path("engine"), None))
    nothing = SimpleNamespace(cell=lambda *case: None)
    settings = SimpleNamespace(
        process=0, tune=False, processes=1, policy=Policy(), plan=Plan(), patience=0.0, baselines=nothing
    )
    bench = CaseRun(
        SimpleNamespace(
            worker=worker,
            settings=settings,
            simulated=lambda chip: False,
            lease=lease,
            vacated=lambda chip, device, ask: ask(),
        ),
        CASE_310P,
    )
    vars(bench.engine)["present"] = SimpleNamespace(backend="acl", devices=[Device(n, "310P3", card=2) for n in (0, 1)])
    return SimpleNamespace(bench=bench, asked=asked, busy=busy)


def test_devices_that_accuracy_has_asked_are_not_asked_again_and_those_of_another_card_are(duo, monkeypatch):
    bench, checked = duo.bench, []
    case = next(case for case in matrix.cases() if case.chip == "ascend310")
    four = [Device(n, "310", card=n // 4) for n in range(8)]
    bench.case, bench.chip = case, matrix.chip("ascend310")
    duo.busy.update(dict.fromkeys(range(8), 0.0))
    duo.asked.clear()
    monkeypatch.setattr(CaseRun, "_check_card", lambda self, sessions: checked.append(sorted(sessions)))
    monkeypatch.setattr(CaseRun, "judged", lambda self, outputs: Verdict(Outcome.PASS, ""))
    monkeypatch.setattr(measuring.Side, "audit", lambda self: None)
    vars(bench.engine)["present"] = SimpleNamespace(backend="acl", devices=four)

    bench.on_card(0)
    assert checked == [[f"device {n}" for n in range(4)]]
    vars(bench)["answers"] = SimpleNamespace(also={"devices": Verdict(Outcome.PASS, "")})
    vars(bench).pop("measurement", None)
    bench.on_card(0)
    assert len(checked) == 1
    bench.on_card(1)
    assert checked[1:] == [[f"device {n}" for n in range(4, 8)]]


@pytest.mark.parametrize(("processes", "devices"), [(1, 4), (2, 1)])
def test_accuracy_is_asked_of_a_card_unless_each_process_has_a_device(duo, monkeypatch, processes, devices):
    @contextmanager
    def shared(chip, device, holder, exclusive):
        assert not exclusive
        yield

    bench, chosen = duo.bench, next(case for case in matrix.cases() if case.chip == "ascend310")
    bench.case, bench.chip = chosen, matrix.chip("ascend310")
    bench.context.settings.processes, bench.context.lease = processes, shared
    bench.context.prepared = SimpleNamespace(prepare=lambda name, protocol, raw: None)
    bench.context.dataset = lambda model: SimpleNamespace(name="set")
    vars(bench.engine)["present"] = SimpleNamespace(backend="acl", devices=[Device(n, "310") for n in range(4)])
    monkeypatch.setattr(CaseRun, "built", lambda self, variant=None: Built(Path("engine"), None))
    vars(bench)["session"] = "session"

    with bench._card(bench.variant) as card:
        assert list(card.sessions) == [f"device {n}" for n in range(devices)]


def test_outputs_of_an_earlier_process_are_those_of_the_timed_one(duo):
    vars(duo.bench)["first"] = {duo.bench.model.input: IMAGES + 1}

    with pytest.raises(InvalidMeasurement, match="differs from that of an earlier process"):
        duo.bench.measurement  # noqa: B018


def test_another_card_is_held_against_the_reference_before_it_is_timed(duo, monkeypatch):
    vars(duo.bench.engine)["present"] = SimpleNamespace(
        backend="acl", devices=[Device(n, "310P3", card=n) for n in (0, 1)]
    )
    monkeypatch.setattr(CaseRun, "judged", lambda self, outputs: Verdict(Outcome.FAIL, "cosine 0"))

    duo.bench.on_card(0)  # its numerics are a stage of their own
    with pytest.raises(InvalidMeasurement, match="wrong outputs: cosine 0"):
        duo.bench.on_card(1)


def test_a_card_is_timed_without_waiting_for_the_first(duo, monkeypatch):
    """Card 0 is in use elsewhere."""
    vars(duo.bench.engine)["present"] = SimpleNamespace(
        backend="acl", devices=[Device(n, "310P3", card=n) for n in (0, 1)]
    )
    monkeypatch.setattr(CaseRun, "judged", lambda self, outputs: Verdict(Outcome.PASS, ""))
    monkeypatch.setattr(CaseRun, "built", None)

    duo.bench.on_card(1)
    assert [index for what, index in duo.asked if what == "lease"] == [1]


def test_one_chip_of_a_duo_is_measured_while_the_other_is_held_and_idle(duo):
    run = duo.bench.measurement

    assert (run.mark, run.scaled, len(run.timings)) == ("1-of-2", 1, 1)
    assert [index for what, index in duo.asked if what == "lease"] == [0, 1]
    assert [index for what, index in duo.asked if what == "load"] == [0]


def test_a_duo_whose_other_chip_works_is_not_measured(duo):
    duo.busy[1] = 0.6

    with pytest.raises(InvalidMeasurement, match="310P3 1 is 60% busy"):
        duo.bench.measurement  # noqa: B018
    assert not [index for what, index in duo.asked if what == "load"]


@pytest.mark.parametrize(
    ("backend", "asked", "told"),
    [
        ("acl", True, {"tuned": "aoe, subgraphs, then operators"}),
        ("ort_cann", True, {"tuned": "no: ort_cann has no tuning for this device"}),
        ("acl", False, {}),
    ],
)
def test_a_record_says_how_its_engine_was_tuned_when_it_was_asked(backend, asked, told):
    bench = CaseRun(SimpleNamespace(settings=SimpleNamespace(process=0, tune=asked)), CASE_310P)
    vars(bench.engine)["present"] = SimpleNamespace(backend=backend, devices=[Device(0, "310P3")])

    assert bench._tuned == told


def test_what_the_device_did_not_tell_is_a_fact_of_the_measurement_alone():
    bench = CaseRun(SimpleNamespace(), FP32)
    assert bench.untold == {}, "not measured yet"
    vars(bench)["measurement"] = SimpleNamespace(before=(Health(),), after=(Health(untold="processes unknown"),))
    assert bench.untold == {"untold": "processes unknown"}
    vars(bench)["measurement"] = SimpleNamespace(before=(Health(),), after=(Health(),))
    assert bench.untold == {}


def test_one_device_of_the_four_of_an_ascend_310_counts_fourfold_once(duo):
    """In the figure, in its mark and in the verdict that ends the measurement."""
    case = Case.parse("regnety_016-ascend310-fp16-bs16")
    table = load()
    bench = CaseRun(duo.bench.context, case)
    vars(bench.engine)["present"] = SimpleNamespace(backend="acl", devices=[Device(0, "310", card=2)])
    windows = tuple(Window(n, n + 1, 9.0) for n in range(30))  # 9 batches of 16 a second: 576 images/s a card

    measured = bench.measurement
    duo.bench.context.settings.baselines = table
    verdict = bench._conclude(((Timing((), windows, ()),),), measuring.Effort(1, 1.0))

    assert (measured.mark, measured.scaled) == ("x4", 4)
    assert measured.rates == (4.0,)
    assert verdict.details["measured"] == pytest.approx(4 * 9 * 16)
    assert verdict.details["published"] == 2917.84
