"""OpenVINO: CPUs, and the GPUs and NPUs of Intel, each through the plugin that OpenVINO has for it.

An engine is a blob of `export_model`. A plugin that cannot compute in the precision that was asked of it takes another
without saying so, and a blob that is loaded without a precision takes the plugin's default: BF16 on a CPU with
AVX512_BF16. The precision is therefore asked for at every compilation and every load, and read back from what was
compiled: the hint itself, and where the plugin tells, the precision of each convolution and matrix product.

Sources: docs.openvino.ai, "Query Device Properties", "Optimize Preprocessing", "Precision Control", and the properties
of OpenVINO 2026.4.1 itself.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator

import numpy as np

from harness.backends.base import BuildSpec, Device, Found, Health, TensorSpec, check, shape_at, trail
from harness.backends.cpu.ort import cores
from harness.backends.intel._quiet import without_telemetry
from harness.errors import BuildError, DeviceError, InvalidMeasurement, RunError
from harness.judge.timing import Plan, Timing, Window
from harness.judge.timing import measure as timed

if TYPE_CHECKING:
    from harness.backends.base import Session, Tensors

OLDEST = (2026, 4)  # release; older ones were not tried
CAPABILITY = {"fp32": "FP32", "fp16": "FP16", "bf16": "BF16", "int8": "INT8"}  # as OPTIMIZATION_CAPABILITIES names them
PRODUCTS = ("convolution", "matmul", "fullyconnected", "gemm", "deconvolution")  # layerType, where the time goes
NARROW_TYPES = {"bf16": ("bf16",), "int8": ("i8", "u8")}  # precisions of which some products must be
QUANTISED = "model.xml"  # in the folder of a quantised model
PORTS = ("const", "input", "output", "parameter", "result")  # layerType of what computes nothing
ON_HOST = "_cpu_impl"  # in the primitiveType of a node that the plugin of a GPU runs on the host
WHOLE = ("i", "u", "boolean")  # how precisions of shape arithmetic begin, which may run on the host
INSTALL = 'pip install "chipproof[openvino]" in the suite\'s Python or in the one given by --sdk-python'


def version() -> str:
    """OpenVINO's build, each plugin with its precisions and its driver, and NNCF's version, which decides INT8."""
    ov = _sdk()
    core = ov.Core()
    words = [f"OpenVINO {ov.__version__}"]
    for name in core.available_devices:
        plugin = ", ".join(sorted(value.description for value in core.get_versions(name).values()))
        words.append(" ".join([name, plugin, *_capabilities(core, name), *_drivers(core, name)]))
    return "; ".join([*words, _nncf_version()])


def devices(match: str) -> Found:
    """`match` is applied to "NAME FULL_DEVICE_NAME", such as "CPU AMD EPYC" or "GPU.0 Intel(R) Arc(TM) A770 Graphics
    (dGPU)"; the device is called by the second part, its `target` is the first."""
    try:
        ov = _sdk()
    except DeviceError as error:
        return Found((), error.fact)
    core = ov.Core()
    trail("openvino.Core.available_devices")
    found, seen = [], []
    for name in core.available_devices:
        full = str(core.get_property(name, "FULL_DEVICE_NAME"))
        capabilities = _capabilities(core, name)
        seen.append("{} {} ({})".format(name, full, " ".join(capabilities)))
        if re.fullmatch(match, f"{name} {full}"):
            number = int(name.partition(".")[2] or 0)
            precisions = tuple(ours for ours, theirs in CAPABILITY.items() if theirs in capabilities)
            found.append(Device(number, full, number, name, precisions=precisions))
    evidence = "OpenVINO {} under {} has {}".format(ov.__version__, sys.executable, ", ".join(seen) or "no device")
    return Found(tuple(found), evidence)


def health(device: Device) -> Health:
    """OpenVINO tells neither load nor clock. A CPU is never idle: its load is noted only."""
    if device.target != "CPU":
        return Health(note="OpenVINO does not tell the load of a GPU or NPU")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return Health(note=f"load average {load:.2f} on {cores()} cores")


