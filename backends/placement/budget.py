"""How much of each device a plan may use: what is free now, less a margin for everybody else."""

from __future__ import annotations

from backends.hardware.types import Gpu, HardwareSnapshot
from backends.placement.types import Credit

MIB = 1024**2
GIB = 1024**3
_GPU_MARGIN_BYTES = 300 * MIB
_GPU_MARGIN_SHARE = 0.03
# On Windows the desktop takes more while we run: the margin is a tenth larger (DESIGN section 4).
_WINDOWS_FACTOR = 1.1
_RAM_MARGIN_BYTES = GIB
_RAM_MARGIN_SHARE = 0.08
_DISK_MARGIN_BYTES = GIB
# What memory is sold in.
_SOLD_RAM_GIB = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048)


def gpu_budget(gpu: Gpu, hardware: HardwareSnapshot, credit: Credit) -> int:
    """Bytes of `gpu` that a plan may use, never negative."""
    returned = dict(credit.gpu_bytes).get(gpu.index, 0)
    free = min(gpu.free_bytes + returned, gpu.total_bytes)
    margin = max(_GPU_MARGIN_BYTES, int(gpu.total_bytes * _GPU_MARGIN_SHARE))
    if hardware.os == "windows":
        margin = int(margin * _WINDOWS_FACTOR)
    return max(0, free - margin)


def ram_budget(hardware: HardwareSnapshot, credit: Credit) -> int:
    """Bytes of main memory that a plan may use, never negative."""
    ram = hardware.ram
    free = min(ram.available_bytes + credit.ram_bytes, ram.total_bytes)
    return max(0, free - _ram_margin(ram.total_bytes))


def commit_budget(hardware: HardwareSnapshot, credit: Credit) -> int | None:
    """Bytes that Windows will still promise (RAM + page file); None where there is no such limit.

    Windows backs memory of the GPU with a promise too, so a plan's GPU bytes count against it.
    """
    limit = hardware.ram.commit_limit_bytes
    if limit is None:
        return None
    return max(0, limit - others_commit(hardware, credit) - _ram_margin(hardware.ram.total_bytes))


def page_file(committed: int, total_ram: int, others: int) -> int:
    """The page file, in whole GiB, with which Windows promises `committed` bytes on a machine.

    Windows promises what RAM and page file hold together. Of that go `others`, promised to other programs,
    and the margin. It follows from the RAM alone, whatever the page file is now; RAM that is too small to
    answer from stays too small.
    """
    missing = committed + others + _ram_margin(total_ram) - total_ram
    return max(0, -(-missing // GIB)) * GIB


def sold_ram(needed: int, others: int) -> int | None:
    """The least RAM, of the sizes that are sold, with which a plan may use `needed` bytes beside `others`."""
    sizes = (gib * GIB for gib in _SOLD_RAM_GIB)
    return next((size for size in sizes if size - others - _ram_margin(size) >= needed), None)


def others_commit(hardware: HardwareSnapshot, credit: Credit) -> int:
    """Bytes that Windows has promised to other programs, more than they use; at least what they use of RAM.

    Where Windows does not tell (a machine that is described), what they use stands for it.
    """
    ram, used = hardware.ram, others_ram(hardware, credit)
    if ram.commit_limit_bytes is None or ram.commit_available_bytes is None:
        return used
    ours = credit.ram_bytes + sum(nbytes for _, nbytes in credit.gpu_bytes)
    return max(used, ram.commit_limit_bytes - ram.commit_available_bytes - ours)


def others_ram(hardware: HardwareSnapshot, credit: Credit) -> int:
    """Bytes of RAM that other programs use."""
    return max(0, hardware.ram.total_bytes - hardware.ram.available_bytes - credit.ram_bytes)


def disk_budget(hardware: HardwareSnapshot) -> int:
    """Bytes of the disk that offloaded weights may take."""
    return max(0, hardware.disk.free_bytes - _DISK_MARGIN_BYTES)


def _ram_margin(total_ram: int) -> int:
    return max(_RAM_MARGIN_BYTES, int(total_ram * _RAM_MARGIN_SHARE))
