"""ONNX Runtime: the cpu chip, and the ground on which its other execution providers stand.

An engine is an ONNX file that _graph.py made. It holds standard operators only, so it does not depend on the
machine; the optimisations that do (fusions, blocked layouts) are made on load, at the level ALL.

On a CPU without FP16 kernels ONNX Runtime computes in FP32. An FP16 engine for the CPU therefore has its weights in
FP16 and rounds every result to FP16: its numbers are those of an FP16 chip that sums in FP32, its speed says nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator

from harness.backends.base import BuildSpec, Device, Found, Health, TensorSpec, check, scratch, trail
from harness.errors import BuildError, DeviceError, InvalidMeasurement, RunError

if TYPE_CHECKING:
    from harness.backends.base import Session, Tensors

CPU = "CPUExecutionProvider"
NUMPY = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
SHAPE_TYPES = {"int64", "int32", "bool"}  # results of shape arithmetic, which providers leave on the host on purpose


def version(provider: str = CPU) -> str:
    """ONNX Runtime's version, and for the CPU whether it has the dot products that INT8 engines are made for."""
    words = ["ONNX Runtime", _sdk().__version__, provider]
    return " ".join([*words, "VNNI"] if provider == CPU and has_vnni() else words)


def devices(match: str) -> Found:
    """The CPU, as one device."""
    name = _processor()
    try:
        evidence = f"{version()}, {cores()} cores of {name}"
    except DeviceError as error:
        return Found((), error.fact)
    if not re.fullmatch(match, name):
        return Found((), f"{evidence}: it does not match {match!r}")
    return Found((Device(0, name, 0, "cpu"),), evidence)


def health(device: Device) -> Health:
    """A CPU is never idle, so its load is noted and never makes a measurement INVALID."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return Health(note=f"load average {load:.2f} on {cores()} cores")


def build(onnx: Path, engine: Path, spec: BuildSpec, symmetric: bool = False) -> None:
    """Options, for int8: see _graph.in_int8. `symmetric` INT8 is what providers other than the CPU's take."""
    from harness.backends.cpu import _graph

    _sdk()
    with tempfile.TemporaryDirectory(prefix=".ort-", dir=str(engine.parent)) as folder, _failing(BuildError, "build"):
        trail("onnxruntime build")
        _graph.make(onnx, Path(folder) / "engine.onnx", spec, symmetric, not symmetric and not has_vnni())
        (Path(folder) / "engine.onnx").replace(engine)


@contextlib.contextmanager
def load(
    engine: Path, device: Device, spec: BuildSpec, provider: str = CPU, settings: dict[str, str] | None = None
) -> Iterator[Session]:
    """Options: `threads`, else all cores. Raises InvalidMeasurement when a provider other than the CPU's was asked for
    and the CPU's does the work."""
    ort = _sdk()
    lacks = missing(provider)
    if lacks:
        raise DeviceError(lacks, hint="install the build of ONNX Runtime that has it")
    wanted = (provider, dict(settings or {}))
    session = _session(ort, engine, wanted, spec)
    if session.get_providers()[0] != provider:
        raise InvalidMeasurement(
            "asked for {}, ONNX Runtime took {}".format(provider, ", ".join(session.get_providers())),
            hint="a library of that provider is missing: see the worker's log",
        )
    loaded = _Session(ort, session, provider, device.index)
    if provider != CPU:
        loaded.on_chip = _refuse_fallback(ort, engine, wanted, spec)
    yield loaded


def missing(provider: str) -> str:
    """Why ONNX Runtime cannot use the provider: "" when it was built with it. Raises DeviceError without the SDK."""
    ort = _sdk()
    there: list[str] = ort.get_available_providers()
    if provider in there:
        return ""
    return "ONNX Runtime {} has no {}: it has {}".format(ort.__version__, provider, ", ".join(there))


def seen_through(provider: str, seen: Found) -> Found:
    """Devices that another backend's tools found, when ONNX Runtime can drive them through the provider."""
    try:
        lacks = missing(provider)
    except DeviceError as error:
        lacks = error.fact
    evidence = f"{seen.evidence}; {lacks or version(provider)}"
    return Found(() if lacks else seen.devices, evidence, seen.hint)


