"""Simulated CUDA runtime: every function returns a tuple whose first element is the error."""

from __future__ import annotations

import ctypes
import time
from enum import IntEnum

import numpy as np
from simulated_gpu import Copy, Event, Stream, calls, capability, driver, gpu, house, name, simulate, violation, visible
from simulated_gpu import Error as cudaError_t

cudaStreamDefault = 0
cudaStreamNonBlocking = 1
cudaHostAllocDefault, cudaHostAllocPortable, cudaHostAllocMapped, cudaHostAllocWriteCombined = 0, 1, 2, 4
cudaEventDefault, cudaEventBlockingSync, cudaEventDisableTiming, cudaEventWaitDefault = 0, 1, 2, 0
cudaStream_t = int
cudaEvent_t = int


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToHost = 0
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3
    cudaMemcpyDefault = 4


class cudaDeviceAttr(IntEnum):
    cudaDevAttrComputeCapabilityMajor = 75
    cudaDevAttrComputeCapabilityMinor = 76


OK = cudaError_t.cudaSuccess


def _enter(call, empty=0):
    """None to go on, else the tuple to return: the error and as many None as there are values."""
    code = calls.enter(call)
    if code is None and not driver():
        code = 35
    if code is None and not visible():
        code = 100
    return None if code is None else (cudaError_t(code), *([None] * empty))


def cudaGetErrorName(error):
    return OK, cudaError_t(error).name.encode()


def cudaGetErrorString(error):
    words = {
        35: b"CUDA driver version is insufficient for CUDA runtime version",
        100: b"no CUDA-capable device is detected",
        2: b"out of memory",
        700: b"an illegal memory access was encountered",
    }
    return OK, words.get(int(error), b"unspecified")


def cudaGetDeviceCount():
    return _enter("cudaGetDeviceCount", 1) or (OK, len(visible()))


def cudaRuntimeGetVersion():
    code = calls.enter("cudaRuntimeGetVersion")
    return (OK, 12060) if code is None else (cudaError_t(code), None)


def cudaDriverGetVersion():
    """0 without a driver."""
    return _enter("cudaDriverGetVersion", 1) or (OK, 12060)


def cudaGetDevice():
    return _enter("cudaGetDevice", 1) or (OK, gpu.device)


def cudaGetLastError():
    return (OK,)


def cudaSetDevice(index):
    failed = _enter("cudaSetDevice")
    if failed:
        return failed
    if not 0 <= index < len(visible()):
        return (cudaError_t.cudaErrorInvalidDevice,)
    gpu.device = index
    return (OK,)


def cudaDeviceGetPCIBusId(length, index):
    return _enter("cudaDeviceGetPCIBusId", 1) or (OK, f"0000:{0x65 + visible()[index]:02X}:00.0".encode())


def cudaDeviceGetAttribute(attribute, index):
    return _enter("cudaDeviceGetAttribute", 1) or (OK, capability()[int(attribute) - 75])


def cudaGetDeviceProperties(index):
    failed = _enter("cudaGetDeviceProperties", 1)
    if failed:
        return failed
    properties = type("cudaDeviceProp", (), {})()
    properties.name = name().encode()
    properties.major, properties.minor = capability()
    return OK, properties


def cudaMalloc(nbytes):
    return _enter("cudaMalloc", 1) or gpu.malloc(nbytes)


def cudaMallocHost(nbytes):
    return _enter("cudaMallocHost", 1) or gpu.malloc_host(nbytes)


def cudaFree(address):
    """A failure injected into a release is that of an earlier launch: the release itself takes place."""
    done = gpu.free(address, host=False)
    return _enter("cudaFree") or (done,)


def cudaFreeHost(address):
    done = gpu.free(address, host=True)
    return _enter("cudaFreeHost") or (done,)


def cudaHostAlloc(nbytes, flags):
    return _enter("cudaHostAlloc", 1) or gpu.malloc_host(nbytes)


def cudaMemGetInfo():
    free, total = gpu.free_and_total()
    return _enter("cudaMemGetInfo", 2) or (OK, free, total)


def cudaMemcpy(target, source, nbytes, kind):
    """Done when it returns. Addresses may be arrays: cuda-python takes whatever has the buffer interface."""
    failed = _enter("cudaMemcpy")
    if failed:
        return failed
    gpu.streams[0].synchronise()
    for stream in gpu.streams.values():  # a blocking copy waits for what was queued before it
        stream.synchronise()
    done = _copy("cudaMemcpy", target, source, nbytes, kind, gpu.streams[0])
    gpu.streams[0].synchronise()
    return done


