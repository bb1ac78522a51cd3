"""The simulated chip behind pyACL: what exists, who may touch it, and what was done wrong.

Every handle is an int from a range of its own, so that one taken for another is noticed. Device addresses are not
addresses of this process. A call that the real runtime would refuse returns the vendor's code; a call that the real
runtime would not survive, or would answer with garbage, is written to the ledger as a violation as well.
"""

from __future__ import annotations

import atexit
import copy
import ctypes
import functools
import itertools
import sys
import threading

import numpy as np
from simulated_cann import simulate

SUCCESS = 0
INVALID_PARAM, UNINITIALIZE, REPEAT_INITIALIZE, REPEAT_FINALIZE = 100000, 100001, 100002, 100037
NOT_DYNAMIC = 100019
NOT_SUBSCRIBED, REPORT_TIMEOUT = 100034, 507012
RT_PARAM, RT_DEVICE, RT_CONTEXT, RT_STREAM, RT_HANDLE = 107000, 107001, 107002, 107003, 107017
RT_MEMORY, RT_RELEASE, RT_SOC = 207001, 507007, 507008
GE_PARAM, GE_PATH, GE_MODEL, GE_SIZE, GE_BATCH, GE_LOAD = 145000, 145002, 145003, 145006, 145013, 545001

HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE = 1, 2, 3

calls = simulate.Calls()
local = threading.local()


class Block:
    """Device memory. `written` bytes from the front hold something; `holds` names the result that they are."""

    def __init__(self, address, size, device):
        self.address, self.size, self.device = address, size, device
        self.data = np.empty(size, np.uint8)
        self.written, self.version, self.holds, self.pending = 0, 0, None, 0


class Host:
    """Host memory that the caller may name by its address; `owner` keeps it alive, `borrowed` when he must."""

    def __init__(self, address, size, owner, borrowed):
        self.address, self.size, self.owner, self.borrowed = address, size, owner, borrowed


class Stream:
    def __init__(self, context):
        self.context, self.queue = context, []
        self.until = 0.0  # when the device is done with what was taken from the queue (time.perf_counter)
        self.lock = threading.RLock()  # held by whoever lets the stream work
        self.reports = None  # where its callbacks go: (thread, queue), once that is subscribed


class Model:
    def __init__(self, header, network, context, nbytes):
        self.header, self.network, self.context, self.nbytes = header, network, context, nbytes
        self.shapes = []  # of the outputs of the last execute
        self.tier, self.gear, self.key, self.result, self.stream = None, None, None, None, None


class Event:
    """A mark on a stream; `at` is when the stream came to it, None before."""

    def __init__(self):
        self.stream, self.at = None, None


class Dataset:
    def __init__(self):
        self.buffers, self.tier, self.gear, self.descs = [], None, None, {}


class State:
    """All that exists. `reset` forgets everything, as a new process would."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.initialized = self.finalized = False
        self.uses = {}  # device -> how often it was set
        self.clocks = {}
        self.contexts, self.streams, self.models, self.descs = {}, {}, {}, {}
        self.datasets, self.buffers, self.blocks, self.hosts = {}, {}, {}, {}
        self.tensor_descs, self.threads, self.events, self.configs, self.profiles = {}, {}, {}, {}, {}
        self.bundles = {}  # the models of each
        self.default_streams = {}  # by context: the stream that is named 0
        self.dead = set()
        self.stale = set()  # of these, addresses of a caller's own objects: the memory is there, and another's by now
        self.violations = []
        self.numbers = {
            kind: itertools.count(base, step)
            for kind, base, step in (
                ("context", 0x1C0000000000, 0x100),
                ("stream", 0x1D0000000000, 0x100),
                ("model", 1, 1),
                ("desc", 0x1E0000000000, 0x40),
                ("dataset", 0x1F0000000000, 0x40),
                ("buffer", 0x200000000000, 0x20),
                ("tensor", 0x210000000000, 0x20),
                ("event", 0x220000000000, 0x20),
                ("config", 0x230000000000, 0x20),
                ("profile", 0x240000000000, 0x20),
            )
        }
        self.next_address = 0x120040000000
        local.__dict__.clear()
        calls.reset()

    def handles(self):
        """How many of each thing exist now; what a caller who gave everything back leaves is {}."""
        counts = {
            "device": len(self.uses),
            "context": sum(not c["default"] and not c.get("dead") for c in self.contexts.values()),
            "stream": len(self.streams),
            "model": len(self.models),
            "bundle": len(self.bundles),
            "desc": len(self.descs),
            "dataset": len(self.datasets),
            "data buffer": len(self.buffers),
            "tensor description": sum(made["owner"] is None for made in self.tensor_descs.values()),
            "thread": len(self.threads),
            "event": len(self.events),
            "configuration": len(self.configs) + len(self.profiles),
            "device memory": len(self.blocks),
            "host memory": sum(not host.borrowed for host in self.hosts.values()),
        }
        return {name: count for name, count in counts.items() if count}


state = State()


def message(text):
    local.__dict__.setdefault("messages", []).insert(0, text)


def wrong(code, text):
    """The caller broke the contract: into the ledger, and the vendor's code back."""
    state.violations.append(text)
    simulate.note("violation", what=text, code=code)
    message("EH0001: " + text)
    return code


def fails(code, text):
    """The environment failed; nobody broke a contract."""
    message(text)
    return code


class RefusedError(Exception):
    """Carries the code with which a call answers."""

    def __init__(self, code):
        Exception.__init__(self, code)
        self.code = code


def refuse(code, text):
    raise RefusedError(wrong(code, text))


