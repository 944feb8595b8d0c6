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
# When nothing more has come back for this long, other programs have taken the rest.
_SETTLED_RAM_S = 0.15
_SETTLED_GPU_S = 1.0
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

    RAM: the system takes a process's private pages when it ends, so what it held has come back; the
    difference of two readings would count what other programs take and give meanwhile. A GPU's driver
    takes its time: there only what is seen to be free again counts.
    Waits until all is seen, until nothing more comes back, or for `limit_s`.
    """
    settled_s = _SETTLED_GPU_S if held.gpu_bytes else _SETTLED_RAM_S
    before = read()
    begun = clock()
    end()
    best, best_at = (-1, -1), clock()
    while True:
        now = read()
        ram, gpu = max(now.ram_bytes - before.ram_bytes, 0), max(now.gpu_bytes - before.gpu_bytes, 0)
        if ram > best[0] or gpu > best[1]:
            best, best_at = (max(ram, best[0]), max(gpu, best[1])), clock()
        enough = ram >= held.ram_bytes * _ENOUGH and gpu >= held.gpu_bytes * _ENOUGH
        if enough or clock() - best_at >= settled_s or clock() - begun >= limit_s:
            return UnloadReport(held.ram_bytes, min(best[1], held.gpu_bytes), best_at - begun)
        sleep(_STEP_S)