def cudaMemcpyAsync(target, source, nbytes, kind, stream):
    failed = _enter("cudaMemcpyAsync")
    if failed:
        return failed
    kind = cudaMemcpyKind(kind)
    queue = gpu.streams.get(int(stream))
    if queue is None:
        violation("cudaMemcpyAsync on a stream that does not exist")
        return (cudaError_t.cudaErrorInvalidResourceHandle,)
    if int(stream) == 0:
        house("cudaMemcpyAsync on the default stream")
    return _copy("cudaMemcpyAsync", target, source, nbytes, kind, queue)


def _copy(call, target, source, nbytes, kind, queue):
    target, source = _address(target), _address(source)
    found = {}
    for side, address, on_device in (("to", target, kind in (1, 3)), ("from", source, kind in (2, 3))):
        item = gpu.find(address, nbytes, call)
        if on_device and (item is None or item[0].host is not None):
            violation(f"{call}: {address:#x} is no device memory")
            return (cudaError_t.cudaErrorInvalidValue,)
        found[side] = item
    staged = None
    if kind == cudaMemcpyKind.cudaMemcpyHostToDevice and found["from"] is None and queue.captured is None:
        staged = np.frombuffer(ctypes.string_at(source, nbytes), np.uint8)  # pageable memory, before the call returns

    def run():
        data = staged if staged is not None else _bytes(found["from"], source, nbytes)
        if found["to"] is not None and found["to"][0].host is None:
            item, offset = found["to"]
            item.data[offset : offset + nbytes] = data
        else:
            ctypes.memmove(target, data.ctypes.data, nbytes)

    held = {item[0].address for item in found.values() if item is not None}
    queue.put(Copy(run, held))
    if kind == cudaMemcpyKind.cudaMemcpyDeviceToHost and found["to"] is None and queue.captured is None:
        queue.synchronise()
    return (OK,)


def _address(value):
    """Of an int, an array or a buffer. NumPy's integers are buffers to cuda-python, which then takes the place where
    the number lies for the address: refused here."""
    if isinstance(value, np.ndarray):
        return value.ctypes.data
    if isinstance(value, (bytes, bytearray, memoryview)):
        return np.frombuffer(value, np.uint8).ctypes.data
    if not isinstance(value, int):
        raise TypeError(f"an address of type {type(value)}, expected int or an object with the buffer interface")
    return value


def _bytes(found, address, nbytes):
    """Contents of device memory, or of host memory, at the time of the copy."""
    if found is not None and found[0].host is None:
        return np.ascontiguousarray(found[0].data[found[1] : found[1] + nbytes])
    return np.frombuffer(ctypes.string_at(address, nbytes), np.uint8)


def cudaMemset(address, value, nbytes):
    failed = _enter("cudaMemset")
    if failed:
        return failed
    for stream in gpu.streams.values():
        stream.synchronise()
    gpu.compute()
    found = gpu.find(int(address), nbytes, "cudaMemset")
    if found is None or found[0].host is not None:
        violation(f"cudaMemset: {int(address):#x} is no device memory")
        return (cudaError_t.cudaErrorInvalidValue,)
    found[0].data[found[1] : found[1] + nbytes] = value
    return (OK,)


def cudaMemsetAsync(address, value, nbytes, stream):
    """Done at once: nothing here can see the difference."""
    return cudaMemset(address, value, nbytes)


class cudaMemAllocationType(IntEnum):
    cudaMemAllocationTypeInvalid = 0
    cudaMemAllocationTypePinned = 1


class cudaMemAllocationHandleType(IntEnum):
    cudaMemHandleTypeNone = 0
    cudaMemHandleTypePosixFileDescriptor = 1


class cudaMemLocationType(IntEnum):
    cudaMemLocationTypeInvalid = 0
    cudaMemLocationTypeDevice = 1


class cudaMemPoolAttr(IntEnum):
    cudaMemPoolReuseFollowEventDependencies = 1
    cudaMemPoolAttrReleaseThreshold = 4


class cudaMemLocation:
    type, id = cudaMemLocationType.cudaMemLocationTypeInvalid, 0


