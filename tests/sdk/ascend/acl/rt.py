"""acl.rt: devices, contexts, streams and memory."""

from __future__ import annotations

import ctypes

import numpy as np
import simulated_cann as cann
from simulated_cann import simulate

from acl import chip
from acl.chip import Host, Stream, integer, state, thing, vendor


@vendor("acl.rt.get_device_count", 0)
def get_device_count():
    chip.started()
    return cann.device_count(), 0


@vendor("acl.rt.set_device")
def set_device(device):
    chip.started()
    device = integer(device, "the device")
    if not 0 <= device < cann.device_count():
        return chip.fails(chip.RT_DEVICE, f"EE1001: device {device} is not in [0, {cann.device_count()})")
    state.uses[device] = state.uses.get(device, 0) + 1
    simulate.occupy(device)
    default = next((h for h, c in state.contexts.items() if c["default"] and c["device"] == device), None)
    if default is None:
        default = next(state.numbers["context"])
        state.contexts[default] = {"device": device, "default": True}
        state.clocks[device] = simulate.Clock()
    chip.local.context = default
    return 0


@vendor("acl.rt.reset_device")
def reset_device(device):
    chip.started()
    device = integer(device, "the device")
    if device not in state.uses:
        return chip.wrong(chip.RT_RELEASE, "acl.rt.reset_device of a device that was not set")
    state.uses[device] -= 1
    if state.uses[device]:
        return 0
    del state.uses[device]
    simulate.occupy(device, held=False)
    for handle, context in list(state.contexts.items()):
        if context["device"] != device:
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
        chip.drop(state.contexts, handle)
    for address, block in list(state.blocks.items()):
        if block.device == device:
            simulate.note("leak", what=f"acl.rt.reset_device with {block.size} bytes of device memory left")
            chip.drop(state.blocks, address)
    return 0


@vendor("acl.rt.create_context", 0)
def create_context(device):
    chip.started()
    device = integer(device, "the device")
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
    return chip.current(), 0


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


@vendor("acl.rt.destroy_stream")
def destroy_stream(handle):
    stream = _stream(handle)
    if stream.queue:
        chip.refuse(chip.RT_STREAM, f"acl.rt.destroy_stream with {len(stream.queue)} executes under way")
    chip.drop(state.streams, handle)
    return 0


@vendor("acl.rt.synchronize_stream")
def synchronize_stream(handle):
    stream = _stream(handle)
    queue, stream.queue = stream.queue, []
    for item in queue:
        item.finish()
    if queue:
        simulate.Clock.wait(queue[-1].until)
    return 0


def _stream(handle):
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
    size, policy = integer(size, "the size"), integer(policy, "the policy")
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
    total = int(simulate.switches().get("memory_mb", 8192 if cann.soc() == "Ascend310" else 21534)) << 20
    used = sum(block.size for block in state.blocks.values())
    return total - used - sum(model.nbytes for model in state.models.values())


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


@vendor("acl.rt.memcpy")
def memcpy(destination, room_there, source, count, kind):
    context = chip.current()
    destination, source = integer(destination, "the destination"), integer(source, "the source")
    room_there, count, kind = integer(room_there, "dest_max"), integer(count, "the count"), integer(kind, "the kind")
    if count <= 0 or count > room_there:
        chip.refuse(chip.RT_PARAM, f"acl.rt.memcpy of {count} bytes into {room_there}")
    there, to = chip.place(destination, room_there, "acl.rt.memcpy, destination")
    here, origin = chip.place(source, count, "acl.rt.memcpy, source")
    expected = {
        ("host", "host"): 0,
        ("host", "device"): chip.HOST_TO_DEVICE,
        ("device", "host"): chip.DEVICE_TO_HOST,
        ("device", "device"): chip.DEVICE_TO_DEVICE,
    }[here, there]
    if simulate.switches().get("run_mode", 1) == 0:
        expected = chip.DEVICE_TO_DEVICE  # host and device share their memory on the board
    if kind != expected:
        chip.refuse(chip.RT_PARAM, f"acl.rt.memcpy from {here} to {there} with kind {kind}")
    for block in (to, origin):
        if isinstance(block, chip.Block) and block.device != chip.device_of(context):
            chip.refuse(chip.RT_CONTEXT, "acl.rt.memcpy of memory of another device")
    bytes_ = _bytes(origin, source, count)
    if there == "device":
        if to.pending:
            chip.refuse(chip.RT_PARAM, "acl.rt.memcpy into memory that an execute under way uses")
        start = destination - to.address
        to.data[start : start + count] = bytes_
        to.written = max(to.written, start + count)
        to.version += 1
        to.holds = None
    else:
        chip.host_view(destination, count)[:] = bytes_
    return 0


def _bytes(origin, address, count):
    if not isinstance(origin, chip.Block):
        return chip.host_view(address, count)
    start = address - origin.address
    if origin.pending or start + count > origin.written:
        chip.wrong(
            0,
            "acl.rt.memcpy of device memory that holds nothing yet: {}".format(
                "the execute that fills it was not waited for" if origin.pending else "never written"
            ),
        )
        return np.full(count, 0xFE, np.uint8)
    return origin.data[start : start + count]
