"""The simulated GPU under tensorrt, cuda and pynvml: memory by address, streams that do their work when waited for.

Device addresses are numbers that no host code can read through. Copies and executes are queued; what was queued is
done at the next synchronisation, so that results read earlier are rubbish. Executes take the device's time and are
computed only when somebody copies what they wrote.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import itertools
import os
import sys
import time
from enum import IntEnum
from pathlib import Path

import numpy as np
import simulated_libraries

if "compiled" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("compiled", str(Path(__file__).resolve().parents[1] / "compiled.py"))
    sys.modules["compiled"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["compiled"])
compiled = sys.modules["compiled"]
simulate = compiled.simulate

calls = simulate.Calls()
simulated_libraries.serve()

CAPABILITIES = {
    "Tesla T4": (7, 5),
    "NVIDIA T4G": (7, 5),
    "NVIDIA T400": (7, 5),
    "NVIDIA A10": (8, 6),
    "NVIDIA H200": (9, 0),
}


def name():
    return str(simulate.switches().get("soc", "Tesla T4"))


def capability():
    return CAPABILITIES.get(name(), (8, 0))


def devices():
    return int(simulate.switches().get("devices", 1))


def visible():
    """NVML's numbers of the GPUs that CUDA offers, in CUDA's order: the fastest first (simulated: from the last to the
    first) or by address, and CUDA_VISIBLE_DEVICES cut at the first name of no GPU (CUDA Programming Guide)."""
    order = list(range(devices()))
    if os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        order.reverse()
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is None:
        return order
    found = []
    for word in (part.strip() for part in told.split(",")):
        if word.isdigit() and int(word) < len(order):
            found.append(order[int(word)])
            continue
        uuids = [n for n in order if word[:4] == "GPU-" and f"GPU-00000000-0000-0000-0000-{n:012d}".startswith(word)]
        if not uuids:
            break
        found.append(uuids[0])
    return found


def driver():
    return simulate.switches().get("driver", True)


OUTSIDE = 5000000  # more than any process number: what a driver that does not translate them shows in a container


def holders(number):
    """Numbers of the processes that hold a GPU, as NVML lists them (switches `busy`, `machine`, `pids`)."""
    active = simulate.switches()
    shift = OUTSIDE if active.get("pids") == "host" else 0
    return ([424242] if active.get("busy") else []) + [shift + pid for pid in simulate.occupants(number)]


def process_name(pid):
    """None for one that this container does not know."""
    if pid >= OUTSIDE:
        return None
    return simulate.switches().get("process", "python train.py")


def driver_version():
    return str(simulate.switches().get("nvidia_driver", "550.54.15"))


def trt_version():
    return str(simulate.switches().get("trt_version", "10.3.0"))


def violation(what):
    """What fails or gives rubbish on the GPU."""
    simulate.note("violation", what=what)


def house(what):
    """What CUDA and TensorRT accept and this project's backend must not do."""
    simulate.note("house", what=what)


class Error(IntEnum):
    """cudaError_t"""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInitializationError = 3
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorInvalidDevice = 101
    cudaErrorInvalidResourceHandle = 400
    cudaErrorNotReady = 600
    cudaErrorIllegalAddress = 700
    cudaErrorLaunchFailure = 719
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorIllegalState = 401
    cudaErrorUnknown = 999


class Allocation:
    def __init__(self, address, nbytes, host=None):
        self.address = address
        self.nbytes = nbytes
        self.host = host  # the ctypes buffer of pinned memory
        self.data = None if host is not None else np.full(nbytes, 0x5A, np.uint8)


class Event:
    at = None  # when the device passes it; None before it was recorded
    seen = False  # the host has waited past it