class cudaMemPoolProps:
    """Kept: every pool is the memory of the GPU."""

    def __init__(self):
        self.allocType = cudaMemAllocationType.cudaMemAllocationTypeInvalid
        self.handleTypes = cudaMemAllocationHandleType.cudaMemHandleTypeNone
        self.location = cudaMemLocation()


def cudaMemPoolCreate(poolProps):
    return _enter("cudaMemPoolCreate", 1) or (OK, gpu.create(_pools, poolProps))


def cudaMemPoolDestroy(memPool):
    if _pools.pop(int(memPool), None) is None:
        violation("a memory pool destroyed twice, or never made")
        return (cudaError_t.cudaErrorInvalidValue,)
    return _enter("cudaMemPoolDestroy") or (OK,)


def cudaMemPoolSetAttribute(memPool, attr, value):
    return _enter("cudaMemPoolSetAttribute") or (OK,)


def cudaDeviceGetDefaultMemPool(device):
    return _enter("cudaDeviceGetDefaultMemPool", 1) or (OK, 0)


def cudaMallocFromPoolAsync(size, memPool, stream):
    return _enter("cudaMallocFromPoolAsync", 1) or gpu.malloc(size)


def cudaMallocAsync(size, hStream):
    return _enter("cudaMallocAsync", 1) or gpu.malloc(size)


def cudaFreeAsync(devPtr, hStream):
    """In its turn on the stream, so that what was queued before it may still use the memory."""
    queue = gpu.streams.get(int(hStream))
    if queue is None:
        violation("cudaFreeAsync on a stream that does not exist")
        return (cudaError_t.cudaErrorInvalidResourceHandle,)
    queue.synchronise()
    return (gpu.free(devPtr, host=False),)


_pools = {}


def cudaStreamQuery(stream):
    queue = gpu.streams.get(int(stream))
    if queue is None:
        return (cudaError_t.cudaErrorInvalidResourceHandle,)
    return (OK if time.perf_counter() >= queue.until else cudaError_t.cudaErrorNotReady,)


def cudaStreamWaitEvent(stream, event, flags=0):
    """The stream goes on when the event is reached."""
    failed = _enter("cudaStreamWaitEvent")
    if failed:
        return failed
    at = gpu.events[int(event)].at
    if at is not None:
        queue = gpu.streams[int(stream)]
        queue.until = max(queue.until, at)
    return (OK,)


def cudaEventQuery(event):
    known = gpu.events.get(int(event))
    if known is None:
        return (cudaError_t.cudaErrorInvalidResourceHandle,)
    return (OK if known.at is None or time.perf_counter() >= known.at else cudaError_t.cudaErrorNotReady,)


def cudaStreamCreateWithPriority(flags, priority):
    return cudaStreamCreateWithFlags(flags)


def cudaStreamCreateWithFlags(flags):
    return _enter("cudaStreamCreateWithFlags", 1) or (OK, gpu.create(gpu.streams, Stream()))


def cudaStreamCreate():
    return _enter("cudaStreamCreate", 1) or (OK, gpu.create(gpu.streams, Stream()))


def cudaStreamSynchronize(stream):
    queue = gpu.streams.get(int(stream))
    if queue is None:
        violation("cudaStreamSynchronize of a stream that does not exist")
        return (cudaError_t.cudaErrorInvalidResourceHandle,)
    if queue.captured is not None:
        return (cudaError_t.cudaErrorStreamCaptureUnsupported,)
    queue.synchronise()
    return _enter("cudaStreamSynchronize") or (OK,)


def cudaDeviceSynchronize():
    for stream in gpu.streams.values():
        stream.synchronise()
    return _enter("cudaDeviceSynchronize") or (OK,)


def cudaStreamDestroy(stream):
    if int(stream) == 0:
        return (cudaError_t.cudaErrorInvalidResourceHandle,)
    if not gpu.end_stream(int(stream)):
        violation("a stream destroyed twice, or never made")
        return (cudaError_t.cudaErrorInvalidResourceHandle,)
    return _enter("cudaStreamDestroy") or (OK,)


def cudaEventCreate():
    return _enter("cudaEventCreate", 1) or (OK, gpu.create(gpu.events, Event()))


def cudaEventCreateWithFlags(flags):
    return _enter("cudaEventCreateWithFlags", 1) or (OK, gpu.create(gpu.events, Event()))


