"""Files read past the system's cache: what is read once must not drive out what is read again."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import mmap
import os
import sys
from pathlib import Path

# A huge page of x86 and of ARM with pages of 4 KiB.
_HUGE = 2 * 1024**2
# Where such reads begin, how long they are and where they go are multiples of this.
ALIGNED = 4096
# Python's `fcntl` has no name for it on older versions (macOS, sys/fcntl.h).
_F_NOCACHE = 48
# Windows' CreateFileW.
_GENERIC_READ, _SHARE_ALL, _OPEN_EXISTING, _NO_BUFFERING = 0x80000000, 0x7, 3, 0x20000000


def open_uncached(path: Path) -> io.FileIO | None:
    """Open `path` (O_DIRECT on Linux, F_NOCACHE on macOS, FILE_FLAG_NO_BUFFERING on Windows).

    None where system or file system have no such thing. Raises FileNotFoundError.
    """
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    descriptor = _open_windows(path) if sys.platform == "win32" else _open_posix(path)
    if descriptor is None:
        return None
    return io.FileIO(path, "rb", opener=lambda *_: descriptor)  # so that errors name the file


def aligned_memory(nbytes: int) -> memoryview:
    """Memory that such reads may go to, in huge pages where the system has them (Linux). Raises OSError.

    A disk is asked for pieces that lie together in RAM. Scattered pages of 4 KiB make many small requests of
    one read: the same disk gave 0.9 to 1.9 GB/s into them, from run to run, and 2.9 GB/s into huge pages
    (benchmarks.kernels).
    """
    if sys.platform == "win32":
        return memoryview(mmap.mmap(-1, nbytes))
    area = mmap.mmap(-1, nbytes + _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANON)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            area.madvise(mmap.MADV_HUGEPAGE)
    start = -ctypes.addressof(ctypes.c_char.from_buffer(area)) % _HUGE
    return memoryview(area)[start : start + nbytes]


def _open_posix(path: Path) -> int | None:
    if sys.platform == "darwin":
        import fcntl

        descriptor = os.open(path, os.O_RDONLY)
        fcntl.fcntl(descriptor, _F_NOCACHE, 1)
        return descriptor
    if sys.platform != "win32" and hasattr(os, "O_DIRECT"):
        try:
            return os.open(path, os.O_RDONLY | os.O_DIRECT)
        except FileNotFoundError:
            raise
        except OSError:
            return None
    return None


def _open_windows(path: Path) -> int | None:
    if sys.platform == "win32":
        import ctypes
        import msvcrt
        from ctypes import wintypes

        create = ctypes.WinDLL("kernel32", use_last_error=True).CreateFileW
        create.argtypes = [
            *(wintypes.LPCWSTR, wintypes.DWORD, wintypes.DWORD, wintypes.LPVOID),
            *(wintypes.DWORD, wintypes.DWORD, wintypes.HANDLE),
        ]
        create.restype = wintypes.HANDLE
        handle = create(str(path), _GENERIC_READ, _SHARE_ALL, None, _OPEN_EXISTING, _NO_BUFFERING, None)
        if handle is None or handle == wintypes.HANDLE(-1).value:
            return None
        return msvcrt.open_osfhandle(handle, os.O_RDONLY | os.O_BINARY)
    return None
