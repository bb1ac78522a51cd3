"""acl.rt: devices, contexts, streams and memory."""

from __future__ import annotations

import ctypes
import queue
import threading
import time

import numpy as np
import simulated_cann as cann
from simulated_cann import simulate

from acl import chip
from acl.chip import Event, Host, Stream, integer, small, state, thing, vendor


@vendor("acl.rt.get_device_count", 0)
def get_device_count():
    chip.started()
    return cann.device_count(), 0


@vendor("acl.rt.set_device")
def set_device(device):
    chip.started()
    device = small(device, "the device")
    if not 0 <= device < cann.device_count():
        return chip.fails(chip.RT_DEVICE, f"EE1001: device {device} is not in [0, {cann.device_count()})")
    state.uses[device] = state.uses.get(device, 0) + 1
    simulate.occupy(_taken(device))
    default = next((h for h, c in state.contexts.items() if c["default"] and c["device"] == device), None)
    if default is None:
        default = next(state.numbers["context"])
        state.contexts[default] = {"device": device, "default": True}
        state.clocks[device] = simulate.Clock()
    chip.local.context = default
    return 0


def _taken(device):
    """The device that does the work of `device`: the switch `takes`, or itself."""
    return int(simulate.switches().get("takes", device))


@vendor("acl.rt.reset_device")
def reset_device(device):
    chip.started()
    device = small(device, "the device")
    if device not in state.uses:
        return chip.wrong(chip.RT_RELEASE, "acl.rt.reset_device of a device that was not set")
    state.uses[device] -= 1
    if state.uses[device]:
        return 0
    del state.uses[device]
    simulate.occupy(_taken(device), held=False)
    for handle, context in list(state.contexts.items()):
        if context["device"] != device or context.get("dead"):
            continue
        if not context["default"]:
            simulate.note("leak", what="acl.rt.reset_device with a context left")
        for stream, made in list(state.streams.items()):
            if made.context == handle:
                simulate.note("leak", what="acl.rt.reset_device with a stream left")
                chip.drop(state.streams, stream)
        for model, loaded in list(state.models.items()):
            if loaded.context == handle:
                simulate.note("leak", what="acl.rt.reset_device with a model left")
                chip.drop(state.models, model)
        if context["default"]:
            chip.drop(state.contexts, handle)
        else:
            context["dead"] = True  # of no use, but it may still be destroyed, as vendors' programs do
    for address, block in list(state.blocks.items()):
        if block.device == device:
            simulate.note("leak", what=f"acl.rt.reset_device with {block.size} bytes of device memory left")
            chip.drop(state.blocks, address)
    return 0


@vendor("acl.rt.create_context", 0)
def create_context(device):
    chip.started()
    device = small(device, "the device")
    if device not in state.uses:
        chip.refuse(chip.RT_DEVICE, "acl.rt.create_context on a device that was not set")
    handle = next(state.numbers["context"])
    state.contexts[handle] = {"device": device, "default": False}
    chip.local.context = handle
    return handle, 0


@vendor("acl.rt.set_context")
def set_context(context):
    chip.started()
    thing(state.contexts, context, "a context", chip.RT_CONTEXT)
    chip.local.context = context
    return 0


@vendor("acl.rt.get_context", 0)
def get_context():
    chip.started()
    handle = getattr(chip.local, "context", None)
    if handle not in state.contexts:
        chip.refuse(chip.RT_CONTEXT, "no context is bound to this thread")
    return handle, 0


@vendor("acl.rt.destroy_context")
def destroy_context(context):
    chip.started()
    if thing(state.contexts, context, "a context", chip.RT_CONTEXT)["default"]:
        chip.refuse(chip.RT_CONTEXT, "acl.rt.destroy_context of the default context")
    for handle, stream in list(state.streams.items()):
        if stream.context == context:
            simulate.note("leak", what="acl.rt.destroy_context with a stream left")
            chip.drop(state.streams, handle)
    for handle, model in list(state.models.items()):
        if model.context == context:
            simulate.note("leak", what="acl.rt.destroy_context with a model left")
            chip.drop(state.models, handle)
    chip.drop(state.contexts, context)
    if getattr(chip.local, "context", None) == context:
        chip.local.context = None
    return 0


