"""What is asked of a backend in a process of its own arrives whole, and what comes back is checked."""

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_workers import DEVICE, QUICK, SDK, SPEC, X, worker

from harness.backends.base import BuildSpec, Device, TensorSpec
from harness.errors import BuildError, InvalidMeasurement, RunError
from harness.judge.timing import Plan
from harness.worker.limits import Limits
from harness.worker.process import Worker


def test_tensors_go_there_and_come_back():
    with worker("doubles") as chip, chip.load(Path("e"), DEVICE, SPEC) as session:
        y = session.run({"x": X})
        z = session.run({"x": X[:1] + 1})

        assert session.inputs == (TensorSpec("x", "float32", (-1, 3)),)
        assert [spec.name for spec in session.outputs] == ["y"]
    assert y["y"].tolist() == (2 * X).tolist()
    assert z["y"].tolist() == [[2, 4, 6]]


def test_outputs_are_the_callers_own():
    with worker("doubles") as chip, chip.load(Path("e"), DEVICE, SPEC) as session:
        y = session.run({"x": X})["y"]
        session.run({"x": X + 100})
        y += 1

    assert y.tolist() == (2 * X + 1).tolist()


def test_outputs_do_not_overwrite_the_inputs():
    with worker("computes_when_read") as chip, chip.load(Path("e"), DEVICE, SPEC) as session:
        found = [session.run({"x": X}), session.read(), session.read()]

    assert all(outputs["y"].tolist() == (2 * X).tolist() for outputs in found)


def test_the_verbs_of_a_backend_arrive_whole(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"graph")
    with worker("doubles") as chip:
        found = chip.devices("fake")
        health = chip.health(found.devices[1])
        chip.build(tmp_path / "m.onnx", tmp_path / "m.engine", SPEC)

        assert chip.version() == "doubles 1.0"
    assert found.devices == (Device(0, "fake", 0, "fake-1"), Device(1, "fake", 0, "fake-1"))
    assert found.evidence == "two of them"
    assert (health.busy, health.processes, health.note) == (0.25, ("pid 1",), "device 1")
    assert (tmp_path / "m.engine").read_bytes() == b"graph"


def test_time_is_measured_in_the_worker_and_outputs_can_be_read_after():
    with worker("doubles") as chip, chip.load(Path("e"), DEVICE, SPEC) as session:
        timing = session.measure({"x": X}, QUICK)

        assert session.read()["y"].tolist() == (2 * X).tolist()
    assert len(timing.windows) == 3
    assert len(timing.latencies) == 2
    assert all(window.stop - window.start >= QUICK.window_s for window in timing.windows)
    assert all(latency >= 1e-4 for latency in timing.latencies)


def test_a_session_is_given_back_when_it_ends_and_the_rest_with_the_worker(tmp_path):
    with worker("tells_what_it_gives_back", log=tmp_path / "log") as chip:
        with chip.load(Path("e"), replace(DEVICE, index=1), SPEC):
            pass
        assert (tmp_path / "log").read_text() == "given back: device 1\n"
        chip.load(Path("e"), DEVICE, SPEC)

    assert (tmp_path / "log").read_text().splitlines()[1:] == ["given back: device 0"]


def test_a_measurement_may_take_what_its_plan_asks_beyond_the_limit():
    with (
        worker("doubles", limits=Limits(measure=0.05)) as chip,
        chip.load(Path("e"), DEVICE, SPEC) as session,
    ):
        assert len(session.measure({"x": X}, replace(QUICK, windows=40)).windows) == 40


def test_what_is_measured_is_written_each_time_that_it_is_sent():
    """A runtime that keeps outputs by their inputs is found by inputs that are new."""
    with worker("doubles") as chip, chip.load(Path("e"), DEVICE, SPEC) as session:
        for more in (1, 7):
            session.measure({"x": X + more}, QUICK)

            assert session.read()["y"].tolist() == (2 * (X + more)).tolist()


