"""Measures what tables only assume: RAM, processor, GPUs and disk, in under three seconds."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from backends.hardware.disk_speed import measure_disk
from backends.hardware.threads import enter
from backends.hardware.timing import shortest
from backends.hardware.types import Gpu, HardwareSnapshot

if TYPE_CHECKING:
    import numpy as np

# More than the last cache of most processors holds, so that memory is what is read.
_READ_BYTES = 256 * 1024**2
_SIDE = 1024
# Seconds for RAM, what torch does on the processor, all GPUs, and the disk. Importing torch takes another.
_RAM_S, _TORCH_S, _GPUS_S, _DISK_S = 0.15, 0.6, 0.6, 0.4
# Torch is imported only where engines live; a process for measuring is such a place.
_TORCH_PART = "backends.engines.speeds"
_GPU_FIGURES = ("memory_gbps", "pcie_gbps", "pageable_gbps", "tflops_bf16", "tflops_fp32")
_CPU_FIGURES = ("gflops_bf16", "vector_gbps_fp32", "vector_gbps_bf16")
_FIGURES = ("ram_gbps", "gflops_fp32", "disk_gbps", *_CPU_FIGURES)
# Share of all cores that threads which only compute get on a machine that does nothing else: a little less
# than one, for they end one after the other.
_UNDISTURBED = 0.6
# Free memory that a GPU must have to be measured beside whatever runs there.
_ROOM_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class GpuSpeed:
    """Measured figures of one GPU; `memory_gbps` counts what a copy within it reads and writes."""

    index: int
    name: str
    uuid: str | None
    memory_gbps: float
    pcie_gbps: float
    pageable_gbps: float
    tflops_bf16: float
    tflops_fp32: float

    def is_of(self, gpu: Gpu) -> bool:
        """Whether it was measured on `gpu`; the index decides only where the driver gives no uuid."""
        if self.uuid is not None and gpu.uuid is not None:
            return self.uuid == gpu.uuid
        return (self.index, self.name) == (gpu.index, gpu.name)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Measured figures of one machine; `ram_gbps` counts 1e9 bytes read a second, all cores together.

    None where it could not be measured: figures of torch where that is not installed, the disk's where it
    is full or no disk. `disk` is the folder whose disk was read. `crowded` says that other programs took
    much of the processor meanwhile: the figures are low, and worth another try.
    """

    cpu: str
    cores: int
    ram_gbps: float
    gflops_fp32: float
    crowded: bool = False
    disk: str = ""
    gflops_bf16: float | None = None
    vector_gbps_fp32: float | None = None
    vector_gbps_bf16: float | None = None
    disk_gbps: float | None = None
    gpus: tuple[GpuSpeed, ...] = ()


