"""NVIDIA GPUs through TensorRT 8.6 and later: load, feed, run and read a plan (_trt_build.py builds it).

A plan runs only on the GPU model and the TensorRT that built it, so `version` names both.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator

import numpy as np

from harness.backends._calls import Calls, let_go
from harness.backends.base import BuildSpec, Device, Found, Health, TensorSpec, check, of_chip, shape_at, trail
from harness.backends.nvidia import _nvml
from harness.backends.nvidia._cuda import Cuda
from harness.backends.nvidia._trt_build import build
from harness.backends.nvidia._trt_sdk import logger, sdk, with_gpu
from harness.errors import DeviceError, HarnessError, RunError

if TYPE_CHECKING:
    from harness.backends.base import Tensors

__all__ = ["build", "devices", "health", "load", "reset", "version"]

HOST_BOUND = 0.9
"""A run is host-bound when enqueueing one execute takes this share, or more, of the time between executes."""


def version() -> str:
    """Versions in one line, such as `TensorRT 10.3.0, CUDA 12.6, driver 550.54.15, Tesla T4`."""
    cuda = Cuda()
    number = int(cuda.call("cudaRuntimeGetVersion"))
    gpus, _ = _nvml.gpus()
    names = sorted({gpu.name for gpu in gpus}) or sorted({cuda.name(i) for i in range(cuda.count()[0])})
    driver = gpus[0].driver if gpus else "unknown"
    return "TensorRT {}, CUDA {}.{}, driver {}, {}".format(
        sdk().__version__, number // 1000, number % 1000 // 10, driver, " and ".join(names) or "no GPU"
    )


def devices(match: str) -> Found:
    """GPUs whose name fully matches `match`. `index` is CUDA's number, `card` NVML's, matched by PCI address."""
    gpus, evidence = _nvml.gpus()
    by_bus = {gpu.bus: gpu for gpu in gpus}
    try:
        trt, cuda = sdk(), Cuda()
        count, why = cuda.count()
        found = []
        for index in range(count):
            gpu = by_bus.get(cuda.bus(index))
            target = "sm_{}{}".format(*cuda.capability(index))
            name = gpu.name if gpu else cuda.name(index)
            found.append(Device(index, name, gpu.number if gpu else index, target, gpu.number if gpu else -1))
    except HarnessError as error:
        return Found((), f"{evidence}; {error.fact}", _nvml.repair(evidence))
    evidence = f"{evidence}; TensorRT {trt.__version__} under {sys.executable}; {why or f'CUDA counts {count}'}"
    if why.endswith(": 0") or "cudaErrorNoDevice" in why:  # any other error is the driver's, not a variable's
        evidence += _nvml.hidden(count, len(gpus))
    return of_chip(match, found, evidence, "" if found else _nvml.repair(evidence))


def reset(device: Device) -> str:
    """Reset the GPU by nvidia-smi; returns the command and what it said. Raises DeviceError."""
    return _nvml.reset(device.card)


def health(device: Device) -> Health:
    """The state of the GPU by NVML or nvidia-smi."""
    return _nvml.state(device.card)


@contextmanager
def load(engine: Path, device: Device, spec: BuildSpec) -> Iterator[_Session]:
    """A context with the engine on the GPU. In addition to base.Session, its session has `device_seconds` and
    `host_bound` for the last execute. Raises DeviceError, and RunError when the engine is not the case's."""
    trt = sdk()
    cuda = with_gpu(DeviceError)
    log = logger(trt)
    calls = Calls(DeviceError, f"build {engine.name} again with this TensorRT on this GPU", log.words)
    session = _Session(cuda, Calls(DeviceError, "run the case alone, under compute-sanitizer", log.words), log.words)
    with ExitStack() as stack:

        def hold(name: str, call: str, function: Callable[..., Any], *values: Any) -> None:
            stack.callback(setattr, session, name, None)
            setattr(session, name, calls.make(call, function, *values))

        try:
            cuda.call("cudaSetDevice", device.index)
            session.stream = cuda.stream(stack)
            session.started, session.stopped = cuda.event(stack), cuda.event(stack)
            hold("runtime", "trt.Runtime", trt.Runtime, log)
            plan = engine.read_bytes()
            hold("engine", "trt.Runtime.deserialize_cuda_engine", session.runtime.deserialize_cuda_engine, plan)
            if not hasattr(session.engine, "num_io_tensors"):
                raise DeviceError(f"TensorRT {trt.__version__} has no named tensors", hint="use TensorRT 8.6 or later")
            hold("context", "trt.ICudaEngine.create_execution_context", session.engine.create_execution_context)
            session.shape(trt, calls, spec)
            session.allocate(stack, calls)
            cuda.settle(stack, session.stream)
            yield session
        except BaseException as error:
            let_go(error)
            raise


