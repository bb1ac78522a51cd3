"""The files in the store: one recipe for each kind, which names the code and the packages that decide its content.

The key of a file holds its inputs, the code of its recipe with all modules that this code imports, and the versions of
the packages. A change of any of them makes a new file.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.backends.base import BuildSpec
from harness.backends.registry import BackendRow
from harness.case import Precision, Predictions, Tensors
from harness.datasets.base import Dataset
from harness.errors import DataError
from harness.export import export, own, torchscript
from harness.export.own import OwnModel
from harness.models.base import Model, Protocol
from harness.reference import arithmetic, exact, predictions, weights
from harness.reference.exact import NotExact
from harness.run import sources
from harness.run.prepared import Ahead
from harness.store import Store, canonical

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

PREPARATION = ("harness.arrays.images", "harness.datasets.scenes")  # in addition to the model's own code
FOUND = ("harness.reference.predictions", "harness.run.prepared", *PREPARATION)
WHY_NOT = "why_not"  # in the place of outputs that cannot be computed
IMAGING = ("numpy", "opencv-python-headless", "pillow", "numba")  # decode, resize and suppress


@dataclass(frozen=True)
class Recipe:
    """A kind of stored file. `code` names modules of the harness; the code of the model and of the backend is added
    where `of_model` and `of_backend` are true. `packages` are distributions whose version decides the content."""

    kind: str
    suffix: str
    code: tuple[str, ...]
    packages: tuple[str, ...]
    of_model: bool = True
    of_backend: bool = False


RECIPES: dict[str, Recipe] = {
    recipe.kind: recipe
    for recipe in (
        Recipe("weights", ".pt", ("harness.reference.weights", *PREPARATION), ("torch", *IMAGING)),
        Recipe("onnx", ".onnx", ("harness.export.export", "harness.reference.eager"), ("torch", "onnx")),
        Recipe("own", ".onnx", ("harness.export.own",), ("onnx",), of_model=False),
        Recipe("own_rows", ".npy", ("harness.export.own",), (), of_model=False),
        Recipe(
            "own_exact", ".npz", ("harness.reference.exact",), ("torch", "onnx", "onnxruntime", "numpy"), of_model=False
        ),
        Recipe("torchscript", ".pt", ("harness.export.torchscript", "harness.reference.eager"), ("torch",)),
        Recipe("calibration", ".npy", PREPARATION, IMAGING),
        Recipe("rounded", ".onnx", ("harness.backends.cpu.ort",), ("onnx", "onnxruntime", "numpy"), of_model=False),
        Recipe("engine", ".engine", ("harness.worker.child",), (), of_model=False, of_backend=True),
        Recipe("reference", ".npz", FOUND, ("torch", *IMAGING)),
        Recipe("witness", ".npz", FOUND, ("torch", *IMAGING)),
        Recipe("arithmetic", ".npz", ("harness.reference.arithmetic", *PREPARATION), ("torch", *IMAGING)),
        Recipe("answers", ".npz", ("harness.run.predict", *FOUND), IMAGING),
    )
}


def key(kind: str, inputs: Mapping[str, object], model: Model | None = None, backend: BackendRow | None = None) -> Any:
    """The key of a file of that kind: its inputs, the digest of its recipe's code and the versions of its packages."""
    recipe = RECIPES[kind]
    modules = list(recipe.code)
    if recipe.of_model:
        assert model is not None, f"{kind} depends on the model's code"
        modules += sources.modules_of(model)
    if recipe.of_backend:
        assert backend is not None, f"{kind} depends on the backend's code"
        modules.append(backend.module)
    packages = {name: installed(name) for name in recipe.packages}
    return {**inputs, "code": sources.code_digest(tuple(sorted(set(modules)))), "packages": packages}


@cache
def installed(name: str) -> str:
    """Version of a distribution, or "absent". OpenCV has several distribution names."""
    names = [name]
    if name.startswith("opencv"):
        names += ["opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python"]
    for candidate in names:
        try:
            return version(candidate)
        except PackageNotFoundError:
            continue
    return "absent"


