"""A simulated pyACL: same names, arguments and answers as the vendor's extension module, and no patience."""

from __future__ import annotations

from simulated_cann import simulate, soc

from acl import chip, mdl, prof, rt, util
from acl.chip import integer, small, state, thing, vendor

__all__ = ["chip", "mdl", "prof", "rt", "util"]


@vendor("acl.init")
def init(config=None):
    if config is not None:
        chip.text(config, "the configuration")
    if simulate.switches().get("cann") == "5" and (state.finalized or state.initialized):
        return chip.wrong(chip.REPEAT_INITIALIZE, "acl.init twice in one process")
    if state.initialized:  # newer releases: may be ignored
        return chip.fails(chip.REPEAT_INITIALIZE, "EH0001: acl.init twice")
    state.initialized, state.finalized = True, False
    return 0


@vendor("acl.finalize")
def finalize():
    if state.finalized or not state.initialized:
        return chip.wrong(chip.REPEAT_FINALIZE, "acl.finalize without acl.init, or twice")
    state.initialized, state.finalized = False, True
    for kind, count in state.handles().items():
        simulate.note("leak", what=f"acl.finalize with {count} of {kind} left")
    return 0  # whatever is left: it says nothing of it


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


@vendor("acl.update_data_buffer")
def update_data_buffer(handle, address, size):
    thing(state.buffers, handle, "a data buffer")
    if chip.block_at(integer(address, "the address"), integer(size, "the size"), "acl.update_data_buffer") is None:
        chip.refuse(chip.INVALID_PARAM, f"a data buffer over {address:#x}, which is not device memory")
    state.buffers[handle] = (address, size)
    return 0


@vendor("acl.get_data_buffer_addr", 0, ...)
def get_data_buffer_addr(handle):
    return thing(state.buffers, handle, "a data buffer")[0]


@vendor("acl.get_data_buffer_size_v2", 0, ...)
def get_data_buffer_size_v2(handle):
    return thing(state.buffers, handle, "a data buffer")[1]


@vendor("acl.get_data_buffer_size", 0, ...)
def get_data_buffer_size(handle):
    return thing(state.buffers, handle, "a data buffer")[1]


# --- tensor descriptions -------------------------------------------------------------------------------------------


@vendor("acl.create_tensor_desc", 0, ...)
def create_tensor_desc(dtype, dims, layout):
    if small(dtype, "the data type") not in SIZES or not isinstance(dims, (list, tuple)):
        chip.refuse(chip.INVALID_PARAM, f"acl.create_tensor_desc({dtype!r}, {dims!r}, {layout!r})")
    return chip.tensor_desc(int(dtype), [integer(dim, "a dim") for dim in dims], small(layout, "the format"))


@vendor("acl.destroy_tensor_desc", None, ...)
def destroy_tensor_desc(handle):
    if thing(state.tensor_descs, handle, "a tensor description")["owner"] is not None:
        chip.refuse(chip.INVALID_PARAM, "acl.destroy_tensor_desc of what belongs to a data set")
    chip.drop(state.tensor_descs, handle)


@vendor("acl.get_tensor_desc_type", -1, ...)
def get_tensor_desc_type(handle):
    return thing(state.tensor_descs, handle, "a tensor description")["dtype"]


@vendor("acl.get_tensor_desc_format", -1, ...)
def get_tensor_desc_format(handle):
    return thing(state.tensor_descs, handle, "a tensor description")["format"]


@vendor("acl.get_tensor_desc_size", 0, ...)
def get_tensor_desc_size(handle):
    made = thing(state.tensor_descs, handle, "a tensor description")
    size = SIZES[made["dtype"]]
    for dim in made["dims"]:
        size *= dim
    return size


@vendor("acl.get_tensor_desc_num_dims", 0, ...)
def get_tensor_desc_num_dims(handle):
    return len(thing(state.tensor_descs, handle, "a tensor description")["dims"])


@vendor("acl.get_tensor_desc_dim_v2", 0)
def get_tensor_desc_dim_v2(handle, index):
    dims = thing(state.tensor_descs, handle, "a tensor description")["dims"]
    if not 0 <= integer(index, "the index") < len(dims):
        chip.refuse(chip.INVALID_PARAM, f"dim {index} of {len(dims)}")
    return dims[index], 0


@vendor("acl.data_type_size", 0, ...)
def data_type_size(dtype):
    return SIZES.get(small(dtype, "the data type"), 0)


SIZES = {0: 4, 1: 2, 2: 1, 3: 4, 4: 1, 6: 2, 7: 2, 8: 4, 9: 8, 10: 8, 11: 8, 12: 1}  # bytes by aclDataType


@vendor("acl.app_log", None, ...)
def app_log(level, message):
    if not 0 <= small(level, "the level") <= 3:
        chip.refuse(chip.INVALID_PARAM, f"a log level of {level}")
    chip.text(message, "the message")


@vendor("acl.get_recent_err_msg", None, ...)
def get_recent_err_msg():
    messages, chip.local.messages = chip.local.__dict__.get("messages", []), []
    return "\n".join(messages) or None


@vendor("acl.get_version", 0, 0, 0)
def get_version():
    """Of the interface, not of CANN: major, minor, patch, status. It may be asked before acl.init."""
    return 1, 13, 0, 0


@vendor("acl.get_soc_name", None, ...)
def get_soc_name():
    return soc()


class NotSimulatedError(NotImplementedError):
    """A part of pyACL that exists beside a card and not here."""


class Elsewhere:
    """A module of pyACL of which nothing is simulated: media (DVPP), single operators and the like."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, function):
        if function.startswith("__"):
            raise AttributeError(function)

        def absent(*_):
            raise NotSimulatedError(
                f"{self._name}.{function} is not simulated: run this beside a card (tests/sdk/ascend/README.md)"
            )

        return absent


media, op, himpi, blas, fv = (Elsewhere("acl." + name) for name in ("media", "op", "himpi", "blas", "fv"))
