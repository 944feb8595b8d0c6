"""The machine around the model: what is free, what our processes hold, and how one is started."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from backends.hardware import calibrate
from backends.hardware.calibrate import Calibration
from backends.hardware.detect import Monitor
from backends.hardware.torch_build import torch_build, without_idle_gpus
from backends.hardware.types import Gpu, HardwareSnapshot
from backends.placement.types import Credit, Plan
from backends.service.surroundings import OnExit
from backends.settings import Settings
from backends.worker.client import WorkerClient
from backends.worker.environment import VISIBLE_GPUS, child_environment, visible_gpus
from backends.worker.logs import new_log
from backends.worker.memory import FreeMemory, available_ram, private_bytes

LOG = logging.getLogger("snug.service")

# A page polls every two seconds and plans at every click: drivers are asked at most this often.
_FRESH_S = 1.0


class Machine:
    """Asks the hardware, with a short memory. Methods may be called from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._monitor: Monitor | None = None
        self._seen: HardwareSnapshot | None = None
        self._seen_at = 0.0
        self._calibration: Calibration | None = None
        self._calibration_read = False
        self._calibrated_now = False
        self._closed = False

    def snapshot(self, ours: Sequence[int] = (), *, fresh: bool = False) -> HardwareSnapshot:
        """The hardware, at most a second old; GPU processes with a pid in `ours` are marked."""
        with self._lock:
            if self._monitor is None:
                self._monitor = Monitor(self._settings.home)
            if fresh or self._seen is None or time.monotonic() - self._seen_at >= _FRESH_S:
                self._seen = self._calibrated(self._monitor.snapshot())
                self._seen_at = time.monotonic()
            seen = self._seen
        return mark_ours(seen, ours)

    def usable(self, ours: Sequence[int] = ()) -> HardwareSnapshot:
        """The hardware that plans may count on: without GPUs that the installed torch can't use."""
        return without_idle_gpus(self.snapshot(ours), torch_build())

    def calibrate(self) -> None:
        """Measure this machine (under three seconds), unless that was done; a GPU once it has room."""
        hardware = self.usable()
        known = self._calibration
        if self._calibrated_now or calibrate.is_complete(known, hardware):
            return
        try:
            environment = child_environment(self._settings)
            measured = calibrate.merged(known, calibrate.measure_apart(hardware, environment))
        except (OSError, MemoryError, RuntimeError):  # of a process, or an interpreter, that ends
            if not self._closed:
                LOG.warning("The processor's speed could not be measured.", exc_info=True)
            return
        with self._lock:
            self._calibration, self._seen, self._calibrated_now = measured, None, True
        # Plans use what was measured also where it can't be kept.
        with contextlib.suppress(OSError):
            calibrate.save(self._calibration_file, measured)

    @property
    def _calibration_file(self) -> Path:
        return self._settings.home / "calibration.json"

    def _calibrated(self, seen: HardwareSnapshot) -> HardwareSnapshot:
        if not self._calibration_read:
            self._calibration_read = True
            self._calibration = calibrate.load(self._calibration_file, seen)
        return calibrate.apply(seen, self._calibration)

    def spawn(self, engine: str, plan: Plan | None, on_exit: OnExit) -> WorkerClient:
        """Start a child process; with a plan, one that sees that plan's GPUs from the start."""
        environment = child_environment(self._settings, engine)
        if plan is not None:
            environment[VISIBLE_GPUS] = visible_gpus(plan)
        return WorkerClient(engine, environment, new_log(self._settings.logs), on_exit=on_exit)

    def free(self, plan: Plan) -> FreeMemory:
        """What is available now on the devices of `plan`."""
        if not plan.visible_gpus:
            return FreeMemory(available_ram())
        gpus = self.snapshot(fresh=True).gpus
        return FreeMemory(
            available_ram(), sum(gpu.free_bytes for gpu in gpus if gpu.index in plan.visible_gpus)
        )

    def held(self, pid: int, plan: Plan) -> FreeMemory:
        """What process `pid` holds on the devices of `plan`."""
        on_gpus = held_on_gpus(self.snapshot(fresh=True), pid, plan) if plan.visible_gpus else ()
        return FreeMemory(private_bytes(pid), sum(size for _, size in on_gpus))

    def credit(self, pids: Sequence[int], loaded: tuple[int, Plan] | None) -> Credit:
        """What comes back when our processes end; `loaded` is the model's process and its plan."""
        on_gpus = held_on_gpus(self.snapshot(), *loaded) if loaded is not None else ()
        return Credit(ram_bytes=sum(private_bytes(pid) for pid in pids), gpu_bytes=on_gpus)

    @property
    def leave_room(self) -> bool:
        """Whether processes that are started from now on leave a part of the processor to other programs."""
        return self._settings.leave_room

    @leave_room.setter
    def leave_room(self, on: bool) -> None:
        self._settings = replace(self._settings, leave_room=on)

    def offload_folder(self) -> Path:
        """Where plans may put weights on the disk."""
        return self._settings.offload

    def close(self) -> None:
        """Let go of the driver."""
        self._closed = True
        with self._lock:
            if self._monitor is not None:
                self._monitor.close()
                self._monitor = None


def mark_ours(snapshot: HardwareSnapshot, pids: Sequence[int]) -> HardwareSnapshot:
    """Mark the GPU processes that are ours."""
    if not pids or not any(gpu.processes for gpu in snapshot.gpus):
        return snapshot

    def marked(gpu: Gpu) -> Gpu:
        return replace(
            gpu, processes=tuple(replace(one, ours=one.ours or one.pid in pids) for one in gpu.processes)
        )

    return replace(snapshot, gpus=tuple(marked(gpu) for gpu in snapshot.gpus))


def held_on_gpus(snapshot: HardwareSnapshot, pid: int, plan: Plan) -> tuple[tuple[int, int], ...]:
    """(GPU index, bytes) that process `pid` holds.

    Windows' display driver model does not tell bytes per process: there the plan's own figure stands in,
    but never more than the GPU has in use.
    """
    planned = {share.device: share.total_bytes for share in plan.devices}
    held: list[tuple[int, int]] = []
    for gpu in snapshot.gpus:
        if gpu.index not in plan.visible_gpus:
            continue
        told = sum(one.bytes for one in gpu.processes if one.pid == pid)
        used = max(gpu.total_bytes - gpu.free_bytes, 0)
        held.append((gpu.index, told or min(planned.get(f"cuda:{gpu.index}", 0), used)))
    return tuple(held)