# ---------------------------------------------------------------- the files


@dataclass(frozen=True)
class ResolvedWeights:
    """Weights of a model as a plain state dict at `path`. `digest` is the digest of their key; `source` is the file
    name of the checkpoint, or "seeded"."""

    path: Path
    digest: str
    seeded: bool
    source: str


def resolve_weights(store: Store, model: Model, data: Path | None) -> ResolvedWeights:
    """The published checkpoint in `data`, read and checked, else seeded weights, in the store. Raises WeightsError."""
    published = weights.find(model, data)
    origin = {"seeded": True} if published is None else {"sha256": weights.sha256(published)}
    whole = key("weights", {"model": model.name, **origin}, model)

    def make(path: Path) -> None:
        import torch

        torch.save(weights.load(model, published) if published else weights.seeded(model), path)

    path = _get(store, "weights", whole, make)
    return ResolvedWeights(path, digest_of(whole), published is None, "seeded" if published is None else published.name)


def onnx_file(
    store: Store,
    model: Model,
    protocol: Protocol,
    resolved: ResolvedWeights,
    network: Callable[[], nn.Module],
    nms: bool,
) -> Path:
    """Path of the ONNX file, exported and compared with the network in PyTorch. With `nms` it ends in the suppression
    of boxes that some chips run. Raises ExportError."""
    inputs = {"model": model.name, "protocol": protocol.name, "weights": resolved.digest, "nms": nms}

    def make(path: Path) -> None:
        state = network().state_dict()
        export.export(model, protocol, state, path, nms=nms)
        export.check(model, protocol, state, path)

    return _get(store, "onnx", key("onnx", inputs, model), make)


def torchscript_file(
    store: Store, model: Model, protocol: Protocol, resolved: ResolvedWeights, network: Callable[[], nn.Module]
) -> Path:
    """Path of the network as TorchScript, in PyTorch's default memory layout."""
    inputs = {"model": model.name, "weights": resolved.digest, "size": protocol.size}
    return _get(
        store,
        "torchscript",
        key("torchscript", inputs, model),
        lambda path: torchscript.trace(network(), protocol.size, path),
    )


def calibration_file(store: Store, model: Model, protocol: Protocol, dataset: Dataset) -> Path:
    """Path of an .npy file with the prepared images of `dataset`, float32 (N, 3, H, W)."""
    inputs = {"model": model.name, "protocol": protocol.name, "dataset": dataset.digest}

    def make(path: Path) -> None:
        images = [protocol.preprocess(sample.read(), False).tensor for sample in dataset.samples]
        with path.open("wb") as file:
            np.save(file, np.asarray(np.stack(images), np.float32))

    return _get(store, "calibration", key("calibration", inputs, model), make)


def rounded_file(store: Store, onnx: Path, spec: BuildSpec) -> Path:
    """Path of the ONNX file in the precision of `spec`, for compilers that take precision from the graph."""

    def make(path: Path) -> None:
        from harness.backends.cpu import ort

        ort.build(onnx, path, spec, symmetric=True)

    inputs = {"onnx": name_of(onnx), "spec": _spec(spec, ())}
    return _get(store, "rounded", key("rounded", inputs), make)


def own_file(store: Store, model: OwnModel) -> Path:
    """Path of the user's ONNX file, its weights inside."""

    def make(path: Path) -> None:
        path.write_bytes(own.whole(model.path).SerializeToString())

    return _get(store, "own", key("own", {"digest": model.digest}), make)


