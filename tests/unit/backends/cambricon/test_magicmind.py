"""The MagicMind backend on its strict simulated SDK: numbers, types, lifetimes, and what it refuses."""

from __future__ import annotations

import gc
import subprocess
import tracemalloc
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import own_models
import pytest
from magicmind_tiny import DEVICE, distance, driver, run
from onnx import TensorProto, helper
from vendor_sweep import NORMALIZE, VirtualTime, tiny_answer, tiny_batch, tiny_pixels, tiny_spec

from harness.backends.base import BuildSpec, Device, TensorSpec
from harness.backends.cambricon import magicmind
from harness.errors import DeviceError, RunError
from harness.vendor import logs


def calibration(tmp_path, samples=5):
    path = tmp_path / "calibration.npy"
    np.save(path, tiny_batch(samples, seed=3))
    return str(path)


# --- numbers -------------------------------------------------------------------------------------------------------


def test_fp32_computes_what_the_graph_computes(sdk, onnx, engine):
    spec = tiny_spec("fp32")
    magicmind.build(onnx, engine, spec)

    outputs = run(engine, spec, tiny_batch())

    assert distance(outputs, tiny_answer(onnx, tiny_batch())) == 0
    assert list(outputs) == ["first", "second"]


def test_each_precision_rounds_more_than_the_one_before(sdk, onnx, engine, tmp_path):
    far = {}
    for precision in ("fp32", "fp16", "int8"):
        spec = tiny_spec(precision, calibration=calibration(tmp_path) if precision == "int8" else None)
        magicmind.build(onnx, engine, spec)
        far[precision] = distance(run(engine, spec, tiny_batch()), tiny_answer(onnx, tiny_batch()))

    assert far["fp32"] < far["fp16"] < far["int8"] < 0.3


def test_normalisation_inside_the_engine_equals_normalisation_outside(sdk, onnx, engine):
    spec = tiny_spec("fp32", normalize=NORMALIZE)
    magicmind.build(onnx, engine, spec)
    pixels = tiny_pixels()
    outside = ((pixels - np.array(NORMALIZE.mean)) / np.array(NORMALIZE.std)).astype(np.float32).transpose(0, 3, 1, 2)

    with magicmind.load(engine, DEVICE, spec) as session:
        assert (session.inputs[0].dtype, session.inputs[0].shape) == ("uint8", (2, 8, 8, 3))
        session.write({"image": pixels})
        session.execute()
        inside = session.read()

    assert distance(inside, tiny_answer(onnx, np.ascontiguousarray(outside))) < 1e-5


def test_an_engine_runs_on_the_card_that_it_was_loaded_for(sdk, onnx, engine):
    spec = tiny_spec("fp32")
    magicmind.build(onnx, engine, spec)
    sdk.switch(devices=2)

    with magicmind.load(engine, Device(1, "MLU370-S4"), spec):
        assert driver().active == 1


@pytest.mark.parametrize(("batch", "told"), [(1, "own"), (2, "own"), (4, "own"), (4, "free")])
def test_a_mutable_engine_runs_every_batch_of_its_tiers(sdk, onnx, engine, batch, told):
    magicmind.build(onnx, engine, tiny_spec("fp32", batch=4, tiers=(1, 2, 4)))
    sdk.switch(told_sizes=told)
    spec = tiny_spec("fp32", batch=batch, tiers=(1, 2, 4))

    outputs = run(engine, spec, tiny_batch(batch))

    assert distance(outputs, tiny_answer(onnx, tiny_batch(batch))) == 0


def test_names_that_the_parser_lost_are_given_back_by_position(sdk, onnx, engine):
    spec = tiny_spec("fp32")
    magicmind.build(onnx, engine, spec)
    sdk.switch(mangle_names=True)

    assert distance(run(engine, spec, tiny_batch()), tiny_answer(onnx, tiny_batch())) == 0


def test_names_that_the_parser_kept_win_over_position(sdk, onnx, engine):
    spec = tiny_spec("fp32")
    magicmind.build(onnx, engine, spec)
    turned = replace(spec, outputs=("second", "first"))

    outputs = run(engine, turned, tiny_batch())

    assert list(outputs) == ["second", "first"]
    assert distance(outputs, tiny_answer(onnx, tiny_batch())) == 0


@pytest.mark.parametrize(
    ("kept", "named"),
    [
        (["main/b:0", "main/a:0", "main/c:0"], ["b", "a", "c"]),
        (["b", "add_1:0", "a"], ["b", "c", "a"]),  # by elimination
        (["a", "add_1:0", "add_2:0"], ["a", "b", "c"]),
        (["x", "y", "z"], ["a", "b", "c"]),
        (["x", "x", "x"], ["a", "b", "c"]),
    ],
)
def test_each_name_that_was_kept_decides_and_the_others_fill_up(kept, named):
    assert magicmind._named(kept, ["a", "b", "c"]) == named