def cudaEventRecord(event, stream):
    failed = _enter("cudaEventRecord")
    if failed:
        return failed
    event = gpu.events[int(event)]
    event.at = max(time.perf_counter(), gpu.streams[int(stream)].until)
    event.seen = False
    return (OK,)


def cudaEventSynchronize(event):
    known = gpu.events.get(int(event))
    if known is None:
        return (cudaError_t.cudaErrorInvalidResourceHandle,)
    if known.at is not None:
        gpu.clock.wait(known.at)
        known.seen = True
    return _enter("cudaEventSynchronize") or (OK,)


def cudaEventElapsedTime(start, stop):
    failed = _enter("cudaEventElapsedTime", 1)
    if failed:
        return failed
    first, last = gpu.events[int(start)], gpu.events[int(stop)]
    if first.at is None or last.at is None:
        return cudaError_t.cudaErrorInvalidResourceHandle, None
    if not (first.seen and last.seen):
        return cudaError_t.cudaErrorNotReady, None
    return OK, 1000 * (last.at - first.at)


def cudaEventDestroy(event):
    if gpu.events.pop(int(event), None) is None:
        violation("an event destroyed twice, or never made")
        return (cudaError_t.cudaErrorInvalidResourceHandle,)
    return _enter("cudaEventDestroy") or (OK,)


# --- graphs: what is queued on a stream while it is captured, done again at each launch ------------------------------


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


class cudaStreamCaptureStatus(IntEnum):
    cudaStreamCaptureStatusNone = 0
    cudaStreamCaptureStatusActive = 1
    cudaStreamCaptureStatusInvalidated = 2


_graphs = {}


def cudaStreamBeginCapture(stream, mode):
    queue = gpu.streams.get(int(stream))
    if queue is None:
        return (cudaError_t.cudaErrorInvalidResourceHandle,)
    if int(stream) == 0 or queue.captured is not None:
        return (cudaError_t.cudaErrorStreamCaptureUnsupported,)
    queue.captured = []
    return _enter("cudaStreamBeginCapture") or (OK,)


def cudaStreamIsCapturing(stream):
    queue = gpu.streams.get(int(stream))
    if queue is None:
        return cudaError_t.cudaErrorInvalidResourceHandle, None
    return OK, cudaStreamCaptureStatus(int(queue.captured is not None))


def cudaStreamEndCapture(stream):
    queue = gpu.streams.get(int(stream))
    if queue is None or queue.captured is None:
        return cudaError_t.cudaErrorIllegalState, None
    captured, queue.captured = queue.captured, None
    return _enter("cudaStreamEndCapture", 1) or (OK, gpu.create(_graphs, captured))


def cudaGraphInstantiate(graph, flags):
    if int(graph) not in _graphs:
        return cudaError_t.cudaErrorInvalidValue, None
    return _enter("cudaGraphInstantiate", 1) or (OK, gpu.create(_graphs, _graphs[int(graph)]))


def cudaGraphLaunch(graphExec, stream):
    """The addresses are those of the capture: memory that was freed since is none."""
    queue = gpu.streams.get(int(stream))
    if queue is None or int(graphExec) not in _graphs:
        violation("cudaGraphLaunch of no graph, or on a stream that does not exist")
        return (cudaError_t.cudaErrorInvalidResourceHandle,)
    failed = _enter("cudaGraphLaunch")
    if failed:
        return failed
    for op, images in _graphs[int(graphExec)]:
        if not op.addresses <= set(gpu.memory):
            violation("cudaGraphLaunch with memory that was freed since the capture")
            return (cudaError_t.cudaErrorIllegalAddress,)
        queue.put(op.again(), images)
    return (OK,)


def cudaGraphDestroy(graph):
    if _graphs.pop(int(graph), None) is None:
        violation("a graph destroyed twice, or never made")
        return (cudaError_t.cudaErrorInvalidValue,)
    return _enter("cudaGraphDestroy") or (OK,)


cudaGraphExecDestroy = cudaGraphDestroy


def cudaProfilerStart():
    return _enter("cudaProfilerStart") or (OK,)


def cudaProfilerStop():
    return _enter("cudaProfilerStop") or (OK,)


__all__ = [key for key in list(globals()) if key.startswith("cuda")] + ["simulate"]
