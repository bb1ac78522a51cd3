"""The recipe of each kind of file kept: whatever decides the file is in its key."""

import importlib
import inspect
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness.backends import registry
from harness.backends.base import BuildSpec, Normalize, TensorSpec
from harness.backends.registry import BackendRow
from harness.case import Precision
from harness.errors import DataError
from harness.models import MODELS
from harness.run import artefacts, sources
from harness.store import Store

RETINAFACE = MODELS["retinaface_mobilenet025"]
GFOCAL = MODELS["gfocalv2_r50_fpn"]
# what decides each kind of file, listed by hand beside the recipes: modules of the harness, and packages
PREPARING = {"arrays.images", "arrays.resampling", "models.retinaface", "models.base", "datasets.scenes",
             "datasets.drawing"}  # fmt: skip
FINDING = {*PREPARING, "arrays.boxes", "arrays.suppression", "arrays.jit", "arrays.finite", "models.outputs",
           "datasets.stream", "run.pool", "run.prepared", "reference.eager", "reference.predictions",
           "models.networks.retinaface"}  # fmt: skip
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
    "own_rows": ({"export.own"}, set()),
    "own_exact": ({"reference.exact"}, {"torch", "onnx", "onnxruntime", "numpy"}),
    "rounded": ({"backends.cpu.ort", "backends.cpu._graph", "backends._calibration", "backends.base"},
                {"onnx", "onnxruntime", "numpy"}),
    "engine": ({"backends.nvidia.trt", "backends.nvidia._trt_build", "backends._calibration", "backends.base",
                "worker.child", "worker.wire"}, set()),
    "reference": (FINDING, {"torch", *IMAGING}),
    "witness": (FINDING, {"torch", *IMAGING}),
    "arithmetic": ({*PREPARING, "reference.arithmetic"}, {"torch", *IMAGING}),
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
    real = sources._file
    for module in sorted(DECIDED_BY[kind][0]):
        changed = f"harness.{module}"
        altered = real(changed).read_bytes() + b"# changed"

        class Changed(type(real(changed))):
            def read_bytes(self, altered=altered):
                return altered

        monkeypatch.setattr(
            sources,
            "_file",
            lambda name, changed=changed, kind=Changed: kind(real(name)) if name == changed else real(name),
        )
        assert whole_key(kind)["code"] != before["code"], f"{kind} does not depend on harness.{module}"
        monkeypatch.setattr(sources, "_file", real)
    assert whole_key(kind) == before


@pytest.mark.parametrize("kind", DECIDED_BY)
def test_a_newer_package_that_decides_a_file_changes_its_key(kind, monkeypatch):
    before = whole_key(kind)
    for package in DECIDED_BY[kind][1]:
        monkeypatch.setattr(artefacts, "installed", lambda name, newer=package: "9.9" if name == newer else "1.0")
        assert whole_key(kind) != before
        assert whole_key(kind)["packages"][package] == "9.9"


def test_the_code_of_another_model_is_no_part_of_an_export():
    assert "harness.models.gfocalv2" not in sources.closure(tuple(sources.modules_of(RETINAFACE)))
    assert whole_key("onnx")["code"] != whole_key("onnx", GFOCAL)["code"]


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


def test_a_path_that_a_user_sets_is_in_the_key_as_it_is():
    spec = BuildSpec("fp16", 1, (), (), options={"table": "/opt/lab/a.cfg"})

    assert artefacts._spec(spec, ())["options"] == {"table": "/opt/lab/a.cfg"}


def test_a_kept_file_stands_in_a_key_by_its_digest_wherever_the_cache_is():
    here, there = (f"{root}/calibration/0123abcd/calibration.npy" for root in ("/cache", "/mnt/other"))

    assert artefacts._spec(BuildSpec("int8", 1, (), (), calibration=here), ()) == artefacts._spec(
        BuildSpec("int8", 1, (), (), calibration=there), ()
    )


