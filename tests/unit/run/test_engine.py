"""What the chip's compiler is told for one case, and what the backend may ask for beside the graph."""

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from harness import matrix
from harness.backends import registry
from harness.backends.base import Device
from harness.case import Case, Precision
from harness.chips import CHIPS
from harness.datasets.base import Dataset, Sample
from harness.errors import BuildError, DataError, DeviceError, UsageError
from harness.judge.policy import Policy
from harness.run.devices import Presence
from harness.run.engine import CaseEngine, Variant, _Beside
from harness.store import Store

FP32 = next(case for case in matrix.cases() if str(case).endswith("cpu-fp32-bs1"))


OPTIONS = registry.backend_options(["t4:workspace_mb=64", "cpu:threads=1", "threads=2"], CHIPS)


NONE = registry.BackendOptions()


def engine_of(text, tmp_path, given=OPTIONS, **present):
    store = SimpleNamespace(root=tmp_path)
    settings = SimpleNamespace(process=0, tune=False, runner=None, store=store, backend_options=given, policy=Policy())
    engine = CaseEngine(SimpleNamespace(settings=settings), Case.parse(text))
    known = {"backend": "ort", "version": "1", "devices": (Device(0, "CPU"),), "evidence": ""}
    vars(engine)["present"] = Presence(**{**known, **present})
    return engine


@pytest.mark.parametrize(
    ("text", "unknown"), [("resnet18-cpu-fp32-bs1", "resnet18"), ("regnety_016-tpu-fp32-bs1", "tpu")]
)
def test_a_case_of_an_unknown_model_or_chip_is_refused_with_those_there_are(text, unknown):
    with pytest.raises(UsageError, match=f"there is no \\w+ '{unknown}'") as caught:
        CaseEngine(None, Case.parse(text))
    assert ("cpu" if unknown == "tpu" else "regnety_016") in caught.value.hint


def test_an_absent_chip_is_an_error_with_what_was_looked_for():
    absent = Presence("", "", (), "acl: no module acl")
    engine = CaseEngine(SimpleNamespace(present=lambda chip: absent), Case.parse("regnety_016-ascend310p-fp16-bs1"))

    with pytest.raises(DeviceError, match="Ascend 310P is absent: acl: no module acl") as caught:
        _ = engine.device
    assert caught.value.hint == engine.chip.hint


@pytest.mark.parametrize(("process", "index"), [(0, 0), (1, 1), (2, 0), (3, 1)])
def test_the_processes_of_a_run_take_the_devices_in_turn(process, index, tmp_path):
    engine = engine_of("regnety_016-t4-fp32-bs1", tmp_path, devices=(Device(0, "Tesla T4"), Device(1, "Tesla T4")))
    engine.context.settings.process = process

    assert engine.device.index == index


def test_what_the_user_sets_is_told_to_the_compiler_and_to_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(_Beside, "timing_cache", lambda self: "/t")
    t4, cpu = (engine_of(f"regnety_016-{chip}-fp32-bs1", tmp_path, **more) for chip, more in (
        ("t4", {"backend": "trt"}), ("cpu", {})))  # fmt: skip

    assert cpu.spec(cpu.variant).options == {"threads": 1}
    with pytest.raises(UsageError, match="the backend trt has no option threads") as caught:
        t4.spec(t4.variant)
    assert "known: in_fp32, workspace_mb; for another chip write --backend-option CHIP:threads=2" in caught.value.hint


def test_the_compiler_is_told_height_before_width_batch_and_names(tmp_path):
    engine = engine_of("gfocalv2_r50_fpn-cpu-fp32-bs1", tmp_path, NONE)
    spec = engine.spec(engine.variant)

    (fed,) = spec.inputs
    assert (fed.name, fed.dtype, fed.shape) == (engine.model.input, "float32", (-1, 3, 800, 1216))
    assert (spec.precision, spec.batch, spec.outputs) == ("fp32", 1, engine.model.outputs)
    assert (spec.calibration, spec.normalize, spec.tiers, spec.tune) == (None, None, (), False)


