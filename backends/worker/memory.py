"""How much memory a child process holds, and when the system really has it back."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from backends.reports import UnloadReport

_STEP_S = 0.01
_LIMIT_S = 5.0
# Other programs take and give memory meanwhile: this share of what was held counts as "back".
_ENOUGH = 0.95


@dataclass(frozen=True, slots=True)
class FreeMemory:
    """What the system calls available, now."""

    ram_bytes: int
    gpu_bytes: int = 0


def private_bytes(pid: int) -> int:
    """RAM that comes back when process `pid` ends; 0 when it has ended already.

    Pages of files (mapped weights) are left out: the system counts them as available all the time.
    """
    try:
        info = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    if sys.platform == "win32":
        return int(info.private)
    if sys.platform == "darwin":
        return int(info.rss)
    return max(int(info.rss) - int(info.shared), 0)


def available_ram() -> int:
    """Bytes of RAM that programs can get now."""
    return int(psutil.virtual_memory().available)


def release(
    end: Callable[[], None],
    *,
    held: FreeMemory,
    read: Callable[[], FreeMemory],
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
    limit_s: float = _LIMIT_S,
) -> UnloadReport:
    """Call `end` (which ends the process), wait until `held` is available again, report what came back.

    Gives up waiting after `limit_s`, and then reports what had come back until that moment.
    """
    before = read()
    begun = clock()
    end()
    while True:
        now = read()
        ram, gpu = now.ram_bytes - before.ram_bytes, now.gpu_bytes - before.gpu_bytes
        enough = ram >= held.ram_bytes * _ENOUGH and gpu >= held.gpu_bytes * _ENOUGH
        seconds = clock() - begun
        if enough or seconds >= limit_s:
            return UnloadReport(max(ram, 0), max(gpu, 0), seconds)
        sleep(_STEP_S)
