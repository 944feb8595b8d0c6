"""Tells C's allocator to give large blocks back to the system as soon as they are freed."""

from __future__ import annotations

import ctypes
import sys

# glibc's malloc.h. By itself it raises the first with every freed block, up to 32 MiB, keeps what is smaller
# in one heap, and leaves gaps there: 160 MB beside 200 for four pictures in float32.
_M_MMAP_THRESHOLD, _LARGE_BYTES = -3, 4 * 1024**2
# Setting the first fixes this one too, at 128 KiB: every small tensor at the heap's end would be pages that
# are taken from the system and given back.
_M_TRIM_THRESHOLD, _KEPT_BYTES = -1, 16 * 1024**2


def give_large_blocks_back() -> bool:
    """Whether this process's allocator was told; others than glibc's need not, or can't be."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none, and gives large blocks back by itself
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    told = [
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES),
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES),
    ]
    return all(told)
