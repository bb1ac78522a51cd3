"""Rockchip's NPUs through the simulator in rknn-toolkit2.

The simulator refuses a stored engine: it only runs what was built in the same process. An engine is therefore a zip
archive of what a build needs (ONNX file, settings, calibration data) beside the compiled .rknn file for a board, and
every load builds again. The toolkit is deterministic, and the archive is part of the engine's key.

The toolkit prints a line that begins with E while it succeeds; only what its calls return counts.

Sources: Rockchip, "RKNN-Toolkit2 API Reference" (config, load_onnx, build, init_runtime, inference); version 2.5.0
itself.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator

import numpy as np

from harness.backends._calibration import calibration_batches, calibration_samples
from harness.backends.base import BuildSpec, Device, Found, Health, TensorSpec, check, scratch, trail
from harness.errors import BuildError, DeviceError

if TYPE_CHECKING:
    from harness.backends.base import Session, Tensors

PLATFORMS = {"RK3588": "rk3588"}  # device, and its name for the compiler
MODEL, SETTINGS, SAMPLES, COMPILED = "model.onnx", "settings.json", "calibration", "model.rknn"
INSTALL = 'pip install rknn-toolkit2 "setuptools<81" in an environment of its own, then --sdk-python PATH'


def version() -> str:
    """Versions of the toolkit and of ONNX, and that it is the simulator."""
    _sdk()
    return "rknn-toolkit2 {}, ONNX {}, simulator".format(_installed("rknn-toolkit2"), _installed("onnx"))


def devices(match: str) -> Found:
    """One simulated device for each platform of PLATFORMS, called "RK3588"."""
    try:
        evidence = "{} under {}: {}".format(version(), sys.executable, ", ".join(PLATFORMS))
    except DeviceError as error:
        return Found((), error.fact)
    found = (Device(0, name, 0, target) for name, target in PLATFORMS.items() if re.fullmatch(match, name))
    return Found(tuple(found), evidence)


def health(device: Device) -> Health:
    """The simulator has no state of its own."""
    return Health(note="simulated on the processor of this machine", untold="a simulator has no load")


def build(onnx: Path, engine: Path, spec: BuildSpec) -> None:
    """Static batch. INT8 is the toolkit's asymmetric w8a8, ranges from the whole calibration set by its default
    algorithm; option `algorithm`: "normal" (default), "mmse" or "kl_divergence". Raises BuildError."""
    if spec.precision not in ("fp16", "int8"):
        raise BuildError(f"RK3588 does not compute in {spec.precision}", hint="select fp16 or int8")
    if spec.tiers or spec.normalize is not None:
        raise BuildError("RKNN engines have one batch and normalised inputs", hint="leave tiers and normalize empty")
    _sdk()
    algorithm = spec.options.get("algorithm", "normal")
    inputs = [[tensor.name, tensor.dtype, list(tensor.shape)] for tensor in spec.inputs]
    int8 = spec.precision == "int8"
    settings = {"int8": int8, "batch": spec.batch, "algorithm": algorithm, "inputs": inputs}
    with tempfile.TemporaryDirectory(prefix=".rknn-", dir=str(engine.parent)) as name:
        folder = Path(name)
        _with_batch(onnx, folder / MODEL, spec.batch)
        (folder / SETTINGS).write_text(json.dumps(settings))
        if int8:
            calibration_samples(spec)  # refused here rather than in the toolkit's words
            shutil.copyfile(str(spec.calibration), str(folder / SAMPLES))
        with _built(BuildError, folder, spec.target) as rknn:
            _call(BuildError, "rknn.export_rknn", rknn.export_rknn, str(folder / COMPILED))
        with zipfile.ZipFile(str(folder / "engine"), "w") as archive:
            for part in (MODEL, SETTINGS, SAMPLES, COMPILED):
                if (folder / part).exists():
                    archive.write(str(folder / part), part)
        (folder / "engine").replace(engine)


@contextlib.contextmanager
def load(engine: Path, device: Device, spec: BuildSpec) -> Iterator[Session]:
    """A context with the engine in the simulator, built again from its ONNX file. Raises DeviceError."""
    print(f"rknn: the simulator refuses stored engines, building {engine.name} again from its ONNX file")
    with tempfile.TemporaryDirectory(prefix=scratch()) as name:
        try:
            with zipfile.ZipFile(str(engine)) as archive:
                archive.extractall(name)
        except (zipfile.BadZipFile, OSError) as error:
            raise DeviceError(f"{engine} cannot be read: {error}", hint="delete it: it is built again") from error
        with _built(DeviceError, Path(name), device.target or spec.target) as rknn:
            _call(DeviceError, "rknn.init_runtime", rknn.init_runtime)
            yield _Session(rknn, Path(name) / MODEL)


class _Session:
    """One execute after another, through host memory."""

    def __init__(self, rknn: Any, model: Path) -> None:
        import onnx

        graph = onnx.load(str(model)).graph
        constants = {value.name for value in graph.initializer}
        self.inputs = tuple(_tensor(value) for value in graph.input if value.name not in constants)
        self._names = [value.name for value in graph.output]
        self._rknn = rknn
        self._fed: list[Any] = [np.zeros(spec.shape, spec.dtype) for spec in self.inputs]
        self._made: list[Any] = []
        self.execute()  # only the simulator knows the shapes of its outputs
        self.outputs = tuple(
            TensorSpec(name, array.dtype.name, tuple(array.shape)) for name, array in zip(self._names, self._made)
        )

    def write(self, inputs: Tensors) -> None:
        check(inputs, self.inputs, "input")
        self._fed = [inputs[spec.name].copy(order="C") for spec in self.inputs]

    def execute(self, times: int = 1) -> None:
        formats = ["nchw"] * len(self._fed)
        trail("rknn.inference")
        for _ in range(times):
            made = self._rknn.inference(inputs=self._fed, data_format=formats)
            if made is None or len(made) != len(self._names):
                raise DeviceError("rknn.inference returned no outputs", hint="see the worker's log")
            self._made = made

    def read(self) -> Tensors:
        return {name: np.array(array) for name, array in zip(self._names, self._made)}


@contextlib.contextmanager
def _built(kind: type[BuildError] | type[DeviceError], folder: Path, platform: str) -> Iterator[Any]:
    """The toolkit's object with the model in `folder` compiled; released on exit."""
    settings = json.loads((folder / SETTINGS).read_text())
    rknn = _sdk()(verbose=False)
    try:
        _call(kind, "rknn.config", rknn.config, target_platform=platform, quantized_algorithm=settings["algorithm"])
        _call(kind, "rknn.load_onnx", rknn.load_onnx, model=str(folder / MODEL))
        dataset = _dataset(folder, settings) if settings["int8"] else None
        _call(kind, "rknn.build", rknn.build, do_quantization=settings["int8"], dataset=dataset)
        yield rknn
    finally:
        rknn.release()