def test_an_option_of_the_user_comes_before_what_the_backend_needs_by_itself(tmp_path, monkeypatch):
    row = replace(registry.backend("ort"), needs=lambda beside: {"threads": 8, "more": 1})
    monkeypatch.setattr(registry, "backend", lambda name: row)
    engine = engine_of("regnety_016-cpu-fp32-bs1", tmp_path)

    assert engine.spec(engine.variant).options == {"threads": 1, "more": 1}


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        ("retinaface_mobilenet025-ascend310-fp16-bs1", True),
        ("regnety_016-ascend310-fp16-bs1", False),  # it could; its figures were measured without
        ("retinaface_mobilenet025-t4-fp16-bs1", False),
    ],
)
def test_a_chip_is_fed_raw_pixels_where_its_figures_were_measured_so(text, raw, tmp_path):
    assert engine_of(text, tmp_path).variant == Variant(raw=raw)


@pytest.mark.parametrize(
    ("text", "variant", "kind"),
    [
        (
            "retinaface_resnet50-mlu370_s4-int8-bs4",
            Variant(raw=True, tiers=(1, 4, 8), traced=True),
            "one for batches 1, 4, 8, from TorchScript",
        ),
        ("regnety_016-mlu370_s4-int8-bs4", Variant(raw=False), "static, from ONNX"),  # nothing is published
        ("retinaface_resnet50-ascend310-fp16-bs4", Variant(raw=True), "static, from ONNX"),
    ],
)
def test_the_published_engine_is_of_the_kind_that_the_document_measured(text, variant, kind, tmp_path):
    engine = engine_of(text, tmp_path)

    assert engine.variant == variant
    assert variant.facts == {"normalized_by_chip": variant.raw, "compiled": kind}
    assert variant.static == Variant(raw=variant.raw)


def test_a_traced_variant_is_compiled_from_torchscript(tmp_path, monkeypatch):
    engine = engine_of("retinaface_resnet50-mlu370_s4-fp16-bs4", tmp_path)
    engine.context.references = SimpleNamespace(
        traced=lambda model, protocol: tmp_path / f"{model.name}-{protocol.name}.pt",
        exported=lambda model, protocol: tmp_path / f"{model.name}-{protocol.name}.onnx",
    )

    assert engine.source(engine.variant).name == "retinaface_resnet50-mlu.pt"
    assert engine.source(engine.variant.static).name == engine.onnx().name == "retinaface_resnet50-mlu.onnx"


def test_a_chip_that_cannot_normalise_is_fed_floats_whatever_was_published(tmp_path, monkeypatch):
    plain = {"ascend310": replace(CHIPS["ascend310"], normalizes=False)}
    monkeypatch.setattr(matrix, "chips", lambda: plain)

    assert engine_of("retinaface_mobilenet025-ascend310-fp16-bs1", tmp_path).variant == Variant(raw=False)


def test_the_compiler_is_told_precision_batch_size_and_names(tmp_path):
    engine = engine_of("retinaface_mobilenet025-ascend310-fp16-bs16", tmp_path, backend="ort")

    spec = engine.plain_spec()

    assert (spec.precision, spec.batch, spec.calibration) == ("fp16", 16, None)
    assert [(t.name, t.dtype, t.shape) for t in spec.inputs] == [(engine.model.input, "float32", (-1, 3, 1000, 1000))]
    assert spec.outputs == engine.model.outputs
    assert spec.target == "Ascend310", "no device said what it is, so the chip's row does"


def test_the_device_says_better_than_the_row_what_is_compiled_for(tmp_path):
    engine = engine_of(
        "regnety_016-ascend310p-fp16-bs1", tmp_path, devices=(Device(0, "Ascend310P1", target="Ascend310P1"),)
    )

    assert engine.plain_spec().target == "Ascend310P1"


def test_only_int8_is_calibrated(tmp_path, monkeypatch):
    monkeypatch.setattr(CaseEngine, "calibration", lambda self: tmp_path / "images.npy")

    specs = {
        precision: engine_of(f"regnety_016-cpu-{precision}-bs1", tmp_path).plain_spec().calibration
        for precision in Precision
    }

    assert specs == {**dict.fromkeys(Precision), Precision.INT8: str(tmp_path / "images.npy")}