def measure(hardware: HardwareSnapshot, scale: float = 1.0) -> Calibration:
    """Measure `hardware`, which is this machine, for about two seconds (times `scale`).

    Takes the best of the runs: other programs only ever make a run slower. To be called in a process that
    has no GPU in use: it makes exactly those of `hardware` that have room visible to torch. Raises nothing
    but MemoryError (256 MiB are read).
    """
    import numpy as np

    cpu = hardware.cpu
    gpus = [gpu for gpu in hardware.gpus if _measurable(gpu)]
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu.index) for gpu in gpus) or "-1"
    # Importing torch takes more than a second of one core: disk and fresh memory are waited for meanwhile.
    with ThreadPoolExecutor(1) as pool:
        importing = pool.submit(_torch_part)
        disk_gbps = measure_disk(Path(hardware.disk.path), _DISK_S * scale)
        numbers = np.ones(_READ_BYTES // 4, dtype=np.float32)
        torch_part = importing.result()
    ram_gbps, share = _ram_gbps(numbers, cpu.cores, _RAM_S * scale)
    del numbers
    figures, by_gpu = _with_torch(torch_part, [gpu.index for gpu in gpus], scale)
    return Calibration(
        cpu=cpu.name,
        cores=cpu.cores,
        ram_gbps=ram_gbps,
        gflops_fp32=figures.get("gflops_fp32") or _gflops(_RAM_S * scale),
        crowded=share < _UNDISTURBED,
        disk=hardware.disk.path,
        disk_gbps=disk_gbps,
        gpus=tuple(
            GpuSpeed(gpu.index, gpu.name, gpu.uuid, **by_gpu[gpu.index])
            for gpu in gpus
            if gpu.index in by_gpu
        ),
        **{name: figures.get(name) for name in _CPU_FIGURES},
    )


def _torch_part() -> ModuleType | None:
    """What measures with torch; None where that is missing or broken, which the engine then explains."""
    try:
        return importlib.import_module(_TORCH_PART)
    except (ImportError, OSError, RuntimeError):
        return None


def _with_torch(
    torch_part: ModuleType | None, indices: list[int], scale: float
) -> tuple[Mapping[str, float], Mapping[int, Mapping[str, float]]]:
    """What only torch can measure; nothing where it fails."""
    if torch_part is None:
        return {}, {}
    try:
        return torch_part.cpu_speeds(_TORCH_S * scale), torch_part.gpu_speeds(indices, _GPUS_S * scale)
    except (OSError, RuntimeError):
        return {}, {}


def _measurable(gpu: Gpu) -> bool:
    """Whether torch can be asked about `gpu` (NVIDIA's have a capability) without being in anyone's way."""
    return gpu.compute_capability is not None and gpu.free_bytes >= _ROOM_BYTES


def _ram_gbps(numbers: np.ndarray, cores: int, seconds: float) -> tuple[float, float]:
    """GB/s, and the share of the cores' time that this process got for it."""
    import numpy as np

    with ThreadPoolExecutor(cores) as pool:
        parts = np.array_split(numbers, cores)
        used, begun = time.process_time(), time.perf_counter()
        read_s = shortest(lambda: list(pool.map(_read, parts)), seconds)
        share = (time.process_time() - used) / (time.perf_counter() - begun) / cores
    return round(_READ_BYTES / read_s / 1e9, 1), share


def _gflops(seconds: float) -> float:
    import numpy as np

    square = np.ones((_SIDE, _SIDE), dtype=np.float32)
    result = np.empty_like(square)
    multiply_s = shortest(lambda: np.matmul(square, square, out=result), seconds)
    return round(2 * _SIDE**3 / multiply_s / 1e9, 1)


def measure_apart(
    hardware: HardwareSnapshot, environment: Mapping[str, str] = MappingProxyType({}), scale: float = 1.0
) -> Calibration:
    """Measure in a process of its own: the caller's memory and its interpreter's lock stay free.

    `environment` is what the processes of models get: threads that are set up alike. The process ends with
    this one, however that ends. Raises OSError, MemoryError, or RuntimeError when it could not be started
    or was ended early.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_measure_for,
        args=(theirs, dict(environment), hardware, scale),
        name="snug-measure",
        daemon=True,
    )
    try:
        process.start()
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    try:
        found: Calibration | Exception = ours.recv()
    except EOFError as error:
        raise RuntimeError("the process that measures ended early") from error
    finally:
        ours.close()
        process.join()
    if isinstance(found, Exception):
        raise found
    return found


def _measure_for(
    parent: Connection, environment: dict[str, str], hardware: HardwareSnapshot, scale: float
) -> None:
    # Ctrl+C reaches every process of the terminal, and this one has nothing to say to it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    enter(environment)
    threading.Thread(target=_end_with, args=(parent,), name="snug-orphan", daemon=True).start()
    found: Calibration | Exception
    try:
        found = measure(hardware, scale)
    except (OSError, MemoryError, RuntimeError) as error:
        found = error
    with contextlib.suppress(OSError):  # nobody waits any more
        parent.send(found)
    # Taking an interpreter with native libraries apart takes half a second of the person's time.
    os._exit(0)


def _end_with(parent: Connection) -> None:
    """End this process when `parent`, which says nothing, is gone: nobody else would notice."""
    with contextlib.suppress(EOFError, OSError):
        parent.recv()
    os._exit(0)


def apply(snapshot: HardwareSnapshot, calibration: Calibration | None) -> HardwareSnapshot:
    """Put measured figures in the place of assumed ones; what was not measured stays assumed."""
    if calibration is None:
        return snapshot
    measured = {"ram.memory_gbps", "cpu.gflops_fp32"}
    cpu = replace(
        snapshot.cpu,
        gflops_fp32=calibration.gflops_fp32,
        gflops_bf16=calibration.gflops_bf16,
        vector_gbps_fp32=calibration.vector_gbps_fp32,
        vector_gbps_bf16=calibration.vector_gbps_bf16,
    )
    disk = snapshot.disk
    if calibration.disk_gbps is not None and calibration.disk == disk.path:
        disk = replace(disk, read_gbps=calibration.disk_gbps)
        measured.add("disk.read_gbps")
    gpus: list[Gpu] = []
    for position, gpu in enumerate(snapshot.gpus):
        speed = next((one for one in calibration.gpus if one.is_of(gpu)), None)
        if speed is None:
            gpus.append(gpu)
            continue
        gpus.append(replace(gpu, **{figure: getattr(speed, figure) for figure in _GPU_FIGURES}))
        measured |= {f"gpus[{position}].{figure}" for figure in _GPU_FIGURES}
    return replace(
        snapshot,
        gpus=tuple(gpus),
        ram=replace(snapshot.ram, memory_gbps=calibration.ram_gbps),
        cpu=cpu,
        disk=disk,
        assumed=tuple(path for path in snapshot.assumed if path not in measured),
    )


def is_complete(calibration: Calibration | None, hardware: HardwareSnapshot) -> bool:
    """Whether nothing is left to measure: a GPU that had no room then may have some now."""
    return calibration is not None and not (
        calibration.crowded
        or any(
            _measurable(gpu) and not any(one.is_of(gpu) for one in calibration.gpus) for gpu in hardware.gpus
        )
    )


def merged(before: Calibration | None, now: Calibration) -> Calibration:
    """`now`, with the GPUs of an earlier measurement that had no room this time.

    Of two crowded measurements each figure's better one is nearer to the truth.
    """
    if before is None:
        return now
    if now.crowded:
        best: dict[str, Any] = {name: _better(getattr(before, name), getattr(now, name)) for name in _FIGURES}
        now = replace(now, crowded=before.crowded, **best)
    again = {(gpu.index, gpu.name, gpu.uuid) for gpu in now.gpus}
    kept = tuple(gpu for gpu in before.gpus if (gpu.index, gpu.name, gpu.uuid) not in again)
    return replace(now, gpus=(*now.gpus, *kept))


def _better(one: float | None, other: float | None) -> float | None:
    known = [figure for figure in (one, other) if figure is not None]
    return max(known, default=None)


def save(path: Path, calibration: Calibration) -> None:
    """Write atomically. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        fresh.write_text(json.dumps(asdict(calibration), ensure_ascii=False), encoding="utf-8")
        fresh.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


def load(path: Path, hardware: HardwareSnapshot) -> Calibration | None:
    """Read what `save` wrote; None when it is absent, damaged, or of another processor or share of it.

    Figures of GPUs and disks that are not (or no longer) here are dropped.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        speeds = tuple(GpuSpeed(**entry) for entry in document.pop("gpus"))
        found = Calibration(**document)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    same = (found.cpu, found.cores) == (hardware.cpu.name, hardware.cpu.cores)
    if not same or not isinstance(found.crowded, bool) or not isinstance(found.disk, str):
        return None
    if not _positive(found, ("ram_gbps", "gflops_fp32")):
        return None
    if not _positive(found, (*_CPU_FIGURES, "disk_gbps"), optional=True):
        return None
    if not all(_positive(speed, _GPU_FIGURES) for speed in speeds):
        return None
    here = tuple(speed for speed in speeds if any(speed.is_of(gpu) for gpu in hardware.gpus))
    moved = found.disk != hardware.disk.path
    return replace(found, gpus=here, disk_gbps=None if moved else found.disk_gbps)


def _positive(values: object, names: tuple[str, ...], *, optional: bool = False) -> bool:
    """Whether the named fields, which come from a file, are positive numbers (or None, if `optional`)."""
    found = [getattr(values, name) for name in names]
    return all((value is None and optional) or _is_speed(value) for value in found)


def _is_speed(value: Any) -> bool:  # noqa: ANN401 - from a file
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def _read(share: np.ndarray[Any, Any]) -> float:
    # BLAS reads with vectors and without holding the interpreter's lock; numpy's sum is bound by adding.
    return float(share.dot(share))