@vendor("acl.rt.create_stream", 0)
def create_stream():
    handle = next(state.numbers["stream"])
    state.streams[handle] = Stream(chip.current())
    return handle, 0


@vendor("acl.rt.create_stream_with_config", 0)
def create_stream_with_config(priority, flag):
    """These chips have one priority: 0, the highest."""
    small(flag, "the flag")
    if small(priority, "the priority"):
        return 0, chip.fails(chip.RT_PARAM, f"EE1001: priority {priority} is not in [0, 0]")
    return create_stream()


@vendor("acl.rt.device_get_stream_priority_range", 0, 0)
def device_get_stream_priority_range():
    """(lowest, highest, status)."""
    chip.current()
    return 0, 0, 0


@vendor("acl.rt.set_op_wait_timeout")
def set_op_wait_timeout(seconds):
    """Without effect: what waits for an event here is never late."""
    chip.started()
    small(seconds, "the time")
    return 0


@vendor("acl.rt.stream_query", 0)
def stream_query(handle):
    """(0 when all is done, else 0xFFFF)."""
    stream = _stream(handle)
    return (0xFFFF if stream.queue or time.perf_counter() < stream.until else 0), 0


@vendor("acl.rt.destroy_stream_force")
def destroy_stream_force(handle):
    """What is queued is given up."""
    _stream(handle).queue.clear()
    chip.drop(state.streams, handle)
    return 0


@vendor("acl.rt.destroy_stream")
def destroy_stream(handle):
    stream = _stream(handle)
    if stream.queue:
        chip.refuse(chip.RT_STREAM, f"acl.rt.destroy_stream with {len(stream.queue)} executes under way")
    chip.drop(state.streams, handle)
    return 0


@vendor("acl.rt.synchronize_stream")
def synchronize_stream(handle):
    _work(_stream(handle))
    return 0


@vendor("acl.rt.synchronize_device")
def synchronize_device():
    context = chip.current()
    for stream in [*state.streams.values(), *state.default_streams.values()]:
        if chip.device_of(stream.context) == chip.device_of(context):
            _work(stream)
    return 0


@vendor("acl.rt.get_device", 0)
def get_device():
    """A program may ask before acl.init, to learn whether somebody called it."""
    handle = getattr(chip.local, "context", None)
    if handle not in state.contexts or state.contexts[handle].get("dead"):
        return 0, chip.fails(chip.RT_CONTEXT, "EE1001: no context is bound to this thread")
    return chip.device_of(handle), 0


def _work(stream, last=None):
    """Let the stream do what was queued on it, in order; up to and with the item `last`."""
    with stream.lock:
        while stream.queue:
            item = stream.queue.pop(0)
            item.finish()
            stream.until = max(stream.until, item.until)
            if item is last:
                break
    simulate.Clock.wait(stream.until)


class Queued:
    """A copy, a fill or a call of the host on its way: made when its turn comes."""

    until = 0.0

    def __init__(self, make, blocks=()):
        self._make, self._blocks = make, blocks
        for block in blocks:
            block.pending += 1

    def finish(self):
        for block in self._blocks:
            block.pending -= 1
        self._make()


# --- events ---------------------------------------------------------------------------------------------------------


class Recorded:
    """The mark of an event on a stream: its time is that of what was queued before."""

    def __init__(self, event, stream):
        self._event, self._stream, self.until = event, stream, time.perf_counter()

    def finish(self):
        self._event.at = self.until = max(self.until, self._stream.until)


class Awaited:
    """A wait of one stream for an event of another."""

    until = 0.0

    def __init__(self, event):
        self._event = event

    def finish(self):
        _reach(self._event)
        self.until = self._event.at or 0.0


def _event(handle):
    return thing(state.events, handle, "an event")


def _reach(event):
    """Let the stream of an event come to it; one that was never recorded is not waited for."""
    if event.stream is not None and event.at is None:
        _work(event.stream, event.mark)


@vendor("acl.rt.create_event", 0)
def create_event():
    chip.current()
    handle = next(state.numbers["event"])
    state.events[handle] = Event()
    return handle, 0


@vendor("acl.rt.create_event_with_flag", 0)
def create_event_with_flag(flag):
    small(flag, "the flag")
    return create_event()


