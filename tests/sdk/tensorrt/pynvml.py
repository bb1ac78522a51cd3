"""Simulated NVML: one state, told through the functions of nvidia-ml-py.

The bindings are those of nvidia-ml-py 13; what the driver lacks raises FunctionNotFound, as they do (pynvml.py of that
package: _nvmlGetFunctionPointer). Switch `nvidia_driver` gives the driver's version: process lists of the third form
came with 510, clock event reasons with 535 (NVML's change log); `nvml` "partial" refuses what MIG, vGPU and WSL refuse.
"""

from __future__ import annotations

import time

from simulated_gpu import calls, capability, devices, driver, driver_version, holders, name, process_name, simulate

NVML_CLOCK_GRAPHICS, NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_CLOCK_VIDEO = range(4)
NVML_TEMPERATURE_GPU = 0
NVML_ERROR_NOT_SUPPORTED = 3
NVML_ERROR_NO_PERMISSION = 4
NVML_ERROR_NOT_FOUND = 6
NVML_ERROR_LIBRARY_NOT_FOUND = 12
NVML_ERROR_FUNCTION_NOT_FOUND = 13

WORDS = {
    2: "Invalid Argument",
    3: "Not Supported",
    4: "Insufficient Permissions",
    6: "Not Found",
    12: "NVML Shared Library Not Found",
    13: "Function Not Found",
    15: "GPU is lost",
}


_CLASSES = {}


class NVMLError(Exception):
    def __new__(cls, value):
        made = Exception.__new__(_CLASSES.get(value, cls) if cls is NVMLError else cls)
        made.value = value
        return made

    def __str__(self):
        return WORDS.get(self.value, f"NVML Error with code {self.value}")


def _kind(title, value):
    made = type("NVMLError_" + title, (NVMLError,), {"__new__": lambda cls, code=value: NVMLError.__new__(cls, code)})
    _CLASSES[value] = made
    return made


NVMLError_NotSupported = _kind("NotSupported", NVML_ERROR_NOT_SUPPORTED)
NVMLError_NoPermission = _kind("NoPermission", NVML_ERROR_NO_PERMISSION)
NVMLError_NotFound = _kind("NotFound", NVML_ERROR_NOT_FOUND)
NVMLError_LibraryNotFound = _kind("LibraryNotFound", NVML_ERROR_LIBRARY_NOT_FOUND)
NVMLError_FunctionNotFound = _kind("FunctionNotFound", NVML_ERROR_FUNCTION_NOT_FOUND)


def _enter(call, since=0):
    code = calls.enter(call)
    if code is not None:
        raise NVMLError(code)
    if int(driver_version().split(".")[0]) < since:
        raise NVMLError(NVML_ERROR_FUNCTION_NOT_FOUND)


def _partial():
    if simulate.switches().get("nvml") == "partial":
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)


class _Row:
    def __init__(self, **values):
        self.__dict__.update(values)


def nvmlInit():
    _enter("nvmlInit")
    if not driver() or simulate.switches().get("nvml") == "absent":
        raise NVMLError(NVML_ERROR_LIBRARY_NOT_FOUND)


def nvmlShutdown():
    pass


def nvmlSystemGetDriverVersion():
    return driver_version()


def nvmlDeviceGetCount():
    _enter("nvmlDeviceGetCount")
    return devices()


def nvmlDeviceGetHandleByIndex(index):
    _enter("nvmlDeviceGetHandleByIndex")
    if not 0 <= index < devices():
        raise NVMLError(2)
    return index


def nvmlDeviceGetPciInfo(handle):
    return _Row(busId=f"00000000:{0x65 + handle:02X}:00.0")


def nvmlDeviceGetName(handle):
    return name().encode() if simulate.switches().get("nvml") == "bytes" else name()


def nvmlDeviceGetUUID(handle):
    return f"GPU-00000000-0000-0000-0000-{handle:012d}"


def nvmlDeviceGetUtilizationRates(handle):
    _enter("nvmlDeviceGetUtilizationRates")
    _partial()
    return _Row(gpu=int(100 * float(simulate.switches().get("busy", 0))), memory=0)


def nvmlDeviceGetComputeRunningProcesses(handle):
    _enter("nvmlDeviceGetComputeRunningProcesses", since=510)
    return _running(handle)


def nvmlDeviceGetComputeRunningProcesses_v2(handle):
    _enter("nvmlDeviceGetComputeRunningProcesses_v2")
    return _running(handle)


def _running(handle):
    _partial()
    unknown = 0xFFFFFFFF  # of a GPU without MIG
    return [
        _Row(pid=pid, usedGpuMemory=1 << 20, gpuInstanceId=unknown, computeInstanceId=unknown)
        for pid in holders(handle)
    ]


def nvmlDeviceGetMemoryInfo(handle):
    """Switch `hidden_mb`: memory of processes that it does not list, as those of other containers."""
    _enter("nvmlDeviceGetMemoryInfo")
    _partial()
    used = int(simulate.switches().get("hidden_mb", 0)) + len(holders(handle))
    return _Row(total=15360 << 20, used=used << 20, free=(15360 - used) << 20)


