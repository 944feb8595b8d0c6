"""Everything but NVIDIA: RAM with its limits, the disk, and GPUs that Snug sees but does not use."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from backends.hardware import cgroup, known, windows
from backends.hardware.notes import note
from backends.hardware.types import Disk, OsName, Ram
from backends.text import Text

_VENDORS = {"0x1002": ("hardware.amd", "An AMD GPU"), "0x8086": ("hardware.intel", "An Intel GPU")}
# First bytes of the PCI device ids of Intel's discrete boards (Arc A and B series); the rest is built in.
_INTEL_DISCRETE = ("0x56", "0xe2")
_WINDOWS_DISPLAY_CLASS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"


def os_name() -> OsName:
    """Name the system; whatever is neither Windows nor macOS counts as Linux."""
    if sys.platform == "win32":
        return "windows"
    return "macos" if sys.platform == "darwin" else "linux"


def read_ram(memory_gbps: float) -> tuple[Ram, tuple[Text, ...]]:
    """Main memory now, within a container's limit. `memory_gbps` is a figure found elsewhere."""
    machine = psutil.virtual_memory()
    total, available = int(machine.total), int(machine.available)
    notes: tuple[Text, ...] = ()
    limit = cgroup.memory_limit() if sys.platform == "linux" else None
    if limit is not None and limit.limit_bytes < total:
        notes = (note("hardware.ram_limited", limit=limit.limit_bytes, total=total),)
        total = limit.limit_bytes
        available = min(available, limit.available_bytes)
    limit_bytes, left_bytes = windows.commit() or (None, None)
    return Ram(total, available, limit_bytes, memory_gbps, left_bytes), notes


def available_ram() -> int:
    """Bytes of RAM that programs, and files that are kept in it, can get now within a container's limit."""
    return read_ram(0.0)[0].available_bytes


def read_disk(path: Path) -> Disk:
    """The disk that holds `path`, which need not exist yet; its speed is assumed."""
    folder = nearest_existing(path)
    return Disk(str(folder), shutil.disk_usage(folder).free, known.ASSUMED_DISK_GBPS)


def nearest_existing(path: Path) -> Path:
    """Return `path`, or its nearest parent that exists."""
    folder = path.expanduser().absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def unused_gpus() -> tuple[Text, ...]:
    """Say which GPUs are there that Snug does not use yet."""
    if sys.platform == "darwin":
        if platform.machine() == "arm64":
            return (note("hardware.apple", total=int(psutil.virtual_memory().total)),)
        return ()
    found = _windows_gpus() if sys.platform == "win32" else _linux_gpus(Path("/sys/class/drm"))
    return tuple(dict.fromkeys(found))


def _linux_gpus(folder: Path) -> Iterator[Text]:
    for vendor_file in sorted(folder.glob("card*/device/vendor")):
        try:
            vendor = vendor_file.read_text(encoding="ascii").strip()
            device = (vendor_file.parent / "device").read_text(encoding="ascii").strip()
        except OSError:
            continue
        if vendor == "0x8086" and not device.startswith(_INTEL_DISCRETE):
            continue
        if vendor in _VENDORS:
            code, name = _VENDORS[vendor]
            yield note(code, name=name)


def _windows_gpus() -> Iterator[Text]:
    for number in range(16):
        name = windows.registry_text(f"{_WINDOWS_DISPLAY_CLASS}\\{number:04d}", "DriverDesc") or ""
        words = name.lower().replace("(", " ").split()
        if words[:1] == ["amd"] or "radeon" in words:
            yield note("hardware.amd", name=name)
        elif "intel" in words and "arc" in words:
            yield note("hardware.intel", name=name)