@vendor("acl.rt.destroy_event")
def destroy_event(handle):
    _event(handle)
    chip.drop(state.events, handle)
    return 0


@vendor("acl.rt.record_event")
def record_event(handle, stream):
    event, made = _event(handle), _stream(stream)
    event.stream, event.at, event.mark = made, None, Recorded(event, made)
    made.queue.append(event.mark)
    return 0


@vendor("acl.rt.reset_event")
def reset_event(handle, stream):
    event = _event(handle)
    _stream(stream).queue.append(Queued(lambda: setattr(event, "at", None)))
    return 0


@vendor("acl.rt.synchronize_event")
def synchronize_event(handle):
    _reach(_event(handle))
    return 0


@vendor("acl.rt.query_event", 0)
def query_event(handle):
    """(0 when the stream has come to it, else 1)."""
    _reach(_event(handle))
    return int(_event(handle).at is None), 0


@vendor("acl.rt.query_event_status", 0)
def query_event_status(handle):
    """(1 when the stream has come to it, else 0)."""
    _reach(_event(handle))
    return int(_event(handle).at is not None), 0


@vendor("acl.rt.stream_wait_event")
def stream_wait_event(stream, handle):
    _stream(stream).queue.append(Awaited(_event(handle)))
    return 0


@vendor("acl.rt.event_elapsed_time", 0.0)
def event_elapsed_time(start, end):
    """Milliseconds between two events that were both reached."""
    times = [_event(handle).at for handle in (start, end)]
    if None in times:
        return 0.0, chip.wrong(chip.RT_PARAM, "acl.rt.event_elapsed_time of an event that was not reached")
    return (times[1] - times[0]) * 1000, 0


# --- callbacks -----------------------------------------------------------------------------------------------------


@vendor("acl.rt.subscribe_report")
def subscribe_report(thread, handle):
    thing(state.threads, thread, "a thread")
    _stream(handle).reports = (thread, queue.Queue())
    return 0


@vendor("acl.rt.unsubscribe_report")
def unsubscribe_report(thread, handle):
    stream = _stream(handle)
    if stream.reports is None or stream.reports[0] != thread:
        return chip.wrong(chip.NOT_SUBSCRIBED, "acl.rt.unsubscribe_report of a thread that is not subscribed")
    stream.reports = None
    return 0


@vendor("acl.rt.launch_callback")
def launch_callback(function, data, blocks, handle):
    """Call function(data) in the subscribed thread when the stream has done what was queued before."""
    stream = _stream(handle)
    if stream.reports is None:
        return chip.wrong(chip.NOT_SUBSCRIBED, "acl.rt.launch_callback on a stream that no thread is subscribed to")
    waiting, done = stream.reports[1], threading.Event()

    def report():
        waiting.put((function, data, done))
        if small(blocks, "the block type") and not done.wait(30):
            chip.wrong(chip.REPORT_TIMEOUT, "a callback that no acl.rt.process_report took")

    stream.queue.append(Queued(report))
    return 0


@vendor("acl.rt.process_report")
def process_report(timeout_ms):
    """Wait for a callback of a stream that this thread is subscribed to, and make it."""
    thread = getattr(chip.local, "thread", None)
    if thread is None:
        return chip.wrong(chip.NOT_SUBSCRIBED, "acl.rt.process_report outside a thread of acl.util.start_thread")
    end = time.monotonic() + (3600 if timeout_ms == -1 else small(timeout_ms, "the timeout") / 1000)
    while time.monotonic() < end:
        for stream in list(state.streams.values()):
            if stream.reports is not None and stream.reports[0] == thread:
                try:
                    function, data, done = stream.reports[1].get(timeout=0.002)
                except queue.Empty:
                    continue
                try:
                    function(data)
                finally:  # a callback that raises was taken all the same
                    done.set()
                return 0
        time.sleep(0.001)
    return chip.fails(chip.REPORT_TIMEOUT, "EE1002: no callback within the time")


def _stream(handle):
    """0 is the default stream of the context."""
    if integer(handle, "a stream") == 0:
        return state.default_streams.setdefault(chip.current(), Stream(chip.current()))
    stream = thing(state.streams, handle, "a stream", chip.RT_STREAM)
    if stream.context != chip.current():
        chip.refuse(chip.RT_STREAM, "a stream of another context")
    return stream


