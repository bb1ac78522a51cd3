"""CUDA's runtime through cuda-python: every call is checked; an ExitStack frees memory, streams and events."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.backends.base import trail
from harness.errors import DeviceError

if TYPE_CHECKING:
    from contextlib import ExitStack
    from types import TracebackType

    from numpy.typing import NDArray

HINT = "see nvidia-smi and dmesg for the state of the GPU, then run the case alone"


class Cuda:
    """The runtime API. Raises DeviceError when cuda-python cannot be imported."""

    def __init__(self) -> None:
        self._runtime = _bindings()

    def call(self, name: str, *values: Any) -> Any:
        """What the function returns besides its error code: one value, or a tuple of none or several. Raises
        DeviceError."""
        trail(name)
        error, *returned = getattr(self._runtime, name)(*values)
        if int(error) != 0:
            raise DeviceError(f"{name} failed: {self.explain(error)}", hint=HINT)
        return returned[0] if len(returned) == 1 else tuple(returned)

    def explain(self, error: Any) -> str:
        """The error as text: `35 cudaErrorInsufficientDriver: CUDA driver version is insufficient ...`."""
        name, text = self._runtime.cudaGetErrorName(error)[1], self._runtime.cudaGetErrorString(error)[1]
        plain = [part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in (name, text)]
        return f"{int(error)} {plain[0]}: {plain[1]}"

    def count(self) -> tuple[int, str]:
        """(number of devices, reason when there are none). Call it before any TensorRT object is made, because some
        versions crash the process without a driver."""
        trail("cudaGetDeviceCount")
        error, count = self._runtime.cudaGetDeviceCount()
        if int(error) != 0:
            return 0, f"cudaGetDeviceCount: {self.explain(error)}"
        return int(count), "" if count else "cudaGetDeviceCount: 0"

    def bus(self, index: int) -> str:
        """PCI address of a device, as `plain_bus` writes it."""
        return plain_bus(self.call("cudaDeviceGetPCIBusId", 32, index))

    def capability(self, index: int) -> tuple[int, int]:
        """Compute capability (major, minor) of a device."""
        attribute = self._runtime.cudaDeviceAttr
        major = self.call("cudaDeviceGetAttribute", attribute.cudaDevAttrComputeCapabilityMajor, index)
        return int(major), int(self.call("cudaDeviceGetAttribute", attribute.cudaDevAttrComputeCapabilityMinor, index))

    def name(self, index: int) -> str:
        """Name of a device, such as "Tesla T4"."""
        name = self.call("cudaGetDeviceProperties", index).name
        return (name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)).strip("\0 ")

    # resources that the stack frees

    def stream(self, stack: ExitStack) -> Any:
        """A new stream that does not synchronise with the default stream."""
        stream = self.call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking)
        self._push(stack, "cudaStreamDestroy", stream)
        return stream

    def event(self, stack: ExitStack) -> Any:
        """A new event with timing."""
        event = self.call("cudaEventCreate")
        self._push(stack, "cudaEventDestroy", event)
        return event

    def memory(self, stack: ExitStack, nbytes: int) -> int:
        """Address of `nbytes` of new device memory; at least one byte, because a null address is refused."""
        address = int(self.call("cudaMalloc", max(nbytes, 1)))
        self._push(stack, "cudaFree", address)
        return address

    def pinned(self, stack: ExitStack, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """A new page-locked host array, which copies need not stage. Do not use it after the stack is closed."""
        kind = np.dtype(dtype)
        nbytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        address = int(self.call("cudaMallocHost", max(nbytes, 1)))
        self._push(stack, "cudaFreeHost", address)
        raw = memoryview((ctypes.c_ubyte * nbytes).from_address(address))
        array: NDArray[Any] = np.frombuffer(raw, np.uint8).view(kind).reshape(shape)
        return array

    def settle(self, stack: ExitStack, stream: Any) -> None:
        """Make the stack wait for the stream before it frees the resources that were added earlier."""
        self._push(stack, "cudaStreamSynchronize", stream)

    def to_device(self, address: int, array: NDArray[Any], stream: Any) -> None:
        """Start to copy a host array to device memory."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, stream)

    def to_host(self, array: NDArray[Any], address: int, stream: Any) -> None:
        """Start to copy device memory to a host array."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, stream)

    def _push(self, stack: ExitStack, name: str, value: Any) -> None:
        def undo(kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
            trail(name)
            (code,) = getattr(self._runtime, name)(value)
            if int(code) != 0 and error is None:  # else the earlier error is reported
                raise DeviceError(f"{name} failed: {self.explain(code)}", hint=HINT)

        stack.push(undo)


def plain_bus(text: Any) -> str:
    """The PCI address in one form, `0:65:00.0` for `0000:65:00.0` and `00000000:65:00.0`, as text or bytes: NVML
    writes the domain with eight digits, CUDA with four."""
    plain = (text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)).strip("\0 ").lower()
    domain, _, rest = plain.partition(":")
    try:
        return f"{int(domain, 16):x}:{rest}" if rest else plain
    except ValueError:  # "[Unknown Error: 999]": a GPU without an address that can be read
        return plain


def _bindings() -> Any:
    try:
        from cuda.bindings import runtime
    except ImportError:
        try:
            from cuda import cudart as runtime  # before cuda-python 12.8
        except Exception as error:
            raise DeviceError(
                f"cuda-python cannot be imported under {sys.executable}: {error!r}",
                hint="pip install cuda-python, of the driver's CUDA major version, in the Python of --sdk-python",
            ) from error
    return runtime
