"""Memory of the host that a GPU reads by itself, at the full speed of the bus: the system never moves it."""

import ctypes
import math
import sys
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FOR_ALL_CONTEXTS = 1  # CU_MEMHOSTALLOC_PORTABLE in cuda.h


def driver() -> Any | None:
    """Return the library of the NVIDIA driver, or None without one."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def pinned(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an array of zeros in such memory, or in ordinary memory where the driver gives none.

    Args:
        shape: Of the array; the calling thread has used the GPU before.
    """
    library, size, pointer = driver(), math.prod(shape), ctypes.c_void_p()
    try:
        failed = library is None or library.cuMemHostAlloc(
            ctypes.byref(pointer), ctypes.c_size_t(size), _FOR_ALL_CONTEXTS
        )
    except AttributeError:  # a driver of another kind
        failed = True
    if failed or not pointer.value:
        return np.zeros(shape, np.uint8)
    memory = (ctypes.c_uint8 * size).from_address(pointer.value)
    weakref.finalize(memory, library.cuMemFreeHost, pointer).atexit = False  # type: ignore[union-attr]
    array: NDArray[np.uint8] = np.ctypeslib.as_array(memory).reshape(shape)
    array[:] = 0
    return array