def test_a_session_that_ends_takes_no_other_with_it(tmp_path):
    with worker("tells_what_it_gives_back", log=tmp_path / "log") as chip:
        first, second = (chip.load(Path("e"), replace(DEVICE, index=index), SPEC) for index in (0, 1))
        with first:
            pass

        assert (tmp_path / "log").read_text() == "given back: device 0\n"
        assert second.run({"x": X})["y"].tolist() == (2 * X).tolist()


def test_what_a_session_was_fed_last_is_measured_again_without_being_sent_again():
    with worker("doubles") as chip, chip.load(Path("e"), DEVICE, SPEC) as session:
        session.measure({"x": X + 1}, QUICK)
        session._put = None  # it could not be sent
        timing = session.measure(None, QUICK)

        assert len(timing.windows) == 3
        assert session.read()["y"].tolist() == (2 * (X + 1)).tolist()


def test_executes_in_flight_together_have_inputs_and_outputs_of_their_own():
    with worker("runs_two_at_once") as chip, chip.load(Path("e"), DEVICE, SPEC) as session:
        one, other = session.together([{"x": X}, {"x": X + 7}])

        assert session.places == session.executes == 2
    assert one["y"].tolist() == (2 * X).tolist()
    assert other["y"].tolist() == (2 * (X + 7)).tolist()


def test_one_execute_at_a_time_is_what_a_session_has_that_says_nothing():
    with worker("doubles") as chip, chip.load(Path("e"), DEVICE, SPEC) as session:
        assert session.places == 1
        assert 1 < session.resident_mb <= chip.peak_mb


def test_executes_in_flight_are_believed_where_each_can_be_read():
    with worker("claims_many_at_once") as chip, chip.load(Path("e"), DEVICE, SPEC) as session:
        assert session.places == session.measure({"x": X}, QUICK).in_flight == 1


def test_times_that_no_clock_shows_are_refused():
    with (
        worker("claims_many_at_once") as chip,
        chip.load(Path("e"), DEVICE, SPEC) as session,
        pytest.raises(InvalidMeasurement, match=r"executes=8\) is no measurement"),
    ):
        session.measure({"x": X}, replace(QUICK, windows=1))


def test_two_devices_of_a_card_are_measured_at_once(tmp_path):
    """Each waits in its first execute until the other is in its own: measured in turn, they would never end."""
    plan = Plan(warmup_s=0.0, window_s=0.05, windows=3, latencies=0)
    environment = {"PYTHONPATH": str(SDK), "CHIPPROOF_FAKE_MEETING": str(tmp_path)}
    with contextlib.ExitStack() as card:
        workers = [card.enter_context(Worker("fakes.waits_for_the_other", env=environment)) for _ in range(2)]
        sessions = [
            card.enter_context(chip.load(Path("e"), Device(index, "fake"), SPEC)) for index, chip in enumerate(workers)
        ]
        for session in sessions:
            session.start({"x": X}, plan)
        timings = [session.finish() for session in sessions]

    assert max(t.windows[0].start for t in timings) < min(t.windows[-1].stop for t in timings), "they never overlapped"


def test_a_batch_cannot_be_run_while_another_is_measured():
    with worker("doubles") as chip, chip.load(Path("e"), DEVICE, SPEC) as session:
        session.start({"x": X}, QUICK)
        with pytest.raises(ValueError, match="finish"):
            session.run({"x": X})

        assert len(session.finish().windows) == 3
        with pytest.raises(ValueError, match="start"):
            session.finish()


def test_two_sessions_of_a_worker_do_not_mix():
    with worker("doubles") as chip, chip.load(Path("a"), DEVICE, SPEC) as first:
        with chip.load(Path("b"), DEVICE, SPEC) as second:
            one, two = first.run({"x": X})["y"], second.run({"x": X + 1})["y"]

            assert one.tolist() == (2 * X).tolist()
            assert two.tolist() == (2 * X + 2).tolist()
            assert first.read()["y"].tolist() == one.tolist()
            first.start({"x": X}, QUICK)
            with pytest.raises(ValueError, match="finish"):
                second.run({"x": X})
            first.finish()
        assert first.run({"x": X})["y"].tolist() == one.tolist()


