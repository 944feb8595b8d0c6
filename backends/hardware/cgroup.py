"""Limits that a Linux container puts on this process: memory and CPU time, cgroup version 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# Version 1 writes "no limit" as the largest multiple of the page size below 2**63.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """`available_bytes` is what is left of `limit_bytes`, counting cached file pages as free."""

    limit_bytes: int
    available_bytes: int


def memory_limit(root: Path = Path("/")) -> MemoryLimit | None:
    """Return the tightest memory limit on this process's groups, None without one.

    `root` stands for the file system's root, so that tests can describe a machine.
    """
    found = []
    for folder, version in _groups(root, "memory"):
        names = ("memory.max", "memory.current") if version == 2 else _V1_MEMORY
        limit, used = (_number(folder / name) for name in names)
        if limit is None or limit >= _NO_LIMIT:
            continue
        cached = _cached_bytes(folder / "memory.stat", version)
        found.append(MemoryLimit(limit, max(0, min(limit, limit - (used or 0) + cached))))
    if not found:
        return None
    return MemoryLimit(
        min(entry.limit_bytes for entry in found), min(entry.available_bytes for entry in found)
    )


_V1_MEMORY = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def oom_kills(root: Path = Path("/")) -> int:
    """Return how many processes the kernel has ended for want of memory: a count that only grows.

    Of the whole machine (`/proc/vmstat`) and of this process's groups; 0 where neither can be read.
    """
    files = [root / "proc/vmstat"]
    for folder, version in _groups(root, "memory"):
        files.append(folder / ("memory.events" if version == 2 else "memory.oom_control"))
    return sum(_counter(path, "oom_kill") for path in files)


def cpu_limit(root: Path = Path("/")) -> float | None:
    """Return how many CPUs' worth of time this process may use, None without a limit."""
    found = []
    for folder, version in _groups(root, "cpu"):
        if version == 2:
            quota_text, _, period_text = _text(folder / "cpu.max").partition(" ")
            quota = int(quota_text) if quota_text.isdecimal() else None
            period = int(period_text) if period_text.strip().isdecimal() else None
        else:
            quota = _number(folder / "cpu.cfs_quota_us")
            period = _number(folder / "cpu.cfs_period_us")
        if quota is not None and quota > 0 and period:
            found.append(quota / period)
    return min(found, default=None)


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Yield the folder of this process's group and of every group above it that can be seen."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        version = 2 if controllers == "" else 1
        if version == 1 and controller not in controllers.split(","):
            continue
        mount = _mount(root, controller if version == 1 else None)
        if mount is None:
            continue
        shown_root, folder = mount
        # Inside a container the mount may show only a part of the tree, or the group's path may be
        # relative to a root that is not shown; the mount point then is the group itself.
        inside = PurePosixPath(group)
        parts = inside.relative_to(shown_root).parts if inside.is_relative_to(shown_root) else ()
        here = folder.joinpath(*(part for part in parts if part not in {"/", ".."}))
        if not here.is_dir():
            here = folder
        while True:
            yield here, version
            if here == folder:
                break
            here = here.parent


def _mount(root: Path, controller: str | None) -> tuple[PurePosixPath, Path] | None:
    """Find where a controller (None: the unified tree) is mounted: (part of the tree shown, folder)."""
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        matches = kind[0] == "cgroup2" if controller is None else kind[0] == "cgroup"
        if matches and (controller is None or controller in kind[2].split(",")):
            return PurePosixPath(fields[3]), root / fields[4].lstrip("/")
    return None


def _counter(path: Path, name: str) -> int:
    """Return the figure on the line that begins with `name`, 0 without one."""
    for line in _text(path).splitlines():
        found, _, figure = line.partition(" ")
        if found == name and figure.strip().isdecimal():
            return int(figure)
    return 0


def _cached_bytes(path: Path, version: int) -> int:
    """Return file pages and kernel caches that the kernel gives back under pressure."""
    prefix = "total_" if version == 1 else ""
    wanted = {f"{prefix}inactive_file", f"{prefix}active_file", "slab_reclaimable"}
    total = 0
    for line in _text(path).splitlines():
        name, _, figure = line.partition(" ")
        if name in wanted and figure.strip().isdecimal():
            total += int(figure)
    return total


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.lstrip("-").isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
