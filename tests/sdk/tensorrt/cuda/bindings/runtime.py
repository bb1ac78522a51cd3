"""Simulated CUDA runtime: every function returns a tuple whose first element is the error."""

from __future__ import annotations

import ctypes
import time
from enum import IntEnum

import numpy as np
from simulated_gpu import Copy, Event, Stream, calls, capability, driver, gpu, name, simulate, violation, visible
from simulated_gpu import Error as cudaError_t

cudaStreamNonBlocking = 1


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


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


def cudaMemcpyAsync(target, source, nbytes, kind, stream):
    failed = _enter("cudaMemcpyAsync")
    if failed:
        return failed
    queue = gpu.streams.get(int(stream))
    if queue is None:
        violation("cudaMemcpyAsync on a stream that does not exist")
        return (cudaError_t.cudaErrorInvalidResourceHandle,)
    into_device = kind == cudaMemcpyKind.cudaMemcpyHostToDevice
    device, host = (target, source) if into_device else (source, target)
    found = gpu.find(int(device), nbytes, "cudaMemcpyAsync")
    if found is None or found[0].host is not None:
        violation(f"cudaMemcpyAsync: {int(device):#x} is no device memory")
        return (cudaError_t.cudaErrorInvalidValue,)
    item, offset = found
    pinned = gpu.find(int(host), nbytes, "cudaMemcpyAsync")
    if into_device and pinned is None:  # pageable memory is staged before the call returns
        staged = np.frombuffer(ctypes.string_at(host, nbytes), np.uint8)

    def run():
        if not into_device:
            ctypes.memmove(host, item.data[offset : offset + nbytes].ctypes.data, nbytes)
        elif pinned is None:
            item.data[offset : offset + nbytes] = staged
        else:
            item.data[offset : offset + nbytes] = np.frombuffer(ctypes.string_at(host, nbytes), np.uint8)

    queue.ops.append(Copy(run, {item.address} | ({pinned[0].address} if pinned else set())))
    if not into_device and pinned is None:
        queue.synchronise()
    return (OK,)


def cudaStreamCreateWithFlags(flags):
    return _enter("cudaStreamCreateWithFlags", 1) or (OK, gpu.create(gpu.streams, Stream()))


def cudaStreamCreate():
    return _enter("cudaStreamCreate", 1) or (OK, gpu.create(gpu.streams, Stream()))


def cudaStreamSynchronize(stream):
    queue = gpu.streams.get(int(stream))
    if queue is None:
        violation("cudaStreamSynchronize of a stream that does not exist")
        return (cudaError_t.cudaErrorInvalidResourceHandle,)
    queue.synchronise()
    return _enter("cudaStreamSynchronize") or (OK,)


def cudaStreamDestroy(stream):
    if gpu.streams.pop(int(stream), None) is None:
        violation("a stream destroyed twice, or never made")
        return (cudaError_t.cudaErrorInvalidResourceHandle,)
    return _enter("cudaStreamDestroy") or (OK,)


def cudaEventCreate():
    return _enter("cudaEventCreate", 1) or (OK, gpu.create(gpu.events, Event()))


def cudaEventRecord(event, stream):
    failed = _enter("cudaEventRecord")
    if failed:
        return failed
    event = gpu.events[int(event)]
    event.at = max(time.perf_counter(), gpu.streams[int(stream)].until)
    event.seen = False
    return (OK,)


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


__all__ = [key for key in list(globals()) if key.startswith("cuda")] + ["simulate"]