def build(onnx: Path, engine: Path, spec: BuildSpec) -> None:
    """Static batch, or with `spec.tiers` every batch from the least to the most. INT8 is quantised by NNCF, see
    _nncf.quantised. Options: `streams`, else as many as the plugin takes for throughput; `threads` of a CPU, else all
    cores; at INT8 `in_fp32`, the ONNX nodes that are not quantised; `only: quantised`, for a folder with the model as
    NNCF quantised it, and `quantised`, that folder: it takes longer than all else of a build and is the same for every
    batch, and for inputs that the engine normalises itself.
    """
    ov = _sdk()
    core = ov.Core()
    capabilities = _capabilities(core, spec.target)
    if CAPABILITY.get(spec.precision) not in capabilities:
        raise BuildError(
            "the plugin {} does not compute in {}: OPTIMIZATION_CAPABILITIES are {}".format(
                spec.target, spec.precision, " ".join(capabilities)
            ),
            hint="select a precision that it names: pytest -m 'intel_cpu and fp32'",
        )
    if spec.options.get("in_fp32") and spec.precision in ("fp16", "bf16"):
        raise BuildError(
            f"OpenVINO has no way to keep nodes in FP32 at {spec.precision}", hint="give in_fp32 for INT8 alone"
        )
    if spec.options.get("only") == "quantised":
        _quantise(ov, core, onnx, engine, spec)
        return
    model = _model(ov, core, onnx, spec)
    with _failing(BuildError, "openvino.Model.reshape"):
        batch = ov.Dimension(min(spec.tiers), max(spec.tiers)) if spec.tiers else spec.batch
        model.reshape({tensor.name: ov.PartialShape(list(shape_at(tensor, batch))) for tensor in spec.inputs})
    if spec.normalize is not None:
        model = _fed_pixels(ov, model, spec)
    settings = _settings(core, spec)
    if spec.tune:
        settings["NPU_COMPILATION_MODE_PARAMS"] = "optimization-level=2"
    with _failing(BuildError, "openvino.Core.compile_model"):
        compiled = core.compile_model(model, spec.target, settings)
    wrong = _other_precision(core, compiled, spec)
    if wrong:
        raise BuildError(wrong, hint="select a precision that the plugin computes in: chipproof doctor names them")
    with tempfile.TemporaryDirectory(prefix=".openvino-", dir=str(engine.parent)) as folder:
        with _failing(BuildError, "openvino.CompiledModel.export_model"):
            blob = compiled.export_model()
        made = Path(folder) / "blob"
        made.write_bytes(blob.getvalue())
        made.replace(engine)


@contextlib.contextmanager
def load(engine: Path, device: Device, spec: BuildSpec) -> Iterator[Session]:
    """Raises InvalidMeasurement when the engine would run in another precision than `spec.precision`, or elsewhere."""
    ov = _sdk()
    core = ov.Core()
    spec = replace(spec, target=device.target or spec.target)
    with _failing(DeviceError, "openvino.Core.import_model"):
        compiled = core.import_model(io.BytesIO(engine.read_bytes()), spec.target, _settings(core, spec))
    wrong = _other_precision(core, compiled, spec)
    if wrong:
        raise InvalidMeasurement(wrong, hint="delete the engine and build it again: chipproof clean")
    session = _Session(compiled, spec)
    session.on_chip = _on_device(compiled, spec.target)
    yield session