def test_an_order_that_no_longer_holds_is_not_trusted_for_the_names_that_were_lost():
    with pytest.raises(RunError, match="another order"):
        magicmind._named(["main/b:0", "x", "y"], ["a", "b", "c"])


TWO = (TensorSpec("plus", "float32", (-1, 4)), TensorSpec("minus", "float32", (-1, 4)))


def two_inputs(path):
    boxes = [helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, ["N", 4]) for tensor in TWO]
    out = helper.make_tensor_value_info("difference", TensorProto.FLOAT, ["N", 4])
    graph = helper.make_graph([helper.make_node("Sub", ["plus", "minus"], ["difference"])], "two", boxes, [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_inputs_are_fed_by_the_names_that_the_engine_kept(sdk, tmp_path, engine):
    onnx = two_inputs(tmp_path / "two.onnx")
    spec = replace(tiny_spec("fp32"), inputs=TWO, outputs=("difference",))
    magicmind.build(onnx, engine, spec)
    turned = replace(spec, inputs=TWO[::-1])
    fed = {"plus": np.full((2, 4), 5, np.float32), "minus": np.full((2, 4), 3, np.float32)}

    with magicmind.load(engine, DEVICE, turned) as session:
        session.write(fed)
        session.execute()
        answer = session.read()

    assert (answer["difference"] == 2).all()


# --- time ----------------------------------------------------------------------------------------------------------


def test_executes_overlap_and_take_the_devices_time(sdk, onnx, engine, monkeypatch):
    spec = tiny_spec("fp32")
    magicmind.build(onnx, engine, spec)
    clock = VirtualTime(monkeypatch, "simulate")

    with magicmind.load(engine, DEVICE, spec) as session:
        session.write({"image": tiny_batch()})

        assert clock.of(session, 40) == pytest.approx(0.003, rel=0.01)


def _descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_outputs_are_allocated_once_and_written_again(sdk, onnx, engine):
    from magicmind.python.runtime._base import driver

    spec = tiny_spec("fp32")
    magicmind.build(onnx, engine, spec)
    sdk.switch(slow=0.01)

    with magicmind.load(engine, DEVICE, spec) as session:
        for images in (tiny_batch(seed=1), tiny_batch()):
            session.write({"image": images})
            session.execute(magicmind.RING)
            allocated = driver.allocations
            session.execute(2 * magicmind.IN_FLIGHT + 7)
            assert distance(session.read(), tiny_answer(onnx, images)) == 0
            assert driver.allocations == allocated == magicmind.RING * 2, "two outputs a list of the ring"


def test_outputs_of_a_ring_fit_where_those_of_every_batch_would_not(sdk, onnx, engine):
    spec = tiny_spec("fp32")
    magicmind.build(onnx, engine, spec)
    bytes_a_run = 2 * 2 * 5 * 4
    sdk.switch(memory_mb=magicmind.RING * bytes_a_run / 2**20, slow=0.01)

    outputs = run(engine, spec, tiny_batch(), times=100)

    assert distance(outputs, tiny_answer(onnx, tiny_batch())) == 0


@pytest.mark.parametrize("answer", ["status", "tensor", "nothing"])
def test_whatever_itensor_to_answers_is_taken(sdk, onnx, engine, answer):
    """Every vendor program ignores it."""
    spec = tiny_spec("fp32")
    magicmind.build(onnx, engine, spec)
    sdk.switch(to_answers=answer)

    assert distance(run(engine, spec, tiny_batch()), tiny_answer(onnx, tiny_batch())) == 0


def test_a_tensor_without_to_is_fed_by_from_numpy_alone(sdk, onnx, engine, monkeypatch):
    from magicmind.python.runtime._run import InputTensor

    spec = tiny_spec("fp32")
    magicmind.build(onnx, engine, spec)
    monkeypatch.delattr(InputTensor, "to")

    assert distance(run(engine, spec, tiny_batch()), tiny_answer(onnx, tiny_batch())) == 0


def test_an_answer_that_is_no_status_is_an_error_not_a_crash(sdk, onnx, engine, monkeypatch):
    from magicmind.python.runtime._run import InputTensor

    spec = tiny_spec("fp32")
    magicmind.build(onnx, engine, spec)
    monkeypatch.setattr(InputTensor, "from_numpy", lambda self, array: 7)

    with pytest.raises(DeviceError, match=r"mm\.ITensor\.from_numpy failed: 7"):
        run(engine, spec, tiny_batch())


def test_hundreds_of_cycles_leave_nothing_behind(sdk, onnx, engine):
    spec = tiny_spec("fp32")
    magicmind.build(onnx, engine, spec)
    sdk.switch(slow=0.01)
    run(engine, spec, tiny_batch())
    gc.collect()  # of what other tests left
    descriptors = _descriptors()
    tracemalloc.start()
    held = []
    for _ in range(2):
        for _ in range(100):
            run(engine, spec, tiny_batch())
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()

    assert held[1] - held[0] < 30_000, f"{held[1] - held[0]} bytes in 100 cycles"  # one output is 40 bytes and a header
    assert _descriptors() == descriptors


# --- refusals ------------------------------------------------------------------------------------------------------


def test_an_engine_for_more_clusters_than_the_card_has_is_refused(sdk, onnx, engine):
    spec = tiny_spec(options={"clusters": [8]})
    magicmind.build(onnx, engine, spec)

    with pytest.raises(DeviceError, match="needs 8 clusters or more, the card has 6"):
        run(engine, spec, tiny_batch())
    sdk.switch(soc="MLU370-X4")
    run(engine, spec, tiny_batch())


def test_an_engine_of_another_batch_is_refused(sdk, onnx, engine):
    magicmind.build(onnx, engine, tiny_spec(batch=4))

    with pytest.raises(RunError, match="takes batch 4, the case 2"):
        run(engine, tiny_spec(batch=2), tiny_batch())


@pytest.mark.parametrize("damage", [lambda data: data[:-7], lambda data: b"", lambda data: b"PLAN" + data])
def test_a_damaged_engine_is_refused(sdk, onnx, engine, damage):
    magicmind.build(onnx, engine, tiny_spec())
    engine.write_bytes(damage(engine.read_bytes()))

    with pytest.raises(DeviceError, match=r"mm\.Model\.deserialize_from_file failed: DATA_LOSS"):
        run(engine, tiny_spec(), tiny_batch())


@pytest.mark.parametrize(
    "inputs",
    [
        {"image": tiny_batch(3)},
        {"image": tiny_batch().astype(np.float64)},
        {"picture": tiny_batch()},
        {"image": tiny_batch(), "more": tiny_batch()},
    ],
    ids=["batch", "dtype", "name", "more"],
)
def test_inputs_that_are_not_the_engines_are_refused(sdk, onnx, engine, inputs):
    spec = tiny_spec()
    magicmind.build(onnx, engine, spec)

    with magicmind.load(engine, DEVICE, spec) as session, pytest.raises(RunError):
        session.write(inputs)


def test_reading_before_executing_is_refused(sdk, onnx, engine):
    magicmind.build(onnx, engine, tiny_spec())

    with magicmind.load(engine, DEVICE, tiny_spec()) as session:
        session.write({"image": tiny_batch()})
        with pytest.raises(RunError, match="nothing was executed"):
            session.read()


def test_an_error_of_the_caller_passes_through_and_all_is_released(sdk, onnx, engine):
    magicmind.build(onnx, engine, tiny_spec())

    with pytest.raises(ZeroDivisionError), magicmind.load(engine, DEVICE, tiny_spec()) as session:  # noqa: PT012 - it is the exit that is tested
        session.write({"image": tiny_batch()})
        session.execute(2)
        raise ZeroDivisionError


# --- cards ---------------------------------------------------------------------------------------------------------


def test_cards_are_told_apart_by_their_whole_name(sdk):
    sdk.switch(soc="MLU370-X4", devices=2)

    assert [device.index for device in magicmind.devices("MLU370-X4").devices] == [0, 1]
    assert magicmind.devices("MLU370-S4").devices == ()
    assert magicmind.devices("MLU370-X").devices == ()


def test_visible_devices_renumber_the_cards(sdk, monkeypatch):
    sdk.switch(soc="MLU370-X4", devices=4)
    monkeypatch.setenv("MLU_VISIBLE_DEVICES", "3,1")

    found = magicmind.devices("MLU370-X4").devices

    assert [(device.index, device.card) for device in found] == [(0, 3), (1, 1)]


@pytest.mark.parametrize("told", ["7", ""])
def test_a_variable_that_hides_every_card_is_named(sdk, monkeypatch, told):
    sdk.switch(devices=2)
    monkeypatch.setenv("MLU_VISIBLE_DEVICES", told)

    found = magicmind.devices("MLU370-S4")

    assert found.devices == ()
    assert f"MLU_VISIBLE_DEVICES={told} hides every card" in found.evidence
    assert "name a card that exists" in found.hint


def test_a_container_that_was_given_no_card_is_told_by_its_variable(sdk, monkeypatch):
    sdk.switch(devices=0)
    monkeypatch.setenv("CAMBRICON_VISIBLE_DEVICES", "5")
    assert "CAMBRICON_VISIBLE_DEVICES=5" in magicmind.devices("MLU370-S4").evidence
    assert "mapped into the container" in magicmind.devices("MLU370-S4").hint
    monkeypatch.setenv("CAMBRICON_VISIBLE_DEVICES", "all")
    assert "VISIBLE_DEVICES" not in magicmind.devices("MLU370-S4").evidence


def test_health_tells_what_others_do(sdk):
    assert magicmind.health(DEVICE).processes == ()

    sdk.switch(busy=0.9, hot=True)
    health = magicmind.health(DEVICE)

    assert (health.busy, health.processes) == (0.9, ("424242 python infer.py --device 0",))
    assert health.temperature_c == 105


@pytest.mark.parametrize("pids", ["own", "host"])
def test_a_process_of_the_suite_in_a_container(sdk, onnx, engine, tmp_path, pids):
    """A foreign number stays first, so that it can be told from a stranger's by when it came."""
    magicmind.build(onnx, engine, tiny_spec())
    sdk.switch(machine=str(tmp_path / "machine"), pids=pids)
    with magicmind.load(engine, DEVICE, tiny_spec()):
        health = magicmind.health(DEVICE)

    processes = health.processes
    assert (health.own_mb, health.unseen_mb) == (120.0 if pids == "own" else None, 0.0)
    assert [process.split(" ")[1] for process in processes] == ([] if pids == "own" else ["python"])
    assert all(not Path("/proc", process.split(" ")[0]).exists() for process in processes)
    assert magicmind.health(DEVICE).processes == (), "given back with the System"


def test_memory_that_no_process_shown_holds_is_told(sdk):
    sdk.switch(hidden_mb=4000, busy=0.9)

    assert magicmind.health(DEVICE).unseen_mb == 4000


def test_an_output_as_long_as_its_data_says_is_told_with_what_to_do(sdk, tmp_path, engine):
    spec = BuildSpec("fp32", 2, (TensorSpec("x", "float32", (-1, 8)),), ("y",))
    made = own_models.save(partial(own_models.as_many_as_there_are, False), tmp_path / "found.onnx")
    magicmind.build(made, engine, spec)

    with magicmind.load(engine, DEVICE, spec) as session:
        session.write({"x": np.ones((2, 8), np.float32)})
        session.execute()
        with pytest.raises(RunError, match=r"y came back as float32 \(16,\), the engine promised") as told:
            session.read()

    assert "NonMaxSuppression" in told.value.hint


def test_an_output_of_another_type_than_promised_is_told(sdk, onnx, engine):
    magicmind.build(onnx, engine, tiny_spec())
    with magicmind.load(engine, DEVICE, tiny_spec()) as session:
        session.write({"image": tiny_batch()})
        session.execute()
        session.outputs = tuple(replace(tensor, dtype="float16") for tensor in session.outputs)
        with pytest.raises(RunError, match="came back as float32") as told:
            session.read()

    assert "mm_run" in told.value.hint


def test_a_card_that_is_gone_is_not_healthy(sdk):
    assert not magicmind.health(Device(0, "MLU370-S4", card=7)).healthy


def test_the_version_names_sdk_and_driver(sdk):
    assert magicmind.version() == "MagicMind 1.7.0, driver v5.10.10"


@pytest.mark.parametrize("layout", ["new", "old"])
def test_mm_run_prints_what_the_log_reader_reads(sdk, onnx, engine, layout):
    magicmind.build(onnx, engine, tiny_spec(batch=4))
    sdk.switch(mm_run_layout=layout)
    command = ["mm_run", "--magicmind_model", str(engine), "--batch_size", "4", "--iterations", "1000"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    (figure,) = logs.parse(printed, tool="mm_run")

    assert figure.per_device == pytest.approx(4 / 0.004, rel=1e-5)


def test_mm_run_of_two_cards_and_two_inputs_is_a_figure_a_card(sdk, tmp_path, engine):
    spec = replace(tiny_spec("fp32"), inputs=TWO, outputs=("difference",))
    magicmind.build(two_inputs(tmp_path / "two.onnx"), engine, spec)
    command = ["mm_run", "--magicmind_model", str(engine), "--devices", "0", "1", "--iterations", "1000"]
    printed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode()

    figures = logs.parse(printed, tool="mm_run")

    assert [(figure.device, figure.batch) for figure in figures] == [(0, 2), (1, 2)]
    assert figures[0].per_device == figures[1].per_device