class _Session:
    """An engine on a GPU, with pinned host memory and device memory for every tensor."""

    def __init__(self, cuda: Cuda, calls: Calls, words: Callable[[], str]) -> None:
        self.inputs: tuple[TensorSpec, ...] = ()
        self.outputs: tuple[TensorSpec, ...] = ()
        self.runtime: Any = None
        self.engine: Any = None
        self.context: Any = None
        self.stream: Any = None
        self.started: Any = None
        self.stopped: Any = None
        self._cuda = cuda
        self._calls = calls
        self._words = words
        self._host: dict[str, Any] = {}
        self._device: dict[str, int] = {}
        self._times = 0
        self._in_a_row = 0.0  # seconds of an execute in the last series
        self._enqueue = float("inf")  # seconds of the fastest enqueue on an empty stream
        self._extra: tuple[TensorSpec, ...] = ()  # outputs that the case does not use, which still need an address

    def shape(self, trt: Any, calls: Calls, spec: BuildSpec) -> None:
        """Choose the profile of the batch, set the input shapes and read the output shapes. Raises RunError and
        DeviceError."""
        engine, context = self.engine, self.context
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        fed = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        wanted = [tensor.name for tensor in spec.inputs]
        if sorted(fed) != sorted(wanted) or not set(spec.outputs) <= set(names):
            raise RunError(
                f"the engine has the tensors {names}, the model {wanted} and {list(spec.outputs)}",
                hint="the engine is another model's: build it again",
            )
        shapes = {name: tuple(engine.get_tensor_shape(name)) for name in wanted}
        if any(-1 in shape for shape in shapes.values()):
            free = [tensor.name for tensor in spec.inputs if tensor.shape[:1] == (-1,)]
            profile = self._profile(free, spec.batch)
            if profile:
                choose = context.set_optimization_profile_async
                call = "trt.IExecutionContext.set_optimization_profile_async"
                calls.true(call, choose, profile, int(self.stream))
                self._cuda.call("cudaStreamSynchronize", self.stream)
        for name in wanted:
            shape = shapes[name]
            at = shape_at(next(tensor for tensor in spec.inputs if tensor.name == name), spec.batch)
            if shape[:1] not in ((-1,), at[:1]):
                raise RunError(f"the engine takes batch {shape[0]}, the case {at[0]}", hint="build it for this batch")
            calls.true("trt.IExecutionContext.set_input_shape", context.set_input_shape, name, at)
        missing = calls.make("trt.IExecutionContext.infer_shapes", context.infer_shapes)
        if missing:
            raise DeviceError(f"shapes of {missing} stay unknown", hint="export the model without shape inputs")
        self.inputs = tuple(self._spec(trt, name) for name in wanted)
        self.outputs = tuple(self._spec(trt, name) for name in spec.outputs)
        self._extra = tuple(self._spec(trt, name) for name in names if name not in {*wanted, *spec.outputs})

    def _profile(self, names: list[str], batch: int) -> int:
        known = []
        for i in range(self.engine.num_optimization_profiles):
            ranges = [self.engine.get_tensor_profile_shape(name, i) for name in names]
            if all(low[0] <= batch <= high[0] for low, _, high in ranges):
                return i
            known += [f"{low[0]} to {high[0]}" for low, _, high in ranges[:1]]
        raise RunError(
            f"the engine has profiles for batch {', '.join(known)}, not {batch}", hint="build it for this batch"
        )

    def _spec(self, trt: Any, name: str) -> TensorSpec:
        try:
            dtype = np.dtype(trt.nptype(self.engine.get_tensor_dtype(name)))
        except TypeError as error:  # BF16 and below
            raise RunError(f"{name} has a type that NumPy lacks: {error}", hint="cast it in the ONNX file") from error
        shape = tuple(self.context.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise RunError(f"the shape of {name} depends on the data: {shape}", hint="export without such an output")
        return TensorSpec(name, dtype.name, shape)

    def allocate(self, stack: ExitStack, calls: Calls) -> None:
        for tensor in (*self.inputs, *self.outputs, *self._extra):
            host = self._cuda.pinned(stack, tensor.shape, tensor.dtype)
            self._device[tensor.name] = self._cuda.memory(stack, host.nbytes)
            self._host[tensor.name] = host
            address = self._device[tensor.name]
            calls.true(
                "trt.IExecutionContext.set_tensor_address", self.context.set_tensor_address, tensor.name, address
            )
        stack.callback(self._host.clear)

    def write(self, inputs: Tensors) -> None:
        check(inputs, self.inputs, "input")
        for tensor in self.inputs:
            np.copyto(self._host[tensor.name], inputs[tensor.name])
            self._cuda.to_device(self._device[tensor.name], self._host[tensor.name], self.stream)
        self._cuda.call("cudaStreamSynchronize", self.stream)

    def execute(self, times: int = 1) -> None:
        stream, run = int(self.stream), self.context.execute_async_v3
        self._times = 0
        self._cuda.call("cudaEventRecord", self.started, self.stream)
        trail("trt.IExecutionContext.execute_async_v3")
        start = time.perf_counter()
        good = run(stream)
        self._enqueue = min(self._enqueue, time.perf_counter() - start)
        for _ in range(times - 1):
            good = run(stream) and good
        if not good:
            raise self._calls.failure("trt.IExecutionContext.execute_async_v3", "returned False", self._words())
        self._cuda.call("cudaEventRecord", self.stopped, self.stream)
        self._cuda.call("cudaStreamSynchronize", self.stream)
        self._times = times
        if times > 1:  # a single execute also waits for its launch: it tells nothing of what bounds a series
            self._in_a_row = self.device_seconds()

    def read(self) -> Tensors:
        if not self._times:
            raise RunError("nothing was executed", hint="write, execute, then read")
        for tensor in self.outputs:
            self._cuda.to_host(self._host[tensor.name], self._device[tensor.name], self.stream)
        self._cuda.call("cudaStreamSynchronize", self.stream)
        return {tensor.name: self._host[tensor.name].copy() for tensor in self.outputs}

    def device_seconds(self) -> float:
        """Seconds of one execute on the GPU's own clock (CUDA events), over the last `execute`."""
        if not self._times:
            raise RunError("nothing was executed", hint="execute first")
        return float(self._cuda.call("cudaEventElapsedTime", self.started, self.stopped)) / 1000 / self._times

    def host_bound(self) -> bool:
        """Whether the host enqueues about as slowly as the GPU computes, so that the host limits the rate. Decided by
        the last series of executes and the fastest first enqueue: later ones may wait for room in the stream."""
        return self._enqueue >= HOST_BOUND * (self._in_a_row or self.device_seconds())