def cores() -> int:
    """Physical cores that this process may use: by affinity, and by the quota of its container."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    places = {}
    for cpu in usable:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        with contextlib.suppress(OSError):
            places[cpu] = siblings.read_text()
    count = len(set(places.values())) or len(usable)
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, max(1, round(int(quota) / int(period))))
    return count


class _Session:
    """A session with its inputs and outputs bound, so that an execute is one call. `on_chip`: the share of its nodes
    that run on the provider."""

    on_chip = 1.0

    def __init__(self, ort: Any, session: Any, provider: str, index: int) -> None:
        self.inputs = tuple(_tensor(value) for value in session.get_inputs())
        self.outputs = tuple(_tensor(value) for value in session.get_outputs())
        self._ort = ort
        self._session = session
        self._place = ("cpu", 0) if provider == CPU else ("cann" if provider.startswith("CANN") else "cuda", index)
        self._binding = session.io_binding()
        self._held: list[Any] = []

    def write(self, inputs: Tensors) -> None:
        check(inputs, self.inputs, "input")
        trail("onnxruntime.IOBinding.bind")
        with _failing(DeviceError, "IOBinding.bind"):
            self._binding.clear_binding_inputs()
            self._binding.clear_binding_outputs()
            self._held = []
            for spec in self.inputs:
                # a copy of its own: on the CPU an OrtValue is a view of the array it was made from
                value = self._ort.OrtValue.ortvalue_from_numpy(inputs[spec.name].copy(order="C"), *self._place)
                self._binding.bind_ortvalue_input(spec.name, value)
                self._held.append(value)
            for spec in self.outputs:
                self._binding.bind_output(spec.name, *self._place)

    def execute(self, times: int = 1) -> None:
        trail("onnxruntime.run_with_iobinding")
        run, binding = self._session.run_with_iobinding, self._binding
        with _failing(DeviceError, "run"):
            for _ in range(times):
                run(binding)
            binding.synchronize_outputs()

    def read(self) -> Tensors:
        trail("onnxruntime.IOBinding.copy_outputs_to_cpu")
        with _failing(DeviceError, "IOBinding.copy_outputs_to_cpu"):
            arrays = self._binding.copy_outputs_to_cpu()
        return {spec.name: array.copy() for spec, array in zip(self.outputs, arrays)}


def _sdk() -> Any:
    trail("import onnxruntime")
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(f"ONNX Runtime is not here: {error}", hint="pip install onnxruntime") from error
    return onnxruntime


def _session(ort: Any, engine: Path, provider: tuple[str, dict[str, str]], spec: BuildSpec, profile: str = "") -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = int(spec.options.get("threads", cores()))
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # otherwise its threads keep a core each for 3 to 500 ms after a run, whatever else wants it (onnxruntime #27916)
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # else products with weights of 4 bits have their inputs rounded to 8 (onnxruntime_session_options_config_keys.h)
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    trail("onnxruntime.InferenceSession")
    with _failing(DeviceError, "InferenceSession"):
        return ort.InferenceSession(str(engine), options, providers=[provider])


@contextlib.contextmanager
def _failing(kind: type[DeviceError] | type[BuildError], call: str) -> Iterator[None]:
    """ONNX Runtime's exceptions have no class in common but Exception; its words are kept."""
    try:
        yield
    except (BuildError, DeviceError, RunError, OSError, MemoryError):
        raise
    except ImportError as error:
        raise kind(f"{call} needs {error.name}", hint=f"pip install {error.name}") from error
    except Exception as error:
        said = " ".join(str(error).split())[:500]
        raise kind(f"onnxruntime {call}: {type(error).__name__}: {said}", hint=_advice(said)) from error


def _advice(said: str) -> str:
    if "Protobuf" in said or "No graph was found" in said:
        return "the file is damaged: delete it, it will be made again"
    if "opset" in said or "IR version" in said:
        return "export at an opset that this ONNX Runtime knows, or install a newer one"
    return "look the message up at github.com/microsoft/onnxruntime/issues"


def _tensor(value: Any) -> TensorSpec:
    dtype = NUMPY.get(value.type, value.type[len("tensor(") : -1])
    return TensorSpec(value.name, dtype, tuple(size if isinstance(size, int) else -1 for size in value.shape))


# who does the work


def _refuse_fallback(ort: Any, engine: Path, provider: tuple[str, dict[str, str]], spec: BuildSpec) -> float:
    """Run once under the profiler and see where every node ran: the share of them on the provider, shape arithmetic
    counted too. Raises InvalidMeasurement when others ran elsewhere."""
    import json

    import numpy as np

    with tempfile.TemporaryDirectory(prefix=scratch()) as folder:
        session = _session(ort, engine, provider, spec, profile=str(Path(folder) / "placement"))
        feed = {
            value.name: np.zeros([spec.batch if size == -1 else size for size in value.shape], value.dtype)
            for value in map(_tensor, session.get_inputs())
        }
        trail("onnxruntime.run")
        with _failing(DeviceError, "run"):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    strayed = on_the_cpu(events)
    if strayed:
        raise InvalidMeasurement(
            "{} nodes ran on the CPU and not on {}: {}".format(len(strayed), provider[0], ", ".join(strayed[:5])),
            hint="the provider lacks these operators: the figure would be the CPU's",
        )
    return on_provider(events, provider[0])


def on_provider(events: list[dict[str, Any]], provider: str) -> float:
    """Share of the nodes of a profile that ran on the provider; 1 for a profile without nodes."""
    ran = [event["args"]["provider"] for event in events if event.get("cat") == "Node" and "provider" in event["args"]]
    return sum(name == provider for name in ran) / len(ran) if ran else 1.0


def on_the_cpu(events: list[dict[str, Any]]) -> list[str]:
    """Nodes that a profile of ONNX Runtime places on the CPU, shape arithmetic aside."""
    strayed = []
    for event in events:
        told = event.get("args", {})
        if event.get("cat") != "Node" or told.get("provider") != CPU:
            continue
        types = {dtype for output in told.get("output_type_shape", []) for dtype in output}
        if not types or not types <= SHAPE_TYPES:
            strayed.append("{} ({})".format(event["name"].replace("_kernel_time", ""), told.get("op_name", "?")))
    return strayed


# the machine


def _processor() -> str:
    import platform

    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()


def has_vnni() -> bool:
    """Whether the processor adds four products of 8 bits in 32; one without adds two in 16, which overflows."""
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text()
        return bool(re.search(r"\b(avx512_vnni|avx_vnni|asimddp)\b", text))
    return False
