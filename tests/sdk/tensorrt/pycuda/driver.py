"""pycuda.driver: devices, contexts, memory, streams, events. Needs a current context, as PyCUDA does."""

from __future__ import annotations

import atexit

import numpy as np
from cuda.bindings import runtime
from simulated_gpu import capability, gpu, name, violation, visible

HOST, TO_DEVICE, FROM_DEVICE, ON_DEVICE = 0, 1, 2, 3  # kinds of a copy


class Error(Exception):
    """Base of PyCUDA's errors."""


class LogicError(Error):
    """A call that should not have been made so."""


class LaunchError(Error):
    """What ran on the device failed."""


class RuntimeError(Error):
    """What the driver could not do."""


class MemoryError(Error):
    """Out of device memory."""


KINDS = {2: MemoryError, 700: LaunchError, 719: LaunchError, 999: RuntimeError}
WORDS = {
    1: "invalid argument",
    2: "out of memory",
    35: "no CUDA-capable device is detected",
    100: "no CUDA-capable device is detected",
    101: "invalid device ordinal",
    400: "invalid resource handle",
}

_state = {"on": False}
_contexts = []  # the stack of those that were pushed; the last is current


def _made(call, answer):
    """What a call of the runtime gave, without the error; raises as PyCUDA does."""
    error, *rest = answer
    if int(error):
        raise KINDS.get(int(error), LogicError)(f"{call} failed: {WORDS.get(int(error), error.name)}")
    return rest[0] if len(rest) == 1 else rest


def _current(call):
    if not _contexts:
        raise LogicError(f"{call} failed: invalid device context - no currently active context?")


def init(flags=0):
    _made("cuInit", runtime.cudaGetDeviceCount())
    _state["on"] = True


def _ready(call):
    if not _state["on"]:
        raise LogicError(f"{call} failed: not initialized")


def get_version():
    return (12, 6, 0)


def get_driver_version():
    return 12060


class Device:
    def __init__(self, number):
        _ready("cuDeviceGet")
        if not 0 <= int(number) < len(visible()):
            raise LogicError("cuDeviceGet failed: invalid device ordinal")
        self.number = int(number)

    @staticmethod
    def count():
        _ready("cuDeviceGetCount")
        return len(visible())

    def name(self):
        return name()

    def compute_capability(self):
        return capability()

    def total_memory(self):
        return gpu.free_and_total()[1]

    def pci_bus_id(self):
        return _made("cuDeviceGetPCIBusId", runtime.cudaDeviceGetPCIBusId(16, self.number)).decode()

    def make_context(self, flags=0):
        made = Context(self)
        made.push()
        return made

    def retain_primary_context(self):
        return Context(self)


class Context:
    def __init__(self, device):
        self.device = device

    def push(self):
        _contexts.append(self)
        _made("cuCtxPushCurrent", runtime.cudaSetDevice(self.device.number))

    @staticmethod
    def pop():
        if not _contexts:
            raise LogicError("context::pop failed: invalid device context - cannot pop non-current context")
        _contexts.pop()

    @staticmethod
    def attach(flags=0):
        """Another hold on the current one: what its detach() ends, and not the context."""
        _current("cuCtxAttach")
        _contexts.append(Context(_contexts[-1].device))
        return _contexts[-1]

    def detach(self):
        if self in _contexts:
            _contexts.remove(self)

    @staticmethod
    def synchronize():
        _current("cuCtxSynchronize")
        _made("cuCtxSynchronize", runtime.cudaDeviceSynchronize())

    @staticmethod
    def get_device():
        _current("cuCtxGetDevice")
        return _contexts[-1].device

    @staticmethod
    def get_current():
        return _contexts[-1] if _contexts else None


@atexit.register
def _at_exit():
    if _contexts:
        violation("PyCUDA: the context stack was not empty upon module cleanup")


class DeviceAllocation:
    """Device memory that is freed with this object."""

    def __init__(self, nbytes):
        _current("cuMemAlloc")
        if int(nbytes) < 1:
            raise LogicError("cuMemAlloc failed: invalid argument")
        self._address = _made("cuMemAlloc", runtime.cudaMalloc(int(nbytes)))

    def free(self):
        address, self._address = self._address, None
        _made("cuMemFree", runtime.cudaFree(address))

    def __int__(self):
        return self._address

    __index__ = __int__

    def __del__(self):
        if getattr(self, "_address", None) is not None and runtime is not None and gpu is not None:
            gpu.free(self._address, host=False)


class PointerHolderBase:
    """Base of a program's own: get_pointer() gives the address."""


def mem_alloc(nbytes):
    return DeviceAllocation(nbytes)


def mem_alloc_like(array):
    return DeviceAllocation(array.nbytes)


def to_device(array):
    made = DeviceAllocation(array.nbytes)
    memcpy_htod(made, array)
    return made


def mem_get_info():
    _current("cuMemGetInfo")
    return gpu.free_and_total()