def test_a_precision_that_a_backend_does_not_know_is_refused_before_it_is_asked(tmp_path):
    """Else it would build what it takes for the nearest: PyTorch on CUDA a network in FP32."""
    engine = engine_of("regnety_016-cpu-bf16-bs1", tmp_path)

    with pytest.raises(BuildError, match=r"^the backend ort does not build bf16\n") as raised:
        engine.built(None, Variant(raw=False))
    assert raised.value.hint == "select another precision: fp32, fp16, int8"


def exported(path):
    """Two outputs: the second of a Split, and a Relu's."""
    row = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Split", ["x"], ["left", "right"], "Split_0", axis=1),
        helper.make_node("Relu", ["left"], ["classes"], "Relu_1"),
    ]
    outputs = [row("right", TensorProto.FLOAT, ["n", 2]), row("classes", TensorProto.FLOAT, ["n", 2])]
    graph = helper.make_graph(nodes, "g", [row("x", TensorProto.FLOAT, ["n", 4])], outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)]), path)
    return path


def test_outputs_are_named_by_the_nodes_that_make_them_in_the_models_order(tmp_path, monkeypatch):
    engine = engine_of("regnety_016-ascend310-fp16-bs4", tmp_path)
    path = exported(tmp_path / "m.onnx")
    monkeypatch.setattr(CaseEngine, "onnx", lambda self, variant=None: path)
    monkeypatch.setattr(CaseEngine, "outputs_of", lambda self, variant: ("classes", "right"))

    beside = _Beside(engine, engine.variant)

    assert beside.out_nodes() == ["Relu_1:0", "Split_0:1"]
    assert beside.out_specs() == [["classes", "float32", [-1, 2]], ["right", "float32", [-1, 2]]]


def test_an_engine_for_several_batches_is_one_for_all_their_cases(tmp_path, monkeypatch):
    """Built for the largest and loaded for the case's, so that the store holds it once."""
    monkeypatch.setattr(CaseEngine, "onnx", lambda self, variant=None: tmp_path / "onnx" / "m.onnx")
    built, specs = [], []

    class Compiler:
        def build(self, onnx, engine, spec):
            specs.append(spec)
            engine.write_bytes(b"engine")

    for batch in (1, 8, 64):
        engine = engine_of(f"regnety_016-t4-fp16-bs{batch}", tmp_path, NONE, backend="ort")
        engine.context.settings.store = Store(tmp_path / "store")
        built.append(engine.built(Compiler(), Variant(raw=False, tiers=engine.tiers)))

    assert [(spec.batch, spec.tiers) for spec in specs] == [(64, (1, 4, 8, 16, 32, 64))]
    assert len({one.path for one in built}) == 1
    assert [one.spec.batch for one in built] == [1, 8, 64]


class Quantising:
    """A compiler whose INT8 builds begin with a step that their batches share; `seconds` is the clock."""

    def __init__(self, monkeypatch):
        self.specs, self.seconds = [], 0
        monkeypatch.setattr(time, "time", lambda: 1e9 + self.seconds)

    def build(self, onnx, engine, spec):
        self.specs.append(spec)
        self.seconds += 10
        first = spec.options.get("quantised")
        engine.write_text(f"{Path(first).read_text()} at {spec.batch}" if first else f"ranges {self.seconds}")


@pytest.fixture
def quantising(monkeypatch, tmp_path):
    """(compiler, function that builds the engine of a case by it)."""
    monkeypatch.setattr(CaseEngine, "onnx", lambda self, variant=None: tmp_path / "onnx" / "m.onnx")
    monkeypatch.setattr(CaseEngine, "calibration", lambda self: tmp_path / "images.npy")
    monkeypatch.setattr(CaseEngine, "check_calibration", lambda self, path: None)
    compiler = Quantising(monkeypatch)

    def built(store, batch, variant=None, precision="int8", anew=False):
        engine = engine_of(f"regnety_016-intel_cpu-{precision}-bs{batch}", tmp_path, NONE, backend="openvino")
        engine.context.settings.store, engine.anew = store, anew
        return engine.built(compiler, variant or engine.variant).path.read_text()

    return compiler, built