def _dataset(folder: Path, settings: dict[str, Any]) -> str:
    """Path of a list of files as the toolkit reads them: a line for each batch of calibration samples, a file for each
    input, in the model's order."""
    inputs = tuple(TensorSpec(name, dtype, tuple(shape)) for name, dtype, shape in settings["inputs"])
    spec = BuildSpec("int8", settings["batch"], inputs, (), calibration=str(folder / SAMPLES))
    lines = []
    for number, fed in enumerate(calibration_batches(calibration_samples(spec), spec, spec.batch)):
        paths = [folder / f"sample-{number}-{place}.npy" for place in range(len(inputs))]
        for path, tensor in zip(paths, inputs):
            np.save(str(path), fed[tensor.name])
        lines.append(" ".join(map(str, paths)))
    (folder / "dataset.txt").write_text("\n".join(lines) + "\n")
    return str(folder / "dataset.txt")


def _call(kind: type[BuildError] | type[DeviceError], name: str, function: Any, *args: Any, **more: Any) -> None:
    """Call the toolkit, which returns 0 when it succeeded, or raises what its parts raise."""
    trail(name)
    hint = "the toolkit's own message is in the worker's log"
    try:
        code = function(*args, **more)
    except Exception as error:
        said = " ".join(str(error).split())[-500:]  # the toolkit raises tracebacks: the reason is at their end
        raise kind(f"{name} failed: {said}", hint=hint) from error
    if code != 0:
        raise kind(f"{name} returned {code}", hint=hint)


def _with_batch(source: Path, made: Path, batch: int) -> None:
    import onnx

    from harness.backends.cpu._graph import set_batch

    model = onnx.load(str(source))
    set_batch(model, batch)
    onnx.save(model, str(made))


def _sdk() -> Any:
    """The class RKNN. Raises DeviceError without the toolkit or with a setuptools that lacks pkg_resources."""
    trail("import rknn.api")
    try:
        from rknn.api import RKNN
    except ImportError as error:
        hint = 'pip install "setuptools<81"' if error.name == "pkg_resources" else INSTALL
        raise DeviceError(f"rknn-toolkit2 cannot be imported under {sys.executable}: {error}", hint=hint) from error
    return RKNN


def _installed(package: str) -> str:
    try:
        from importlib import metadata
    except ImportError:  # Python 3.7
        import pkg_resources

        return str(pkg_resources.get_distribution(package).version)
    return str(metadata.version(package))


def _tensor(value: Any) -> TensorSpec:
    shape = tuple(dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim)
    return TensorSpec(value.name, "float32", shape)