def pagelocked_empty(shape, dtype, order="C", mem_flags=0):
    """An array in page-locked memory, which is kept until the process ends."""
    _current("cuMemHostAlloc")
    dtype = np.dtype(dtype)
    count = int(np.prod(shape))
    address = _made("cuMemHostAlloc", runtime.cudaMallocHost(max(1, count * dtype.itemsize)))
    return np.frombuffer(gpu.memory[address].host, dtype, count).reshape(shape, order=order)


def pagelocked_zeros(shape, dtype, order="C", mem_flags=0):
    made = pagelocked_empty(shape, dtype, order, mem_flags)
    made[...] = 0
    return made


def pagelocked_empty_like(array, mem_flags=0):
    return pagelocked_empty(array.shape, array.dtype)


class host_alloc_flags:
    PORTABLE, DEVICEMAP, WRITECOMBINED = 1, 2, 4


class ctx_flags:
    SCHED_AUTO, SCHED_SPIN, SCHED_YIELD, SCHED_BLOCKING_SYNC, MAP_HOST = 0, 1, 2, 4, 8


class event_flags:
    DEFAULT, BLOCKING_SYNC, DISABLE_TIMING = 0, 1, 2


def _place(value):
    """Where memory lies, and how many bytes: of an array, of a buffer, of device memory (None: not known)."""
    if hasattr(value, "get_pointer"):
        return int(value.get_pointer()), None
    if isinstance(value, (int, np.integer, DeviceAllocation)):
        return int(value), None
    array = value if isinstance(value, np.ndarray) else np.frombuffer(value, np.uint8)
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        raise BufferError("ndarray is not contiguous")
    return array.ctypes.data, array.nbytes


def _copied(call, target, source, kind, stream=None, nbytes=None):
    _current(call)
    (to, room), (origin, size) = _place(target), _place(source)
    nbytes = nbytes if nbytes is not None else size if kind == TO_DEVICE else room
    if nbytes == 0:
        return
    kind = runtime.cudaMemcpyKind(kind)
    if stream is None and not call.endswith("Async"):
        _made(call, runtime.cudaMemcpy(to, origin, nbytes, kind))
    else:
        _made(call, runtime.cudaMemcpyAsync(to, origin, nbytes, kind, 0 if stream is None else stream.handle))


def memcpy_htod(dest, src):
    _copied("cuMemcpyHtoD", dest, src, TO_DEVICE)


def memcpy_dtoh(dest, src):
    _copied("cuMemcpyDtoH", dest, src, FROM_DEVICE)


def memcpy_dtod(dest, src, size):
    _copied("cuMemcpyDtoD", dest, src, ON_DEVICE, None, size)


def memcpy_htod_async(dest, src, stream=None):
    _copied("cuMemcpyHtoDAsync", dest, src, TO_DEVICE, stream)


def memcpy_dtoh_async(dest, src, stream=None):
    _copied("cuMemcpyDtoHAsync", dest, src, FROM_DEVICE, stream)


def memcpy_dtod_async(dest, src, size, stream=None):
    _copied("cuMemcpyDtoDAsync", dest, src, ON_DEVICE, stream, size)


def memset_d8(dest, data, count):
    _current("cuMemsetD8")
    _made("cuMemsetD8", runtime.cudaMemset(int(dest), data, count))


class Stream:
    def __init__(self, flags=0):
        _current("cuStreamCreate")
        self.handle = _made("cuStreamCreate", runtime.cudaStreamCreateWithFlags(flags))

    def synchronize(self):
        _made("cuStreamSynchronize", runtime.cudaStreamSynchronize(self.handle))

    def is_done(self):
        return int(runtime.cudaStreamQuery(self.handle)[0]) == 0

    def wait_for_event(self, event):
        _made("cuStreamWaitEvent", runtime.cudaStreamWaitEvent(self.handle, event.handle))

    def __del__(self):
        if getattr(self, "handle", None) is not None and gpu is not None:
            gpu.end_stream(self.handle)


class Event:
    def __init__(self, flags=0):
        _current("cuEventCreate")
        self.handle = _made("cuEventCreate", runtime.cudaEventCreate())

    def record(self, stream=None):
        _made("cuEventRecord", runtime.cudaEventRecord(self.handle, 0 if stream is None else stream.handle))
        return self

    def synchronize(self):
        _made("cuEventSynchronize", runtime.cudaEventSynchronize(self.handle))
        return self

    def query(self):
        return int(runtime.cudaEventQuery(self.handle)[0]) == 0

    def time_till(self, other):
        """Milliseconds from this event to the other."""
        return _made("cuEventElapsedTime", runtime.cudaEventElapsedTime(self.handle, other.handle))

    def time_since(self, other):
        return other.time_till(self)

    def __del__(self):
        if getattr(self, "handle", None) is not None and gpu is not None:
            gpu.events.pop(self.handle, None)
