"""The MagicMind backend on its strict simulated SDK: numbers, types, lifetimes, and what it refuses."""

from __future__ import annotations

import gc
import subprocess
import tracemalloc
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from vendor_sweep import (
    NORMALIZE,
    VirtualTime,
    simulated,
    tiny_answer,
    tiny_batch,
    tiny_model,
    tiny_pixels,
    tiny_spec,
)

from harness.backends.base import Device
from harness.backends.cambricon import _build, magicmind
from harness.errors import BuildError, DeviceError, RunError
from harness.vendor import logs

DEVICE = Device(0, "MLU370-S4")


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    with simulated(monkeypatch, tmp_path, "magicmind", ("magicmind",), "magicmind.python.runtime._base") as sdk:
        yield sdk
        assert sdk.wrongs() == []


@pytest.fixture
def onnx(tmp_path):
    return tiny_model(tmp_path / "tiny.onnx")


@pytest.fixture
def engine(tmp_path):
    return tmp_path / "tiny.magicmind"


def calibration(tmp_path, samples=5):
    path = tmp_path / "calibration.npy"
    np.save(path, tiny_batch(samples, seed=3))
    return str(path)


def run(engine, spec, inputs, times=1):
    with magicmind.load(engine, DEVICE, spec) as session:
        session.write({"image": inputs})
        session.execute(times)
        return session.read()


def distance(ours, theirs):
    return max(float(np.abs(ours[name] - theirs[name]).max()) for name in theirs)


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


def test_calibration_data_changes_an_int8_engine(sdk, onnx, engine, tmp_path):
    made = []
    for gain in (1.0, 3.0):
        path = tmp_path / f"calibration{gain}.npy"
        np.save(path, gain * tiny_batch(4))
        spec = tiny_spec("int8", calibration=str(path))
        magicmind.build(onnx, engine, spec)
        made.append(run(engine, spec, tiny_batch()))

    assert distance(*made) > 0


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


def test_variance_is_the_square_of_the_deviation():
    config = _build.builder_config(tiny_spec("fp16", normalize=NORMALIZE))

    assert config["insert_bn_before_firstnode"] == {"0": {"mean": [104.0, 117.0, 123.0], "var": [4.0, 16.0, 64.0]}}
    assert config["convert_input_layout"] == {"0": {"src": "NCHW", "dst": "NHWC"}}


@pytest.mark.parametrize(
    ("precision", "mode"),
    [("fp32", "force_float32"), ("fp16", "force_float16"), ("int8", "qint8_mixed_float16")],
)
def test_the_vendors_word_for_each_precision(precision, mode):
    config = _build.builder_config(tiny_spec(precision))

    assert config["precision_config"]["precision_mode"] == mode
    assert config["opt_config"] == {"type64to32_conversion": True, "conv_scale_fold": True}
    assert config["archs"] == [{"mtp_372": [2, 6, 8]}]
    assert config["graph_shape_mutable"] is False


def test_tiers_make_a_mutable_engine_in_the_networks_own_layout():
    config = _build.builder_config(tiny_spec("fp16", tiers=(1, 4, 8), normalize=NORMALIZE))

    assert config["graph_shape_mutable"] is True
    assert config["dim_range"] == {"0": {"min": [1, 3, 8, 8], "max": [8, 3, 8, 8]}}


def test_options_are_merged_over_the_configuration():
    options = {"clusters": [8], "config": {"precision_config": {"weight_quant_granularity": "per_tensor"}}}

    config = _build.builder_config(tiny_spec("int8", options=options))

    assert config["archs"] == [{"mtp_372": [8]}]
    assert config["precision_config"] == {
        "precision_mode": "qint8_mixed_float16",
        "weight_quant_granularity": "per_tensor",
    }


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_mutable_engine_runs_every_batch_of_its_tiers(sdk, onnx, engine, batch):
    magicmind.build(onnx, engine, tiny_spec("fp32", batch=4, tiers=(1, 2, 4)))
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


