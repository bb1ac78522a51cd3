"""Simulated NVML: one state, told through the functions of nvidia-ml-py."""

from __future__ import annotations

from simulated_gpu import calls, devices, driver, name, simulate

NVML_CLOCK_SM = 1
NVML_TEMPERATURE_GPU = 0


class NVMLError(Exception):
    pass


class NVMLError_LibraryNotFound(NVMLError):
    def __str__(self):
        return "NVML Shared Library Not Found"


class NVMLError_NotFound(NVMLError):
    pass


def _enter(call):
    code = calls.enter(call)
    if code is not None:
        raise NVMLError(f"{call}: {code}")


class _Row:
    def __init__(self, **values):
        self.__dict__.update(values)


def nvmlInit():
    _enter("nvmlInit")
    if not driver() or simulate.switches().get("nvml") == "absent":
        raise NVMLError_LibraryNotFound


def nvmlShutdown():
    pass


def nvmlSystemGetDriverVersion():
    return "550.54.15"


def nvmlDeviceGetCount():
    _enter("nvmlDeviceGetCount")
    return devices()


def nvmlDeviceGetHandleByIndex(index):
    _enter("nvmlDeviceGetHandleByIndex")
    if not 0 <= index < devices():
        raise NVMLError("Invalid Argument")
    return index


def nvmlDeviceGetPciInfo(handle):
    return _Row(busId=f"00000000:{0x65 + handle:02X}:00.0")


def nvmlDeviceGetName(handle):
    return name().encode() if simulate.switches().get("nvml") == "bytes" else name()


def nvmlDeviceGetUUID(handle):
    return f"GPU-00000000-0000-0000-0000-{handle:012d}"


def nvmlDeviceGetUtilizationRates(handle):
    return _Row(gpu=int(100 * float(simulate.switches().get("busy", 0))), memory=0)


def nvmlDeviceGetComputeRunningProcesses(handle):
    return [_Row(pid=424242, usedGpuMemory=1 << 20)] if simulate.switches().get("busy") else []


def nvmlSystemGetProcessName(pid):
    return "python train.py"


def nvmlDeviceGetClockInfo(handle, kind):
    return 795 if simulate.switches().get("hot") else 1590


def nvmlDeviceGetTemperature(handle, kind):
    return 105 if simulate.switches().get("hot") else 41


def nvmlDeviceGetCurrentClocksThrottleReasons(handle):
    active = simulate.switches()
    return int(active.get("throttle", 0x48 if active.get("hot") else 0x4))


def nvmlDeviceGetApplicationsClock(handle, kind):
    _enter("nvmlDeviceGetApplicationsClock")
    return 1590
