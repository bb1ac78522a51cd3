"""Arrays in device memory: made, filled, read. Arithmetic on them is not simulated."""

from __future__ import annotations

import numpy as np

from pycuda import driver


class GPUArray:
    def __init__(self, shape, dtype, allocator=driver.mem_alloc):
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.dtype = np.dtype(dtype)
        self.size = int(np.prod(self.shape))
        self.nbytes = self.size * self.dtype.itemsize
        self.gpudata = allocator(max(1, self.nbytes))

    @property
    def ptr(self):
        return int(self.gpudata)

    def set(self, array):
        driver.memcpy_htod(self.gpudata, np.ascontiguousarray(array, self.dtype))

    def set_async(self, array, stream=None):
        driver.memcpy_htod_async(self.gpudata, np.ascontiguousarray(array, self.dtype), stream)

    def get(self, ary=None):
        found = np.empty(self.shape, self.dtype) if ary is None else ary
        driver.memcpy_dtoh(found, self.gpudata)
        return found

    def get_async(self, stream=None, ary=None):
        """Into page-locked memory of its own where no array is given."""
        found = driver.pagelocked_empty(self.shape, self.dtype) if ary is None else ary
        driver.memcpy_dtoh_async(found, self.gpudata, stream)
        return found


def empty(shape, dtype, allocator=driver.mem_alloc):
    return GPUArray(shape, dtype, allocator)


def zeros(shape, dtype=np.float64, allocator=driver.mem_alloc):
    return to_gpu(np.zeros(shape, dtype), allocator)


def to_gpu(array, allocator=driver.mem_alloc):
    made = GPUArray(array.shape, array.dtype, allocator)
    made.set(array)
    return made