def own_rows_file(store: Store, rows: Sequence[NDArray[Any]]) -> Path:
    """Path of a file with the user's rows for the calibration of INT8, input by input (calibration_samples)."""

    def make(path: Path) -> None:
        kept = [np.ascontiguousarray(one) for one in rows]
        with path.open("wb") as file:
            if len(kept) == 1:
                np.save(file, kept[0])
            else:
                np.savez(file, **{str(place): one for place, one in enumerate(kept)})  # type: ignore[arg-type]

    told = [[str(one.dtype), list(one.shape), hashlib.sha256(one.tobytes()).hexdigest()] for one in rows]
    inputs = {"rows": told}
    return _get(store, "own_rows", key("own_rows", inputs), make)


def exact_outputs(
    store: Store,
    model: OwnModel,
    inputs: Tensors,
    precision: Precision = Precision.FP32,
    products_only: bool = False,
) -> Tensors:
    """Outputs of the user's file in FP64 (reference.exact), or in the arithmetic of FP16 or INT8. Raises NotExact; why
    there are none is kept too, for it may have taken a minute to find."""

    def make(path: Path) -> None:
        try:
            made = exact.outputs(own.whole(model.path), inputs, precision=precision, products_only=products_only)
        except NotExact as error:
            save_arrays(path, {WHY_NOT: np.array(str(error))})
        else:
            save_arrays(path, {str(place): made[name] for place, name in enumerate(model.outputs)})

    fed = [[name, str(one.dtype), list(one.shape), hashlib.sha256(np.ascontiguousarray(one).tobytes()).hexdigest()]
           for name, one in inputs.items()]  # fmt: skip
    told = {} if precision is Precision.FP32 else {"precision": str(precision), "products_only": products_only}
    of = {"digest": model.digest, "inputs": fed, **told}
    kept = load_arrays(_get(store, "own_exact", key("own_exact", of), make))
    if WHY_NOT in kept:
        raise NotExact(str(kept[WHY_NOT]))
    return {name: kept[str(place)] for place, name in enumerate(model.outputs)}