def vendor(name, *blank):
    """A pyACL function: counted and injectable. On failure it answers `blank` and then the code; a function
    without a status (its blank ends with an Ellipsis) answers the blank alone."""

    def around(function):
        alone = not function.__code__.co_argcount  # what takes nothing does not look at what it is given

        @functools.wraps(function)
        def called(*args):
            code = calls.enter(name)
            if code is None:
                try:
                    return function() if alone else function(*args)
                except RefusedError as error:
                    code = error.code
            else:
                message(f"EZ9999: {name} was made to fail")
            if blank and blank[-1] is Ellipsis:
                return blank[0]
            return (*map(copy.copy, blank), code) if blank else code

        return called

    return around


# --- what a call may assume ----------------------------------------------------------------------------------------


def started():
    if not state.initialized:
        refuse(UNINITIALIZE, "acl.init has not been called")


def integer(value, what):
    """An address, a handle, a size, an index: pyACL parses them as unsigned long, which is Python's int alone. A NumPy
    integer is a TypeError there, the one kind of mistake for which it raises."""
    if not isinstance(value, int):
        wrong(INVALID_PARAM, f"{what} is {value!r}, not an int")
        raise TypeError(f"{what} must be int, not {type(value).__name__}")
    return int(value)


def small(value, what):
    """A device, a model, a kind, a policy: pyACL parses them as int, which NumPy's integers are good for as well."""
    return integer(int(value) if isinstance(value, np.integer) else value, what)


def text(value, what):
    if not isinstance(value, str):
        refuse(INVALID_PARAM, f"{what} is {value!r}, not a str")
    return value


def thing(table, handle, what, code=INVALID_PARAM):
    handle = small(handle, what) if table is state.models or table is state.bundles else integer(handle, what)
    if handle not in table:
        state_word = "was given back already" if handle in state.dead else "is none"
        refuse(code, f"{handle:#x} as {what}: it {state_word}")
    return table[handle]


def current():
    """The context bound to the calling thread."""
    started()
    handle = getattr(local, "context", None)
    if handle is None or handle not in state.contexts or state.contexts[handle].get("dead"):
        refuse(RT_CONTEXT, "no context is bound to this thread")
    return handle


def tensor_desc(dtype, dims, layout, owner=None):
    """A new tensor description; `owner` is the data set that it goes with, None where the caller must destroy it."""
    handle = next(state.numbers["tensor"])
    state.tensor_descs[handle] = {"dtype": dtype, "dims": list(dims), "format": layout, "owner": owner}
    return handle


def device_of(context):
    return state.contexts[context]["device"]


def drop(table, handle):
    state.dead.add(handle)
    return table.pop(handle)


def block_at(address, size, what):
    """The device block that holds `size` bytes from `address`."""
    block = state.blocks.get(address)
    if block is None:
        block = next((b for b in state.blocks.values() if b.address < address < b.address + b.size), None)
    if block is None:
        return None
    if address + size > block.address + block.size:
        refuse(
            RT_PARAM,
            f"{what}: {size} bytes at {address:#x}, of which only {block.address + block.size - address} exist",
        )
    return block


def sweep_borrowed():
    """Forget host memory whose owner nobody but us holds any more."""
    gone = [a for a, host in state.hosts.items() if host.borrowed and sys.getrefcount(host.owner) <= 2]
    for address in gone:
        state.stale.add(address)
        drop(state.hosts, address)


def host_at(address, size, what, beyond=False):
    """The host memory that holds `size` bytes from `address`. `beyond`: of a caller's own object more may be asked than
    it has; the runtime cannot know, and reads what lies behind it."""
    sweep_borrowed()
    host = state.hosts.get(address)
    if host is None:
        host = next((h for h in state.hosts.values() if h.address < address < h.address + h.size), None)
    if host is None:
        return None
    own = host.address + host.size - address
    if size > own and host.borrowed and beyond:
        wrong(0, f"{what}: {size} bytes at host {address:#x}, of which only {own} are the caller's")
    elif size > own:
        refuse(RT_PARAM, f"{what}: {size} bytes at host {address:#x}, of which only {own} exist")
    return host


def place(address, size, what, beyond=False):
    """("device" | "host", its block) of an address; anything else would have crashed the process."""
    block = block_at(address, size, what)
    if block is not None:
        return "device", block
    host = host_at(address, size, what, beyond)
    if host is None and (address not in state.dead or address in state.stale) and mapped(address, size):
        if address in state.stale:
            wrong(0, f"{what}: {address:#x} was given back already")
        simulate.note("house", what=f"{what}: host memory by an address that acl.util did not give")
        host = Host(address, size, None, borrowed=True)
    if host is None:
        word = "was given back already" if address in state.dead else "belongs to nobody"
        refuse(RT_PARAM, f"{what}: {address:#x} {word}")
    return "host", host


def mapped(address, size):
    """Whether these bytes are memory of this process: the runtime takes any address that a program found by itself, as
    by `array.ctypes.data`."""
    end = address
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:  # noqa: PTH123
        for line in maps:
            span, rights = line.split()[:2]
            low, high = (int(word, 16) for word in span.split("-"))
            if rights.startswith("r") and low <= end < high:
                end = high  # neighbours are told in order
                if end >= address + size:
                    return True
    return False


def host_view(address, size):
    return np.frombuffer((ctypes.c_ubyte * size).from_address(address), np.uint8)


def borrow(address, size, owner):
    state.dead.discard(address)
    state.stale.discard(address)
    state.hosts[address] = Host(address, size, owner, borrowed=True)
    return address


@atexit.register
def at_exit():
    """Ran before this: whatever the caller registered after importing acl."""
    if state.initialized and not state.finalized:
        simulate.note("leak", what="the process ends and acl.finalize was not called")
    for kind, count in state.handles().items():
        simulate.note("leak", what=f"the process ends with {count} of {kind}")