class Told:
    """A store that keeps nothing: it notes the key, and makes the file where `made` names a folder."""

    def __init__(self, made=None):
        self.made, self.keys = made, []

    def get(self, whole, make, kind, suffix, anew=False):
        self.keys.append((kind, artefacts.digest_of(whole), anew))
        if self.made is None:
            return Path("/cache", kind, self.keys[-1][1], f"{kind}{suffix}")
        path = self.made / f"{kind}{suffix}"
        make(path)
        return path


ONNX, CALIBRATION = Path("/cache/onnx/11aa/onnx.onnx"), "/cache/calibration/22bb/calibration.npy"
SPEC = BuildSpec("int8", 4, (), ("out",), target="Ascend310P3", calibration=CALIBRATION, options={"soc": "x"})
ENGINE = {"source": ONNX, "spec": SPEC, "backend": registry.backend("trt"), "version": "10.3", "device": "T4"}


@pytest.mark.parametrize(
    "change",
    [
        {"source": Path("/cache/onnx/33cc/onnx.onnx")},
        {"backend": registry.backend("acl")},
        {"version": "10.4"},
        {"device": "A2"},
        {"environment": {"NVIDIA_TF32_OVERRIDE": "0"}},
        *({"spec": replace(SPEC, **part)} for part in (
            {"precision": "fp16"}, {"batch": 8}, {"inputs": (TensorSpec("x", "float32", (-1, 3, 8, 8)),)},
            {"outputs": ("other",)},
            {"tiers": (1, 4)}, {"normalize": Normalize((0.0,) * 3, (1.0,) * 3, "BGR")}, {"tune": True},
            {"calibration": "/cache/calibration/44dd/calibration.npy"}, {"target": "Ascend310P1"},
            {"options": {"soc": "y"}},
        )),
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_whatever_decides_an_engine_is_in_its_key(change):
    """Without the SDK's version or the device's name, an engine of another one would be loaded."""
    store = Told()
    for inputs in (ENGINE, {**ENGINE, **change}, ENGINE):
        artefacts.engine_file(store, **inputs, build=lambda path: None)

    first, changed, again = store.keys
    assert first == again != changed


def test_variables_for_a_compiler_are_in_the_key_where_there_are_any():
    store = Told()
    for variables in ({"A": "0"}, {"A": "1"}, {}):
        artefacts.engine_file(store, **ENGINE, build=lambda path: None, environment=variables)
    artefacts.engine_file(store, **ENGINE, build=lambda path: None)

    zero, one, none, absent = (key for _, key, _ in store.keys)
    assert len({zero, one, none}) == 3
    assert none == absent


def test_an_export_is_made_and_checked_with_the_networks_weights(tmp_path, monkeypatch):
    done = []
    for step in ("export", "check"):
        monkeypatch.setattr(artefacts.export, step, lambda *given, step=step, **more: done.append((step, *given, more)))
    protocol = RETINAFACE.protocols[0]

    path = artefacts.onnx_file(
        Told(tmp_path), RETINAFACE, protocol, weights_of("a"), lambda: torch.nn.Flatten(), nms=True
    )

    assert done == [
        ("export", RETINAFACE, protocol, {}, path, {"nms": True}),
        ("check", RETINAFACE, protocol, {}, path, {}),
    ]


def test_a_file_in_another_precision_is_made_with_symmetric_ranges(tmp_path, monkeypatch):
    from harness.backends.cpu import ort

    done = []
    monkeypatch.setattr(ort, "build", lambda *given, **more: done.append((*given, more)))

    path = artefacts.rounded_file(Told(tmp_path), ONNX, SPEC)

    assert done == [(ONNX, path, SPEC, {"symmetric": True})]


def test_an_engine_is_built_anew_where_that_is_asked():
    store = Told()
    for anew in ({}, {"anew": True}, {"anew": False}):
        artefacts.engine_file(store, **ENGINE, build=lambda path: None, **anew)

    assert [anew for _, _, anew in store.keys] == [False, True, False]


def weights_of(digest):
    return artefacts.ResolvedWeights(Path("w.pt"), digest, True, "seeded")


class Data(list):
    def __init__(self, digest, samples=()):
        super().__init__(samples)
        self.digest, self.samples = digest, samples


FILES = {
    "onnx": artefacts.onnx_file,
    "torchscript": artefacts.torchscript_file,
    "calibration": artefacts.calibration_file,
    "rounded": artefacts.rounded_file,
    "reference": artefacts.reference_answers,
    "witness": artefacts.witness_outputs,
    "arithmetic": artefacts.rounded_outputs,
    "answers": artefacts.chip_answers,
}
GIVEN = {  # what each file may be made of, and another such
    "model": (RETINAFACE, MODELS["retinaface_resnet50"]),
    "protocol": (RETINAFACE.protocol("ascend310"), RETINAFACE.protocol("mlu370_x4")),
    "resolved": (weights_of("a"), weights_of("b")),
    "nms": (False, True),
    "dataset": (Data("a"), Data("b")),
    "onnx": (ONNX, Path("/cache/onnx/33cc/onnx.onnx")),
    "spec": (SPEC, replace(SPEC, precision="fp16")),
    "images": (np.zeros((1, 3, 2, 2), np.float32), np.ones((1, 3, 2, 2), np.float32)),
    "precision": (Precision.FP16, Precision.INT8),
    "engine": (Path("/cache/engine/55ee/engine.engine"), Path("/cache/engine/66ff/engine.engine")),
}
PARTS = [(kind, part) for kind, make in FILES.items() for part in inspect.signature(make).parameters if part in GIVEN]
PARTS.remove(("answers", "model"))  # the engine is of one model


@pytest.mark.parametrize(("kind", "part"), PARTS)
def test_each_input_that_decides_a_file_is_in_its_key(kind, part, monkeypatch):
    monkeypatch.setattr(artefacts, "load_arrays", lambda path: {"seconds": np.array([0.0])})
    monkeypatch.setattr(artefacts.predictions, "unpack", lambda arrays: [])
    wanted = [name for name in inspect.signature(FILES[kind]).parameters if name not in ("store", "anew")]
    inputs = {name: GIVEN[name][0] if name in GIVEN else None for name in wanted}
    store = Told()
    for change in ({}, {part: GIVEN[part][1]}, {}):
        FILES[kind](store, **{**inputs, **change})

    (first, changed, again), kinds = [key for _, key, _ in store.keys], {kind for kind, _, _ in store.keys}
    assert kinds == {kind}
    assert first == again != changed


def test_a_users_own_file_is_kept_by_its_digest():
    store = Told()
    for digest in "aba":
        artefacts.own_file(store, SimpleNamespace(digest=digest))

    (kind, first, _), (_, changed, _), (_, again, _) = store.keys
    assert kind == "own"
    assert first == again != changed


def test_rows_for_a_users_file_are_kept_by_their_values(tmp_path):
    store, rows = Told(), np.arange(6, dtype=np.float32).reshape(2, 3)
    for values in (rows, rows + 1, rows):
        artefacts.own_rows_file(store, [values])

    (_, first, _), (_, changed, _), (_, again, _) = store.keys
    assert first == again != changed
    for same_bytes in ([rows.reshape(3, 2)], [rows.view(np.int32)], [rows[:1], rows[1:]]):
        artefacts.own_rows_file(store, same_bytes)
    assert len({key for _, key, _ in store.keys}) == 5
    np.testing.assert_array_equal(np.load(artefacts.own_rows_file(Told(tmp_path), [rows])), rows)
    several = np.load(artefacts.own_rows_file(Told(tmp_path), [rows, rows.T]))
    np.testing.assert_array_equal(several["1"], rows.T)


def test_calibration_is_the_prepared_images_stacked(tmp_path):
    pictures = [np.full((60, 90, 3), value, np.uint8) for value in (10, 200)]
    dataset = Data("a", [SimpleNamespace(read=lambda p=p: p) for p in pictures])
    protocol = RETINAFACE.protocols[0]

    found = np.load(artefacts.calibration_file(Told(tmp_path), RETINAFACE, protocol, dataset))

    assert (found.shape, found.dtype) == ((2, 3, *protocol.size), np.float32)
    for image, picture in zip(found, pictures, strict=True):
        np.testing.assert_array_equal(image, protocol.preprocess(picture, False).tensor)


def three_means(images):
    """What a network of three outputs gives, computed with NumPy in FP64."""
    exact = images.astype(np.float64)
    return dict(zip(RETINAFACE.outputs, (exact.mean((2, 3)), exact.sum((2, 3)), exact[:, :, 0, 0]), strict=True))


class Means(torch.nn.Module):
    def forward(self, x):
        return x.mean((2, 3)), x.sum((2, 3)), x[:, :, 0, 0]


@pytest.mark.parametrize("precision", [None, Precision.FP32])
def test_kept_outputs_are_the_networks_by_name(tmp_path, precision):
    images = np.random.default_rng(0).normal(size=(3, 3, 4, 4)).astype(np.float32)
    given = (Told(tmp_path), RETINAFACE, RETINAFACE.protocols[0], weights_of("a"), images)
    if precision is None:
        found = artefacts.witness_outputs(*given, Means)
    else:
        found = artefacts.rounded_outputs(*given, precision, Means)

    assert found.keys() == three_means(images).keys()
    for name, value in three_means(images).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


def test_the_version_of_a_package_is_the_installed_ones(monkeypatch):
    there = {"numpy": "2.4", "opencv-python": "5.0"}

    def version(name):
        if name not in there:
            raise PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(artefacts, "version", version)
    ask = artefacts.installed.__wrapped__

    assert ask("numpy") == "2.4"
    assert ask("opencv-python-headless") == "5.0", "OpenCV has several names"
    assert ask("torch") == "absent"


def test_answers_of_another_number_of_images_are_refused(monkeypatch):
    monkeypatch.setattr(artefacts, "load_arrays", lambda path: {})
    monkeypatch.setattr(artefacts.predictions, "unpack", lambda arrays: [{}] * 3)

    parameters = inspect.signature(artefacts.reference_answers).parameters
    inputs = {name: GIVEN[name][0] if name in GIVEN else None for name in parameters}
    with pytest.raises(DataError, match="answers for 3 images of 2"):
        artefacts.reference_answers(**{**inputs, "store": Told(), "dataset": Data("a", [1, 2])})


def test_answers_of_the_reference_are_kept_with_the_seconds_they_took(tmp_path, monkeypatch):
    faces = {"boxes": np.array([[1, 2, 3, 4]], np.float32), "scores": np.array([0.5], np.float32)}
    clock, asked = iter((10.0, 12.5)), []
    monkeypatch.setattr(artefacts, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(artefacts.predictions, "of_the_reference", lambda *given: asked.append(given) or [faces])
    parameters = inspect.signature(artefacts.reference_answers).parameters
    inputs = {name: GIVEN[name][0] if name in GIVEN else None for name in parameters}
    inputs |= {
        "store": Store(tmp_path),
        "dataset": Data("a", [1]),
        "network": lambda: "net",
        "advance": lambda: "count",
    }
    inputs["ahead"] = lambda samples: ("ahead", samples)

    for _ in range(2):
        ((found,), seconds) = artefacts.reference_answers(**inputs)
        assert (found["boxes"].tolist(), seconds) == ([[1, 2, 3, 4]], 2.5)
    assert asked == [("net", *(GIVEN[name][0] for name in ("model", "protocol")), ("ahead", [1]), "count")]


def test_answers_of_a_chip_are_kept_with_the_seconds_they_took(tmp_path):
    store, asked = Store(tmp_path), []
    faces = {"boxes": np.array([[1, 2, 3, 4]], np.float32), "scores": np.array([0.5], np.float32)}

    def ask():
        asked.append(len(asked))
        return [faces], 2.5 + len(asked)

    def answers(**more):
        engine = Path("/cache/engine/55ee/engine.engine")
        found, seconds, kept = artefacts.chip_answers(store, engine, RETINAFACE, Data("a", [1]), ask, **more)
        assert [one["boxes"].tolist() for one in found] == [[[1, 2, 3, 4]]]
        return seconds, kept

    assert [answers(), answers(), answers(anew=True), answers()] == [
        (3.5, False), (3.5, True), (4.5, False), (4.5, True),
    ]  # fmt: skip


def test_seeded_weights_are_called_so_and_published_ones_by_their_file(tmp_path, monkeypatch):
    published = tmp_path / "weights" / "faces.pth"
    monkeypatch.setattr(artefacts.weights, "seeded", lambda model: {"w": torch.zeros(2)})
    monkeypatch.setattr(artefacts.weights, "load", lambda model, path: {"w": torch.ones(2)})
    monkeypatch.setattr(artefacts.weights, "sha256", lambda path: path.name)
    found = []
    for path in (None, published, published.with_name("others.pth")):
        monkeypatch.setattr(artefacts.weights, "find", lambda model, data, path=path: path)
        resolved = artefacts.resolve_weights(Store(tmp_path), RETINAFACE, None)
        found.append((resolved.seeded, resolved.source, torch.load(resolved.path)["w"].tolist()))
        assert resolved.digest == resolved.path.parent.name

    assert found == [(True, "seeded", [0, 0]), (False, "faces.pth", [1, 1]), (False, "others.pth", [1, 1])]


def test_exact_outputs_are_kept_by_the_file_its_inputs_and_the_arithmetic(tmp_path, monkeypatch):
    x, asked = np.arange(6, dtype=np.float32), []
    monkeypatch.setattr(artefacts.own, "whole", lambda path: path)
    monkeypatch.setattr(artefacts.exact, "outputs", lambda *given, **more: asked.append(more) or {"y": x})
    model = SimpleNamespace(path=Path("own.onnx"), digest="d", outputs=("y",))
    other = SimpleNamespace(path=Path("own.onnx"), digest="e", outputs=("y",))
    FP32, FP16 = Precision.FP32, Precision.FP16
    different = [
        (model, {"x": x}, FP32, False), (other, {"x": x}, FP32, False), (model, {"z": x}, FP32, False),
        (model, {"x": x.reshape(2, 3)}, FP32, False), (model, {"x": x.view(np.int32)}, FP32, False),
        (model, {"x": x}, FP16, False), (model, {"x": x}, FP16, True),
    ]  # fmt: skip

    for given in [*different, *different]:
        artefacts.exact_outputs(Store(tmp_path), *given)

    assert [(one["precision"], one["products_only"]) for one in asked] == [given[2:] for given in different]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.load` is:FutureWarning", "ignore:`torch.jit.load` is:DeprecationWarning")
def test_the_network_is_traced_at_the_size_of_the_protocol(tmp_path):
    asked = []

    class Mean(torch.nn.Module):
        def forward(self, x):
            asked.append(tuple(x.shape))
            return x.mean((2, 3))

    protocol = RETINAFACE.protocols[0]
    path = artefacts.torchscript_file(Store(tmp_path), RETINAFACE, protocol, weights_of("a"), Mean)

    assert asked[0] == (1, 3, *protocol.size)
    assert torch.jit.load(str(path))(torch.ones(2, 3, 4, 4)).tolist() == [[1, 1, 1]] * 2


def test_exact_outputs_of_a_users_file_are_kept_by_name_and_so_is_why_there_are_none(tmp_path, monkeypatch):
    x, asked = np.ones((2, 3), np.float32), []
    model = SimpleNamespace(path=Path("own.onnx"), digest="d", outputs=("scores", "boxes"))
    monkeypatch.setattr(artefacts.own, "whole", lambda path: path)

    def outputs(model, inputs, precision, products_only):
        asked.append(precision)
        if precision is Precision.INT8:
            raise artefacts.NotExact("an operator is not known")
        return {"boxes": inputs["x"] + 1 / 3, "scores": inputs["x"] * np.float64(2)}

    monkeypatch.setattr(artefacts.exact, "outputs", outputs)
    for _ in range(2):
        found = artefacts.exact_outputs(Store(tmp_path), model, {"x": x})
        assert found["boxes"].tolist() == (x + 1 / 3).tolist()
        assert found["scores"].tolist() == (2 * x).tolist()
        with pytest.raises(artefacts.NotExact, match="an operator is not known"):
            artefacts.exact_outputs(Store(tmp_path), model, {"x": x}, Precision.INT8)
    artefacts.exact_outputs(Store(tmp_path), model, {"x": x + 1})

    assert asked == [Precision.FP32, Precision.INT8, Precision.FP32], "each once"
