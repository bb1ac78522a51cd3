"""A server of warm processes (warm.py) imports this: numba reads its tables of functions when it compiles first, which
takes a second."""

import numba

numba.njit("int64(int64)")(lambda number: number)
