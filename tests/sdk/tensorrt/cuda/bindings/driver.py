"""Simulated CUDA driver API: devices, the primary context, memory, streams. Modules and kernels are not simulated.

Every function answers with a tuple whose first element is a CUresult (cuda-python's documentation)."""

from __future__ import annotations

from enum import IntEnum

from simulated_gpu import calls, capability, driver, gpu, name, visible

from cuda.bindings import runtime


class CUresult(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NOT_INITIALIZED = 3
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_DEVICE = 101
    CUDA_ERROR_INVALID_HANDLE = 400
    CUDA_ERROR_UNKNOWN = 999


CUdevice = CUcontext = CUstream = CUdeviceptr = cuuint32_t = cuuint64_t = int
OK = CUresult.CUDA_SUCCESS
_state = {"on": False}


def _of(error):
    """The driver's code for one of the runtime's: they agree where both have one."""
    try:
        return CUresult(int(error))
    except ValueError:
        return CUresult.CUDA_ERROR_UNKNOWN


def _enter(call, empty=0):
    code = calls.enter(call)
    if code is None and not _state["on"]:
        code = 3
    return None if code is None else (_of(code), *([None] * empty))


def cuInit(flags):
    code = calls.enter("cuInit")
    if code is None and not driver():  # cuda-python looks for libcuda when the first driver call is made
        raise RuntimeError('Failure finding "libcuda.so": no NVIDIA driver')
    if code is None and not visible():
        code = 100
    _state["on"] = code is None
    return (_of(code or 0),)


def cuGetErrorName(error):
    return OK, CUresult(error).name.encode()


def cuGetErrorString(error):
    return OK, CUresult(error).name.encode()


def cuDriverGetVersion():
    return _enter("cuDriverGetVersion", 1) or (OK, 12060)


def cuDeviceGetCount():
    return _enter("cuDeviceGetCount", 1) or (OK, len(visible()))


def cuDeviceGet(index):
    failed = _enter("cuDeviceGet", 1)
    if failed:
        return failed
    return (OK, index) if 0 <= index < len(visible()) else (CUresult.CUDA_ERROR_INVALID_DEVICE, None)


def cuDeviceGetName(length, device):
    return _enter("cuDeviceGetName", 1) or (OK, name().encode()[: length - 1])


def cuDeviceGetAttribute(attribute, device):
    return _enter("cuDeviceGetAttribute", 1) or (OK, capability()[int(attribute) - 75])


def cuCtxCreate(*values):
    """(flags, device) until CUDA 12.9, which this is; (parameters, flags, device) in 13."""
    if len(values) != 2:
        raise TypeError(f"cuCtxCreate() takes exactly 2 positional arguments ({len(values)} given)")
    failed = _enter("cuCtxCreate", 1)
    if failed:
        return failed
    gpu.device = int(values[1])
    return OK, 0x7C0000 + gpu.device


def cuDevicePrimaryCtxRetain(device):
    return _enter("cuDevicePrimaryCtxRetain", 1) or (OK, 0x7C0000 + int(device))


def cuDevicePrimaryCtxRelease(device):
    return _enter("cuDevicePrimaryCtxRelease") or (OK,)


def cuCtxSetCurrent(context):
    return _enter("cuCtxSetCurrent") or (OK,)


def cuCtxPushCurrent(context):
    return _enter("cuCtxPushCurrent") or (OK,)


def cuCtxPopCurrent():
    return _enter("cuCtxPopCurrent", 1) or (OK, 0x7C0000 + gpu.device)


def cuCtxDestroy(context):
    return _enter("cuCtxDestroy") or (OK,)


def cuCtxSynchronize():
    failed = _enter("cuCtxSynchronize")
    if failed:
        return failed
    return (_of(runtime.cudaDeviceSynchronize()[0]),)


def cuMemAlloc(nbytes):
    failed = _enter("cuMemAlloc", 1)
    if failed:
        return failed
    error, address = gpu.malloc(nbytes)
    return _of(error), address


def cuMemFree(address):
    return _enter("cuMemFree") or (_of(gpu.free(int(address), host=False)),)


def cuMemAllocHost(nbytes):
    failed = _enter("cuMemAllocHost", 1)
    if failed:
        return failed
    error, address = gpu.malloc_host(nbytes)
    return _of(error), address


def cuMemFreeHost(address):
    return _enter("cuMemFreeHost") or (_of(gpu.free(int(address), host=True)),)


def cuMemcpyHtoD(target, source, nbytes):
    return _enter("cuMemcpyHtoD") or (_of(runtime.cudaMemcpy(target, source, nbytes, 1)[0]),)


def cuMemcpyDtoH(target, source, nbytes):
    return _enter("cuMemcpyDtoH") or (_of(runtime.cudaMemcpy(target, source, nbytes, 2)[0]),)


def cuMemcpyHtoDAsync(target, source, nbytes, stream):
    return _enter("cuMemcpyHtoDAsync") or (_of(runtime.cudaMemcpyAsync(target, source, nbytes, 1, stream)[0]),)


def cuMemcpyDtoHAsync(target, source, nbytes, stream):
    return _enter("cuMemcpyDtoHAsync") or (_of(runtime.cudaMemcpyAsync(target, source, nbytes, 2, stream)[0]),)


def cuStreamCreate(flags):
    failed = _enter("cuStreamCreate", 1)
    if failed:
        return failed
    error, stream = runtime.cudaStreamCreate()
    return _of(error), stream


def cuStreamSynchronize(stream):
    return _enter("cuStreamSynchronize") or (_of(runtime.cudaStreamSynchronize(stream)[0]),)


def cuStreamDestroy(stream):
    return _enter("cuStreamDestroy") or (_of(runtime.cudaStreamDestroy(stream)[0]),)


cuMemcpyHtoD_v2, cuMemcpyDtoH_v2, cuMemAlloc_v2, cuMemFree_v2 = cuMemcpyHtoD, cuMemcpyDtoH, cuMemAlloc, cuMemFree
