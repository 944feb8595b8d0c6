"""The machine at this moment: detect() once, or a Monitor that keeps the driver open between looks."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from backends.hardware import cpu, known, others
from backends.hardware.notes import note
from backends.hardware.nvidia import Driver, Reading
from backends.hardware.types import Cpu, Disk, HardwareSnapshot, Ram
from backends.text import Text


class Monitor:
    """Takes snapshots for the panel and the planner; may be asked from any thread.

    What can't change while the process runs (the processor, the boards' data) is asked once. A part that
    can't be asked leaves a note and empty figures; nothing is raised.
    """

    def __init__(self, disk_path: Path, environ: Mapping[str, str] = os.environ) -> None:
        self._disk_path = disk_path
        self._driver = Driver(environ)
        self._lock = threading.Lock()
        self._cpu: tuple[Cpu, tuple[Text, ...]] | None = None
        self._unused: tuple[Text, ...] = ()

    def snapshot(self) -> HardwareSnapshot:
        """Describe the machine now."""
        with self._lock:
            processor, cpu_notes = self._processor()
            ram, ram_notes = _ram(processor)
            disk, disk_notes = _disk(self._disk_path)
            reading = self._reading()
        positions = {gpu.index: position for position, gpu in enumerate(reading.gpus)}
        guesses = tuple(f"gpus[{positions[index]}].{figure}" for index, figure in reading.assumed)
        return HardwareSnapshot(
            os=others.os_name(),
            gpus=reading.gpus,
            ram=ram,
            cpu=processor,
            disk=disk,
            driver_version=reading.driver_version,
            cuda_version=reading.cuda_version,
            notes=(*reading.notes, *self._unused, *ram_notes, *cpu_notes, *disk_notes),
            assumed=(*guesses, "ram.memory_gbps", "cpu.gflops_fp32", "disk.read_gbps"),
        )

    def close(self) -> None:
        """Let the driver go."""
        with self._lock:
            self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _processor(self) -> tuple[Cpu, tuple[Text, ...]]:
        if self._cpu is None:
            try:
                self._unused = others.unused_gpus()
                self._cpu = cpu.read()
            except Exception as error:  # noqa: BLE001 - the panel shows the rest of the machine
                failed = note("hardware.failed", part=note("hardware.part.cpu"), detail=str(error))
                return Cpu("CPU", 1, (), known.assumed_gflops(1, ())), (failed,)
        return self._cpu

    def _reading(self) -> Reading:
        try:
            return self._driver.read()
        except Exception as error:  # noqa: BLE001 - a driver's surprise must not cost the CPU's figures
            return Reading(notes=(note("hardware.driver_error", detail=str(error)),))


def detect(disk_path: Path, environ: Mapping[str, str] = os.environ) -> HardwareSnapshot:
    """Describe the machine now; `disk_path` names the folder whose disk matters. Never raises."""
    with Monitor(disk_path, environ) as monitor:
        return monitor.snapshot()


def _ram(processor: Cpu) -> tuple[Ram, tuple[Text, ...]]:
    speed = known.assumed_ram_gbps(processor.name, processor.cores)
    try:
        return others.read_ram(speed)
    except Exception as error:  # noqa: BLE001 - as above
        return Ram(0, 0, None, speed), (
            note("hardware.failed", part=note("hardware.part.ram"), detail=str(error)),
        )


def _disk(path: Path) -> tuple[Disk, tuple[Text, ...]]:
    try:
        return others.read_disk(path), ()
    except Exception as error:  # noqa: BLE001 - as above
        return Disk(str(path), 0, known.ASSUMED_DISK_GBPS), (
            note("hardware.failed", part=note("hardware.part.disk"), detail=str(error)),
        )
