"""One case on the bench: how chip and eager PyTorch are timed in turn."""

import math
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from harness import matrix
from harness.backends.base import Device
from harness.errors import InvalidMeasurement
from harness.judge.timing import Timing, Window
from harness.run import throughput as measuring
from harness.run.case_run import CaseRun
from harness.run.engine import CaseEngine

FP32 = next(case for case in matrix.cases() if str(case).endswith("cpu-fp32-bs1"))
INT8 = next(case for case in matrix.cases() if str(case).endswith("cpu-int8-bs1"))


@pytest.fixture
def paired(monkeypatch):
    """What happens, in order, while a case is timed; chip, eager PyTorch and clock stand in."""

    def happen(case, eager_after=1.0):
        told = []

        def timed(side):
            def measure(*arguments):
                told.append(side)
                return Timing((), (Window(0.0, 1.0, 1),), ())

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

        bench = CaseRun(SimpleNamespace(peer=peer), case)
        vars(bench.engine).update(present=SimpleNamespace(devices=[Device(0, "CPU")]))
        vars(bench).update(
            first={},
            session=SimpleNamespace(measure=timed("chip"), read=dict),
            worker=SimpleNamespace(health=lambda device: None),
        )  # fmt: skip
        monkeypatch.setattr(CaseEngine, "calibration", lambda self: None)
        monkeypatch.setattr(CaseRun, "_tensors", lambda self, raw: np.zeros((1, 3, 2, 2), np.float32))
        monkeypatch.setattr(measuring, "PAIRS_LIMIT_S", math.inf)
        monkeypatch.setattr(measuring.time, "sleep", lambda seconds: told.append(f"{seconds} s"))
        return bench.measurement, told

    return happen


def test_chip_and_eager_pytorch_take_turns_when_its_threads_have_gone_to_sleep(paired):
    """Eager PyTorch has run before: once when it was loaded, and once more."""
    measurement, told = paired(FP32)

    begun = [f"{FP32.model} at batch {FP32.batch}", "run"]
    assert told == [*begun, *[f"{measuring.PAUSE_S} s", "chip", "eager"] * measuring.PAIRS, "gone"]
    assert len(measurement.timings[0].windows) == len(measurement.peer) == measuring.PAIRS


def test_eager_pytorch_that_skips_work_while_it_is_timed_is_no_peer(paired):
    with pytest.raises(InvalidMeasurement, match=f"eager PyTorch beside {FP32}: output y differs"):
        paired(FP32, eager_after=0.0)


def test_a_chip_without_a_peer_does_not_wait(paired):
    measurement, told = paired(INT8)

    assert told == ["chip"] * measuring.PAIRS
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