class _Session:
    """As many infer requests as the plugin wants in flight, each with its own copy of the inputs."""

    on_chip: float | None = None

    def __init__(self, compiled: Any, spec: BuildSpec) -> None:
        with _failing(DeviceError, "openvino.CompiledModel.create_infer_request"):
            many = max(1, int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")))
            self._requests = [compiled.create_infer_request() for _ in range(many)]
        self.in_flight = many
        self._fed = _ports(compiled.inputs, [tensor.name for tensor in spec.inputs], "input")
        self._made = _ports(compiled.outputs, spec.outputs, "output")
        self.inputs = tuple(_tensor(name, port) for name, port in self._fed.items())
        self.outputs = tuple(_tensor(name, port) for name, port in self._made.items())
        self._last: Any = None

    def write(self, inputs: Tensors) -> None:
        for place in range(self.in_flight):
            self.write_at(place, inputs)

    def write_at(self, place: int, inputs: Tensors) -> None:
        """Inputs of one request alone."""
        check(inputs, self.inputs, "input")
        with _failing(DeviceError, "openvino.InferRequest.get_tensor"):
            for name, port in self._fed.items():
                tensor = self._requests[place].get_tensor(port)
                tensor.shape = inputs[name].shape  # of an engine for several batches it has none yet
                tensor.data[...] = inputs[name]

    def execute(self, times: int = 1) -> None:
        ring = self._requests
        with _failing(DeviceError, "openvino.InferRequest.start_async"):
            for number in range(times):
                request = ring[number % len(ring)]
                if number >= len(ring):
                    request.wait()
                request.start_async()
                self._last = request
            for request in ring[:times]:
                request.wait()

    def measure(self, plan: Plan) -> Timing:
        """As many executes at a time as there are requests, so that a short window, too, keeps all streams busy; a
        latency is that of one execute alone."""
        many = len(self._requests)
        timing = timed(lambda times: self.execute(times * many), replace(plan, latencies=0))
        alone = timed(self.execute, replace(plan, warmup_s=0.0, window_s=1e-9, windows=1)) if plan.latencies else timing
        warmup, windows = (
            tuple(Window(part.start, part.stop, part.executes * many) for part in parts)
            for parts in (timing.warmup, timing.windows)
        )
        return Timing(warmup, windows, alone.latencies)

    def read(self) -> Tensors:
        if self._last is None:
            raise RunError("nothing was executed", hint="write, execute, then read")
        return self._read(self._last)

    def read_at(self, place: int) -> Tensors:
        """Outputs of one request."""
        return self._read(self._requests[place])

    def _read(self, request: Any) -> Tensors:
        with _failing(DeviceError, "openvino.InferRequest.get_tensor"):
            return {name: np.array(request.get_tensor(port).data) for name, port in self._made.items()}


# what is compiled


def _model(ov: Any, core: Any, onnx: Path, spec: BuildSpec) -> Any:
    """The model as it was exported; at INT8 quantised, now or before."""
    before = spec.options.get("quantised")
    with _failing(BuildError, "openvino.Core.read_model"):
        model = core.read_model(str(Path(before) / QUANTISED if before else onnx))
    if spec.precision != "int8" or before:
        return model
    from harness.backends.intel import _nncf

    return _nncf.quantised(ov, model, spec, onnx)


def _quantise(ov: Any, core: Any, onnx: Path, folder: Path, spec: BuildSpec) -> None:
    """Write the model, quantised, to that folder."""
    folder.mkdir()
    with _failing(BuildError, "openvino.serialize"):
        ov.serialize(_model(ov, core, onnx, spec), str(folder / QUANTISED), str(folder / "model.bin"))


def _fed_pixels(ov: Any, model: Any, spec: BuildSpec) -> Any:
    """The model fed uint8 N x H x W x C, which it normalises itself; channels stay in the order in which they come."""
    assert spec.normalize is not None
    with _failing(BuildError, "openvino.preprocess.PrePostProcessor"):
        steps = ov.preprocess.PrePostProcessor(model)
        fed = steps.input(spec.inputs[0].name)
        fed.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        fed.model().set_layout(ov.Layout("NCHW"))
        fed.preprocess().convert_element_type(ov.Type.f32)
        fed.preprocess().mean(list(spec.normalize.mean)).scale(list(spec.normalize.std))
        return steps.build()


def _settings(core: Any, spec: BuildSpec) -> dict[str, Any]:
    settings = {"INFERENCE_PRECISION_HINT": _hint(core, spec), "PERFORMANCE_HINT": "THROUGHPUT"}  # type: dict[str, Any]
    if spec.target == "CPU":
        settings["INFERENCE_NUM_THREADS"] = int(spec.options.get("threads", cores()))
    if "streams" in spec.options:
        settings["NUM_STREAMS"] = int(spec.options["streams"])
    return settings


def _hint(core: Any, spec: BuildSpec) -> str:
    """In what an engine computes what is not in INT8. Beside INT8 a CPU computes in FP32, which costs it little; a GPU
    or NPU in FP16, as its plugin does by itself."""
    if spec.precision != "int8":
        return {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}[spec.precision]
    return "f16" if spec.target != "CPU" and "FP16" in _capabilities(core, spec.target) else "f32"


def _other_precision(core: Any, compiled: Any, spec: BuildSpec) -> str:
    """Why the compiled engine does not compute in the precision that was asked for: "" when it does."""
    trail("openvino.CompiledModel.get_property")
    wanted = _hint(core, spec)
    taken = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if taken != wanted:
        return f"asked the plugin {spec.target} for {wanted} ({spec.precision}), it took {taken} without saying so"
    found = _precisions(compiled)
    told = ", ".join(f"{count} in {name}" for name, count in sorted(found.items()))
    narrow = NARROW_TYPES.get(spec.precision)
    if narrow and found and not any(name in found for name in narrow):
        missed = f"no convolution or matrix product is in {spec.precision.upper()}"
        return f"asked the plugin {spec.target} for {spec.precision}, {missed}: {told}"
    if spec.precision == "fp32" and set(found) - {"f32"}:
        return f"asked the plugin {spec.target} for fp32, convolutions and matrix products are {told}"
    if spec.precision == "int8":
        print(f"convolutions and matrix products: {told}")
    return ""


def _precisions(compiled: Any) -> dict[str, int]:
    """How many convolutions and matrix products run in which precision; nothing where the plugin does not report it."""
    counts = {}  # type: dict[str, int]
    for kind, precision, _ in _nodes(compiled):
        if kind in PRODUCTS:
            counts[precision] = counts.get(precision, 0) + 1
    return counts


def _nodes(compiled: Any) -> list[tuple[str, str, str]]:
    """(layerType in small letters, runtimePrecision, primitiveType) of each node that a plugin made; none where it does
    not tell."""
    try:
        operations = compiled.get_runtime_model().get_ordered_ops()
    except RuntimeError:  # a plugin need not have a runtime model
        return []
    told = [operation.get_rt_info() for operation in operations]
    words = ("layerType", "runtimePrecision", "primitiveType")
    rows = [[str(row[word].astype(str)) if word in row else "" for word in words] for row in told]
    return [(kind.lower(), precision, how) for kind, precision, how in rows if kind]


def _on_device(compiled: Any, target: str) -> float | None:
    """Share of the nodes that run on the device, shape arithmetic counted too; None where the plugin does not say.
    EXECUTION_DEVICES names the devices of the whole model. The plugin of a GPU may run single nodes on the host: their
    kernels are called after that. Raises InvalidMeasurement when others than shape arithmetic run elsewhere."""
    trail("openvino.CompiledModel.get_property")
    try:
        devices = [str(name) for name in compiled.get_property("EXECUTION_DEVICES")]
    except RuntimeError:
        return None
    elsewhere = [name for name in devices if _numbered(name) != _numbered(target)]
    if elsewhere:
        raise InvalidMeasurement(
            "asked for {}, OpenVINO runs the model on {}".format(target, ", ".join(devices)),
            hint="the figure would be that of another device; report it",
        )
    nodes = [node for node in _nodes(compiled) if node[0] not in PORTS]
    host = [node for node in nodes if ON_HOST in node[2]]
    strayed = sorted({kind for kind, precision, _ in host if not precision.startswith(WHOLE)})
    if strayed:
        raise InvalidMeasurement(
            "{} of {} nodes run on the host and not on {}: {}".format(
                len(host), len(nodes), target, ", ".join(strayed[:5])
            ),
            hint="the plugin lacks kernels for these operators: the figure would be the host's",
        )
    return 1 - len(host) / len(nodes) if nodes else 1.0


def _numbered(name: str) -> str:
    """Name of a device with its number: "GPU" is "GPU.0"."""
    return name if "." in name else f"{name}.0"


# names and words


def _ports(ports: Any, names: Any, what: str) -> dict[str, Any]:
    """Port of each name, in the order of the names."""
    known = {name: port for port in ports for name in port.names}
    missing = [name for name in names if name not in known]
    if missing:
        raise DeviceError(
            "the engine has no {} {}: it has {}".format(what, ", ".join(missing), ", ".join(sorted(known))),
            hint="the file belongs to another model: delete it, it will be made again",
        )
    return {name: known[name] for name in names}


def _tensor(name: str, port: Any) -> TensorSpec:
    shape = tuple(-1 if size.is_dynamic else size.get_length() for size in port.partial_shape)
    return TensorSpec(name, np.dtype(port.get_element_type().to_dtype()).name, shape)


def _capabilities(core: Any, name: str) -> list[str]:
    """What the plugin computes in and can do, sorted, such as BF16 EXPORT_IMPORT FP32 INT8."""
    with _failing(DeviceError, "openvino.Core.get_property"):
        return sorted(map(str, core.get_property(name, "OPTIMIZATION_CAPABILITIES")))


def _drivers(core: Any, name: str) -> list[str]:
    """Versions of the drivers under a plugin, as far as it tells."""
    properties = sorted(word for word in core.get_property(name, "SUPPORTED_PROPERTIES") if "DRIVER_VERSION" in word)
    return [f"{word} {core.get_property(name, word)}" for word in properties]


def _nncf_version() -> str:
    from importlib import metadata

    try:
        return "NNCF {}".format(metadata.version("nncf"))
    except metadata.PackageNotFoundError:
        return "no NNCF"


def _sdk() -> Any:
    trail("import openvino")
    try:
        with without_telemetry():
            import openvino
    except Exception as error:  # a library of another release is an ImportError, or a RuntimeError, or an OSError
        raise DeviceError(f"openvino cannot be imported under {sys.executable}: {error!r}", hint=INSTALL) from error
    release = tuple(map(int, re.findall(r"\d+", openvino.__version__)[:2]))
    if release < OLDEST:
        raise DeviceError(
            "OpenVINO {} under {} is older than {}.{}".format(openvino.__version__, sys.executable, *OLDEST),
            hint=INSTALL,
        )
    return openvino


@contextlib.contextmanager
def _failing(kind: type[DeviceError] | type[BuildError], call: str) -> Iterator[None]:
    """OpenVINO raises RuntimeError for everything; its words are kept, without the lines on places in its source."""
    trail(call)
    try:
        yield
    except (RuntimeError, ValueError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        said = " ".join(line for line in lines if line and not line.startswith("Exception from"))[:500]
        raise kind(f"{call} failed: {said}", hint=_advice(said)) from error


def _advice(said: str) -> str:
    if "Cannot import compiled blob" in said or "runtime requirements" in said:
        return "the engine is damaged or of another OpenVINO or device: delete it, it will be made again"
    return "look the message up at github.com/openvinotoolkit/openvino/issues"
