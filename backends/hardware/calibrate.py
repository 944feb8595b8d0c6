"""Measures what tables only assume: RAM read GB/s and fp32 GFLOP/s of the CPU, in under a second."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.hardware.types import Cpu, HardwareSnapshot

if TYPE_CHECKING:
    import numpy as np

# More than the last cache of most processors holds, so that memory is what is read.
_READ_BYTES = 256 * 1024**2
_SIDE = 1024
_MEASURED = ("ram.memory_gbps", "cpu.gflops_fp32")


@dataclass(frozen=True, slots=True)
class Calibration:
    """Measured figures of one processor; `ram_gbps` counts 1e9 bytes read a second, all cores together."""

    cpu: str
    cores: int
    ram_gbps: float
    gflops_fp32: float


def measure(cpu: Cpu, seconds: float = 0.5) -> Calibration:
    """Measure for about `seconds`, half for each figure, with one thread a core.

    Takes the best of the runs: other programs only ever make a run slower. Raises nothing but MemoryError
    (256 MiB are read).
    """
    import numpy as np

    numbers = np.ones(_READ_BYTES // 4, dtype=np.float32)
    with ThreadPoolExecutor(cpu.cores) as pool:
        shares = np.array_split(numbers, cpu.cores)
        read_s = _best(lambda: list(pool.map(_read, shares)), seconds / 2)
    square = np.ones((_SIDE, _SIDE), dtype=np.float32)
    result = np.empty_like(square)
    multiply_s = _best(lambda: np.matmul(square, square, out=result), seconds / 2)
    return Calibration(
        cpu.name,
        cpu.cores,
        ram_gbps=round(_READ_BYTES / read_s / 1e9, 1),
        gflops_fp32=round(2 * _SIDE**3 / multiply_s / 1e9, 1),
    )


def measure_apart(cpu: Cpu) -> Calibration:
    """Measure in a process of its own: the caller's memory and its interpreter's lock stay free.

    Raises OSError, MemoryError, or RuntimeError (also BrokenProcessPool) when no process is to be had.
    """
    # Ctrl+C reaches every process of the terminal, and this one has nothing to say to it.
    with ProcessPoolExecutor(
        1, get_context("spawn"), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        return pool.submit(measure, cpu).result()


def apply(snapshot: HardwareSnapshot, calibration: Calibration | None) -> HardwareSnapshot:
    """Put measured figures in the place of assumed ones."""
    if calibration is None:
        return snapshot
    return replace(
        snapshot,
        ram=replace(snapshot.ram, memory_gbps=calibration.ram_gbps),
        cpu=replace(snapshot.cpu, gflops_fp32=calibration.gflops_fp32),
        assumed=tuple(path for path in snapshot.assumed if path not in _MEASURED),
    )


def save(path: Path, calibration: Calibration) -> None:
    """Write atomically. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fields = ("cpu", "cores", "ram_gbps", "gflops_fp32")
    document = {field: getattr(calibration, field) for field in fields}
    fresh.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    fresh.replace(path)


def load(path: Path, cpu: Cpu) -> Calibration | None:
    """Read what `save` wrote; None when it is absent, damaged, or of another processor or share of it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        found = Calibration(**document)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    same = found.cpu == cpu.name and found.cores == cpu.cores
    return found if same and _positive(found.ram_gbps) and _positive(found.gflops_fp32) else None


def _positive(value: Any) -> bool:  # noqa: ANN401 - from a file
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def _read(share: np.ndarray[Any, Any]) -> float:
    # BLAS reads with vectors and without holding the interpreter's lock; numpy's sum is bound by adding.
    return float(share.dot(share))


def _best(run: Callable[[], object], seconds: float) -> float:
    """Return the shortest duration of `run`, tried for `seconds` and at least twice."""
    best, tries, end = math.inf, 0, time.perf_counter() + seconds
    while tries < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
        tries += 1
    return best