def test_a_measurement_that_is_given_up_ends_the_worker():
    with worker("doubles") as chip:
        with chip.load(Path("e"), DEVICE, SPEC) as session:
            session.start({"x": X}, Plan(windows=10_000))

        assert not chip.alive


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, "called nothing"),
        ({"z": X}, "called z"),
        ({"x": X.astype(np.float64)}, "is float64"),
        ({"x": X[:, :2]}, r"shape \(2, 2\)"),
        ({"x": X[0]}, r"shape \(3,\)"),
    ],
)
def test_inputs_that_are_not_the_engines_are_refused(inputs, says):
    with worker("doubles") as chip, chip.load(Path("e"), DEVICE, SPEC) as session:
        with pytest.raises(RunError, match=says) as caught:
            session.run(inputs)

        assert "x float32 (-1, 3)" in caught.value.hint
        assert session.run({"x": X})["y"].shape == (2, 3)


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ("returns_nan", "1 values of 6 that are NaN"),
        ("returns_the_wrong_shape", r"shape \(2, 2\)"),
        ("returns_too_few_images", "fed 2 images and returned 1"),
        ("returns_too_many_images", "fed 2 images and returned 4"),
    ],
)
def test_outputs_that_cannot_be_used_are_an_error_and_the_worker_lives(behaviour, says):
    with worker(behaviour) as chip, chip.load(Path("e"), DEVICE, SPEC) as session:
        with pytest.raises(RunError, match=says):
            session.run({"x": X})
        with pytest.raises(RunError, match=says):
            session.read()

        assert chip.version() == "doubles 1.0"


def test_whoever_looks_for_the_nan_can_have_it():
    with worker("returns_nan") as chip, chip.load(Path("e"), DEVICE, SPEC) as session:
        assert np.isnan(session.run({"x": X}, finite=False)["y"]).sum() == 1


def test_outputs_have_the_order_of_the_model_and_no_others_come_along():
    """An engine that suppresses boxes itself is read by the order of its outputs."""
    spec = BuildSpec("fp32", 2, SPEC.inputs, ("y", "z"))

    with worker("lists_outputs_otherwise") as chip, chip.load(Path("e"), DEVICE, spec) as session:
        found = session.run({"x": X})

    assert [output.name for output in session.outputs] == list(found) == ["y", "z"]
    assert (found["z"] == found["y"] + 1).all()


def test_an_engine_without_the_models_outputs_is_refused():
    spec = BuildSpec("fp32", 2, SPEC.inputs, ("boxes",))

    with worker("doubles") as chip, pytest.raises(RunError, match="has the outputs y"):
        chip.load(Path("e"), DEVICE, spec)


@pytest.mark.parametrize("free", [3_000_000, 5_000_000])
def test_a_compiler_that_fails_where_less_is_free_than_its_model_has_is_told_so(free, tmp_path, monkeypatch):
    """ATC and ONNX Runtime take away what they wrote, and none says that the disk was full."""
    (tmp_path / "m.onnx").write_bytes(bytes(4_000_000))
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr("harness.worker.process.shutil.disk_usage", lambda folder: usage)

    with worker("raises_errors") as chip, pytest.raises(BuildError, match="bad graph") as caught:
        chip.build(tmp_path / "m.onnx", tmp_path / "m.engine", SPEC)

    assert ("3 MB are free for the engine" in caught.value.fact) == (free < 4_000_000)
    assert ("--cache" in caught.value.hint) == (free < 4_000_000)
    assert "log" in caught.value.hint, "it may have had another reason"


def test_a_compiler_that_writes_nothing_is_an_error(tmp_path):
    with worker("writes_no_engine") as chip, pytest.raises(BuildError, match="wrote no m"):
        chip.build(Path("m"), tmp_path / "m.engine", SPEC)
