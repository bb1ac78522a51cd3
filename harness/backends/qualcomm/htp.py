"""Qualcomm's Hexagon Tensor Processor through onnxruntime-qnn: on x86 machines, Qualcomm's emulator of it.

An engine is an ONNX file with QNN's context: what the HTP compiler made, in one node. `htp_arch` and `soc_model` are
always given together: with `htp_arch` alone the compiler refuses FP16. No node may run on the CPU:
`session.disable_cpu_ep_fallback` makes ONNX Runtime refuse such a graph.

Sources: onnxruntime.ai, "QNN Execution Provider" and "EP context design"; the package onnxruntime-qnn 2.7.0 itself.
"""

from __future__ import annotations

import contextlib
import platform
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator

from harness.backends.base import BuildSpec, Device, Found, Health, TensorSpec, check, trail
from harness.errors import BuildError, DeviceError

if TYPE_CHECKING:
    from harness.backends.base import Session, Tensors

PROVIDER = "QNNExecutionProvider"
SOC_MODELS = {"v73": "43"}  # the architecture, and a chip that has it: SM8550, in QNN's "Supported Snapdragon devices"
NUMPY = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
INSTALL = "pip install onnxruntime-qnn onnx in an environment of its own, then --sdk-python PATH"


def version() -> str:
    """Versions of onnxruntime-qnn, of the QNN SDK in it, of ONNX Runtime, and the processor that emulates."""
    ort, qnn = _sdk()
    sdk = qnn.build_and_package_info.qnn_version
    return f"onnxruntime-qnn {qnn.__version__}, QNN {sdk}, ONNX Runtime {ort.__version__}, on {platform.machine()}"


def devices(match: str) -> Found:
    """One emulated device for each architecture of SOC_MODELS, called "HTP v73"."""
    try:
        evidence = version()
    except DeviceError as error:
        return Found((), error.fact)
    names = {f"HTP {arch}": arch for arch in SOC_MODELS}
    evidence = "{} under {}, emulator of {}".format(evidence, sys.executable, ", ".join(names))
    if platform.machine() not in ("x86_64", "AMD64"):
        return Found((), f"{evidence}: the emulator runs on x86 only", "run on an x86 machine")
    found = (Device(0, name, 0, arch) for name, arch in names.items() if re.fullmatch(match, name))
    return Found(tuple(found), evidence)


def health(device: Device) -> Health:
    """The emulator has no state of its own."""
    return Health(note="emulated on the processor of this machine", untold="an emulator has no load")


def build(onnx: Path, engine: Path, spec: BuildSpec) -> None:
    """Static batch. INT8: see _qdq.quantised. Raises BuildError with the compiler's message, also when it leaves a node
    to the CPU."""
    if spec.precision not in ("fp16", "int8"):
        raise BuildError(f"HTP does not compute in {spec.precision}", hint="select fp16 or int8")
    if spec.tiers or spec.normalize is not None:
        raise BuildError("HTP engines have one batch and normalised inputs", hint="leave tiers and normalize empty")
    ort, qnn = _sdk()
    from harness.backends.qualcomm import _qdq

    with tempfile.TemporaryDirectory(prefix=".qnn-", dir=str(engine.parent)) as folder:
        with _failing(BuildError, "preparing the graph"):
            graph = _qdq.prepared(onnx, Path(folder), spec)
        made = Path(folder) / "context.onnx"
        options = _options(ort)
        for key, value in (("enable", "1"), ("embed_mode", "1"), ("file_path", str(made))):
            options.add_session_config_entry(f"ep.context_{key}", value)
        with _failing(BuildError, "compiling"):
            _session(ort, qnn, graph, options, spec.target)
        made.replace(engine)


@contextlib.contextmanager
def load(engine: Path, device: Device, spec: BuildSpec) -> Iterator[Session]:
    """A context with the engine in the emulator. Raises DeviceError with the runtime's message."""
    ort, qnn = _sdk()
    with _failing(DeviceError, "InferenceSession"):
        session = _session(ort, qnn, engine, _options(ort), device.target or spec.target)
    yield _Session(session)


class _Session:
    """One execute after another, through host memory. All nodes run on the HTP: ONNX Runtime refuses the others."""

    on_chip = 1.0

    def __init__(self, session: Any) -> None:
        self.inputs = tuple(map(_tensor, session.get_inputs()))
        self.outputs = tuple(map(_tensor, session.get_outputs()))
        self._session = session
        self._fed: Tensors = {}
        self._made: list[Any] = []

    def write(self, inputs: Tensors) -> None:
        check(inputs, self.inputs, "input")
        self._fed = {name: array.copy(order="C") for name, array in inputs.items()}

    def execute(self, times: int = 1) -> None:
        trail("onnxruntime.run")
        with _failing(DeviceError, "run"):
            for _ in range(times):
                self._made = self._session.run([spec.name for spec in self.outputs], self._fed)

    def read(self) -> Tensors:
        return {spec.name: array.copy() for spec, array in zip(self.outputs, self._made)}


def _sdk() -> tuple[Any, Any]:
    """ONNX Runtime, with QNN's provider registered, and onnxruntime_qnn. Raises DeviceError without one of them."""
    trail("import onnxruntime_qnn")
    try:
        import onnxruntime
        import onnxruntime_qnn
    except ImportError as error:
        raise DeviceError(f"{error.name} cannot be imported under {sys.executable}", hint=INSTALL) from error
    if not any(found.ep_name == PROVIDER for found in onnxruntime.get_ep_devices()):
        with _failing(DeviceError, "register_execution_provider_library"):
            onnxruntime.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
    return onnxruntime, onnxruntime_qnn


def _options(ort: Any) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def _session(ort: Any, qnn: Any, model: Path, options: Any, arch: str) -> Any:
    settings = {
        "backend_path": qnn.get_qnn_htp_path(),
        "htp_arch": arch.lstrip("v"),
        "soc_model": SOC_MODELS[arch],
        "offload_graph_io_quantization": "0",  # else inputs and outputs of INT8 graphs are left to the CPU
    }
    trail("onnxruntime.InferenceSession")
    options.add_provider_for_devices([one for one in ort.get_ep_devices() if one.ep_name == PROVIDER][:1], settings)
    return ort.InferenceSession(str(model), options)


@contextlib.contextmanager
def _failing(kind: type[DeviceError] | type[BuildError], call: str) -> Iterator[None]:
    """ONNX Runtime's exceptions have no class in common but Exception; its words are kept."""
    try:
        yield
    except (BuildError, DeviceError, OSError, MemoryError):
        raise
    except ImportError as error:
        raise kind(f"{call} needs {error.name}", hint=INSTALL) from error
    except Exception as error:
        said = " ".join(str(error).split())[:500]
        raise kind(f"onnxruntime-qnn, {call}: {said}", hint=_advice(said)) from error


def _advice(said: str) -> str:
    if "disable_cpu_ep_fallback" in said or "fallback to CPU EP" in said:
        return "HTP lacks an operator of this graph: Qualcomm's list is in the documents of the QNN SDK"
    return "look the message up at github.com/onnxruntime/onnxruntime-qnn/issues"


def _tensor(value: Any) -> TensorSpec:
    dtype = NUMPY.get(value.type, value.type[len("tensor(") : -1])
    return TensorSpec(value.name, dtype, tuple(size if isinstance(size, int) else -1 for size in value.shape))
