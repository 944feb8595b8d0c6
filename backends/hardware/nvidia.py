"""NVIDIA GPUs as their driver reports them: the one place that asks NVML."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psutil

from backends.hardware import known
from backends.hardware.notes import note
from backends.hardware.types import Gpu, GpuProcess
from backends.text import Text

_LEAST_UUID_PREFIX = len("GPU-") + 1


@dataclass(frozen=True, slots=True)
class Reading:
    """What the driver said at one moment. `assumed` holds (GPU index, figure) pairs."""

    gpus: tuple[Gpu, ...] = ()
    driver_version: str | None = None
    cuda_version: tuple[int, int] | None = None
    notes: tuple[Text, ...] = ()
    assumed: tuple[tuple[int, str], ...] = ()


class _DriverError(Exception):
    """NVML gave a status that means that the driver itself is gone."""


class _GpuError(Exception):
    """NVML gave a status that means that this GPU is gone."""


def visible(setting: str | None, uuids: Sequence[str | None]) -> tuple[int, ...]:
    """Return the indices that `CUDA_VISIBLE_DEVICES` leaves visible, in PCI order.

    `uuids` are those of the GPUs by index. The rules are CUDA's: no setting shows all; entries are indices
    or unambiguous beginnings of a UUID; the first entry that names no GPU ends the list, so that an empty
    setting or "-1" hides all; an entry given twice makes the setting invalid, which hides all.
    """
    if setting is None:
        return tuple(range(len(uuids)))
    chosen: list[int] = []
    for entry in (part.strip() for part in setting.split(",")):
        if re.fullmatch(r"\d+", entry):
            matches = [int(entry)] if int(entry) < len(uuids) else []
        elif len(entry) >= _LEAST_UUID_PREFIX:
            matches = [index for index, uuid in enumerate(uuids) if uuid and uuid.startswith(entry)]
        else:
            matches = []
        if len(matches) != 1:
            break
        if matches[0] in chosen:
            return ()
        chosen.append(matches[0])
    return tuple(sorted(chosen))


class Driver:
    """Keeps NVML initialised between readings; every query goes through `_ask`.

    Nothing here raises: a query that a GPU does not support leaves its figure None, a GPU that stopped
    answering is left out with a note, and a driver that is absent or broken gives a reading without GPUs.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._visible = environ.get("CUDA_VISIBLE_DEVICES")
        self._nvml: Any = None
        self._fixed: dict[int, tuple[Gpu, tuple[str, ...]]] = {}

    def read(self) -> Reading:
        """Ask for everything that changes, and once for what does not."""
        problem = self._start()
        if problem is not None:
            return Reading(notes=(problem,))
        try:
            return self._read()
        except _DriverError as error:
            detail = str(error)
        self.close()
        return Reading(notes=(note("hardware.driver_error", detail=detail),))

    def close(self) -> None:
        """Let the driver go; a later reading starts it again."""
        if self._nvml is not None:
            with contextlib.suppress(self._nvml.NVMLError):  # it may be gone already
                self._nvml.nvmlShutdown()
            self._nvml = None
        self._fixed.clear()

    def _start(self) -> Text | None:
        if self._nvml is not None:
            return None
        try:
            import pynvml
        except ImportError:
            return note("hardware.no_pynvml")
        codes = {
            pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "hardware.no_nvidia",
            pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "hardware.driver_not_loaded",
            pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "hardware.driver_mismatch",
            pynvml.NVML_ERROR_NO_PERMISSION: "hardware.no_permission",
            pynvml.NVML_ERROR_GPU_NOT_FOUND: "hardware.no_device",
        }
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            code = codes.get(error.value)
            return note(code) if code else note("hardware.driver_error", detail=str(error))
        self._nvml = pynvml
        return None

    def _ask(self, query: str, *arguments: object) -> Any:  # noqa: ANN401 - pynvml is untyped
        """Make one driver query; None when this GPU or driver does not support it."""
        nvml = self._nvml
        try:
            return getattr(nvml, query)(*arguments)
        except nvml.NVMLError as error:
            if error.value in {nvml.NVML_ERROR_UNINITIALIZED, nvml.NVML_ERROR_DRIVER_NOT_LOADED}:
                raise _DriverError(str(error)) from error
            if error.value in {nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED}:
                raise _GpuError(str(error)) from error
            return None
        except (AttributeError, UnicodeDecodeError):
            return None  # an older pynvml without the query, or a driver text that is not UTF-8

    def _read(self) -> Reading:
        count = self._ask("nvmlDeviceGetCount")
        if not count:
            return Reading(notes=(note("hardware.no_device"),))
        gpus: list[Gpu] = []
        notes: list[Text] = []
        uuids: list[str | None] = []
        for index in range(count):
            uuids.append(self._fixed[index][0].uuid if index in self._fixed else None)
            try:
                handle = self._ask("nvmlDeviceGetHandleByIndex", index)
                if handle is None:
                    raise _GpuError("no access")
                fixed = self._fixed_facts(index, handle, count)
                uuids[index] = fixed.uuid
                found = self._changing(fixed, handle)
            except _GpuError as error:
                notes.append(_lost(index, self._fixed, str(error)))
                continue
            if isinstance(found, Gpu):
                gpus.append(found)
            else:
                notes.append(found)
        shown = visible(self._visible, uuids)
        if len(shown) < count:
            notes.append(
                note("hardware.hidden", value=self._visible or "", count=count - len(shown), total=count)
            )
        kept = tuple(gpu for gpu in gpus if gpu.index in shown)
        cuda = self._ask("nvmlSystemGetCudaDriverVersion_v2") or self._ask("nvmlSystemGetCudaDriverVersion")
        return Reading(
            gpus=tuple(_only_peers(gpu, kept) for gpu in kept),
            driver_version=self._ask("nvmlSystemGetDriverVersion"),
            cuda_version=(cuda // 1000, cuda % 1000 // 10) if cuda else None,
            notes=tuple(notes),
            assumed=tuple((gpu.index, figure) for gpu in kept for figure in self._fixed[gpu.index][1]),
        )

    def _fixed_facts(self, index: int, handle: object, count: int) -> Gpu:
        """Ask once for what does not change while the driver runs."""
        if index in self._fixed:
            return self._fixed[index][0]
        name = self._ask("nvmlDeviceGetName", handle) or "NVIDIA GPU"
        gpu = Gpu(
            index,
            name,
            total_bytes=0,
            free_bytes=0,
            compute_capability=self._ask("nvmlDeviceGetCudaComputeCapability", handle),
            memory_gbps=self._memory_gbps(handle),
            pcie_gbps=self._pcie_gbps(handle),
            nvlink_peers=self._nvlink_peers(index, handle, count),
            uuid=self._ask("nvmlDeviceGetUUID", handle),
        )
        cores = self._ask("nvmlDeviceGetNumGpuCores", handle)
        clock = self._ask("nvmlDeviceGetMaxClockInfo", handle, self._nvml.NVML_CLOCK_SM)
        self._fixed[index] = known.fill_gpu(gpu, cores, clock)
        return self._fixed[index][0]

    def _changing(self, fixed: Gpu, handle: object) -> Gpu | Text:
        """Fill in memory, load, heat and processes; a sentence instead when Snug can't use this GPU."""
        mig = self._ask("nvmlDeviceGetMigMode", handle)
        if mig and mig[0] == 1:
            return note("hardware.gpu_mig", index=fixed.index, name=fixed.name)
        memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
        if memory is None or memory.total == 0:
            return note("hardware.gpu_no_memory_figure", index=fixed.index, name=fixed.name)
        load = self._ask("nvmlDeviceGetUtilizationRates", handle)
        display = (
            self._ask("nvmlDeviceGetDisplayActive", handle) == 1
            or self._ask("nvmlDeviceGetDisplayMode", handle) == 1
        )
        return replace(
            fixed,
            total_bytes=int(memory.total),
            free_bytes=int(min(memory.free, memory.total)),
            utilization=None if load is None else int(load.gpu),
            temperature_c=self._ask("nvmlDeviceGetTemperature", handle, self._nvml.NVML_TEMPERATURE_GPU),
            display=display,
            processes=self._processes(handle),
        )

    def _memory_gbps(self, handle: object) -> float | None:
        """Bus width in bits / 8 x memory clock x 2: all of NVIDIA's memories move data on both edges."""
        bits = self._ask("nvmlDeviceGetMemoryBusWidth", handle)
        mhz = self._ask("nvmlDeviceGetMaxClockInfo", handle, self._nvml.NVML_CLOCK_MEM)
        return round(bits / 8 * mhz * 2e-3, 1) if bits and mhz else None

    def _pcie_gbps(self, handle: object) -> float | None:
        """Link rate at the highest generation; idle links drop the generation but keep their lanes."""
        generation = self._ask("nvmlDeviceGetMaxPcieLinkGeneration", handle)
        most = self._ask("nvmlDeviceGetMaxPcieLinkWidth", handle)
        lanes = self._ask("nvmlDeviceGetCurrPcieLinkWidth", handle) or most
        if not generation or not lanes:
            return None
        return known.link_gbps(generation, min(lanes, most or lanes))

    def _nvlink_peers(self, index: int, handle: object, count: int) -> tuple[int, ...]:
        """Ask pair by pair, which also tells of links through a switch."""
        peers = []
        for other in range(count):
            if other == index:
                continue
            try:
                partner = self._ask("nvmlDeviceGetHandleByIndex", other)
                status = partner and self._ask(
                    "nvmlDeviceGetP2PStatus", handle, partner, self._nvml.NVML_P2P_CAPS_INDEX_NVLINK
                )
            except _GpuError:
                continue  # whichever of the two is lost says so itself
            if status == self._nvml.NVML_P2P_STATUS_OK:
                peers.append(other)
        return tuple(peers)

    def _processes(self, handle: object) -> tuple[GpuProcess, ...]:
        """Compute and graphics processes, one entry a process, the largest first."""
        held: dict[int, int] = {}
        for query in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
            for process in self._ask(query, handle) or ():
                # On Windows desktops (WDDM) the driver does not tell; pynvml gives None then.
                held[process.pid] = max(held.get(process.pid, 0), process.usedGpuMemory or 0)
        listed = (GpuProcess(pid, self._process_name(pid), size) for pid, size in held.items())
        return tuple(sorted(listed, key=lambda process: (-process.bytes, process.pid)))

    def _process_name(self, pid: int) -> str:
        try:
            return psutil.Process(pid).name()
        except psutil.Error:
            path = self._ask("nvmlSystemGetProcessName", pid)
            return re.split(r"[/\\]", str(path))[-1] if path else f"process {pid}"


def _lost(index: int, fixed: Mapping[int, tuple[Gpu, tuple[str, ...]]], detail: str) -> Text:
    name = fixed[index][0].name if index in fixed else "NVIDIA GPU"
    return note("hardware.gpu_lost", index=index, name=name, detail=detail)


def _only_peers(gpu: Gpu, present: Iterable[Gpu]) -> Gpu:
    indices = {other.index for other in present}
    return replace(gpu, nvlink_peers=tuple(peer for peer in gpu.nvlink_peers if peer in indices))
