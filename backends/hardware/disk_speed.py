"""How fast a disk reads, past the system's cache: writes a small file, reads it back, removes it."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

from backends.hardware.uncached import aligned_memory, open_uncached

_BLOCK = 8 * 1024**2
_MOST_BLOCKS, _LEAST_BLOCKS = 16, 2


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
        return read_speed(path)
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


def read_speed(path: Path) -> float | None:
    """GB/s of reading the whole file once past the cache; None where that is RAM anyway. Raises OSError.

    It is read into memory that is aligned as such reads need it.
    """
    with aligned_memory(_BLOCK) as buffer, _opened(path) as stream:
        if stream is None:
            return None
        done, begun = 0, time.perf_counter()
        while count := stream.readinto(buffer):
            done += count
        taken = time.perf_counter() - begun
    return round(done / taken / 1e9, 3) if done and taken > 0 else None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.FileIO | None]:
    """The file, read past the cache; None where that is RAM anyway."""
    if _in_memory(path):
        yield None
        return
    stream = open_uncached(path)
    if stream is None:
        # Some network and stacked file systems: the advice is followed for pages that are written back.
        stream = io.FileIO(path, "rb")
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with stream:
        yield stream


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
