"""How fast a disk reads, past the system's cache: writes a small file, reads it back, removes it."""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 8 * 1024**2
_MOST_BLOCKS, _LEAST_BLOCKS = 16, 2
# Python's `fcntl` has no name for it on older versions (macOS, sys/fcntl.h).
_F_NOCACHE = 48
# Windows' CreateFileW.
_GENERIC_READ, _SHARE_ALL, _OPEN_EXISTING, _NO_BUFFERING = 0x80000000, 0x7, 3, 0x20000000


def measure_disk(folder: Path, seconds: float) -> float | None:
    """GB/s (1e9 bytes) that one reader gets from the disk below `folder`; None where it can't be measured.

    Takes about `seconds`, at most 128 MiB of the disk for that time. The file is read around the cache
    (O_DIRECT on Linux, F_NOCACHE on macOS, FILE_FLAG_NO_BUFFERING on Windows), where a file system refuses
    that, after its pages were thrown out of the cache; a file system that lives in memory gives None.
    """
    path = folder / f"speed.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, seconds / 2)
        return _read(path)
    except (OSError, ValueError):
        return None
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _write(path: Path, seconds: float) -> None:
    """Write blocks until time or the largest size is reached. Random bytes: some disks compress."""
    block = os.urandom(_BLOCK)
    end = time.perf_counter() + seconds
    with path.open("wb", buffering=0) as stream:
        for number in range(_MOST_BLOCKS):
            if number >= _LEAST_BLOCKS and time.perf_counter() >= end:
                break
            stream.write(block)
            # Written here and not in one go at the end, so that the time limit sees it.
            os.fsync(stream.fileno())


def _read(path: Path) -> float | None:
    """GB/s of reading the whole file once, into memory that is aligned as unbuffered reads need it."""
    with mmap.mmap(-1, _BLOCK) as memory, memoryview(memory) as buffer, _uncached(path) as stream:
        if stream is None:
            return None
        done, begun = 0, time.perf_counter()
        while count := stream.readinto(buffer):
            done += count
        taken = time.perf_counter() - begun
    return round(done / taken / 1e9, 3) if done and taken > 0 else None


@contextlib.contextmanager
def _uncached(path: Path) -> Iterator[io.FileIO | None]:
    descriptor = _open_windows(path) if sys.platform == "win32" else _open_posix(path)
    if descriptor is None:
        yield None
        return
    with io.FileIO(descriptor, "rb") as stream:
        yield stream


def _open_posix(path: Path) -> int | None:
    if sys.platform == "win32" or _in_memory(path):
        return None
    if hasattr(os, "O_DIRECT"):
        with contextlib.suppress(OSError):
            return os.open(path, os.O_RDONLY | os.O_DIRECT)
    if sys.platform == "darwin":
        import fcntl

        descriptor = os.open(path, os.O_RDONLY)
        fcntl.fcntl(descriptor, _F_NOCACHE, 1)
        return descriptor
    # Some network and stacked file systems: the advice is followed for pages that are written back.
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return descriptor


def _in_memory(path: Path) -> bool:
    """Whether the file system keeps its files in RAM (Linux)."""
    best, kind = "", ""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    target = str(path.resolve())
    for line in mounts.splitlines():
        place, name = line.split(" ")[1:3]
        if len(place) >= len(best) and (target == place or target.startswith(place.rstrip("/") + "/")):
            best, kind = place, name
    return kind in ("tmpfs", "ramfs")


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
