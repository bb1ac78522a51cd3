"""The recipe of each kind of file kept: whatever decides the file is in its key."""

import importlib
from dataclasses import replace

import pytest

from harness.backends import registry
from harness.backends.base import BuildSpec
from harness.backends.registry import BackendRow
from harness.models import MODELS
from harness.run import artefacts

RETINAFACE = MODELS["retinaface_mobilenet025"]
GFOCAL = MODELS["gfocalv2_r50_fpn"]
# what decides each kind of file, listed by hand beside the recipes: modules of the harness, and packages
PREPARING = {"arrays.images", "arrays.resampling", "models.retinaface", "models.base", "datasets.scenes",
             "datasets.drawing"}  # fmt: skip
FINDING = {*PREPARING, "arrays.boxes", "arrays.suppression", "arrays.jit", "models.outputs", "datasets.stream",
           "reference.eager", "reference.predictions", "models.networks.retinaface"}  # fmt: skip
IMAGING = {"numpy", "opencv-python-headless", "pillow", "numba"}
DECIDED_BY = {
    "weights": ({*PREPARING, "reference.weights", "models.networks.seeding", "models.networks.retinaface"},
                {"torch", *IMAGING}),
    "onnx": ({"export.export", "export.graph", "models.retinaface", "models.networks.retinaface", "models.base"},
             {"torch", "onnx"}),
    "torchscript": ({"export.torchscript", "reference.eager", "models.retinaface", "models.networks.retinaface"},
                    {"torch"}),
    "calibration": (PREPARING, IMAGING),
    "own": ({"export.own"}, {"onnx"}),
    "rounded": ({"backends.cpu.ort", "backends.cpu._graph", "backends._calibration", "backends.base"},
                {"onnx", "onnxruntime", "numpy"}),
    "engine": ({"backends.nvidia.trt", "backends.nvidia._trt_build", "backends._calibration", "backends.base",
                "worker.child", "worker.wire"}, set()),
    "reference": (FINDING, {"torch", *IMAGING}),
    "witness": (FINDING, {"torch", *IMAGING}),
    "answers": ({*FINDING, "run.predict"}, IMAGING),
}  # fmt: skip


def whole_key(kind, model=RETINAFACE, backend="trt"):
    recipe = artefacts.RECIPES[kind]
    return artefacts.key(
        kind,
        {"model": "m"},
        model if recipe.of_model else None,
        registry.backend(backend) if recipe.of_backend else None,
    )


def test_every_kind_of_file_is_listed_here():
    assert set(DECIDED_BY) == set(artefacts.RECIPES)


@pytest.mark.parametrize("kind", DECIDED_BY)
def test_a_change_of_any_code_that_decides_a_file_changes_its_key(kind, monkeypatch):
    before = whole_key(kind)
    real = artefacts._file
    for module in sorted(DECIDED_BY[kind][0]):
        changed = f"harness.{module}"
        altered = real(changed).read_bytes() + b"# changed"

        class Changed(type(real(changed))):
            def read_bytes(self, altered=altered):
                return altered

        monkeypatch.setattr(
            artefacts,
            "_file",
            lambda name, changed=changed, kind=Changed: kind(real(name)) if name == changed else real(name),
        )
        assert whole_key(kind)["code"] != before["code"], f"{kind} does not depend on harness.{module}"
        monkeypatch.setattr(artefacts, "_file", real)
    assert whole_key(kind) == before


@pytest.mark.parametrize("kind", DECIDED_BY)
def test_a_newer_package_that_decides_a_file_changes_its_key(kind, monkeypatch):
    before = whole_key(kind)
    for package in DECIDED_BY[kind][1]:
        monkeypatch.setattr(artefacts, "installed", lambda name, newer=package: "9.9" if name == newer else "1.0")
        assert whole_key(kind) != before
        assert whole_key(kind)["packages"][package] == "9.9"


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_the_network_of_every_model_is_part_of_its_export(model):
    files = artefacts.closure(tuple(artefacts.modules_of(model)))

    network = {"retinaface": "retinaface", "deepmar": "deepmar", "regnety": "regnety", "gfocalv2": "gfocalv2"}
    name = next(module for start, module in network.items() if model.name.startswith(start))
    assert f"harness.models.networks.{name}" in files


def test_the_code_of_another_model_is_no_part_of_an_export():
    assert "harness.models.gfocalv2" not in artefacts.closure(tuple(artefacts.modules_of(RETINAFACE)))
    assert whole_key("onnx")["code"] != whole_key("onnx", GFOCAL)["code"]


def test_what_only_types_are_taken_from_decides_nothing():
    assert "harness.worker.process" not in artefacts.closure(("harness.run.predict",))


def test_what_a_plug_in_model_does_is_part_of_its_keys(tmp_path, monkeypatch):
    """Kept answers would survive its change."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "lab_model.py").write_text("def preprocess(image, raw): return image\n")
    lab = importlib.import_module("lab_model")
    plugin = replace(RETINAFACE, protocols=(replace(RETINAFACE.protocols[0], preprocess=lab.preprocess),))

    before = whole_key("reference", plugin)
    (tmp_path / "lab_model.py").write_text("def preprocess(image, raw): return image + 1\n")

    assert whole_key("reference", plugin) != before


def test_what_a_plug_in_backend_does_is_part_of_its_engines_keys(tmp_path, monkeypatch):
    """An edited build kept serving the engine of before."""
    package = tmp_path / "lab_chip"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "backend.py").write_text("from lab_chip import compiler\n")
    (package / "compiler.py").write_text("LEVEL = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    row = BackendRow("lab", "lab_chip.backend")

    before = artefacts.key("engine", {}, backend=row)
    (package / "compiler.py").write_text("LEVEL = 2\n")

    assert artefacts.key("engine", {}, backend=row) != before


def test_an_option_that_does_not_change_the_engine_is_not_in_its_key():
    spec = BuildSpec("fp16", 1, (), (), options={"device": 1, "out_nodes": ["Conv_1:0"]})

    assert artefacts._spec(spec, ("device",))["options"] == {"out_nodes": ["Conv_1:0"]}


def test_a_kept_file_stands_in_a_key_by_its_digest_wherever_the_cache_is():
    here, there = (f"{root}/calibration/0123abcd/calibration.npy" for root in ("/cache", "/mnt/other"))

    assert artefacts._spec(BuildSpec("int8", 1, (), (), calibration=here), ()) == artefacts._spec(
        BuildSpec("int8", 1, (), (), calibration=there), ()
    )