class Gpu:
    def __init__(self):
        self.device = 0
        self.memory = {}
        self.streams = {0: Stream()}  # the default stream is always there
        self.events = {}
        self.clock = simulate.Clock()
        self._next = 0x7F0000000000
        self._handles = 0x5000

    def held(self):
        return len(self.memory), len(self.streams) - 1, len(self.events)

    def malloc(self, nbytes):
        limit = simulate.switches().get("memory_mb")
        used = sum(item.nbytes for item in self.memory.values() if item.host is None)
        if limit is not None and used + nbytes > float(limit) * 2**20:
            return Error.cudaErrorMemoryAllocation, None
        if not any(item.host is None for item in self.memory.values()):
            simulate.occupy(visible()[self.device])  # until the process ends, as a CUDA context
        address = self._next
        self._next += (nbytes + 511) // 256 * 256
        self.memory[address] = Allocation(address, nbytes)
        return Error.cudaSuccess, address

    def free_and_total(self):
        """Bytes of device memory: the switch `memory_mb`, else those of a T4."""
        total = int(float(simulate.switches().get("memory_mb", 15360)) * 2**20)
        return max(0, total - sum(item.nbytes for item in self.memory.values() if item.host is None)), total

    def malloc_host(self, nbytes):
        buffer = ctypes.create_string_buffer(b"\x5a" * nbytes, nbytes)
        address = ctypes.addressof(buffer)
        self.memory[address] = Allocation(address, nbytes, buffer)
        return Error.cudaSuccess, address

    def free(self, address, host):
        """Address 0 is no error, and nothing is freed (CUDA runtime API, cudaFree; Polygraphy does it)."""
        if int(address) == 0:
            return Error.cudaSuccess
        item = self.memory.get(int(address))
        if item is None or (item.host is not None) != host:
            violation("{} freed twice, or never allocated".format("host memory" if host else "device memory"))
            return Error.cudaErrorInvalidValue
        for stream in self.streams.values():
            if any(int(address) in op.addresses for op in stream.ops if not op.settled):
                violation("memory freed while the stream still uses it")
        if any(int(address) in op.addresses for stream in self.streams.values() for op in stream.ops if op.settled):
            self.compute()
        for stream in self.streams.values():
            stream.ops = [op for op in stream.ops if int(address) not in op.addresses]
        if host:
            ctypes.memset(item.host, 0xDD, item.nbytes)
        del self.memory[int(address)]
        return Error.cudaSuccess

    def end_stream(self, handle):
        """False where there is none. Its work goes on to its end."""
        stream = self.streams.pop(handle, None)
        if stream is not None:
            stream.synchronise()
            self.streams[0].ops += stream.ops
        return stream is not None

    def compute(self):
        """What was put off, of every stream, in the order in which it was queued."""
        late = [op for stream in self.streams.values() for op in stream.ops if op.settled]
        for stream in self.streams.values():
            stream.ops = [op for op in stream.ops if not op.settled]
        for op in sorted(late, key=lambda op: op.number):
            op.run()

    def find(self, address, nbytes, what):
        """The allocation that holds [address, address + nbytes), and the offset; None after noting a violation."""
        for item in self.memory.values():
            if item.address <= address < item.address + item.nbytes:
                if address + nbytes > item.address + item.nbytes:
                    violation(f"{what} of {nbytes} bytes runs past an allocation of {item.nbytes}")
                    return None
                return item, address - item.address
        return None

    def create(self, table, value):
        self._handles += 1
        table[self._handles] = value
        return self._handles


class Op:
    settled = False  # its time has passed; only the computing is put off


class Copy(Op):
    def __init__(self, run, addresses):
        self.run = run
        self.addresses = addresses

    def again(self):
        return Copy(self.run, self.addresses)


class Execute(Op):
    NUMBERS = itertools.count()

    def __init__(self, key, run, addresses):
        self.number = next(self.NUMBERS)
        self.key = key
        self.run = run
        self.addresses = addresses

    def again(self):
        return Execute(self.key, self.run, self.addresses)


class Stream:
    def __init__(self):
        self.ops = []
        self.until = 0.0
        self.captured = None  # [(op, images of an execute)] while a graph is captured

    def put(self, op, images=None):
        """Queue it, and the device's time of an execute; or keep it for the graph that is being captured."""
        if self.captured is not None:
            self.captured.append((op, images))
            return
        if images is not None:
            self.until = gpu.clock.submit(images)
        self.ops.append(op)

    def synchronise(self):
        gpu.clock.wait(self.until)
        for event in gpu.events.values():
            if event.at is not None and event.at <= time.perf_counter():
                event.seen = True
        self.ops = self._needed()
        if any(isinstance(op, Copy) for op in self.ops):
            gpu.compute()
            for op in self.ops:
                op.run()
            self.ops = []
        for op in self.ops:
            op.settled = True

    def _needed(self):
        """The queue without executes whose outputs are overwritten before anything is copied."""
        needed, later = [], set()
        for op in reversed(self.ops):
            if isinstance(op, Copy):
                later = set()
            elif op.key in later:
                continue
            else:
                later.add(op.key)
            needed.append(op)
        return needed[::-1]


gpu = Gpu()


@atexit.register
def _at_exit():
    memory, streams, events = gpu.held()
    for count, what in ((memory, "allocations"), (streams, "streams"), (events, "events")):
        if count:
            house(f"{count} {what} alive at exit")  # CUDA takes them back with the process
