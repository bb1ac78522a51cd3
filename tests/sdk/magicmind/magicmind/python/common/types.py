"""Element types and their NumPy names."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class DataType(IntEnum):
    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    FLOAT16 = 8
    FLOAT32 = 9
    BOOL = 10
    QINT8 = 11
    QINT16 = 12


def get_datatype_by_numpy(dtype):
    return DataType[np.dtype(dtype).name.upper()]


def get_numpy_dtype_by_datatype(datatype):
    return np.dtype(DataType(datatype).name.lower()).type