def nvmlSystemGetProcessName(pid):
    _enter("nvmlSystemGetProcessName")
    known = process_name(pid)
    if known is None:
        raise NVMLError(NVML_ERROR_NOT_FOUND)
    return known


def nvmlDeviceGetClockInfo(handle, kind):
    _enter("nvmlDeviceGetClockInfo")
    if kind == NVML_CLOCK_MEM:
        return 5001
    return 795 if simulate.switches().get("hot") else 1590


def nvmlDeviceGetTemperature(handle, kind):
    _enter("nvmlDeviceGetTemperature")
    return 105 if simulate.switches().get("hot") else 41


def nvmlDeviceGetCurrentClocksEventReasons(handle):
    _enter("nvmlDeviceGetCurrentClocksEventReasons", since=535)
    return _mask()


def nvmlDeviceGetCurrentClocksThrottleReasons(handle):
    _enter("nvmlDeviceGetCurrentClocksThrottleReasons")
    return _mask()


def _mask():
    active = simulate.switches()
    return int(active.get("throttle", 0x48 if active.get("hot") else 0x4))


def nvmlDeviceGetApplicationsClock(handle, kind):
    _enter("nvmlDeviceGetApplicationsClock")
    return 1590


# --- what programs show of a GPU beside that: figures of a T4 --------------------------------------------------------

WATTS = 27

_TOLD = {
    "nvmlDeviceGetPowerUsage": lambda gpu: 1000 * WATTS,
    "nvmlDeviceGetPowerManagementLimit": lambda gpu: 70000,
    "nvmlDeviceGetPowerManagementDefaultLimit": lambda gpu: 70000,
    "nvmlDeviceGetEnforcedPowerLimit": lambda gpu: 70000,
    "nvmlDeviceGetPowerManagementLimitConstraints": lambda gpu: [60000, 70000],
    "nvmlDeviceGetTotalEnergyConsumption": lambda gpu: int(1000 * WATTS * time.monotonic()),
    "nvmlDeviceGetMaxClockInfo": lambda gpu, kind: 5001 if kind == NVML_CLOCK_MEM else 1590,
    "nvmlDeviceGetSupportedMemoryClocks": lambda gpu: [5001, 405],
    "nvmlDeviceGetSupportedGraphicsClocks": lambda gpu, memory: [1590, 585, 300],
    "nvmlDeviceGetPerformanceState": lambda gpu: 0,
    "nvmlDeviceGetCudaComputeCapability": lambda gpu: capability(),
    "nvmlDeviceGetGraphicsRunningProcesses": lambda gpu: [],
    "nvmlDeviceGetEncoderUtilization": lambda gpu: [0, 167000],
    "nvmlDeviceGetDecoderUtilization": lambda gpu: [0, 167000],
    "nvmlDeviceGetComputeMode": lambda gpu: 0,
    "nvmlDeviceGetPersistenceMode": lambda gpu: 1,
    "nvmlDeviceGetIndex": lambda gpu: gpu,
    "nvmlSystemGetNVMLVersion": lambda: f"12.{driver_version()}",
    "nvmlSystemGetCudaDriverVersion": lambda: 12040,
}
_REFUSED = {
    "nvmlDeviceGetFanSpeed": NVML_ERROR_NOT_SUPPORTED,  # a T4 has no fan
    "nvmlDeviceGetDisplayMode": NVML_ERROR_NOT_SUPPORTED,
    "nvmlDeviceGetMigMode": NVML_ERROR_NOT_SUPPORTED,
    "nvmlDeviceSetPowerManagementLimit": NVML_ERROR_NO_PERMISSION,
    "nvmlDeviceSetApplicationsClocks": NVML_ERROR_NO_PERMISSION,
    "nvmlDeviceResetApplicationsClocks": NVML_ERROR_NO_PERMISSION,
    "nvmlDeviceSetGpuLockedClocks": NVML_ERROR_NO_PERMISSION,
    "nvmlDeviceResetGpuLockedClocks": NVML_ERROR_NO_PERMISSION,
}


def _made(call, answer):
    def function(*given):
        _enter(call)
        return answer(*given)

    function.__name__ = call
    return function


def _refusing(code):
    def answer(*given):
        raise NVMLError(code)

    return answer


globals().update({call: _made(call, answer) for call, answer in _TOLD.items()})
globals().update({call: _made(call, _refusing(code)) for call, code in _REFUSED.items()})
_REASONS = (
    "GpuIdle", "ApplicationsClocksSetting", "SwPowerCap", "HwSlowdown", "SyncBoost", "SwThermalSlowdown",
    "HwThermalSlowdown", "HwPowerBrakeSlowdown", "DisplayClockSetting",
)  # fmt: skip
for _bit, _reason in enumerate(_REASONS):
    globals()[f"nvmlClocksThrottleReason{_reason}"] = globals()[f"nvmlClocksEventReason{_reason}"] = 1 << _bit
