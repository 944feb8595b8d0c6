"""How many threads compute: one for each physical core that this process may use, the fast ones only."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from backends.hardware.cpu import leaving_room, usable_cores
from backends.placement.precision import is_tiny

# Threads wait for each other after every matrix: a core at half the speed halves all of them.
_FAST_CORES = Path("/sys/devices/cpu_core/cpus")
_SIBLINGS = "/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
_PASS_S, _FLOPS, _FEWEST_ROWS, _MOST_ROWS = 2.5, 60e9, 64, 512
_CORE_RELATION = 0  # RelationProcessorCore (winnt.h)


def choose_threads(environ: Mapping[str, str] = os.environ, *, parameters: int | None = None) -> int:
    """The number of threads; a choice made through `OMP_NUM_THREADS` (a setting of ours) wins.

    `SNUG_LEAVE_ROOM` leaves some of the cores to other programs. A tiny model (`parameters`) gets one: its
    threads would wait for each other more than they compute, and where another program takes a core from one
    of them for a moment, 6 M parameters fall from 3,000 tokens/s to a hundred.
    """
    chosen = environ.get("OMP_NUM_THREADS", "")
    if chosen.isdecimal() and int(chosen) > 0:
        return int(chosen)
    if parameters is not None and is_tiny(parameters):
        return 1
    cores = usable_cores(psutil.cpu_count(logical=False) or psutil.cpu_count() or 1)
    fast = {"win32": _fast_cores_windows, "darwin": _fast_cores_macos}.get(sys.platform, fast_cores_linux)()
    threads = max(1, min(cores, fast or cores))
    return leaving_room(threads) if environ.get("SNUG_LEAVE_ROOM") == "1" else threads


def rows_per_pass(parameters: int, threads: int) -> int:
    """Tokens of a prompt that are read in one go, between which an answer can be stopped.

    As many as take about two seconds at 60 GFLOP/s a thread (what Q8_0 reaches on AVX2), between 64, below
    which the weights' way from memory begins to tell, and 512, which plans count with.
    """
    rows = int(_PASS_S * threads * _FLOPS / max(1, 2 * parameters))
    return max(_FEWEST_ROWS, min(_MOST_ROWS, 1 << max(0, rows.bit_length() - 1)))


def fast_cores_linux(listed: Path = _FAST_CORES, siblings: str = _SIBLINGS) -> int | None:
    """Performance cores of a hybrid Intel processor; None for every other."""
    try:
        cpus = parse_cpus(listed.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    cores = set()
    for cpu in cpus:
        try:
            cores.add(Path(siblings.format(cpu=cpu)).read_text(encoding="ascii").strip())
        except OSError:
            cores.add(str(cpu))
    return len(cores) or None


def parse_cpus(text: str) -> list[int]:
    """Numbers of a list such as "0-3,8". Raises ValueError."""
    found: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return found


def _fast_cores_macos() -> int | None:
    """Cores of Apple's first performance level; None on Intel."""
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "hw.perflevel0.physicalcpu"],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=5,
            check=False,
        )
        return int(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def _fast_cores_windows() -> int | None:
    """Cores of the highest efficiency class, by GetLogicalProcessorInformationEx."""
    library = getattr(ctypes, "windll", None)
    if library is None:
        return None
    ask = library.kernel32.GetLogicalProcessorInformationEx
    length = ctypes.c_ulong(0)
    ask(_CORE_RELATION, None, ctypes.byref(length))
    buffer = ctypes.create_string_buffer(length.value)
    if not length.value or not ask(_CORE_RELATION, buffer, ctypes.byref(length)):
        return None
    return fast_cores_of(buffer.raw[: length.value])


def fast_cores_of(records: bytes) -> int | None:
    """Count the cores of the highest class in SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX records.

    Each begins with a relation and its own size (two 32-bit numbers), then flags and class (a byte each).
    """
    classes: list[int] = []
    at = 0
    while at + 10 <= len(records):
        relation, size, _, efficiency = struct.unpack_from("<IIBB", records, at)
        if size < 10:
            break
        if relation == _CORE_RELATION:
            classes.append(efficiency)
        at += size
    return classes.count(max(classes)) if classes else None
