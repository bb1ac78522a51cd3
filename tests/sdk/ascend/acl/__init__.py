"""A simulated pyACL: same names, arguments and answers as the vendor's extension module, and no patience."""

from __future__ import annotations

from simulated_cann import simulate, soc

from acl import chip, mdl, rt, util
from acl.chip import integer, state, thing, vendor

__all__ = ["chip", "mdl", "rt", "util"]


@vendor("acl.init")
def init(config=None):
    if config is not None:
        chip.text(config, "the configuration")
    if state.finalized:
        return chip.wrong(chip.REPEAT_INITIALIZE, "acl.init after acl.finalize in one process")
    if state.initialized:
        return chip.wrong(chip.REPEAT_INITIALIZE, "acl.init twice in one process")
    state.initialized = True
    return 0


@vendor("acl.finalize")
def finalize():
    if state.finalized or not state.initialized:
        return chip.wrong(chip.REPEAT_FINALIZE, "acl.finalize without acl.init, or twice")
    state.initialized, state.finalized = False, True
    left = state.handles()
    for kind, count in left.items():
        simulate.note("leak", what=f"acl.finalize with {count} of {kind} left")
    return chip.NOT_CLEARED if left else 0


@vendor("acl.create_data_buffer", 0, ...)
def create_data_buffer(address, size):
    chip.started()
    address, size = integer(address, "the address"), integer(size, "the size")
    if size <= 0:
        chip.refuse(chip.INVALID_PARAM, f"a data buffer of {size} bytes")
    if chip.block_at(address, size, "acl.create_data_buffer") is None:
        chip.refuse(chip.INVALID_PARAM, f"a data buffer over {address:#x}, which is not device memory")
    handle = next(state.numbers["buffer"])
    state.buffers[handle] = (address, size)
    return handle


@vendor("acl.destroy_data_buffer")
def destroy_data_buffer(handle):
    thing(state.buffers, handle, "a data buffer")
    chip.drop(state.buffers, handle)
    return 0


@vendor("acl.get_data_buffer_addr", 0, ...)
def get_data_buffer_addr(handle):
    return thing(state.buffers, handle, "a data buffer")[0]


@vendor("acl.get_data_buffer_size_v2", 0, ...)
def get_data_buffer_size_v2(handle):
    return thing(state.buffers, handle, "a data buffer")[1]


@vendor("acl.get_recent_err_msg", None, ...)
def get_recent_err_msg():
    messages, chip.local.messages = chip.local.__dict__.get("messages", []), []
    return "\n".join(messages) or None


@vendor("acl.get_soc_name", None, ...)
def get_soc_name():
    return soc()