def test_a_traced_torch_file_is_taken_in_place_of_onnx(sdk, engine, tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.ReLU()).eval()
    spec = replace(tiny_spec("fp32"), outputs=("features",))
    with warnings.catch_warnings():  # torch.jit is on its way out, and the vendor's parser reads nothing newer
        warnings.simplefilter("ignore")
        torch.jit.trace(network, torch.zeros(2, 3, 8, 8)).save(str(tmp_path / "tiny.pt"))
        magicmind.build(tmp_path / "tiny.pt", engine, spec)

    outputs = run(engine, spec, tiny_batch())

    with torch.no_grad():
        expected = network(torch.from_numpy(tiny_batch())).numpy()
    np.testing.assert_allclose(outputs["features"], expected, atol=1e-5)


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


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((5, 3, 16, 16), np.float32), "another model"),
        (np.zeros((5, 8, 8, 3), np.uint8), "another model"),
        (np.zeros((5, 3, 8, 8), np.float64), "another model"),
        (np.zeros((0, 3, 8, 8), np.float32), "another model"),
        (np.full((5, 3, 8, 8), np.nan, np.float32), "make it again"),
    ],
    ids=["shape", "pixels", "double", "empty", "nan"],
)
def test_calibration_data_of_another_model_is_refused(sdk, onnx, engine, tmp_path, array, said):
    path = tmp_path / "calibration.npy"
    np.save(path, array)

    with pytest.raises(BuildError, match=said):
        magicmind.build(onnx, engine, tiny_spec("int8", calibration=str(path)))
    assert not engine.exists()


@pytest.mark.parametrize("data", [None, b"", b"not numpy", b"\x93NUMPY\x01\x00"])
def test_calibration_data_that_is_no_array_is_refused(sdk, onnx, engine, tmp_path, data):
    path = tmp_path / "calibration.npy"
    if data is not None:
        path.write_bytes(data)

    with pytest.raises(BuildError, match="cannot be read"):
        magicmind.build(onnx, engine, tiny_spec("int8", calibration=str(path)))


def test_int8_without_calibration_data_is_refused(sdk, onnx, engine):
    with pytest.raises(BuildError, match="without calibration data"):
        magicmind.build(onnx, engine, tiny_spec("int8"))


def test_an_onnx_that_the_parser_refuses_gives_its_words(sdk, engine, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"rubbish")

    with pytest.raises(BuildError, match=r"mm\.Parser\.parse failed: INVALID_ARGUMENT"):
        magicmind.build(tmp_path / "bad.onnx", engine, tiny_spec())


def test_what_the_builder_prints_is_in_the_error(sdk, onnx, engine):
    options = {"config": {"precision_config": {"precision_mode": "forced_float32"}}}

    with pytest.raises(BuildError, match="unknown precision_mode 'forced_float32'"):
        magicmind.build(onnx, engine, tiny_spec(options=options))


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


def test_a_container_that_was_given_no_card_is_told_by_its_variable(sdk, monkeypatch):
    sdk.switch(devices=0)
    monkeypatch.setenv("CAMBRICON_VISIBLE_DEVICES", "5")
    assert "CAMBRICON_VISIBLE_DEVICES=5" in magicmind.devices("MLU370-S4").evidence
    monkeypatch.setenv("CAMBRICON_VISIBLE_DEVICES", "all")
    assert "VISIBLE_DEVICES" not in magicmind.devices("MLU370-S4").evidence


def test_without_the_sdk_there_are_no_devices_and_the_reason(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "magicmind", None)

    found = magicmind.devices("MLU370-S4")

    assert found.devices == ()
    assert "magicmind cannot be imported" in found.evidence


def test_a_driver_that_fails_is_evidence_not_an_error(sdk):
    sdk.switch(fail=[["mm.System.initialize", 0, 14]])

    found = magicmind.devices("MLU370-S4")

    assert found.devices == ()
    assert "UNAVAILABLE (14)" in found.evidence


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
        processes = magicmind.health(DEVICE).processes

    assert [process.split(" ")[1] for process in processes] == ([] if pids == "own" else ["python"])
    assert all(not Path("/proc", process.split(" ")[0]).exists() for process in processes)
    assert magicmind.health(DEVICE).processes == (), "given back with the System"


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
