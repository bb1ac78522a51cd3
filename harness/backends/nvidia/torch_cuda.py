"""NVIDIA GPUs through PyTorch: the last choice of the `cuda` chip, where neither TensorRT nor ONNX Runtime is there.

An engine is a frozen TorchScript file. ONNX cannot be converted back into TorchScript, so this backend needs the option
`torchscript`: path of the traced model on the CPU, FP32, with outputs in the order of `spec.outputs`. There is no int8.
Its throughput is that of eager kernels, one launch each: a lower bound of what the GPU can do.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Iterator, Sequence

import numpy as np

from harness.backends.base import BuildSpec, Device, Found, Health, TensorSpec, check, of_chip, shape_at, trail
from harness.backends.nvidia import _nvml
from harness.errors import BuildError, DeviceError, HarnessError, RunError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.backends.base import Tensors

DRIVER = "libcuda.so.1"


def version() -> str:
    """`PyTorch 2.11.0, CUDA 13.0, driver 580.159, NVIDIA H200`"""
    torch = _sdk()
    gpus, _ = _nvml.gpus()
    names = sorted({torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())})
    driver = gpus[0].driver if gpus else "unknown"
    return f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, driver {driver}, {' and '.join(names) or 'no GPU'}"


def devices(match: str) -> Found:
    """GPUs whose name fully matches `match`. `index` is CUDA's number, `card` NVML's, matched by PCI domain and bus."""
    gpus, evidence = _nvml.gpus()
    hint = _nvml.repair(evidence)
    if not gpus and not _driver():
        return Found((), f"{evidence}; no {DRIVER}, without which PyTorch sees no GPU", hint)
    try:
        torch = _sdk()
    except HarnessError as error:
        return Found((), f"{evidence}; {error.fact}", hint)
    trail("torch.cuda.device_count")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    why = _nvml.hidden(count, len(gpus)) if torch.version.cuda else "; it is a build without CUDA"
    evidence = f"{evidence}; PyTorch {torch.__version__} counts {count}{why}"
    cards = _by_address(gpus)
    found = []
    for index in range(count):
        known = torch.cuda.get_device_properties(index)
        card = cards.get((getattr(known, "pci_domain_id", 0), getattr(known, "pci_bus_id", -1)))
        place = (index, -1) if card is None else (card, card)
        found.append(Device(index, known.name, place[0], f"sm_{known.major}{known.minor}", place[1]))
    return of_chip(match, found, evidence, "" if found else _nvml.repair(evidence))


def _by_address(gpus: Sequence[_nvml.Gpu]) -> dict[tuple[int, int], int]:
    """NVML's number by PCI domain and bus. The GPUs of a Grace Hopper host differ in the domain alone; one whose
    address is not told, as of a Jetson, is left out."""
    cards = {}
    for gpu in gpus:
        try:
            domain, bus = (int(part, 16) for part in gpu.bus.split(":")[:2])
        except ValueError:
            continue
        cards[domain, bus] = gpu.number
    return cards


def _driver() -> bool:
    """Whether the driver's library can be loaded. PyTorch needs it and takes seconds to import, so this is asked
    first."""
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


def reset(device: Device) -> str:
    """Reset the GPU by nvidia-smi; returns the command and what it said. Raises DeviceError."""
    return _nvml.reset(device.card)


def health(device: Device) -> Health:
    """The state of the GPU by NVML or nvidia-smi."""
    return _nvml.state(device.card)


def build(onnx: Path, engine: Path, spec: BuildSpec) -> None:
    """Freeze the TorchScript of option `torchscript` to `engine`, in FP16 for fp16. Raises BuildError for int8, for
    `spec.normalize`, and when the option is missing or its file cannot be read."""
    torch = _sdk()
    source = spec.options.get("torchscript")
    if source is None:
        raise BuildError(f"PyTorch cannot run {onnx.name}", hint="give the traced model as options['torchscript']")
    if spec.precision == "int8" or spec.normalize is not None:
        raise BuildError("PyTorch on CUDA has neither int8 nor normalisation of its own", hint="build fp32 or fp16")
    trail("torch.jit.load")
    try:
        module = torch.jit.load(str(source), map_location="cpu").eval()
        trail("torch.jit.freeze")
        torch.jit.freeze(module.half() if spec.precision == "fp16" else module).save(str(engine))
    except Exception as error:
        raise BuildError(f"TorchScript {source} cannot be taken: {error}", hint="trace the model again") from error


@contextmanager
def load(engine: Path, device: Device, spec: BuildSpec) -> Iterator[TorchSession]:
    """A context with the engine on the GPU, without TF32. Raises DeviceError when there is no GPU or PyTorch fails."""
    torch = _sdk()
    with ExitStack() as stack, _failing("torch.jit.load"):
        place = _place(torch, device)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        stack.enter_context(torch.inference_mode())
        session = TorchSession(torch, torch.jit.load(str(engine), map_location=place), place, spec)
        stack.callback(session.release)
        yield session


class TorchSession:
    """A PyTorch module on `place`. It runs once on zeros to learn the shapes of its outputs, unless `spec.options` has
    them: "shapes", a list for each output. Use it under torch.inference_mode. Raises RunError when the number of
    outputs is not the model's."""

    def __init__(self, torch: Any, module: Any, place: Any, spec: BuildSpec) -> None:
        self._torch = torch
        self._module = module
        self._place = place
        self._half = spec.precision == "fp16"
        self._made: Any = None
        self.inputs = tuple(TensorSpec(t.name, "float32", shape_at(t, spec.batch)) for t in spec.inputs)
        self._fed: Any = tuple(self._on_device(np.zeros(t.shape, np.float32)) for t in self.inputs)
        shapes = spec.options.get("shapes") or [list(value.shape) for value in self._run(1)]
        if len(shapes) != len(spec.outputs):
            raise RunError(
                f"the engine has {len(shapes)} outputs, the model {len(spec.outputs)}",
                hint="trace the network that was exported",
            )
        self.outputs = tuple(TensorSpec(name, "float32", tuple(shape)) for name, shape in zip(spec.outputs, shapes))

    def _on_device(self, array: Any) -> Any:
        tensor = self._torch.from_numpy(np.ascontiguousarray(array)).to(self._place, copy=True)
        return tensor.half() if self._half else tensor

    def write(self, inputs: Tensors) -> None:
        """Copy the batch, float32, to the device. Raises RunError when a name, dtype or shape is not the engine's."""
        check(inputs, self.inputs, "input")
        with _failing("torch.Tensor.to"):
            self._fed = tuple(self._on_device(inputs[tensor.name]) for tensor in self.inputs)
            self._synchronize()

    def execute(self, times: int = 1) -> None:
        """Run the module `times` times and wait for the device."""
        self._made = self._run(times)

    def _run(self, times: int) -> tuple[Any, ...]:
        with _failing("torch.jit.ScriptModule.forward"):
            made: Any = None
            for _ in range(times):
                made = self._module(*self._fed)
            self._synchronize()
        return tuple(made) if isinstance(made, (tuple, list)) else (made,)

    def read(self) -> Tensors:
        """The outputs of the last execute, by ONNX name, as fresh float32 arrays. Raises RunError before an execute."""
        if self._made is None:
            raise RunError("nothing was executed", hint="write, execute, then read")
        with _failing("torch.Tensor.cpu"):
            return {spec.name: value.float().cpu().numpy().copy() for spec, value in zip(self.outputs, self._made)}

    def release(self) -> None:
        """Drop the module and its tensors, and return PyTorch's cached memory to the GPU."""
        self._module = self._fed = self._made = None
        if self._place.type == "cuda":
            self._torch.cuda.empty_cache()

    def _synchronize(self) -> None:
        if self._place.type == "cuda":
            self._torch.cuda.synchronize(self._place)


@contextmanager
def _failing(call: str) -> Iterator[None]:
    """Turn RuntimeError, which PyTorch raises for every failure, into DeviceError."""
    trail(call)
    try:
        yield
    except RuntimeError as error:
        raise DeviceError(
            f"{call} failed: {error}", hint="look at the GPU's memory: nvidia-smi; if it is full, use a smaller batch"
        ) from error


def _place(torch: Any, device: Device) -> Any:
    if not torch.cuda.is_available():
        raise DeviceError(f"PyTorch {torch.__version__} sees no GPU", hint="install its CUDA build and the driver")
    return torch.device("cuda", device.index)


def _sdk() -> Any:
    try:
        import torch
    except Exception as error:
        raise DeviceError(
            f"torch cannot be imported under {sys.executable}: {error!r}",
            hint="pip install torch in the Python given by --sdk-python",
        ) from error
    return torch
