"""acl.util: addresses of host memory; which of the two generations is here depends on the switch `python_api`."""

from __future__ import annotations

import itertools
import threading
import warnings

import numpy as np
from simulated_cann import simulate

from acl import chip

NPY = {0: "?", 1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "i8", 8: "u8", 11: "f4", 12: "f8", 23: "f2"}


@chip.vendor("acl.util.bytes_to_ptr", 0, ...)
def _bytes_to_ptr(data):
    if not isinstance(data, bytes):
        raise ValueError("needs an byte as argument")
    chip.sweep_borrowed()
    address = np.frombuffer(data, np.uint8).ctypes.data
    return chip.borrow(address, len(data), data)


@chip.vendor("acl.util.ptr_to_bytes", None, ...)
def _ptr_to_bytes(address, size):
    _readable(address, size, "acl.util.ptr_to_bytes")
    return chip.host_view(address, size).tobytes()


def _old(name, instead):
    """The NumPy pointers warn at each call in a release that has bytes pointers too."""
    if "bytes_to_ptr" in _offered():
        text = f"acl.util.{name} will be deprecated. Please use acl.util.{instead} instead."
        warnings.warn(text, Warning, stacklevel=4)


@chip.vendor("acl.util.numpy_to_ptr", 0, ...)
def _numpy_to_ptr(array):
    _old("numpy_to_ptr", "bytes_to_ptr")
    if not isinstance(array, np.ndarray):
        raise ValueError("needs an ndarray as argument")
    chip.sweep_borrowed()
    if not array.flags.c_contiguous:
        chip.wrong(0, "acl.util.numpy_to_ptr of an array that is not contiguous")
        warnings.warn(
            "The input ndarray is discontiguous. Please use acl.util.numpy_contiguous_to_ptr instead.", stacklevel=3
        )
    return chip.borrow(array.ctypes.data, array.nbytes, array)


@chip.vendor("acl.util.numpy_contiguous_to_ptr", (0, None), ...)
def _numpy_contiguous_to_ptr(array):
    """(address, the array that it belongs to): a contiguous copy where `array` is not."""
    _old("numpy_contiguous_to_ptr", "bytes_to_ptr")
    if not isinstance(array, np.ndarray):
        raise ValueError("needs an ndarray as argument")
    chip.sweep_borrowed()
    whole = np.ascontiguousarray(array)
    return chip.borrow(whole.ctypes.data, whole.nbytes, whole), whole


THREADS = itertools.count(0x7F0000000000, 0x1000)


@chip.vendor("acl.util.start_thread", 0)
def _start_thread(function, arguments):
    """A thread that calls function(arguments), the list as one value."""
    if not callable(function) or not isinstance(arguments, list):
        chip.refuse(chip.INVALID_PARAM, f"acl.util.start_thread({function!r}, {arguments!r})")
    number = next(THREADS)

    def run():
        chip.local.thread = number
        function(arguments)

    chip.state.threads[number] = threading.Thread(target=run, daemon=True)
    chip.state.threads[number].start()
    return number, 0


@chip.vendor("acl.util.stop_thread")
def _stop_thread(number):
    """Waits until the thread ends by itself."""
    chip.thing(chip.state.threads, number, "a thread").join(30)
    if chip.drop(chip.state.threads, number).is_alive():
        return chip.wrong(chip.INVALID_PARAM, "acl.util.stop_thread of a thread that never ends")
    return 0


@chip.vendor("acl.util.ptr_to_numpy", None, ...)
def _ptr_to_numpy(address, shape, code):
    _old("ptr_to_numpy", "ptr_to_bytes")
    if not isinstance(shape, tuple):
        raise ValueError("shape is empty")
    if not all(isinstance(dim, int) for dim in shape):
        raise TypeError("the second argument is not list of int")
    if code not in NPY:
        chip.refuse(chip.INVALID_PARAM, f"acl.util.ptr_to_numpy with the NumPy type {code!r}, which is not simulated")
    dtype = np.dtype(NPY[code])
    size = int(np.prod(shape)) * dtype.itemsize
    _readable(address, size, "acl.util.ptr_to_numpy")
    return chip.host_view(address, size).view(dtype).reshape(shape)


def _readable(address, size, call):
    if chip.place(chip.integer(address, "the address"), chip.integer(size, "the size"), call)[0] != "host":
        chip.refuse(chip.INVALID_PARAM, call + " of a device address: a real process ends here with SIGSEGV")


NEW = {"bytes_to_ptr": _bytes_to_ptr, "ptr_to_bytes": _ptr_to_bytes}
OLD = {
    "numpy_to_ptr": _numpy_to_ptr,
    "numpy_contiguous_to_ptr": _numpy_contiguous_to_ptr,
    "ptr_to_numpy": _ptr_to_numpy,
}
BOTH = {"start_thread": _start_thread, "stop_thread": _stop_thread}


def _offered():
    return dict(BOTH, **{"old": OLD, "new": NEW}.get(simulate.switches().get("python_api"), dict(OLD, **NEW)))


def __getattr__(name):
    try:
        return _offered()[name]
    except KeyError:
        raise AttributeError(f"module 'acl.util' has no attribute {name!r}") from None


def __dir__():
    return sorted(_offered())
