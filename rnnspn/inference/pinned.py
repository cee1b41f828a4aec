"""Memory of the host that a GPU reads by itself, at the full speed of the bus: the system never moves it."""

import ctypes
import math
import sys
import weakref
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FOR_ALL_CONTEXTS = 1  # CU_MEMHOSTALLOC_PORTABLE in cuda.h
_LEFT: defaultdict[int, list[int]] = defaultdict(list)
"""Addresses by size that no array uses any more. They are given out again, not freed: the driver frees for threads that
have used the GPU, and an array may end in any."""


def driver() -> Any | None:
    """Return the library of the NVIDIA driver, or None without one."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def pinned(shape: tuple[int, ...]) -> "NDArray[np.uint8]":
    """Return an array of zeros in such memory, or in ordinary memory where the driver gives none.

    Args:
        shape: Of the array; the calling thread has used the GPU before.
    """
    import numpy as np

    size = math.prod(shape)
    address: int | None
    try:
        address = _LEFT[size].pop()
    except IndexError:
        address = _allocated(size)
    if not address:
        return np.zeros(shape, np.uint8)
    memory = (ctypes.c_uint8 * size).from_address(address)
    weakref.finalize(memory, _LEFT[size].append, address).atexit = False
    array: NDArray[np.uint8] = np.ctypeslib.as_array(memory).reshape(shape)
    array[:] = 0
    return array


def _allocated(size: int) -> int | None:
    library, pointer = driver(), ctypes.c_void_p()
    try:
        if library is None or library.cuMemHostAlloc(ctypes.byref(pointer), ctypes.c_size_t(size), _FOR_ALL_CONTEXTS):
            return None
    except AttributeError:  # a driver of another kind
        return None
    return pointer.value
