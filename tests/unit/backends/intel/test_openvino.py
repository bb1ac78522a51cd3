"""OpenVINO computes the graph in the precision that was asked for, or says so; what is planted is caught by numerics.

Tests marked `real` run OpenVINO itself on this machine's CPU. The others put a module of a few lines in its place; the
names of its devices are those of Intel's documents (docs.openvino.ai, "Query Device Properties", "NPU Device")."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from ort_small import PIXELS, expected, images, nearly, network

from harness.backends import registry
from harness.backends.base import BuildSpec, Device, Normalize, TensorSpec
from harness.backends.cpu.ort import has_vnni
from harness.backends.intel import _nncf
from harness.backends.intel import openvino as backend
from harness.case import Case, Precision
from harness.chips import CHIPS
from harness.errors import BuildError, DeviceError, InvalidMeasurement, RunError
from harness.judge.numerics import judge_numerics
from harness.judge.timing import Plan
from harness.vocabulary import Outcome
from harness.worker import wire
from harness.worker.process import Worker
from tests.conformance.conftest import skip_absent

CPU = Device(0, "a CPU", 0, "CPU")
ROOM = {} if has_vnni() else {"overflow_fix": "ENABLE"}  # for INT8 products that are added in 16 bits
real = pytest.mark.skipif(
    not (find_spec("openvino") and find_spec("nncf")), reason='to run it: pip install "chipproof[openvino]"'
)


def spec(precision="fp32", batch=2, **more):
    inputs = (TensorSpec("image", "float32", (-1, 3, 12, 12)),)
    return BuildSpec(precision, batch, inputs, ("logits", "share"), **{"target": "CPU", **more})


@pytest.fixture
def source(tmp_path):
    onnx.save(network(), str(tmp_path / "small.onnx"))
    return tmp_path / "small.onnx"


@pytest.fixture
def calibration(tmp_path):
    np.save(tmp_path / "calibration.npy", images(24, seed=2))
    return str(tmp_path / "calibration.npy")


@pytest.fixture
def engine(source, tmp_path):
    """Build an engine for a spec, of the small network or of another model."""

    def build(wanted, model=None):
        path = source
        if model is not None:
            path = tmp_path / "other.onnx"
            onnx.save(model, str(path))
        backend.build(path, tmp_path / "engine", wanted)
        return tmp_path / "engine"

    return build


def outputs(path, wanted, x):
    with backend.load(path, CPU, wanted) as session:
        session.write({"image": x})
        session.execute()
        return session.read()


def drawn(count, seed=3):
    return np.random.default_rng(seed).integers(0, 256, (count, 12, 12, 3), np.uint8)


def normalised(pixels, how=PIXELS):
    return ((pixels - np.array(how.mean)) / np.array(how.std)).transpose(0, 3, 1, 2).astype(np.float32)


# ------------------------------------------------------------------------------------------- what is there


class Plugins:
    """A module like openvino, with devices of these names and capabilities; `takes` is the hint that is taken."""

    NAMES = {  # noqa: RUF012
        "CPU": "Intel(R) Xeon(R) 6787P",
        "GPU.0": "Intel(R) UHD Graphics 770 (iGPU)",
        "GPU.1": "Intel(R) Arc(TM) A770 Graphics (dGPU)",
        "NPU": "Intel(R) AI Boost",
    }

    def __init__(self, names=NAMES, capabilities=("BF16", "FP32", "INT8", "EXPORT_IMPORT"), release="2026.4.1-1-x"):
        self.__version__ = release
        self.Core = lambda: self
        self.available_devices = list(names)
        self._properties = {"OPTIMIZATION_CAPABILITIES": list(capabilities), "SUPPORTED_PROPERTIES": {}}
        self._names = dict(names)

    def get_property(self, device, name):
        return self._names[device] if name == "FULL_DEVICE_NAME" else self._properties[name]

    def get_versions(self, device):
        return {device: SimpleNamespace(description=f"plugin of {device}")}


def compiled(taken, *layers):
    """What a plugin compiled: the hint that it took, and layers as (layerType, runtimePrecision)."""

    def told(word):
        return SimpleNamespace(astype=lambda kind: word)

    rows = [{"layerType": told(kind), "runtimePrecision": told(precision)} for kind, precision in layers]
    model = SimpleNamespace(get_ordered_ops=lambda: [SimpleNamespace(get_rt_info=lambda row=row: row) for row in rows])
    hint = SimpleNamespace(to_string=lambda: taken)
    return SimpleNamespace(get_property=lambda name: hint, get_runtime_model=lambda: model)


@pytest.mark.parametrize(
    ("chip", "found"),
    [
        ("intel_cpu", [("CPU", 0, "Intel(R) Xeon(R) 6787P")]),
        (
            "intel_gpu",
            [("GPU.0", 0, "Intel(R) UHD Graphics 770 (iGPU)"), ("GPU.1", 1, "Intel(R) Arc(TM) A770 Graphics (dGPU)")],
        ),
        ("intel_npu", [("NPU", 0, "Intel(R) AI Boost")]),
    ],
)
def test_each_chip_finds_its_devices_and_no_other(monkeypatch, chip, found):
    monkeypatch.setitem(sys.modules, "openvino", Plugins())

    seen = backend.devices(CHIPS[chip].match)

    assert [(device.target, device.index, device.name) for device in seen.devices] == found
    assert all(device.precisions == ("fp32", "bf16", "int8") for device in seen.devices)
    assert "NPU Intel(R) AI Boost (BF16 EXPORT_IMPORT FP32 INT8)" in seen.evidence


def test_without_openvino_there_is_no_device_and_the_evidence_names_the_interpreter(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)

    found = backend.devices(".*")

    assert found.devices == ()
    assert f"openvino cannot be imported under {sys.executable}" in found.evidence


def test_an_older_release_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", Plugins(release="2025.3.0-1-x"))

    assert "2025.3.0-1-x" in backend.devices(".*").evidence
    with pytest.raises(DeviceError, match=r"older than 2026\.4"):
        backend.version()


def test_the_version_names_plugin_precisions_and_nncf(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", Plugins({"CPU": "a CPU"}))

    said = backend.version()

    assert re.fullmatch(
        r"OpenVINO 2026\.4\.1-1-x; CPU plugin of CPU BF16 EXPORT_IMPORT FP32 INT8; (NNCF \S+|no NNCF)", said
    )


def test_the_suites_own_python_is_taken_where_it_has_the_module():
    row = registry.BackendRow("x", "x", own_python_with="numpy")

    given = registry.Pythons("/another/python", {"intel_npu": "/a/third"})

    assert row.python(given, "intel_cpu") == sys.executable
    assert replace(row, own_python_with="no_such_module").python(given, "intel_cpu") == "/another/python"
    assert row.python(given, "intel_npu") == "/a/third"


def test_the_precisions_of_a_device_pass_through_the_pipe():
    device = replace(CPU, precisions=("fp32", "int8"))

    assert wire.device(wire.plain(device)) == device


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_case_in_a_precision_that_the_device_has_is_run(precision):
    skip_absent(
        one_device("fp32", "int8"), Case("regnety_016", "intel_cpu", Precision(precision), 1), None, "numerics", "t"
    )
    skip_absent(one_device(), Case("regnety_016", "intel_cpu", Precision(precision), 1), None, "numerics", "t")


def test_a_case_in_a_precision_that_the_device_lacks_is_skipped_with_the_reason():
    with pytest.raises(pytest.skip.Exception, match=r"^a CPU computes in fp32, int8, not in fp16$"):
        skip_absent(
            one_device("fp32", "int8"), Case("regnety_016", "intel_cpu", Precision.FP16, 1), None, "numerics", "t"
        )


def test_a_cpu_is_tested_at_every_precision_that_openvino_builds():
    assert {*CHIPS["intel_cpu"].precisions} == {*registry.backend("openvino").precisions} == {*backend.CAPABILITY}
    assert {*backend.NARROW_TYPES} <= {*backend.CAPABILITY}


def one_device(*precisions):
    device = replace(CPU, precisions=precisions)
    return SimpleNamespace(present=lambda chip: SimpleNamespace(devices=(device,)))


# ------------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize(
    ("precision", "made", "said"),
    [
        ("fp32", compiled("bf16"), "for f32 (fp32), it took bf16"),
        ("fp16", compiled("bf16"), "for f16 (fp16), it took bf16"),
        ("fp32", compiled("f32", ("Convolution", "f32"), ("FullyConnected", "bf16")), "1 in bf16, 1 in f32"),
        ("bf16", compiled("f32"), "for bf16 (bf16), it took f32"),
        ("bf16", compiled("bf16", ("Convolution", "f32")), "no convolution or matrix product is in BF16: 1 in f32"),
        ("bf16", compiled("bf16", ("Convolution", "bf16"), ("MatMul", "f32")), ""),
        ("fp16", compiled("f16", ("Convolution", "f16")), ""),
        ("int8", compiled("f32", ("Convolution", "f32")), "no convolution or matrix product is in INT8: 1 in f32"),
        ("fp32", compiled("f32", ("Convolution", "f32"), ("Reorder", "i8")), ""),
        ("int8", compiled("f32", ("Convolution", "u8"), ("MatMul", "f32")), ""),
    ],
)
def test_another_precision_than_was_asked_for_is_told(precision, made, said):
    found = backend._other_precision(Plugins(), made, spec(precision))

    assert said in found
    assert bool(found) == bool(said)


def test_where_a_plugin_has_no_runtime_model_the_hint_alone_is_read():
    def absent():
        raise RuntimeError("not implemented")

    made = replace_runtime_model(compiled("f32"), absent)

    assert backend._other_precision(Plugins(), made, spec("int8")) == ""


def placed(devices, *nodes):
    """A compiled model that runs on these devices, of nodes (layerType, runtimePrecision, primitiveType)."""

    def told(word):
        return SimpleNamespace(astype=lambda kind: word)

    words = ("layerType", "runtimePrecision", "primitiveType")
    rows = [dict(zip(words, map(told, node), strict=True)) for node in nodes]
    model = SimpleNamespace(get_ordered_ops=lambda: [SimpleNamespace(get_rt_info=lambda row=row: row) for row in rows])
    return SimpleNamespace(get_property=lambda name: devices, get_runtime_model=lambda: model)


INPUT, CONVOLUTION = ("Input", "f32", "undef"), ("Convolution", "f16", "convolution_gpu_bfyx_f16__f16")
SHAPE = ("Gather", "i32", "gather_cpu_impl__i32")


@pytest.mark.parametrize(
    ("target", "devices", "nodes", "share"),
    [
        ("CPU", ["CPU"], [("FullyConnected", "f32", "brgemm_avx2_f32")], 1.0),
        ("GPU", ["GPU.0"], [INPUT, CONVOLUTION], 1.0),
        ("GPU.1", ["GPU.1"], [INPUT, CONVOLUTION, CONVOLUTION, CONVOLUTION, SHAPE], 0.75),
        ("NPU", ["NPU"], [], 1.0),
    ],
)
def test_the_share_of_the_nodes_on_the_device_is_told(target, devices, nodes, share):
    assert backend._on_device(placed(devices, *nodes), target) == share


@pytest.mark.parametrize(
    ("target", "devices", "nodes", "said"),
    [
        ("GPU", ["GPU.0", "CPU"], [CONVOLUTION], "asked for GPU, OpenVINO runs the model on GPU.0, CPU"),
        ("GPU.1", ["GPU.0"], [CONVOLUTION], "asked for GPU.1"),
        (
            "GPU",
            ["GPU"],
            [CONVOLUTION, ("Softmax", "f32", "softmax_cpu_impl__f32")],
            "1 of 2 nodes run on the host .* softmax",
        ),
    ],
)
def test_work_elsewhere_is_refused(target, devices, nodes, said):
    with pytest.raises(InvalidMeasurement, match=said):
        backend._on_device(placed(devices, *nodes), target)


def test_an_engine_is_loaded_on_the_device_that_was_asked_for(tmp_path, monkeypatch):
    plugins, asked = Plugins(capabilities=["FP32"]), []
    plugins.import_model = lambda blob, target, settings: asked.append(target) or compiled("bf16")
    monkeypatch.setitem(sys.modules, "openvino", plugins)
    (tmp_path / "engine").write_bytes(b"blob")

    loading = backend.load(tmp_path / "engine", Device(1, "an Arc", 1, "GPU.1"), spec(target="GPU"))
    with pytest.raises(InvalidMeasurement, match=r"asked the plugin GPU\.1 for f32"), loading:
        pass

    assert asked == ["GPU.1"]


def test_where_a_plugin_does_not_tell_its_devices_nothing_is_on_record():
    def silent(name):
        raise RuntimeError("Unsupported property EXECUTION_DEVICES")

    assert backend._on_device(SimpleNamespace(get_property=silent), "NPU") is None


@real
def test_on_a_cpu_every_node_runs_there(engine):
    with backend.load(engine(spec()), CPU, spec()) as session:
        assert session.on_chip == 1.0


def replace_runtime_model(made, call):
    return SimpleNamespace(get_property=made.get_property, get_runtime_model=call)


@pytest.mark.parametrize(
    ("target", "capabilities", "hint"),
    [("CPU", ("FP32", "INT8", "FP16"), "f32"), ("GPU.0", ("FP32", "FP16", "INT8"), "f16"), ("NPU", ("INT8",), "f32")],
)
def test_beside_int8_a_cpu_computes_in_fp32_and_others_in_fp16(target, capabilities, hint):
    core = Plugins(dict.fromkeys([target], "a device"), capabilities)

    assert backend._hint(core, spec("int8", target=target)) == hint


@real
def test_a_precision_that_the_plugin_does_not_name_is_not_built(source, tmp_path):
    if "FP16" in backend._capabilities(backend._sdk().Core(), "CPU"):
        pytest.skip("the plugin computes in FP16 on this CPU")

    with pytest.raises(BuildError, match="does not compute in fp16: OPTIMIZATION_CAPABILITIES are"):
        backend.build(source, tmp_path / "engine", spec("fp16"))


@real
def test_an_engine_that_the_plugin_would_run_in_another_precision_is_not_loaded(engine):
    if "FP16" in backend._capabilities(backend._sdk().Core(), "CPU"):
        pytest.skip("the plugin computes in FP16 on this CPU")
    path = engine(spec())

    loading = backend.load(path, CPU, spec("fp16"))
    with pytest.raises(InvalidMeasurement, match=r"for f16 \(fp16\), it took"), loading:
        pass


@real
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_fp32_is_the_graph(engine, batch):
    wanted, x = spec(batch=batch), images(batch)
    path = engine(wanted)

    with backend.load(path, CPU, wanted) as session:
        assert session.inputs == (TensorSpec("image", "float32", (batch, 3, 12, 12)),)
        assert session.outputs[1] == TensorSpec("share", "float32", (batch, 5))
    nearly(outputs(path, wanted, x), expected(x), 1e-5)


@real
@pytest.mark.parametrize("normalize", [None, PIXELS], ids=["floats", "pixels"])
def test_one_engine_runs_every_batch_of_its_tiers(engine, normalize):
    wanted = spec(batch=4, tiers=(1, 4), normalize=normalize)
    path = engine(wanted)

    for batch in (1, 2, 4):
        x = images(batch) if normalize is None else drawn(batch)
        right = expected(x if normalize is None else normalised(x))
        nearly(outputs(path, replace(wanted, batch=batch), x), right, 1e-5)
    with pytest.raises(DeviceError, match="start_async failed"):
        outputs(path, wanted, images(8) if normalize is None else drawn(8))


@real
def test_pixels_are_normalised_by_the_engine(engine):
    wanted = spec(normalize=PIXELS)
    pixels = drawn(2)

    nearly(outputs(engine(wanted), wanted, pixels), expected(normalised(pixels)), 1e-5)


@real
def test_int8_is_near_the_graph_and_in_int8(engine, calibration, capsys):
    wanted, x = spec("int8", calibration=calibration, options=ROOM), images(2)

    found = outputs(engine(wanted), wanted, x)

    nearly(found, expected(x), 0.2)
    assert np.abs(found["logits"] - expected(x)["logits"]).max() > 1e-4
    assert re.search(r"convolutions and matrix products: .*[1-9] in [iu]8", capsys.readouterr().out)


@real
@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (spec("int8"), "int8 without calibration data"),
        (spec("int8", calibration="x.npy"), "cannot be read"),
    ],
)
def test_what_cannot_be_built_is_said(source, tmp_path, wanted, said):
    with pytest.raises(BuildError, match=said):
        backend.build(source, tmp_path / "engine", wanted)
    assert not (tmp_path / "engine").exists()


@real
def test_a_graph_that_cannot_be_read_is_a_build_error(tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"no graph")

    with pytest.raises(BuildError, match=r"openvino.Core.read_model failed"):
        backend.build(tmp_path / "no.onnx", tmp_path / "engine", spec())


@real
def test_a_damaged_engine_is_told(tmp_path):
    (tmp_path / "engine").write_bytes(b"no blob" * 100)

    loading = backend.load(tmp_path / "engine", CPU, spec())
    with pytest.raises(DeviceError, match="import_model failed") as raised, loading:
        pass
    assert "it will be made again" in raised.value.hint


@real
def test_an_engine_of_another_model_is_told(engine):
    path = engine(spec())

    loading = backend.load(path, CPU, replace(spec(), outputs=("boxes",)))
    with pytest.raises(DeviceError, match="no output boxes: it has logits, share"), loading:
        pass


# ------------------------------------------------------------------------------------------- how it is run


@real
def test_all_requests_are_fed_and_the_last_execute_is_read(engine):
    wanted = spec(options={"streams": 2})
    one, other = images(2, seed=5), images(2, seed=6)

    with backend.load(engine(wanted), CPU, wanted) as session:
        assert len(session._requests) >= 2
        for times in (1, 2, 3, 7):
            for x in (one, other):
                session.write({"image": x})
                session.execute(times)
                nearly(session.read(), expected(x), 1e-5)


@real
def test_requests_in_flight_together_have_inputs_and_outputs_of_their_own(engine):
    wanted = spec(options={"streams": 2})

    with backend.load(engine(wanted), CPU, wanted) as session:
        fed = [images(2, seed=seed) for seed in range(session.in_flight)]
        for place, x in enumerate(fed):
            session.write_at(place, {"image": x})
        session.execute(session.in_flight)
        for place, x in enumerate(fed):
            nearly(session.read_at(place), expected(x), 1e-5)


class Request:
    """An infer request that notes what is done to it."""

    def __init__(self, log, number):
        self.start_async = lambda: log.append(("start", number))
        self.wait = lambda: log.append(("wait", number))


def ring(count):
    log = []
    port = SimpleNamespace(
        names={"x"},
        get_element_type=lambda: SimpleNamespace(to_dtype=lambda: np.float32),
        partial_shape=[SimpleNamespace(is_dynamic=False, get_length=lambda: 1)],
    )
    numbers = iter(range(count))
    made = SimpleNamespace(
        get_property=lambda name: count,
        create_infer_request=lambda: Request(log, next(numbers)),
        inputs=[port],
        outputs=[port],
    )
    wanted = BuildSpec("fp32", 1, (TensorSpec("x", "float32", (1,)),), ("x",))
    return backend._Session(made, wanted), log


def test_executes_are_in_flight_together_and_all_are_awaited():
    session, log = ring(2)

    session.execute(3)

    assert log == [("start", 0), ("start", 1), ("wait", 0), ("start", 0), ("wait", 0), ("wait", 1)]
    assert session._last is session._requests[0]


def test_one_execute_is_one():
    session, log = ring(2)

    session.execute(1)

    assert log == [("start", 0), ("wait", 0)]


def test_a_window_holds_as_many_executes_as_were_started():
    session, log = ring(3)

    timing = session.measure(Plan(warmup_s=0.0, window_s=0.01, windows=3, latencies=0))

    assert sum(window.executes for window in timing.windows) == len([word for word, _ in log if word == "start"])
    assert all(window.executes % 3 == 0 for window in timing.windows)
    assert timing.latencies == ()


def test_a_latency_is_that_of_one_execute_alone():
    session, log = ring(3)

    timing = session.measure(Plan(warmup_s=0.0, window_s=0.001, windows=1, latencies=5))

    assert len(timing.latencies) == 5
    assert log[-10:] == [("start", 0), ("wait", 0)] * 5


def test_nothing_is_read_before_it_was_executed():
    with pytest.raises(RunError, match="nothing was executed"):
        ring(1)[0].read()


@real
def test_inputs_of_another_shape_or_type_are_refused(engine):
    with backend.load(engine(spec()), CPU, spec()) as session:
        for wrong in (images(1), images(2).astype(np.float64)):
            with pytest.raises(RunError):
                session.write({"image": wrong})


@real
def test_it_runs_in_a_worker(source, tmp_path, calibration):
    wanted, x = spec("int8", calibration=calibration, options=ROOM), images(2)
    with Worker("openvino", log=tmp_path / "log") as worker:
        (device,) = worker.devices(CHIPS["intel_cpu"].match).devices
        version = worker.version()
        worker.build(source, tmp_path / "engine", wanted)
        with worker.load(tmp_path / "engine", device, wanted) as session:
            found = session.run({"image": x})

    nearly(found, expected(x), 0.2)
    assert re.match(r"OpenVINO 20\d\d\.\d", version)
    assert "openvino_intel_cpu_plugin" in version
    assert "NNCF" in version


@real
def test_no_usage_figures_are_sent(tmp_path):
    """In a process of its own: NNCF is silent wherever pytest is."""
    program = (
        "from harness.backends.intel import _nncf, openvino; openvino.version(); _nncf._imported(); "
        "import nncf.telemetry.wrapper as w; print(type(w.telemetry).__name__)"
    )
    environment = {
        "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout.split()[-1] == "MagicMock"
    assert not (tmp_path / "intel").exists()


def test_int8_without_nncf_says_how_to_get_it(monkeypatch, calibration):
    monkeypatch.setitem(sys.modules, "nncf", None)

    with pytest.raises(BuildError, match="INT8 needs NNCF") as raised:
        _nncf.quantised(None, None, spec("int8", calibration=calibration), calibration)
    assert raised.value.hint == 'pip install "chipproof[openvino]"'


@real
@pytest.mark.parametrize("change", [{}, {"batch": 4}, {"tiers": (1, 4)}, {"normalize": PIXELS}])
def test_an_engine_of_a_model_that_was_quantised_before_is_that_of_one_quantised_for_it(
    engine, source, calibration, tmp_path, monkeypatch, change
):
    plain = spec("int8", calibration=calibration, options=ROOM)
    wanted = replace(plain, **change)
    x = drawn(wanted.batch) if wanted.normalize else images(wanted.batch)
    alone = outputs(engine(wanted), wanted, x)

    backend.build(source, tmp_path / "quantised", replace(plain, options={**ROOM, "only": "quantised"}))
    monkeypatch.setattr(_nncf, "quantised", None)
    found = outputs(engine(replace(wanted, options={**ROOM, "quantised": str(tmp_path / "quantised")})), wanted, x)

    assert all(np.array_equal(found[name], alone[name]) for name in alone)


# ------------------------------------------------------------------------------------------- what is planted


def verdict(found, x, precision="fp32"):
    return judge_numerics(found, {name: np.float32(value) for name, value in expected(x).items()}, Precision(precision))


@real
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_is_sound_passes_numerics(engine, calibration, precision):
    wanted = spec(precision, normalize=PIXELS, calibration=calibration)
    pixels = drawn(2)

    assert verdict(outputs(engine(wanted), wanted, pixels), normalised(pixels), precision).outcome is Outcome.PASS


@real
def test_a_wrong_mean_fails_numerics(engine):
    wrong = replace(PIXELS, mean=tuple(value + 1 for value in PIXELS.mean))
    wanted = spec(normalize=wrong)
    pixels = drawn(2)

    assert verdict(outputs(engine(wanted), wanted, pixels), normalised(pixels)).outcome is Outcome.FAIL


@real
def test_swapped_channels_fail_numerics(engine):
    wanted = spec(normalize=PIXELS)
    pixels = drawn(2)

    found = outputs(engine(wanted), wanted, np.ascontiguousarray(pixels[..., ::-1]))

    assert verdict(found, normalised(pixels)).outcome is Outcome.FAIL


@real
def test_int8_calibrated_on_another_model_fails_numerics(engine, tmp_path):
    """The other model's pixels lie between 0 and 1 and were not centred: most of this model's range is cut off."""
    np.save(tmp_path / "other.npy", np.random.default_rng(4).uniform(0, 0.1, (24, 3, 12, 12)).astype(np.float32))
    wanted, x = spec("int8", calibration=str(tmp_path / "other.npy")), images(2)

    assert verdict(outputs(engine(wanted), wanted, x), x, "int8").outcome is Outcome.FAIL


@real
def test_int8_calibrated_on_a_model_of_another_size_is_not_built(source, tmp_path):
    np.save(tmp_path / "other.npy", np.zeros((4, 3, 16, 16), np.float32))

    with pytest.raises(BuildError, match="the model takes float32"):
        backend.build(source, tmp_path / "engine", spec("int8", calibration=str(tmp_path / "other.npy")))


@real
def test_an_engine_of_old_weights_fails_numerics(engine):
    """One training step on: every weight of one layer moved by a hundredth."""
    old = network()
    (weights,) = (value for value in old.graph.initializer if value.name == "w2")
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(1.01), "w2"))
    x = images(2)

    assert verdict(outputs(engine(spec(), old), spec(), x), x).outcome is Outcome.FAIL


@real
@pytest.mark.parametrize("tune", [True, False])
def test_a_tuned_engine_asks_the_compiler_of_an_npu_for_its_highest_level(source, tmp_path, monkeypatch, tune):
    asked = []
    sdk = backend._sdk()
    core = sdk.Core()

    def compile_model(model, target, settings):
        asked.append(settings.pop("NPU_COMPILATION_MODE_PARAMS", None))
        return core.compile_model(model, target, settings)

    stub = SimpleNamespace(
        get_property=core.get_property, read_model=core.read_model, compile_model=compile_model, __version__="2026.4"
    )
    monkeypatch.setattr(sdk, "Core", lambda: stub)
    backend.build(source, tmp_path / "engine", spec(tune=tune))

    assert asked == ["optimization-level=2" if tune else None]


@real
def test_bf16_is_near_the_graph_or_is_refused_where_the_cpu_has_none(engine):
    """Where a CPU lacks it the hint is ignored in silence: what the plugin says that it can do is asked first."""
    capabilities = backend._capabilities(backend._sdk().Core(), "CPU")
    if "BF16" not in capabilities:
        with pytest.raises(BuildError, match="the plugin CPU does not compute in bf16"):
            engine(spec("bf16"))
        return
    x = images(2)
    assert verdict(outputs(engine(spec("bf16")), spec("bf16"), x), x, "bf16").outcome is Outcome.PASS


@real
def test_a_plugin_left_to_its_default_fails_numerics_or_has_no_bf16(engine, monkeypatch):
    """On a CPU with AVX512_BF16 or AMX the plugin's own choice is BF16: the reason why FP32 is asked for by name."""
    core = backend._sdk().Core()
    if core.get_property("CPU", "INFERENCE_PRECISION_HINT").to_string() == "f32":
        pytest.skip("the plugin's default is FP32 on this CPU")
    monkeypatch.setattr(backend, "_settings", lambda core, spec: {})

    with pytest.raises(BuildError, match=r"asked the plugin CPU for f32 \(fp32\), it took bf16"):
        engine(spec())
    monkeypatch.setattr(backend, "_other_precision", lambda core, compiled, spec: "")
    x = images(2)
    assert verdict(outputs(engine(spec()), spec(), x), x).outcome is Outcome.FAIL


def test_the_normalisation_of_the_tests_is_not_symmetric():
    """Else swapped channels or a mean of another channel would go unseen."""
    assert isinstance(PIXELS, Normalize)
    assert len(set(PIXELS.mean)) == len(set(PIXELS.std)) == 3