@vendor("acl.rt.get_run_mode", 0)
def get_run_mode():
    chip.started()
    return int(simulate.switches().get("run_mode", 1)), 0


@vendor("acl.rt.malloc", 0)
def malloc(size, policy):
    context = chip.current()
    size, policy = integer(size, "the size"), small(policy, "the policy")
    if size <= 0 or not 0 <= policy <= 5:
        chip.refuse(chip.RT_PARAM, f"acl.rt.malloc({size}, {policy})")
    if size > room():
        return 0, chip.fails(chip.RT_MEMORY, f"EL0004: {size} bytes of device memory asked, {room()} free")
    address = state.next_address
    state.next_address += (size + 63) // 64 * 64 + 4096  # nothing lies between two blocks
    state.blocks[address] = chip.Block(address, size, chip.device_of(context))
    return address, 0


def room():
    """Bytes of device memory that are free."""
    used = sum(block.size for block in state.blocks.values())
    return _total() - used - sum(model.nbytes for model in state.models.values())


def _total():
    return int(simulate.switches().get("memory_mb", 8192 if cann.soc() == "Ascend310" else 21534)) << 20


@vendor("acl.rt.free")
def free(address):
    chip.current()
    if integer(address, "the address") not in state.blocks:
        word = "twice" if address in state.dead else "of what acl.rt.malloc did not give"
        return chip.wrong(chip.RT_PARAM, f"acl.rt.free {word}: {address:#x}")
    if state.blocks[address].pending:
        return chip.wrong(chip.RT_PARAM, "acl.rt.free of memory that an execute under way uses")
    chip.drop(state.blocks, address)
    return 0


@vendor("acl.rt.malloc_host", 0)
def malloc_host(size):
    chip.current()
    if integer(size, "the size") <= 0:
        chip.refuse(chip.RT_PARAM, f"acl.rt.malloc_host({size})")
    memory = ctypes.create_string_buffer(size)
    address = ctypes.addressof(memory)
    state.dead.discard(address)
    state.hosts[address] = Host(address, size, memory, borrowed=False)
    return address, 0


@vendor("acl.rt.free_host")
def free_host(address):
    chip.started()
    host = state.hosts.get(integer(address, "the address"))
    if host is None or host.borrowed:
        return chip.wrong(chip.RT_PARAM, f"acl.rt.free_host of what acl.rt.malloc_host did not give: {address}")
    chip.drop(state.hosts, address)
    return 0


@vendor("acl.rt.get_mem_info", 0, 0)
def get_mem_info(attribute):
    """(free, total) bytes: these chips have DDR, 0, and no HBM, 1."""
    chip.current()
    if small(attribute, "the attribute") not in range(16):
        chip.refuse(chip.INVALID_PARAM, f"a memory attribute of {attribute}")
    return (room(), _total(), 0) if attribute == 0 else (0, 0, 0)


@vendor("acl.rt.get_device_utilization_rate", None)
def get_device_utilization_rate(device):
    chip.started()
    if not 0 <= small(device, "the device") < cann.device_count():
        chip.refuse(chip.RT_DEVICE, f"device {device}")
    busy = int(100 * float(simulate.switches().get("busy", 0)))
    return {
        "cube_utilization": busy, "vector_utilization": busy, "aicpu_utilization": 0, "memory_utilization": -1,
        "utilization_extend": 0,
    }, 0  # fmt: skip


@vendor("acl.rt.memset")
def memset(address, room_there, value, count):
    chip.current()
    return _fill(*(integer(each, "an argument of acl.rt.memset") for each in (address, room_there, value, count)))


def _fill(address, room_there, value, count, queued=False):
    if count <= 0 or count > room_there:
        chip.refuse(chip.RT_PARAM, f"acl.rt.memset of {count} bytes in {room_there}")
    there, block = chip.place(address, room_there, "acl.rt.memset")
    if there == "host":
        chip.host_view(address, count)[:] = value & 0xFF
        return 0
    if block.pending and not queued:
        chip.refuse(chip.RT_PARAM, "acl.rt.memset of memory that an execute under way uses")
    start = address - block.address
    block.data[start : start + count] = value & 0xFF
    block.written = max(block.written, start + count)
    block.version += 1
    block.holds = None
    return 0