def test_engines_of_all_batches_and_inputs_are_made_of_one_quantised_model(quantising, tmp_path):
    compiler, built = quantising
    store = Store(tmp_path / "store")

    found = [built(store, 1), built(store, 1, Variant(raw=True)), built(store, 4), built(store, 4, precision="fp32")]

    assert found[:3] == ["ranges 10 at 1", "ranges 10 at 1", "ranges 10 at 4"]
    assert [spec.options.get("only") for spec in compiler.specs] == ["quantised", None, None, None, None]
    shared = compiler.specs[0]
    assert (shared.batch, shared.tiers, shared.normalize) == (1, (), None)
    assert compiler.specs[2].normalize is not None
    assert compiler.specs[4].options == {}, "of FP32 nothing is quantised"


def test_a_second_measurement_has_a_quantised_model_of_its_own_and_engines_of_that(quantising, tmp_path):
    compiler, built = quantising
    built(Store(tmp_path / "store"), 1)
    today = Store(tmp_path / "store")

    assert built(today, 1) == "ranges 10 at 1"
    assert built(today, 4) == "ranges 10 at 4", "built by this process, of what it found in the cache"
    assert built(today, 4, anew=True) == "ranges 40 at 4"
    assert built(today, 1, anew=True) == "ranges 40 at 1"
    assert built(today, 4, anew=True) == "ranges 40 at 4"
    assert len(compiler.specs) == 6, "each once"


@pytest.mark.parametrize(
    ("text", "backend", "asked", "told"),
    [
        ("regnety_016-t4-fp16-bs1", "trt", True, "builder optimisation level 5"),
        ("regnety_016-t4-fp16-bs1", "trt", False, ""),
        ("regnety_016-cpu-fp32-bs1", "ort", True, ""),
    ],
)
def test_an_engine_is_tuned_when_it_is_asked_and_the_backend_can(text, backend, asked, told, tmp_path):
    engine = engine_of(text, tmp_path, NONE, backend=backend)
    engine.context.settings.tune = asked

    assert engine.tuned == told
    assert engine.spec(Variant(raw=False)).tune == bool(told)


@pytest.mark.parametrize(
    ("text", "backend", "tiers"),
    [
        ("regnety_016-mlu370_s4-int8-bs4", "magicmind", (1, 4, 8)),
        ("regnety_016-cpu-fp16-bs1", "ort", (1,)),
        ("regnety_016-rk3588-fp16-bs1", "rknn", ()),
    ],
)
def test_an_engine_can_serve_the_batches_of_the_chip_where_its_backend_can(text, backend, tiers, tmp_path):
    assert engine_of(text, tmp_path, backend=backend).tiers == tiers


@pytest.mark.parametrize(("told", "wanted"), [({"layers_in_int8": "26 of 56"}, "26 of 56"), ({}, "")])
def test_an_engine_that_is_a_graph_says_how_many_layers_are_in_int8(told, wanted, tmp_path):
    path = exported(tmp_path / "m.onnx")
    model = onnx.load(path)
    helper.set_model_props(model, told)
    onnx.save(model, path)

    assert engine_of("regnety_016-cpu-int8-bs1", tmp_path).layers_in_int8(path) == wanted
    assert engine_of("regnety_016-cpu-fp32-bs1", tmp_path).layers_in_int8(path) == ""
    assert engine_of("regnety_016-t4-int8-bs1", tmp_path, backend="trt").layers_in_int8(tmp_path / "no.plan") == ""