def engine_file(
    store: Store,
    source: Path,
    spec: BuildSpec,
    backend: BackendRow,
    version: str,
    device: str,
    build: Callable[[Path], None],
    anew: bool = False,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Path of the engine compiled from `source` (ONNX, TorchScript), built by `build` if it is not in the store or with
    `anew`; its key holds the SDK's version, the device's name, and variables that the lab sets for the compiler."""
    inputs = {
        "source": name_of(source),
        "spec": _spec(spec, backend.unkeyed),
        "backend": backend.name,
        "version": version,
        "device": device,
        **({"environment": dict(environment)} if environment else {}),
    }
    return _get(store, "engine", key("engine", inputs, backend=backend), build, anew)


def reference_answers(
    store: Store,
    model: Model,
    protocol: Protocol,
    resolved: ResolvedWeights,
    dataset: Dataset,
    network: Callable[[], nn.Module],
    ahead: Ahead,
    advance: Callable[[], Callable[[int], None]],
) -> tuple[list[Predictions], float]:
    """(the reference's predictions for every image of the data set, seconds they took). `ahead` reads and prepares
    them by the protocol, normalised by the host; `advance` starts a progress count of images.
    Raises DataError when the stored predictions are not one per image."""
    inputs = {
        "model": model.name,
        "protocol": protocol.name,
        "weights": resolved.digest,
        "dataset": dataset.digest,
    }

    def make(path: Path) -> None:
        begun = time.perf_counter()
        found = predictions.of_the_reference(network(), model, protocol, ahead(dataset.samples), advance())
        save_arrays(path, {**predictions.pack(found), "seconds": np.array([time.perf_counter() - begun])})

    path = _get(store, "reference", key("reference", inputs, model), make)
    arrays = load_arrays(path)
    seconds = float(arrays.pop("seconds", np.zeros(1))[0])
    kept = predictions.unpack(arrays)
    if len(kept) != len(dataset):
        raise DataError(
            f"the kept reference answers for {len(kept)} images of {len(dataset)}", hint=f"delete {path.parent}"
        )
    return kept, seconds


def witness_outputs(
    store: Store,
    model: Model,
    protocol: Protocol,
    resolved: ResolvedWeights,
    images: NDArray[np.float32],
    network: Callable[[], nn.Module],
) -> Tensors:
    """The reference's raw outputs by ONNX name for prepared images, float32 (N, 3, H, W)."""
    inputs = _of_images(model, protocol, resolved, images)
    return _outputs(store, "witness", model, inputs, lambda: predictions.raw_outputs(network(), model, images))


def rounded_outputs(
    store: Store,
    model: Model,
    protocol: Protocol,
    resolved: ResolvedWeights,
    images: NDArray[np.float32],
    precision: Precision,
    network: Callable[[], nn.Module],
) -> Tensors:
    """As witness_outputs, in the arithmetic of `precision` (reference.arithmetic)."""
    inputs = {**_of_images(model, protocol, resolved, images), "precision": str(precision)}

    def make() -> Tensors:
        return arithmetic.outputs(network(), model.outputs, images, precision)

    return _outputs(store, "arithmetic", model, inputs, make)


def _of_images(
    model: Model, protocol: Protocol, resolved: ResolvedWeights, images: NDArray[np.float32]
) -> dict[str, object]:
    return {
        "model": model.name,
        "protocol": protocol.name,
        "weights": resolved.digest,
        "inputs": hashlib.sha256(images.tobytes()).hexdigest(),
    }


def _outputs(
    store: Store, kind: str, model: Model, inputs: Mapping[str, object], make: Callable[[], Tensors]
) -> Tensors:
    return load_arrays(_get(store, kind, key(kind, inputs, model), lambda path: save_arrays(path, make())))


def chip_answers(
    store: Store,
    engine: Path,
    model: Model,
    dataset: Dataset,
    ask: Callable[[], tuple[list[Predictions], float]],
    anew: bool = False,
) -> tuple[list[Predictions], float, bool]:
    """(predictions for every image, seconds they took, whether they are from an earlier run).

    For a chip whose answers depend on its engine alone. `ask` runs it and returns (predictions, seconds); with `anew`
    it is asked whatever is kept."""
    made: list[tuple[list[Predictions], float]] = []

    def make(path: Path) -> None:
        made.append(ask())
        found, seconds = made[0]
        save_arrays(path, {**predictions.pack(found), "seconds": np.array([seconds])})

    inputs = {"engine": name_of(engine), "dataset": dataset.digest}
    path = _get(store, "answers", key("answers", inputs, model), make, anew)
    if made:
        return (*made[0], False)
    kept = load_arrays(path)
    seconds = float(kept.pop("seconds")[0])
    return predictions.unpack(kept), seconds, True


def digest_of(whole: object) -> str:
    """SHA-256 of a key, in hex."""
    return hashlib.sha256(canonical(whole).encode()).hexdigest()


def name_of(path: Path) -> str:
    """The digest in the path of a stored file, which identifies its content wherever the cache is."""
    return path.parent.name


def save_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write arrays to exactly `path` (.npz)."""
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def load_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays by name that `save_arrays` wrote."""
    with np.load(path) as arrays:
        return dict(arrays)


def _get(store: Store, kind: str, whole: object, make: Callable[[Path], None], anew: bool = False) -> Path:
    return store.get(whole, make, kind=kind, suffix=RECIPES[kind].suffix, anew=anew)


def _spec(spec: BuildSpec, unkeyed: tuple[str, ...]) -> dict[str, Any]:
    """The spec as JSON values, without options that do not change the engine; stored files by their digest."""
    options = {name: _portable(value) for name, value in spec.options.items() if name not in unkeyed}
    return {**asdict(spec), "calibration": _portable(spec.calibration), "options": options}


def _portable(value: Any) -> Any:
    """The digest of a stored file, because the cache may be moved; any other value unchanged."""
    path = Path(value) if isinstance(value, str) and value.startswith("/") else Path()
    return name_of(path) if path.stem in RECIPES and path.parent.parent.name == path.stem else value