@vendor("acl.rt.memset_async")
def memset_async(address, room_there, value, count, handle):
    stream = _stream(handle)
    there, block = chip.place(integer(address, "the address"), integer(count, "the count"), "acl.rt.memset_async")
    blocks = [block] if there == "device" else []
    stream.queue.append(Queued(lambda: _fill(address, room_there, value, count, queued=True), blocks))
    return 0


@vendor("acl.rt.memcpy_async")
def memcpy_async(destination, room_there, source, count, kind, handle):
    """Host memory that it reads must live until the stream was waited for; nothing else holds it."""
    stream = _stream(handle)
    places = [
        chip.place(integer(address, "an address"), integer(count, "the count"), "acl.rt.memcpy_async")[1]
        for address in (destination, source)
    ]
    blocks = [block for block in places if isinstance(block, chip.Block)]
    stream.queue.append(Queued(lambda: _copy(destination, room_there, source, count, kind, queued=True), blocks))
    return 0


@vendor("acl.rt.memcpy")
def memcpy(destination, room_there, source, count, kind):
    return _copy(destination, room_there, source, count, kind)


def _copy(destination, room_there, source, count, kind, queued=False):
    """`queued`: its turn on a stream has come, so that what is queued behind it does not stand in its way.

    For the vendor `kind` is without effect, because addresses tell (API reference of aclrtMemcpy; TransformerXL's
    net_infer.py gives a wrong one). This project's backend gives the true one."""
    context = chip.current()
    destination, source = integer(destination, "the destination"), integer(source, "the source")
    room_there, count, kind = integer(room_there, "dest_max"), integer(count, "the count"), small(kind, "the kind")
    if count <= 0 or count > room_there:
        chip.refuse(chip.RT_PARAM, f"acl.rt.memcpy of {count} bytes into {room_there}")
    there, to = chip.place(destination, room_there, "acl.rt.memcpy, destination")
    here, origin = chip.place(source, count, "acl.rt.memcpy, source", beyond=True)
    expected = {
        ("host", "host"): 0,
        ("host", "device"): chip.HOST_TO_DEVICE,
        ("device", "host"): chip.DEVICE_TO_HOST,
        ("device", "device"): chip.DEVICE_TO_DEVICE,
    }[here, there]
    if simulate.switches().get("run_mode", 1) == 0:
        expected = chip.DEVICE_TO_DEVICE  # host and device share their memory on the board
    if kind != expected:
        simulate.note("house", what=f"acl.rt.memcpy from {here} to {there} with kind {kind}")
    for block in (to, origin):
        if isinstance(block, chip.Block) and block.device != chip.device_of(context):
            chip.refuse(chip.RT_CONTEXT, "acl.rt.memcpy of memory of another device")
    bytes_ = _bytes(origin, source, count, queued)
    if there == "device":
        if to.pending and not queued:
            chip.refuse(chip.RT_PARAM, "acl.rt.memcpy into memory that an execute under way uses")
        start = destination - to.address
        to.data[start : start + count] = bytes_
        to.written = max(to.written, start + count)
        to.version += 1
        to.holds = None
    else:
        chip.host_view(destination, count)[:] = bytes_
    return 0


def _bytes(origin, address, count, queued):
    if not isinstance(origin, chip.Block):
        there = min(count, origin.address + origin.size - address)
        rest = np.full(count - there, 0xFE, np.uint8)
        return np.concatenate([chip.host_view(address, there), rest]) if len(rest) else chip.host_view(address, count)
    start = address - origin.address
    there = 0 if origin.pending and not queued else max(0, min(count, origin.written - start))
    if there == 0:
        chip.wrong(
            0,
            "acl.rt.memcpy of device memory that holds nothing yet: {}".format(
                "the execute that fills it was not waited for" if origin.pending else "never written"
            ),
        )
    if there == count:
        return origin.data[start : start + count]
    return np.concatenate([origin.data[start : start + there], np.full(count - there, 0xFE, np.uint8)])