@pytest.mark.parametrize("backend", ["trt", "magicmind"])
def test_an_engine_is_compiled_on_the_device_that_will_run_it(backend, tmp_path):
    """Where CUDA numbers another GPU 0, its plan would not load on this one."""
    settings = SimpleNamespace(
        process=0, tune=False, runner=None, store=SimpleNamespace(root=tmp_path), backend_options=NONE
    )
    engine = CaseEngine(SimpleNamespace(settings=settings), FP32)
    engine.variant = replace(engine.variant, raw=False)
    vars(engine)["present"] = SimpleNamespace(backend=backend, version="TensorRT 8.6", devices=[Device(1, "chip")])

    assert engine.spec(engine.variant).options["device"] == 1
    assert "device" in registry.backend(backend).unkeyed, "an engine is the same wherever it was compiled"


@pytest.mark.parametrize(("runner", "traced"), [(None, True), ("lab.runner", False), ("ort", False)])
def test_only_a_backend_that_promises_it_is_given_torchscript(runner, traced):
    settings = SimpleNamespace(process=0, tune=False, runner=runner, backend_options=NONE)
    engine = CaseEngine(SimpleNamespace(settings=settings), Case.parse("retinaface_mobilenet025-mlu370_s4-fp16-bs1"))

    assert engine.variant.traced is traced
    assert engine.variant.tiers == ((1, 4, 8) if traced else ())


def test_a_calibration_file_of_other_images_is_refused(tmp_path):
    """Of three images, each prepared as its number."""
    samples = [Sample(f"n{i}", lambda i=i: i) for i in range(3)]
    engine = object.__new__(CaseEngine)
    engine.model = None
    engine.protocol = SimpleNamespace(preprocess=lambda image, raw: SimpleNamespace(tensor=np.full((1, 2), image)))
    engine.context = SimpleNamespace(
        calibration=lambda model: (Dataset("n", "whole", samples, 3, None, "digest"), None)
    )

    def check(*numbers):
        np.save(tmp_path / "calibration.npy", np.stack([np.full((1, 2), number) for number in numbers]))
        engine.check_calibration(tmp_path / "calibration.npy")

    check(0, 1, 2)
    with pytest.raises(DataError, match="2 calibration images were found, not 3"):
        check(0, 1)
    with pytest.raises(DataError, match="calibration image 2 is not n2 as prepared for the reference"):
        check(0, 1, 1)


def test_nodes_that_stay_in_fp32_are_those_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(CaseEngine, "onnx", lambda self, variant=None: exported(tmp_path / "m.onnx"))
    known = onnx.load(exported(tmp_path / "m.onnx")).graph.node[0].name
    text = "regnety_016-cpu-fp16-bs1"

    assert engine_of(text, tmp_path, registry.backend_options([f"in_fp32={known}"], CHIPS)).options["in_fp32"] == [
        known
    ]
    with pytest.raises(UsageError, match=f"regnety_016 has no node {known}x") as caught:
        _ = engine_of(text, tmp_path, registry.backend_options([f"in_fp32={known}x"], CHIPS)).options
    assert known in caught.value.hint


def test_a_graph_that_is_rounded_for_the_compiler_has_the_nodes_in_fp32(tmp_path, monkeypatch):
    monkeypatch.setattr(CaseEngine, "onnx", lambda self, variant=None: exported(tmp_path / "m.onnx"))
    known, asked = onnx.load(exported(tmp_path / "m.onnx")).graph.node[0].name, []
    given = registry.backend_options([f"in_fp32={known}", "workspace_mb=64"], CHIPS)
    engine = engine_of("regnety_016-t4-fp16-bs1", tmp_path, given, backend="trt", version="TensorRT 11.4")
    monkeypatch.setattr("harness.run.artefacts.rounded_file", lambda store, path, spec: asked.append(spec) or path)
    engine.context.settings.store = Store(tmp_path)

    assert "onnx_fp16" in engine.spec(engine.variant).options
    assert [spec.options for spec in asked] == [{"in_fp32": [known]}]


def test_nodes_of_the_onnx_file_are_not_looked_for_in_torchscript(tmp_path):
    text = "retinaface_mobilenet025-mlu370_s4-fp16-bs1"

    assert engine_of(text, tmp_path, NONE).variant.traced
    assert not engine_of(text, tmp_path, registry.backend_options(["in_fp32=x"], CHIPS)).variant.traced
